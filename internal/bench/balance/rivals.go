package balance

import (
	"math"
	"math/bits"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// Contender is a way of placing playbacks that takes part.
type Contender struct {
	Name string

	make     func(*run) contender
	every    time.Duration // how often it reads the servers' reports; 0: never
	informed bool          // it reads and hears them as the scenario says
}

// What others are measured against is known by its place among the contenders.
const (
	plexlb  = iota
	truth   // the oracle
	decided // the one that also knows the decision
	known   // the informed oracle
)

// Contenders are all there are: first plexlb, then the oracles.
var Contenders = []*Contender{
	{Name: "plexlb", make: newOurs, informed: true},
	{Name: "oracle", make: func(r *run) contender { return &oracle{run: r} }},
	{Name: "oracle that also knows the decision", make: func(r *run) contender { return &oracle{run: r, decision: true} }},
	{Name: "informed oracle", make: newInformed, informed: true},
	{Name: "least polled, 5 s", make: func(r *run) contender { return newPolled(r, (*polled).least) }, every: 5 * time.Second},
	{Name: "power of two, polled, 5 s", make: func(r *run) contender { return newPolled(r, (*polled).two) }, every: 5 * time.Second},
	{Name: "(1000·n)/w − w, 3 s", make: func(r *run) contender { return newPolled(r, (*polled).scored) }, every: 3 * time.Second},
	{Name: "weighted round robin", make: newTurns},
	{Name: "least_conn", make: func(r *run) contender { return &open{run: r} }},
}

// argmin returns the server with the least score, -1 if there is none. Those
// that score infinity are out; equals are told apart by a hash.
func (r *run) argmin(i int32, score func(s int) float64) int {
	best, least, tie := -1, math.Inf(1), uint64(0)
	for s := range r.machines {
		x := score(s)
		if x > least || math.IsInf(x, 1) {
			continue
		}
		h := mix(uint64(i)<<32 ^ uint64(s))
		if x < least || h < tie {
			best, least, tie = s, x, h
		}
	}
	return best
}

// roomiest returns the server that will be the least full of a viewing that is
// guessed to be of a kind: of those that have room for it, or else of all.
func (r *run) roomiest(i int32, guess kind) int {
	for _, overflow := range []bool{false, true} {
		if s := r.argmin(i, func(s int) float64 {
			if m := &r.machines[s]; !m.up || !overflow && !r.takes(s, guess) {
				return math.Inf(1)
			}
			return r.machines[s].score(guess)
		}); s >= 0 {
			return s
		}
	}
	return -1
}

// oracle sees the servers as they are, and takes the one that will be the least
// full at that moment. It does not know the future: neither who comes next, nor,
// unless it knows the decision, what the server will make of the playback. Like
// plexlb it takes that for a transcode in hardware, where the server has some.
type oracle struct {
	deaf
	*run
	decision bool
}

func (o *oracle) place(i int32, _ int) int {
	k := o.viewings[i].kind
	guess := video
	if o.decision {
		guess = k
	}
	return o.roomiest(i, guess)
}

func (o *oracle) carry(i int32) int { return o.place(i, -1) }

// polled goes by what servers last reported, for their weight.
type polled struct {
	deaf
	*run
	pick func(*polled, int32, int) int
	load [][]float64 // by door and server: all that runs there
	runs [][]float64 // video transcodes
}

func newPolled(r *run, pick func(*polled, int32, int) int) contender {
	p := &polled{run: r, pick: pick}
	for range max(1, r.sc.Balancers) {
		p.load = append(p.load, make([]float64, len(r.machines)))
		p.runs = append(p.runs, make([]float64, len(r.machines)))
	}
	return p
}

func (p *polled) taken(door uint8, s int, list []line, _ time.Duration, _ bool) {
	load, runs := 0.0, 0.0
	for _, l := range list {
		load += cluster.DefaultCosts.Of(cluster.Work(l.work))
		if l.work > plex.Copy {
			runs++
		}
	}
	p.load[door][s], p.runs[door][s] = load, runs
}

func (p *polled) place(i int32, failed int) int {
	return p.pick(p, i, failed)
}

func (p *polled) carry(i int32) int { return p.place(i, -1) }

func (p *polled) out(s, failed int) bool { return s == failed || p.machines[s].down }

func (p *polled) full(i int32, s int) float64 {
	return p.load[p.viewings[i].door][s] / p.machines[s].weight
}

// least takes the one that was least full.
func (p *polled) least(i int32, failed int) int {
	return p.argmin(i, func(s int) float64 {
		if p.out(s, failed) {
			return math.Inf(1)
		}
		return p.full(i, s)
	})
}

// two takes the better one of two at random.
func (p *polled) two(i int32, failed int) int {
	a, b := p.any(failed), p.any(failed)
	if a < 0 || b >= 0 && p.full(i, b) < p.full(i, a) {
		return b
	}
	return a
}

// any is a server at random.
func (r *run) any(failed int) int {
	for range 100 {
		if s := r.rng.IntN(len(r.machines)); s != failed && !r.machines[s].down {
			return s
		}
	}
	return -1
}

// scored takes the lowest (1000·n)/w − w, n being the video transcodes at the
// last reading.
func (p *polled) scored(i int32, failed int) int {
	best, least := -1, math.Inf(1)
	for s := range p.machines {
		w := p.machines[s].weight
		if x := 1000*p.runs[p.viewings[i].door][s]/w - w; x < least && !p.out(s, failed) {
			best, least = s, x
		}
	}
	return best
}

// turns gives each server as many playbacks as it weighs, one after the other,
// as smoothly as nginx does.
type turns struct {
	deaf
	*run
	credit [][]float64
}

func newTurns(r *run) contender {
	t := &turns{run: r}
	for range max(1, r.sc.Balancers) {
		t.credit = append(t.credit, make([]float64, len(r.machines)))
	}
	return t
}

func (t *turns) place(i int32, failed int) int {
	credit := t.credit[t.viewings[i].door]
	best, all := -1, 0.0
	for s := range t.machines {
		m := &t.machines[s]
		if s == failed || m.down {
			continue
		}
		credit[s] += m.weight
		all += m.weight
		if best < 0 || credit[s] > credit[best] {
			best = s
		}
	}
	if best >= 0 {
		credit[best] -= all
	}
	return best
}

func (t *turns) carry(i int32) int { return t.place(i, -1) }

// open is Caddy's least_conn: it takes the server with the fewest requests
// under way through it. Of segments one is under way an eighth of the time, of
// files that are played directly three quarters.
type open struct {
	deaf
	*run
}

func (o *open) place(i int32, failed int) int {
	return o.argmin(i, func(s int) float64 {
		m := &o.machines[s]
		if s == failed || m.down {
			return math.Inf(1)
		}
		// Of those that came through this balancer, about.
		through := float64(len(m.jobs)) * (1 - o.sc.Bypass) / float64(max(1, o.sc.Balancers))
		direct := min(int(through), m.work[plex.None])
		n := 0
		for rest := int(through) - direct; rest > 0; rest -= 64 {
			n += bits.OnesCount64(o.rng.Uint64() & o.rng.Uint64() & o.rng.Uint64() << max(0, 64-rest))
		}
		for rest := direct; rest > 0; rest -= 64 {
			n += bits.OnesCount64((o.rng.Uint64() | o.rng.Uint64()) << max(0, 64-rest))
		}
		return float64(n)
	})
}

func (o *open) carry(i int32) int { return o.place(i, -1) }
