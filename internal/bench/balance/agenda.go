package balance

import "time"

// act is something that is to happen.
type act struct {
	at    time.Duration
	order uint32 // of those at the same time
	what  what
	door  uint8
	n     int32 // the viewing or server
}

type what uint8

const (
	ask      what = iota // a viewing is asked for
	answer               // its decision is answered
	begin                // it is started
	appear               // its encoder runs
	settleIn             // its encoder is seen to be what it is
	stay                 // its player says that it is there
	seek                 // its viewer seeks
	whole                // all of it is encoded
	vanish               // its client leaves without a word
	end                  // its server ends it
	carry                // it has to go on elsewhere
	read                 // a server's reports are asked for
	reply                // and come
	tick                 // a second has passed
	die                  // a server does
	missed               // and Caddy finds out
	back                 // it is there again
	found                // and Caddy finds out
)

func (a *act) before(b *act) bool {
	if a.at != b.at {
		return a.at < b.at
	}
	return a.order < b.order
}

// agenda is a heap of what is to happen, the next first.
type agenda struct {
	acts  []act
	order uint32
}

// add enters an act, and returns the order by which to know it.
func (g *agenda) add(a act) (order uint32) {
	g.order++
	a.order = g.order
	g.acts = append(g.acts, a)
	i := len(g.acts) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !a.before(&g.acts[up]) {
			break
		}
		g.acts[i] = g.acts[up]
		i = up
	}
	g.acts[i] = a
	return a.order
}

func (g *agenda) next() act {
	first := g.acts[0]
	last := len(g.acts) - 1
	a := g.acts[last]
	g.acts = g.acts[:last]
	for i := 0; last > 0; {
		least := 4*i + 1
		if least >= last {
			g.acts[i] = a
			break
		}
		for c := least + 1; c < min(4*i+5, last); c++ {
			if g.acts[c].before(&g.acts[least]) {
				least = c
			}
		}
		if !g.acts[least].before(&a) {
			g.acts[i] = a
			break
		}
		g.acts[i] = g.acts[least]
		i = least
	}
	return first
}
