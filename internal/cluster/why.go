package cluster

import (
	"math"
	"time"
)

// Placement is a choice and what it was made from.
type Placement struct {
	Reason Reason
	At     time.Time

	// Chosen is the server, nil if there was none.
	Chosen *Server

	// Table holds the candidates as they were, the chosen one first and the
	// next best behind it, at most eight; More counts the rest.
	Table []Row
	More  int
}

// Row is one candidate of a choice. Loads and costs are in hardware transcodes.
type Row struct {
	Server             *Server
	Load, Cost, Weight float32

	// Expected is what others are taken to begin there meanwhile, past this
	// balancer; 0 if all comes through it.
	Expected float32

	// Score is what counts: the sum of Load, Expected and Cost for each of Weight.
	Score float32

	Out Exclusion
}

// tableRows bounds what a placement remembers of its candidates.
const tableRows = 8

// why is what a playback remembers of its placement.
type why struct {
	at     time.Duration
	chosen *Server
	rows   []row
	more   int32
	reason Reason
}

type row struct {
	server                       *Server
	load, cost, weight, expected float32
	out                          Exclusion
}

func (w *why) view(l *Ledger) Placement {
	v := Placement{Reason: w.reason, At: l.time(w.at), Chosen: w.chosen, More: int(w.more)}
	for _, r := range w.rows {
		v.Table = append(v.Table, Row{
			Server: r.server, Load: r.load, Cost: r.cost, Weight: r.weight, Expected: r.expected,
			Score: (r.load + r.expected + r.cost) / r.weight, Out: r.out,
		})
	}
	return v
}

// explained takes over what a further choice was made from.
func (p *Playback) explained(w why) {
	if p.first == nil {
		first := p.why
		p.first = &first
	}
	p.why = w
}

// explain keeps what a choice was made from.
func (l *Ledger) explain(q *Query, chosen int, reason Reason, set *Settings, candidates []Candidate, now time.Duration) why {
	weighed := reason == LeastLoad || reason == Overflow || reason == ServerLost
	if !weighed {
		// Nothing was weighed; show what would have been.
		l.choose(q, set, candidates, now)
	}
	// The best ones, by index and score; those out behind all others.
	var top [tableRows]int
	var scores [tableRows]float64
	n := 1
	top[0] = chosen
	least := l.options[chosen].Score
	for i := range l.options {
		o := &l.options[i]
		score := o.Score
		if n == tableRows && score >= scores[n-1] || i == chosen {
			if weighed && n == tableRows && scores[n-1] <= least {
				break // all rows are as good as the chosen one, and none is better
			}
			continue
		}
		if o.Out != In {
			score = math.Inf(1)
		}
		if n == tableRows && score >= scores[n-1] {
			continue
		}
		at := min(n, tableRows-1)
		for ; at > 1 && score < scores[at-1]; at-- {
			top[at], scores[at] = top[at-1], scores[at-1]
		}
		top[at], scores[at] = i, score
		n = min(n+1, tableRows)
	}
	w := why{
		reason: reason, at: now, chosen: candidates[chosen].Server,
		rows: make([]row, n), more: int32(len(candidates) - n),
	}
	key, share := q.key(), l.others.share(now)
	for k, i := range top[:n] {
		s := candidates[i].Server
		cost := q.costOn(s, set)
		w.rows[k] = row{
			server: s, load: float32(s.load), cost: float32(cost), weight: float32(s.weight(set.SlowStart, now)),
			expected: float32(expect(share, cost, rank(key, s.hash))), out: l.options[i].Out,
		}
	}
	return w
}
