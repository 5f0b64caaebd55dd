package balance

import (
	"math"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// informed is an oracle of equal information. It learns when plexlb does, and
// without fail, what it is placing, what servers answer, read and tell, and what
// clients say. It knows a lie when it sees one, and at once who asked and will
// never begin. It is no bound: with plexlb's sources, one can do better.
type informed struct {
	deaf
	*run
	known [][]belief // by door and server
}

// belief is what there is on a server, as far as a balancer can know.
type belief struct {
	of   map[int32]plex.Work // by viewing
	work [4]int
}

func (b *belief) set(i int32, w plex.Work) {
	b.forget(i)
	b.of[i] = w
	b.work[w]++
}

func (b *belief) forget(i int32) {
	if w, ok := b.of[i]; ok {
		b.work[w]--
		delete(b.of, i)
	}
}

func newInformed(r *run) contender {
	o := &informed{run: r}
	for range max(1, r.sc.Balancers) {
		known := make([]belief, len(r.machines))
		for s := range known {
			known[s].of = make(map[int32]plex.Work)
		}
		o.known = append(o.known, known)
	}
	return o
}

// own returns what the balancer of a viewing believes of its server, nil if it
// has none.
func (o *informed) own(i int32) *belief {
	if s := o.seats[i].server; s >= 0 {
		return &o.known[o.viewings[i].door][s]
	}
	return nil
}

func (o *informed) follow(i int32, step what) {
	b := o.own(i)
	switch {
	case b == nil:
	case step == end:
		b.forget(i)
	case step == answer:
		// Whether there is hardware for it is not in the answer.
		if w := plex.Work(verdict(o.viewings[i].kind)); w < plex.CPU {
			b.set(i, w)
		}
	}
}

func (o *informed) heard(door uint8, s int, i int32, event what) {
	switch b := &o.known[door][s]; event {
	case end:
		b.forget(i)
	case settleIn, whole:
		b.set(i, o.seats[i].work)
	case appear:
		if _, ok := b.of[i]; !ok {
			b.set(i, o.seats[i].work)
		}
	}
}

// taken has the balancer know all that the server has by now, but for what the
// server does not tell yet.
func (o *informed) taken(door uint8, s int, list []line, _ time.Duration, honest bool) {
	if !honest {
		return
	}
	b := &o.known[door][s]
	for i := range b.of {
		if o.seats[i].server != int32(s) {
			b.forget(i)
		}
	}
	for _, l := range list {
		if _, ok := b.of[l.viewing]; (!ok || !l.young) && o.seats[l.viewing].server == int32(s) {
			b.set(l.viewing, o.seats[l.viewing].work)
		}
	}
}

func (o *informed) place(i int32, failed int) int {
	s := o.roomiest(i, failed, false)
	if s < 0 {
		s = o.roomiest(i, failed, true)
	}
	if s >= 0 && !o.viewings[i].asked && o.takes(s, o.viewings[i].kind) {
		o.known[o.viewings[i].door][s].set(i, o.machines[s].would(video))
	}
	return s
}

func (o *informed) roomiest(i int32, failed int, overflow bool) int {
	known := o.known[o.viewings[i].door]
	return o.argmin(i, func(s int) float64 {
		m, work := &o.machines[s], &known[s].work
		if m.down { // what was there is lost
			clear(known[s].of)
			*work = [4]int{}
			return math.Inf(1)
		}
		if s == failed || m.limit > 0 && work[plex.GPU]+work[plex.CPU] >= m.limit && !overflow {
			return math.Inf(1)
		}
		return cluster.Score(load(work), cluster.DefaultCosts.Of(cluster.Work(m.would(video))), m.weight)
	})
}

func (o *informed) carry(i int32) int { return o.place(i, -1) }
