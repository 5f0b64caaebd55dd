package cluster

import (
	"slices"
	"time"
)

// Reason says why a request went where it went, in one word of a fixed set.
type Reason uint8

const (
	Nowhere      Reason = iota // no server can take it
	Pinned                     // its playback or client is there
	LeastLoad                  // the roomiest server
	ClientServer               // a playback where its client stays
	LivePlayback               // where the client's present playback is
	Adopted                    // a server reports to be playing it
	ServerLost                 // its former server is not available
	Overflow                   // all servers are at their limits
	Primary                    // not a playback, in replicated mode
	Fallback                   // a read, while the primary is not available
	Hashed                     // artwork, or nothing is known of who asks
	AllFull                    // refused: all servers are at their limits
	ServerGone                 // refused: its server is not available, and nobody else can serve it
	Resumed                    // carried there, or begun anew where it was
)

var reasons = [...]string{
	"no_server", "pinned", "least_load", "client_server", "live_playback", "adopted",
	"server_lost", "overflow", "primary", "fallback", "hashed", "all_full", "server_unavailable",
	"resumed",
}

func (r Reason) String() string { return reasons[r] }

// Candidate is a member of the pool that a request may go to.
type Candidate struct {
	Server *Server
	Out    Exclusion // Down or Tried, as the caller knows
}

// Place chooses a server for a request that Find knew none for, or whose
// server is not available, and pins what is to be pinned: one atomic step, so
// that the many first requests of a playback agree. It returns the index of
// the candidate, or -1 and why there is none.
func (l *Ledger) Place(q *Query, h *Hold, candidates []Candidate, now time.Time) (int, Reason) {
	set := l.settings.Load()
	var i int
	var reason Reason
	if set.Replicated && (q.Role == Visit || q.Role == Artwork) {
		i, reason = l.route(q, set, candidates)
	} else {
		i, reason = l.place(q, h, set, candidates, l.since(now))
	}
	h.Server = nil
	if i >= 0 {
		h.Server = candidates[i].Server
	}
	return i, reason
}

func (l *Ledger) place(q *Query, h *Hold, set *Settings, candidates []Candidate, now time.Duration) (int, Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if h.at == 0 {
		h.at = now // a hold that Find did not make
	}
	if q.Role == Start && h.Server != nil && out(candidates, h.Server) == Tried {
		h.Server.charge(q.Item, q.Client, now)
	}
	// What was not known when the request came may be known by now.
	p, c := l.locate(q, set, now)
	l.rejoin(p, c)
	if p != nil && p.follows(q, set, now) {
		if i := usable(candidates, p.server); i >= 0 {
			if !p.confirmed.Load() {
				l.rename(p, q, h, now)
			}
			h.take(p, q, c, now)
			return i, Pinned
		}
		switch q.Role {
		case Follow:
			return -1, ServerGone // no other server has the session
		case Start, Stream:
			if set.Replicated || !p.promised(c) {
				return l.move(p, q, h, c, set, candidates, now)
			}
			// Its ids are those of the library it was found in. Only a device
			// that has looked at another one, and uses one id for ever, means
			// something new.
			if c == nil || c.server == nil || c.server == p.server || p.named(q) && !p.constantID() {
				return -1, ServerGone
			}
		}
	}
	if j, named := l.strangers.find(q); j != nil {
		if i := usable(candidates, j.server); i >= 0 {
			switch q.Role {
			case Start:
				if named {
					l.adopt(q, h, c, j, set, now)
					return i, Adopted
				}
			case Stream, Follow:
				l.adopt(q, h, c, j, set, now)
				return i, Adopted
			case Inquire:
				return i, Adopted
			}
		}
	}
	if set.Replicated {
		return l.placeAnywhere(q, h, c, set, candidates, now)
	}
	return l.placeAtHome(q, h, c, set, candidates, now)
}

// rejoin brings back what was on a server that was forgotten and is known
// again: it is its address that makes it the same.
func (l *Ledger) rejoin(p *Playback, c *Client) {
	again := func(s *Server) *Server {
		if s != nil && s.gone {
			return l.servers.Load().byAddr[s.addr]
		}
		return nil
	}
	if p != nil {
		if s := again(p.server); s != nil {
			l.pin(p, s)
		}
	}
	if c != nil {
		if s := again(c.server); s != nil {
			c.stayOn(s)
		}
	}
}

// promised reports whether the playback's ids are known to be those of its
// server's library, so that in separate mode no other can serve it.
func (p *Playback) promised(c *Client) bool {
	return p.confirmed.Load() || p.job.state == Confirmed || c != nil && c.confirmed.Load()
}

// placeAnywhere places a request when every server can play everything.
func (l *Ledger) placeAnywhere(q *Query, h *Hold, c *Client, set *Settings, candidates []Candidate, now time.Duration) (int, Reason) {
	switch {
	case q.Role == Follow, q.Role == Inquire:
		return l.route(q, set, candidates)
	case q.Role == Stream && !q.any():
		return l.hashed(q, candidates)
	}
	// PMS ends a client's former playback by itself, but only on the server
	// that has it.
	if s := l.playing(q, c, set, now); s != nil && !s.draining && !s.inMaintenance(now) && !s.shunned(now) {
		if i := usable(candidates, s); i >= 0 {
			l.begin(q, h, c, i, LivePlayback, set, candidates, now)
			return i, LivePlayback
		}
	}
	i, reason := l.choose(q, set, candidates, now)
	if i >= 0 {
		l.begin(q, h, c, i, reason, set, candidates, now)
	}
	return i, reason
}

// playing returns the server of what the client plays now, nil if nothing.
func (l *Ledger) playing(q *Query, c *Client, set *Settings, now time.Duration) *Server {
	if q.Client != "" && c != nil {
		if p := c.current(set.Idle, now); p != nil {
			return p.server
		}
	}
	if near := l.transcodes.get(q.Near); q.Near != "" && near.live(set.Idle, now) {
		return near.server
	}
	if j, _ := l.strangers.find(q); j != nil {
		return j.server
	}
	return nil
}

// placeAtHome places a request when every server has a library of its own: a
// client stays on one, whose ids it uses.
func (l *Ledger) placeAtHome(q *Query, h *Hold, c *Client, set *Settings, candidates []Candidate, now time.Duration) (int, Reason) {
	plays := q.Role == Start || q.Role == Stream && q.any()
	var home *Server
	if c != nil {
		home = c.server
	}
	i, reason := -1, Pinned
	if home != nil {
		i = usable(candidates, home)
	}
	switch {
	case i >= 0 && !c.leaves(q, set.Idle, now):
		if plays {
			reason = ClientServer
		}
		if set.Reject && q.Role == Start && home.full() && !c.transcodes(home) {
			return -1, AllFull
		}
	case home != nil && c.confirmed.Load() && (q.Role != Visit && q.Role != Inquire || q.Writes):
		// The ids it asks for are those of the library it has seen. On
		// another server they are another film's [P §10.29]; once the client
		// has looked at another library, its ids are that one's.
		return -1, ServerGone
	case q.Client == "" && q.Alias != 0 && home == nil:
		// Nothing is remembered of it, so that its address has to lead to the
		// same library over and over: what it plays has the ids of the one it
		// has seen [P §10.29].
		if i, reason = l.hashed(&Query{Alias: q.Alias}, staying(candidates)); i < 0 {
			return i, reason
		}
	case !plays && (q.Client == "" || q.Role == Inquire && home != nil || q.Look && home == nil):
		return l.hashed(q, candidates)
	default:
		other := -1
		if j, _ := l.strangers.find(q); home == nil && j != nil {
			other, reason = usable(candidates, j.server), Adopted
		}
		if other < 0 {
			other, reason = l.choose(q, set, candidates, now)
		}
		if other < 0 {
			if i < 0 {
				return other, reason
			}
			other, reason = i, Pinned // it cannot be emptied
		} else if home != nil {
			reason = ServerLost
		}
		i = other
		if q.Client != "" {
			if c == nil {
				c = l.newClient(q, now)
			}
			c.stayOn(candidates[i].Server)
			h.housed = true
		}
	}
	if plays {
		l.begin(q, h, c, i, reason, set, candidates, now)
	} else {
		h.take(nil, q, c, now)
	}
	return i, reason
}

// transcodes reports whether the client has a transcode on s, which PMS will
// end when the next one begins.
func (c *Client) transcodes(s *Server) bool {
	for _, p := range [...]*Playback{c.playback, c.pending} {
		if p != nil && p.job.server == s && p.job.counts() && p.job.work >= CPU {
			return true
		}
	}
	return false
}

// out says how a server is out of the candidates; one that is not among them
// is as good as down.
func out(candidates []Candidate, s *Server) Exclusion {
	for i := range candidates {
		if candidates[i].Server == s {
			return candidates[i].Out
		}
	}
	return Down
}

// usable returns the index of s among the candidates if it can be used, or -1.
func usable(candidates []Candidate, s *Server) int {
	for i := range candidates {
		if candidates[i].Server == s {
			if candidates[i].Out != In {
				return -1
			}
			return i
		}
	}
	return -1
}

// route finds the server of what is not a playback, when all servers are
// clones: artwork is shared out by its address so that caches are, all else is
// the primary's; reads may fall back to another server.
func (l *Ledger) route(q *Query, set *Settings, candidates []Candidate) (int, Reason) {
	if q.Role == Artwork {
		return l.hashed(q, candidates)
	}
	for i := range candidates {
		if c := &candidates[i]; c.Out == In && c.Server.Name() == set.Primary {
			return i, Primary
		}
	}
	if q.Writes {
		return -1, ServerGone
	}
	if i, _ := l.hashed(q, candidates); i >= 0 {
		return i, Fallback
	}
	return -1, Nowhere
}

// hashed spreads requests over the candidates by what they are (rendezvous
// hashing: a server that goes moves only its own share).
func (l *Ledger) hashed(q *Query, candidates []Candidate) (int, Reason) {
	key := q.Alias
	if q.any() && q.Role != Artwork {
		key = q.key()
	}
	best, most := -1, uint64(0)
	for i := range candidates {
		if c := &candidates[i]; c.Out == In {
			if r := rank(key, c.Server.hash); best < 0 || r > most {
				best, most = i, r
			}
		}
	}
	if best < 0 {
		return -1, Nowhere
	}
	return best, Hashed
}

// staying returns the candidates without those that are to be emptied, unless
// there are no others.
func staying(candidates []Candidate) []Candidate {
	if !slices.ContainsFunc(candidates, func(c Candidate) bool { return c.Out == In && c.Server.draining }) ||
		!slices.ContainsFunc(candidates, func(c Candidate) bool { return c.Out == In && !c.Server.draining }) {
		return candidates
	}
	stay := slices.Clone(candidates)
	for i := range stay {
		if stay[i].Out == In && stay[i].Server.draining {
			stay[i].Out = Draining
		}
	}
	return stay
}

// cost is what the request would add to a server's load.
func (q *Query) cost(set *Settings) float64 {
	if q.Role == Start || q.Role == Stream {
		return set.Costs.Of(q.Work)
	}
	return set.Costs.Client
}

// costOn is the same for a server that is known.
func (q *Query) costOn(s *Server, set *Settings) float64 {
	if q.Role == Start {
		return set.Costs.Of(s.guess(nil, q.Work))
	}
	return q.cost(set)
}

// choose picks the roomiest server. The options stay in l.options for the
// table of the placement.
func (l *Ledger) choose(q *Query, set *Settings, candidates []Candidate, now time.Duration) (int, Reason) {
	cost, key, share := q.cost(set), q.key(), l.others.share(now)
	options := slices.Grow(l.options[:0], len(candidates))[:len(candidates)]
	l.options = options
	top := nobody()
	unsettled := false
	for i := range candidates {
		s, out := candidates[i].Server, candidates[i].Out
		weight, more := s.settings.Weight, cost
		if !s.plain || out != In {
			out, weight = s.look(out, set, now)
			unsettled = unsettled || out >= Maintenance || s.full()
			more = q.costOn(s, set)
		}
		load, lot := s.load, rank(key, s.hash)
		if share > 0 {
			load += expect(share, more, lot)
		}
		score := Score(load, more, weight)
		options[i] = Option{score, s.hash, out}
		if out == In {
			top.offer(i, score, lot)
		}
	}
	reason := LeastLoad
	if unsettled { // whether a server is in depends on the others
		temper(options)
		if !limit(options, candidates) {
			if set.Reject && q.Role == Start {
				return -1, AllFull
			}
			readmit(options, Full)
			reason = Overflow
		}
		top.index = Best(options, key)
	}
	if top.index < 0 {
		return -1, Nowhere
	}
	return top.index, reason
}

// limit takes out the servers that are full. It reports false if only those
// were left.
func limit(options []Option, candidates []Candidate) (room bool) {
	room = true
	for i := range options {
		if options[i].Out == In && candidates[i].Server.full() {
			options[i].Out, room = Full, false
		}
	}
	return room || slices.ContainsFunc(options, func(o Option) bool { return o.Out == In })
}
