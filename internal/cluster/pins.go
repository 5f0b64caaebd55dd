package cluster

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// pins finds the playback of a transcode id. Segments are most of all requests
// and carry nothing else, so this is a table made for them: a slot is one
// cache line that holds all a segment needs, and readers take only the lock of
// a shard, never the ledger's. Changes need the ledger's mutex besides.
type pins struct {
	seed   maphash.Seed
	long   map[string]*Playback // ids that fit no slot, which no client makes
	shards [256]pinShard
}

type pinShard struct {
	mu    sync.RWMutex
	slots []pin // probed linearly
	n     int
	_     [8]byte
}

// pinned is how long an id may be to fit a slot.
const pinned = 39

// pin is a slot, of exactly 64 bytes.
type pin struct {
	playback *Playback // nil: the slot is free
	server   *Server   // playback.server
	hash     uint32
	seen     uint32 // last touched by a segment, in seconds of the ledger's time
	n        uint8
	id       [pinned]byte
}

func newPins() *pins {
	return &pins{seed: maphash.MakeSeed(), long: make(map[string]*Playback)}
}

func (x *pins) shard(id string) (*pinShard, uint32) {
	h := maphash.String(x.seed, id)
	return &x.shards[h>>56], uint32(h)
}

// home is where the search for a hash begins.
func (s *pinShard) home(hash uint32) int {
	return int(uint64(hash) * uint64(len(s.slots)) >> 32)
}

// next is the slot behind i.
func (s *pinShard) next(i int) int {
	if i++; i < len(s.slots) {
		return i
	}
	return 0
}

// at returns the slot of id, or nil. The caller holds a lock of the shard.
func (s *pinShard) at(id string, hash uint32) *pin {
	i := s.home(hash)
	for i < len(s.slots) {
		e := &s.slots[i]
		if e.hash == hash && string(e.id[:e.n]) == id && e.playback != nil {
			return e
		}
		if e.playback == nil {
			return nil
		}
		i = s.next(i)
	}
	return nil
}

// touch returns the server of a transcode and notes that it is in use at sec.
func (x *pins) touch(id string, sec uint32) *Server {
	sh, hash := x.shard(id)
	sh.mu.RLock()
	e := sh.at(id, hash)
	if e == nil {
		sh.mu.RUnlock()
		return nil
	}
	s := e.server
	// Once a second will do, and leaves the line to be read by all the others.
	if atomic.LoadUint32(&e.seen) != sec {
		atomic.StoreUint32(&e.seen, sec)
	}
	sh.mu.RUnlock()
	return s
}

// get returns the playback of a transcode, nil if there is none.
func (x *pins) get(id string) *Playback {
	if len(id) > pinned {
		return x.long[id]
	}
	sh, hash := x.shard(id)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if e := sh.at(id, hash); e != nil {
		return e.playback
	}
	return nil
}

// seen returns when a segment last asked for a transcode; 0: never.
func (x *pins) seen(id string) time.Duration {
	if len(id) > pinned {
		return 0
	}
	sh, hash := x.shard(id)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if e := sh.at(id, hash); e != nil {
		return time.Duration(atomic.LoadUint32(&e.seen)) * time.Second
	}
	return 0
}

// put makes id lead to a playback where it is now.
func (x *pins) put(id string, p *Playback) {
	if len(id) > pinned {
		x.long[id] = p
		return
	}
	sh, hash := x.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.at(id, hash); e != nil {
		e.playback, e.server = p, p.server
		return
	}
	if 5*(sh.n+1) > 4*len(sh.slots) {
		// In small steps: among many, the time goes by how far apart they lie.
		sh.resize(max(8, len(sh.slots)+len(sh.slots)/4))
	}
	e := pin{playback: p, server: p.server, hash: hash, n: uint8(len(id))}
	copy(e.id[:], id)
	sh.insert(&e)
	sh.n++
}

// insert fills the first free slot for e.
func (s *pinShard) insert(e *pin) {
	i := s.home(e.hash)
	for s.slots[i].playback != nil {
		i = s.next(i)
	}
	s.slots[i] = *e
}

// resize makes room for more, or gives back what a crowd has left.
func (s *pinShard) resize(n int) {
	old := s.slots
	s.slots = make([]pin, n)
	for i := range old {
		if old[i].playback != nil {
			s.insert(&old[i])
		}
	}
}

// remove forgets id if it leads to p.
func (x *pins) remove(id string, p *Playback) {
	if len(id) > pinned {
		if x.long[id] == p {
			delete(x.long, id)
		}
		return
	}
	sh, hash := x.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.at(id, hash)
	if e == nil || e.playback != p {
		return
	}
	sh.n--
	// Those behind that could not have their own slot move up.
	gap := sh.home(hash)
	for &sh.slots[gap] != e {
		gap = sh.next(gap)
	}
	away := func(from, to int) int { return (to - from + len(sh.slots)) % len(sh.slots) }
	for i := sh.next(gap); sh.slots[i].playback != nil; i = sh.next(i) {
		if away(sh.home(sh.slots[i].hash), i) >= away(gap, i) {
			sh.slots[gap] = sh.slots[i]
			gap = i
		}
	}
	sh.slots[gap] = pin{}
	if len(sh.slots) > 8 && 4*sh.n < len(sh.slots) {
		sh.resize(len(sh.slots) / 2)
	}
}
