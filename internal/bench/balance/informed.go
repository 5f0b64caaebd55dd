package balance

import (
	"math"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// informed is an oracle of equal information: what a balancer could know at
// best. At any time it sees all that came through it as it truly is, and of what
// came past it, or through another balancer, what a reading or an event has
// told. It knows a lie when it sees one.
type informed struct {
	deaf
	*run
	known [][]others // by door and server
}

// others are the viewings on a server that a balancer has not placed, as far as
// it knows of them.
type others struct {
	of   map[int32]plex.Work
	work [4]int
}

func (k *others) set(i int32, w plex.Work) {
	k.forget(i)
	k.of[i] = w
	k.work[w]++
}

func (k *others) forget(i int32) {
	if w, ok := k.of[i]; ok {
		k.work[w]--
		delete(k.of, i)
	}
}

func newInformed(r *run) contender {
	o := &informed{run: r}
	for range max(1, r.sc.Balancers) {
		var known []others
		for range r.machines {
			known = append(known, others{of: make(map[int32]plex.Work)})
		}
		o.known = append(o.known, known)
	}
	return o
}

func (o *informed) own(door uint8, i int32) bool {
	v := &o.viewings[i]
	return v.past < 0 && v.door == door
}

func (o *informed) heard(door uint8, s int, i int32, event what) {
	if o.own(door, i) {
		return
	}
	switch known := &o.known[door][s]; event {
	case end:
		known.forget(i)
	case appear, settleIn, whole:
		known.set(i, o.seats[i].work)
	}
}

func (o *informed) taken(door uint8, s int, list []line, _ time.Duration, honest bool) {
	if !honest {
		return
	}
	known := &o.known[door][s]
	clear(known.of)
	known.work = [4]int{}
	for _, l := range list {
		if seat := &o.seats[l.viewing]; !o.own(door, l.viewing) && seat.server == int32(s) {
			known.set(l.viewing, seat.work)
		}
	}
}

func (o *informed) place(i int32, failed int) int {
	if s := o.roomiest(i, failed, false); s >= 0 {
		return s
	}
	return o.roomiest(i, failed, true)
}

func (o *informed) roomiest(i int32, failed int, overflow bool) int {
	v := &o.viewings[i]
	return o.argmin(i, func(s int) float64 {
		m := &o.machines[s]
		if s == failed || m.down {
			return math.Inf(1)
		}
		work := m.through[v.door]
		for w, n := range o.known[v.door][s].work {
			work[w] += n
		}
		if m.limit > 0 && work[plex.GPU]+work[plex.CPU] >= m.limit && !overflow {
			return math.Inf(1)
		}
		return cluster.Score(load(&work), cluster.DefaultCosts.Of(cluster.Work(m.would(video))), m.weight)
	})
}

func (o *informed) carry(i int32) int { return o.place(i, -1) }
