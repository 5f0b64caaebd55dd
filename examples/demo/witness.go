package main

import (
	"math"
	"sync"
	"time"
)

const (
	// settling is how long the balancer may take to hear of transcodes that
	// start or end past it.
	settling = 2 * time.Second

	// recovery is how long it may take until all playbacks of a server that
	// died are reported elsewhere, and slowStart how long a server that comes
	// back is given less than its weight.
	recovery  = 6 * time.Second
	slowStart = 30 * time.Second
)

// witness looks at the servers just before and after each start, to say where
// it should have gone. It only speaks about starts that nothing else came
// close to: what it saw is then what the balancer could know.
type witness struct {
	servers []*server

	mu    sync.Mutex
	going int       // starts and stops under way
	turn  int       // counts them
	quiet time.Time // the balancer may not know everything before
}

// look is what the witness saw before a start or stop.
type look struct {
	before []count
	turn   int
	alone  bool
}

func (w *witness) counts() []count {
	cs := make([]count, len(w.servers))
	for i, s := range w.servers {
		cs[i] = s.count()
	}
	return cs
}

// before is called right before somebody starts or stops to watch.
func (w *witness) before() look {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.going++
	w.turn++
	return look{
		before: w.counts(),
		turn:   w.turn,
		alone:  w.going == 1 && time.Now().After(w.quiet),
	}
}

// after is called when that has happened. If it was the start of a playback on
// the server called on, and the witness can tell, it returns how full each
// server would have been with it, per weight.
func (w *witness) after(l look, on string, cost float64) []float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.going--
	at := w.index(on)
	if at < 0 || !l.alone || w.turn != l.turn || !oneMore(l.before, w.counts(), at) {
		return nil
	}
	scores := make([]float64, len(w.servers))
	for i, s := range w.servers {
		scores[i] = (l.before[i].load() + cost) / s.weight
		if s.down.Load() {
			scores[i] = math.Inf(1)
		}
	}
	return scores
}

// disturb is called when something happens of which the balancer hears within
// that time.
func (w *witness) disturb(within time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turn++
	if t := time.Now().Add(within); t.After(w.quiet) {
		w.quiet = t
	}
}

func (w *witness) index(name string) int {
	for i, s := range w.servers {
		if s.name == name {
			return i
		}
	}
	return -1
}
