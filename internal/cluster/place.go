package cluster

import (
	"cmp"
	"slices"
	"strings"
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
)

var reasons = [...]string{
	"no_server", "pinned", "least_load", "client_server", "live_playback", "adopted",
	"server_lost", "overflow", "primary", "fallback", "hashed", "all_full", "server_unavailable",
}

func (r Reason) String() string { return reasons[r] }

// Candidate is a member of the pool that a request may go to.
type Candidate struct {
	Server *Server
	Out    Exclusion // Down or Tried, as the caller knows
}

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
	Server                    *Server
	Load, Cost, Weight, Score float32
	Out                       Exclusion
}

// tableRows bounds what a placement remembers of its candidates.
const tableRows = 8

// Place chooses a server for a request that Find knew none for, or whose
// server is not available, and pins what is to be pinned: one atomic step, so
// that the many first requests of a playback agree. It returns the index of
// the candidate, or -1 and why there is none.
func (l *Ledger) Place(q *Query, h *Hold, candidates []Candidate, now time.Time) (int, Reason) {
	set := l.settings.Load()
	if set.Replicated && (q.Role == Visit || q.Role == Artwork) {
		return l.route(q, set, candidates)
	}
	at := l.since(now)
	l.mu.Lock()
	defer l.mu.Unlock()

	// What was not known when the request came may be known by now.
	p, c := l.locate(q, set, at)
	if p != nil && p.follows(q, set, at) {
		if i := usable(candidates, p.server); i >= 0 {
			l.rename(p, q, at)
			h.take(p, c, at)
			h.Server = p.server
			return i, Pinned
		}
		switch q.Role {
		case Start, Stream:
			// In separate mode no other server has the same file under that
			// id; but where no server has answered yet, none is promised.
			if set.Replicated || !p.confirmed.Load() {
				return l.move(p, q, h, c, set, candidates, at)
			}
		case Follow:
			return -1, ServerGone // no other server has the session
		}
	}
	if q.Role == Follow || q.Role == Stream || q.Role == Inquire {
		if s := l.reported(q); s != nil {
			if i := usable(candidates, s); i >= 0 {
				if q.Role != Inquire {
					l.adopt(q, h, c, s, at)
				}
				h.Server = s
				return i, Adopted
			}
		}
	}
	if set.Replicated {
		return l.placeAnywhere(q, h, c, set, candidates, at)
	}
	return l.placeAtHome(q, h, c, set, candidates, at)
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
	var old *Playback
	switch near := l.byTranscode[q.Near]; {
	case c != nil && q.Client != "":
		old = c.current(set.Idle, now)
	case q.Near != "" && near != nil && near.live(set.Idle, now):
		old = near
	}
	if old != nil {
		s := old.server
		if i := usable(candidates, s); i >= 0 && !s.draining && !s.maintenance && !s.shunned(now) {
			l.begin(q, h, c, s, LivePlayback, set, candidates, now)
			return i, LivePlayback
		}
	}
	i, reason := l.choose(q, set, candidates, now)
	if i >= 0 {
		l.begin(q, h, c, candidates[i].Server, reason, set, candidates, now)
	}
	return i, reason
}

// placeAtHome places a request when every server has a library of its own: a
// client stays on one, whose ids it uses.
func (l *Ledger) placeAtHome(q *Query, h *Hold, c *Client, set *Settings, candidates []Candidate, now time.Duration) (int, Reason) {
	plays := q.Role == Start || q.Role == Stream && q.any()
	i, reason := -1, Nowhere
	switch {
	case c != nil && c.server != nil && usable(candidates, c.server) >= 0:
		i, reason = usable(candidates, c.server), Pinned
		if plays {
			reason = ClientServer
		}
	case c != nil && c.server != nil && c.confirmed.Load() && q.Role != Visit && q.Role != Artwork && q.Role != Inquire:
		// The ids it asks for are those of the library it has seen. On
		// another server they are another film's [P §10.29]; once the client
		// has looked at another library, its ids are that one's.
		return -1, ServerGone
	case q.Client == "" && !plays:
		return l.hashed(q, candidates)
	default:
		if s := l.reported(q); c == nil && s != nil && usable(candidates, s) >= 0 {
			i, reason = usable(candidates, s), Adopted
		} else if i, reason = l.choose(q, set, candidates, now); i < 0 {
			return i, reason
		}
		if c != nil && c.server != nil {
			reason = ServerLost
		}
		if q.Client != "" {
			if c == nil {
				c = l.newClient(q, now)
			}
			c.stayOn(candidates[i].Server)
		}
	}
	if plays {
		l.begin(q, h, c, candidates[i].Server, reason, set, candidates, now)
		return i, reason
	}
	h.take(nil, c, now)
	h.Server = candidates[i].Server
	return i, reason
}

// current is the client's playback that still goes on, or is about to.
func (c *Client) current(idle, now time.Duration) *Playback {
	if c.playback != nil && c.playback.live(idle, now) {
		return c.playback
	}
	return c.pending
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

// reported finds the server that says it plays what the request is about.
func (l *Ledger) reported(q *Query) *Server {
	if q.Transcode != "" {
		for _, s := range l.servers.Load().list {
			if j := s.jobs[q.Transcode]; j != nil && j.state == Confirmed {
				return s
			}
		}
	}
	if j := l.strangers.bySession[q.Session]; q.Session != "" && j != nil {
		return j.server
	}
	if j := l.strangers.byClient[q.Client]; q.Client != "" && j != nil {
		return j.server
	}
	return nil
}

// choose picks the roomiest server. The options stay in l.options for the
// table of the placement.
func (l *Ledger) choose(q *Query, set *Settings, candidates []Candidate, now time.Duration) (int, Reason) {
	cost := set.Costs.Client
	if q.Role == Start || q.Role == Stream {
		cost = set.Costs.Of(q.Work)
	}
	options := slices.Grow(l.options[:0], len(candidates))[:len(candidates)]
	l.options = options
	for i := range candidates {
		c := &candidates[i]
		s := c.Server
		s.sighting(c.Out != Down, now)
		o := &options[i]
		*o = Option{Load: s.tally.load(&set.Costs), Cost: cost, Weight: s.settings.Weight, Hash: s.hash, Out: c.Out}
		if s.returned != 0 {
			o.Weight = s.weight(set.SlowStart, now)
		}
		if o.Out == In {
			switch {
			case s.draining:
				o.Out = Draining
			case s.maintenance:
				o.Out = Maintenance
			case len(s.failures) >= shunAfter && s.shunned(now):
				o.Out = Shunned
			}
		}
	}
	temper(options)
	limited, room := false, false
	for i := range options {
		if options[i].Out == In {
			if candidates[i].Server.full() {
				options[i].Out, limited = Full, true
			} else {
				room = true
			}
		}
	}
	reason := LeastLoad
	if limited && !room {
		if set.Reject && q.Role == Start {
			return -1, AllFull
		}
		for i := range options {
			if options[i].Out == Full {
				options[i].Out = In
			}
		}
		reason = Overflow
	}
	i := Best(options, q.key())
	if i < 0 {
		return -1, Nowhere
	}
	return i, reason
}

// table keeps what a choice was made from.
func (l *Ledger) table(q *Query, s *Server, reason Reason, set *Settings, candidates []Candidate, now time.Duration) *Placement {
	why := &Placement{Reason: reason, At: l.time(now), Chosen: s}
	if reason != LeastLoad && reason != Overflow && reason != ServerLost {
		// Nothing was weighed; show what would have been.
		l.choose(q, set, candidates, now)
	}
	n := min(len(candidates), tableRows)
	why.Table = make([]Row, 0, n)
	why.More = len(candidates) - n
	for i := range l.options {
		o := &l.options[i]
		r := Row{
			Server: candidates[i].Server,
			Load:   float32(o.Load), Cost: float32(o.Cost), Weight: float32(o.Weight),
			Score: float32(o.Score()), Out: o.Out,
		}
		at := len(why.Table)
		if at == n {
			if last := &why.Table[n-1]; r.Server != s && (last.Server == s || better(last, &r) <= 0) {
				continue
			}
			at--
			why.Table = why.Table[:at]
		}
		for at > 0 && why.Table[at-1].Server != s && (r.Server == s || better(&r, &why.Table[at-1]) < 0) {
			at--
		}
		why.Table = slices.Insert(why.Table, at, r)
	}
	return why
}

// better orders rows: those that could be chosen first, by score.
func better(a, b *Row) int {
	return cmp.Or(cmp.Compare(min(a.Out, 1), min(b.Out, 1)), cmp.Compare(a.Score, b.Score))
}

// begin makes a playback on s, pins it, and reserves its load there.
func (l *Ledger) begin(q *Query, h *Hold, c *Client, s *Server, reason Reason, set *Settings, candidates []Candidate, now time.Duration) {
	why := l.table(q, s, reason, set, candidates, now)
	p := l.newPlayback(q, now)
	p.why, p.server, p.placed = why, s, now
	if q.Client == "" {
		c = nil // known by a guess only, which two devices may share
	} else if c == nil {
		c = l.newClient(q, now)
	}
	if c != nil {
		if old := c.pending; old != nil && old.holds.Load() == 0 {
			l.forgetPlayback(old, now) // asked for and never begun
		}
		p.client, c.pending = c, p
	}
	l.reserve(p, q.Work, now)
	s.placements++
	h.take(p, c, now)
	h.Server = s
}

// adopt pins a playback that a server reports and nobody here placed.
func (l *Ledger) adopt(q *Query, h *Hold, c *Client, s *Server, now time.Duration) {
	set := l.settings.Load()
	p := l.newPlayback(q, now)
	p.why = &Placement{Reason: Adopted, At: l.time(now), Chosen: s}
	p.server, p.placed = s, now
	if c == nil && q.Client != "" {
		c = l.newClient(q, now)
	}
	if c != nil {
		if !set.Replicated && c.server == nil {
			c.stayOn(s)
		}
		p.client = c
		if c.playback == nil {
			c.playback = p
		}
	}
	if j := s.jobs[q.Transcode]; q.Transcode != "" && j != nil && j.playback == nil {
		l.strangers.remove(j)
		state, work := j.state, j.work
		p.job.client, p.job.session, p.job.title = j.client, j.session, j.title
		j.detach()
		p.job.playback = p
		p.job.attach(s, p.ids.Transcode)
		p.job.set(state, work, now)
	}
	p.confirmed.Store(true) // the server itself says so
	h.take(p, c, now)
}

// move places a running playback anew because its server cannot serve it.
func (l *Ledger) move(p *Playback, q *Query, h *Hold, c *Client, set *Settings, candidates []Candidate, now time.Duration) (int, Reason) {
	l.rename(p, q, now)
	p.job.detach()
	i, reason := l.choose(q, set, candidates, now)
	if i < 0 {
		return i, reason
	}
	work := p.job.work
	if q.Role == Start {
		work = q.Work
	}
	p.why = l.table(q, candidates[i].Server, ServerLost, set, candidates, now)
	p.server = candidates[i].Server
	p.moves++
	if c := p.client; c != nil && c.server != nil {
		c.stayOn(p.server)
	}
	l.reserve(p, work, now)
	p.server.placements++
	h.take(p, c, now)
	h.Server = p.server
	return i, ServerLost
}

// reserve enters the playback's job into its server's books.
func (l *Ledger) reserve(p *Playback, work Work, now time.Duration) {
	j := &p.job
	j.playback = p
	id := p.ids.Transcode
	if id == "" {
		// Direct play has no transcode id. A name that PMS cannot report
		// keeps it apart from all that it does.
		id = "\x00" + cmp.Or(p.ids.Session, p.ids.Playback, p.ids.Client)
	}
	if j.server != nil && (j.server != p.server || j.id != id) {
		j.detach()
	}
	if j.server == nil {
		if old := p.server.jobs[id]; old != nil && old.playback == nil {
			l.strangers.remove(old)
		}
		j.attach(p.server, id)
	}
	j.client = p.ids.Client
	j.hold, j.missed = 0, 0
	j.set(Reserved, work, now)
	j.at = now
	if p.client != nil {
		p.client.recount()
	}
}

// rename learns the ids of a request of p: a quality change brings a new
// transcode id, and some clients start under another one than they decided
// with.
func (l *Ledger) rename(p *Playback, q *Query, now time.Duration) {
	if p.client != nil && q.Client != "" && p.client.id != q.Client {
		return // somebody else's request; it may follow, and not take over
	}
	if id := q.Session; id != "" && p.ids.Session == "" && l.bySession[id] == nil {
		p.ids.Session = strings.Clone(id)
		l.bySession[p.ids.Session] = p
	}
	if id := q.Playback; id != "" && p.ids.Playback == "" && l.bySession[id] == nil {
		p.ids.Playback = strings.Clone(id)
		l.bySession[p.ids.Playback] = p
	}
	if q.Role != Start {
		return
	}
	if q.Item != "" && q.Item != p.item {
		p.item = strings.Clone(q.Item)
	}
	revived := p.endedAt != 0
	p.endedAt = 0
	if id := q.Transcode; id != "" && id != p.ids.Transcode && l.byTranscode[id] == nil {
		const most = 3
		if old := p.ids.Transcode; old != "" {
			if len(p.older) == most {
				if l.byTranscode[p.older[0]] == p {
					delete(l.byTranscode, p.older[0])
				}
				p.older = append(p.older[:0], p.older[1:]...)
			}
			p.older = append(p.older, old)
		}
		p.ids.Transcode = strings.Clone(id)
		l.byTranscode[p.ids.Transcode] = p
		l.retire(p, now)
		l.reserve(p, q.Work, now)
	} else if revived || !p.job.counts() {
		l.reserve(p, q.Work, now)
	}
}

// retire leaves a note of the playback's former transcode, which PMS ends and
// may still list for a moment.
func (l *Ledger) retire(p *Playback, now time.Duration) {
	j := &p.job
	if j.server == nil || j.state != Confirmed {
		return
	}
	note := &job{client: j.client}
	s, id := j.server, j.id
	j.detach()
	note.attach(s, id)
	note.set(Ended, None, now)
}

func (h *Hold) take(p *Playback, c *Client, now time.Duration) {
	if p != nil && h.playback != p {
		if h.playback != nil {
			h.playback.holds.Add(-1)
		}
		h.hold(p, now)
	}
	h.see(c, now)
}

func (l *Ledger) newPlayback(q *Query, now time.Duration) *Playback {
	set := l.settings.Load()
	for l.playbacks.n >= set.MaxPlaybacks {
		l.forgetPlayback(l.playbacks.longestIdle(now).owner.(*Playback), now)
	}
	p := &Playback{ids: q.IDs.clone(), item: strings.Clone(q.Item)}
	p.owner = p
	p.touch(now)
	l.playbacks.push(&p.entry)

	// A name goes to the new playback if the old one under it is over or was
	// the same client's; from somebody else's running playback it is not
	// taken.
	claim := func(names map[string]*Playback, id string) {
		if id == "" {
			return
		}
		if old := names[id]; old != nil && old != p {
			if old.live(set.Idle, now) && (old.ids.Client != p.ids.Client || old.ids.Client == "") {
				return
			}
			l.forgetPlayback(old, now)
		}
		names[id] = p
	}
	claim(l.byTranscode, p.ids.Transcode)
	claim(l.bySession, p.ids.Session)
	claim(l.bySession, p.ids.Playback)
	return p
}

func (l *Ledger) newClient(q *Query, now time.Duration) *Client {
	set := l.settings.Load()
	for l.clients.n >= set.MaxPlaybacks {
		l.forgetClient(l.clients.longestIdle(now).owner.(*Client))
	}
	st := l.sites[q.Site]
	if st == nil {
		st = &site{byID: make(map[string]*Client), byAlias: make(map[uint64]*Client)}
		l.sites[strings.Clone(q.Site)] = st
	}
	c := &Client{id: strings.Clone(q.Client), site: st}
	c.owner = c
	c.touch(now)
	l.clients.push(&c.entry)
	st.byID[c.id] = c
	return c
}
