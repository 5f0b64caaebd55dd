package cluster

// PlacementReasons are those with which a playback comes to a server.
var PlacementReasons = []Reason{LeastLoad, ClientServer, LivePlayback, Adopted, ServerLost, Overflow, Pinned, Hashed, Resumed}

// Causes are all there are.
var Causes = []Cause{LostServer, LostSession, Hung, Refused, Drained, Ordered, Rebalanced}

// Counts say what happened since the ledger was made. They only grow.
type Counts struct {
	// Placements by reason: of the servers that the configuration names, by
	// name, and of all others together.
	Placements map[string][len(reasons)]uint64
	Others     [len(reasons)]uint64

	// Moves of playbacks to other servers, by cause.
	Moves [len(causes)]uint64
}

// counts are the ledger's own.
type counts struct {
	others [len(reasons)]uint64
	moves  [len(causes)]uint64
	news   []MoveNews
	missed uint64
}

// MoveNews tells of one move.
type MoveNews struct {
	Session string // one of the playback's ids
	Move
}

// maxNews bounds the moves that nobody has asked for yet.
const maxNews = 1024

// placed counts a placement. What servers that no configuration names are
// given stays counted when they are gone.
func (l *Ledger) placed(s *Server, reason Reason) {
	s.placements++
	if s.Named() {
		s.placedBy[reason]++
	} else {
		l.counts.others[reason]++
	}
}

// moved counts a move of a playback that a server had accepted, and has it
// told.
func (l *Ledger) moved(p *Playback, cause Cause) {
	if !p.confirmed.Load() || len(p.history) == 0 {
		return
	}
	l.counts.moves[cause]++
	if len(l.counts.news) == maxNews {
		l.counts.missed++
		return
	}
	last := p.history[len(p.history)-1]
	l.counts.news = append(l.counts.news, MoveNews{p.ids.Called(), last.told(l)})
}

// News takes out the moves since it was last asked, and how many more there
// were than could be remembered.
func (l *Ledger) News() (news []MoveNews, missed uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	news, missed = l.counts.news, l.counts.missed
	l.counts.news, l.counts.missed = nil, 0
	return news, missed
}

// Counts returns the counts so far.
func (l *Ledger) Counts() Counts {
	l.mu.RLock()
	defer l.mu.RUnlock()
	c := Counts{Placements: make(map[string][len(reasons)]uint64), Others: l.counts.others, Moves: l.counts.moves}
	for _, s := range l.servers.Load().list {
		if s.Named() {
			c.Placements[s.Name()] = s.placedBy
		}
	}
	return c
}

// told is the move as others see it.
func (m *move) told(l *Ledger) Move {
	return Move{l.time(m.at), m.from.Name(), m.to.Name(), m.cause}
}

// Cause returns why the playback is to be moved.
func (m Mover) Cause() Cause { return m.cause }
