package cluster

import (
	"math"
	"math/bits"
)

// Option is one server as a single choice sees it.
type Option struct {
	// Score is how full the server would be, see Score.
	Score float64

	// Hash stands for the server when options are equally good.
	Hash uint64

	// Out says why the server may not be chosen; In if it may.
	Out Exclusion
}

// Score says how full a server would be: by what it carries already and what
// the new playback would add, both in units of one hardware transcode, and its
// relative capacity, which is greater than 0.
func Score(load, cost, weight float64) float64 { return (load + cost) / weight }

// Exclusion says why a server is out of a choice.
type Exclusion uint8

// The reasons to leave a server out. Shunned and Maintenance are opinions, see
// temper.
const (
	In          Exclusion = iota
	Down                  // Caddy does not send requests there
	Tried                 // this very request failed there
	Draining              // an operator wants it empty
	Maintenance           // PMS says that it takes no requests for now
	Shunned               // starts of several items and clients failed there
	Full                  // at its max_transcodes
)

var exclusions = [...]string{"", "down", "tried", "draining", "maintenance", "shunned", "full"}

func (e Exclusion) String() string { return exclusions[e] }

// Best returns the index of the option with the least score, or -1 if all are
// out. Equally good options are told apart by a hash of the playback's key and
// the server, so that two balancers agree and ties do not pile up on one
// server.
func Best(options []Option, key uint64) int {
	top := nobody()
	for i := range options {
		if o := &options[i]; o.Out == In {
			top.offer(i, o.Score, rank(key, o.Hash))
		}
	}
	return top.index
}

// leader is the best option so far.
type leader struct {
	index int
	score float64
	rank  uint64
}

// nobody leads before there is an option, and gives way to any.
func nobody() leader { return leader{index: -1, score: math.Float64frombits(math.MaxUint64)} }

// offer makes an option the leader if its score is less, or the same and its
// rank is less. Both are compared at once, as one number of 128 bits, which
// the bits of floats allow that are not negative: loads are much alike, so that
// a processor that was asked about the score first would guess wrong at every
// other server.
func (t *leader) offer(index int, score float64, rank uint64) {
	_, less := bits.Sub64(rank, t.rank, 0)
	_, less = bits.Sub64(math.Float64bits(score), math.Float64bits(t.score), less)
	if less != 0 {
		t.index, t.score, t.rank = index, score, rank
	}
}

// temper takes opinions back when much fails at once, for then the fault is
// rarely with each server: Shunned when less than half of the servers are left
// to choose from, Maintenance, which PMS itself says, when none is.
func temper(options []Option) {
	left, shunned, maintained := 0, 0, 0
	for i := range options {
		switch options[i].Out {
		case In:
			left++
		case Shunned:
			shunned++
		case Maintenance:
			maintained++
		}
	}
	if shunned > 0 && 2*left < len(options) {
		readmit(options, Shunned)
		left += shunned
	}
	if maintained > 0 && left == 0 {
		readmit(options, Maintenance)
	}
}

func readmit(options []Option, out Exclusion) {
	for i := range options {
		if options[i].Out == out {
			options[i].Out = In
		}
	}
}

// rank mixes a playback's key with a server's hash (the finaliser of
// SplitMix64: cheap, and every bit of either reaches every bit of the rank).
func rank(key, server uint64) uint64 {
	x := key ^ server
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// hashString is FNV-1a: unseeded, so that every balancer computes the same.
func hashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}
