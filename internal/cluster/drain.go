package cluster

import (
	"cmp"
	"slices"
	"time"
)

// Drain makes a server take no new playbacks, or take them again. The ones it
// has stay, unless Empty says otherwise.
func (l *Ledger) Drain(s *Server, drain bool) {
	l.mu.Lock()
	s.draining, s.empty = drain, 0
	s.changed()
	l.mu.Unlock()
}

// Empty drains a server and has its playbacks carried away from a time on.
func (l *Ledger) Empty(s *Server, from time.Time) {
	l.mu.Lock()
	s.draining, s.empty = true, max(1, l.since(from))
	s.changed()
	l.mu.Unlock()
}

// Mover is a playback that is to be carried to another server.
type Mover struct {
	ID       string // by which to speak of it
	From, To *Server
	playback *Playback
	cause    Cause
}

// Move begins to carry a playback while its present server still works: to
// the mover's server, or to the roomiest if it names none. It returns nil if
// the playback is over or is not where it was.
func (l *Ledger) Move(m Mover) *Resumption {
	r := l.Resume(m.playback, "")
	if r == nil || r.From != m.From || r.From == m.To {
		return nil
	}
	r.target, r.leave, r.Cause = m.To, true, m.cause
	return r
}

// Playback returns what is to be moved.
func (m Mover) Playback() *Playback { return m.playback }

// Mover finds the playback that goes by any of its client's ids, for moving it
// to a server, or away if that is nil.
func (l *Ledger) Mover(id string, to *Server) (m Mover, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	p := l.named(id)
	if p == nil || p.gone || p.endedAt != 0 {
		return m, false
	}
	return p.mover(to, Ordered), true
}

func (p *Playback) mover(to *Server, cause Cause) Mover {
	return Mover{ID: p.ids.Called(), From: p.server, To: to, playback: p, cause: cause}
}

// movable reports whether there is something to resume the playback from.
func (p *Playback) movable() bool {
	return p.endedAt == 0 && p.kept != nil && p.confirmed.Load() &&
		(p.kept.start == nil || !p.kept.start.Endless())
}

// Movable reports whether a playback can be carried to another server, as far
// as is known beforehand.
func (l *Ledger) Movable(p *Playback) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.settings.Load().Replicated && !p.gone && p.movable()
}

// Due returns the playbacks that are to leave draining servers by now.
func (l *Ledger) Due(now time.Time) (list []Mover) {
	at := l.since(now)
	l.mu.RLock()
	defer l.mu.RUnlock()
	if !l.settings.Load().Replicated {
		return nil
	}
	due := false
	for _, s := range l.servers.Load().list {
		due = due || s.empty != 0 && s.empty <= at
	}
	if !due {
		return nil
	}
	for _, m := range l.playbacks.members {
		if p := m.owner; p.server.empty != 0 && p.server.empty <= at && p.movable() {
			list = append(list, p.mover(nil, Drained))
		}
	}
	return list
}

// Rebalance returns the moves that bring the highest load down: each takes a
// playback from the server that is fullest for its weight to the one that then
// is least full, until none would make the fuller of the two less full.
func (l *Ledger) Rebalance(now time.Time) (plan []Mover) {
	at := l.since(now)
	set := l.settings.Load()
	l.mu.RLock()
	defer l.mu.RUnlock()
	if !set.Replicated {
		return nil
	}
	type seat struct {
		server    *Server
		load      float64
		room      int            // for transcodes
		playbacks [4][]*Playback // by work: those of one cost are as good as each other
	}
	fill := func(s *seat, more float64) float64 { return Score(s.load, more, s.server.settings.Weight) }
	seats := make([]*seat, 0, len(l.servers.Load().list))
	by := make(map[*Server]*seat)
	for _, s := range l.servers.Load().list {
		st := &seat{server: s, load: s.tally.load(&set.Costs), room: 1 << 30}
		if m := s.settings.MaxTranscodes; m > 0 {
			st.room = m - s.tally.transcodes()
		}
		by[s] = st
		if !s.down && !s.inMaintenance(at) {
			seats = append(seats, st)
		}
	}
	for o := range l.orphans {
		// It is about to be stopped.
		if j, st := o.Server.jobs[o.Transcode], by[o.Server]; st != nil && j != nil && j.playback == nil && j.state == Confirmed {
			st.load -= set.Costs.Of(j.work)
			if j.work >= CPU {
				st.room++
			}
		}
	}
	for _, m := range l.playbacks.members {
		if p := m.owner; p.movable() && p.job.counts() && set.Costs.Of(p.job.work) > 0 {
			if st := by[p.server]; st != nil {
				st.playbacks[p.job.work] = append(st.playbacks[p.job.work], p)
			}
		}
	}
	for len(seats) > 1 {
		from := slices.MaxFunc(seats, func(a, b *seat) int { return cmp.Compare(fill(a, 0), fill(b, 0)) })
		var best *seat
		which, least := None, fill(from, 0)
		for w, list := range from.playbacks {
			if len(list) == 0 {
				continue
			}
			cost := set.Costs.Of(Work(w))
			var to *seat
			for _, st := range seats {
				if st == from || st.server.draining || st.server.shunned(at) || Work(w) >= CPU && st.room <= 0 {
					continue
				}
				if to == nil || fill(st, cost) < fill(to, cost) {
					to = st
				}
			}
			if to == nil {
				continue
			}
			// The fuller of the two is what the move leaves behind.
			if f := max(fill(to, cost), fill(from, -cost)); f < least-1e-9 {
				best, which, least = to, Work(w), f
			}
		}
		if best == nil {
			return plan
		}
		list := from.playbacks[which]
		last := len(list) - 1
		m := list[last].mover(best.server, Rebalanced)
		m.From = from.server
		plan = append(plan, m)
		from.playbacks[which] = list[:last]
		best.playbacks[which] = slices.Insert(best.playbacks[which], 0, list[last]) // which may have to go on
		cost := set.Costs.Of(which)
		from.load -= cost
		best.load += cost
		if which >= CPU {
			from.room++
			best.room--
		}
	}
	return plan
}

// Draining reports whether a server is to take no new playbacks.
func (l *Ledger) Draining(s *Server) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return s.draining
}

// NameOf returns the id by which to speak of a playback.
func (l *Ledger) NameOf(p *Playback) string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return p.ids.Called()
}

// TranscodeOf returns the id of a playback's present transcode; empty for
// direct play.
func (l *Ledger) TranscodeOf(p *Playback) string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return p.ids.Transcode
}
