package cluster

import "time"

// Cause says why a running playback went to another server, in one word of a
// fixed set.
type Cause uint8

const (
	LostServer  Cause = iota // its server was not available
	LostSession              // its server did not have its session any more
	Hung                     // its server took requests and did not answer
	Refused                  // its server refused it, or failed
	Drained                  // an operator wanted its server empty
	Ordered                  // an operator wanted it elsewhere
	Rebalanced               // an operator had the load shared out
)

var causes = [...]string{"server_lost", "session_lost", "hung", "refused", "drained", "operator", "rebalanced"}

func (c Cause) String() string { return causes[c] }

// Move is a playback's way from one server to another.
type Move struct {
	At       time.Time
	From, To string // names
	Cause    Cause
}

// mostMoves bounds what a playback remembers of its moves: the last ones.
const mostMoves = 8

type move struct {
	at       time.Duration
	from, to *Server
	cause    Cause
}

// noteMove remembers that the playback went to another server.
func (p *Playback) noteMove(from, to *Server, cause Cause, now time.Duration) {
	if len(p.history) == mostMoves {
		copy(p.history, p.history[1:])
		p.history = p.history[:mostMoves-1]
	}
	p.history = append(p.history, move{now, from, to, cause})
}

func (p *Playback) movesSoFar(l *Ledger) []Move {
	if len(p.history) == 0 {
		return nil
	}
	list := make([]Move, len(p.history))
	for i, m := range p.history {
		list[i] = Move{l.time(m.at), m.from.Name(), m.to.Name(), m.cause}
	}
	return list
}
