package cluster

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// begin makes a playback on the chosen candidate, pins it, and reserves its load there.
func (l *Ledger) begin(q *Query, h *Hold, c *Client, chosen int, reason Reason, set *Settings, candidates []Candidate, now time.Duration) {
	s := candidates[chosen].Server
	why := l.explain(q, chosen, reason, set, candidates, now)
	switch {
	case q.Client == "":
		c = nil // known by a guess only, which two devices may share
	case c == nil:
		c = l.newClient(q, now)
	}
	h.see(c, now)
	p := l.newPlayback(q, c, s, now)
	p.why = why
	if c != nil {
		old := c.pending
		c.pending = p
		if old != nil && old.holds.Load() == 0 {
			l.forgetPlayback(old, now) // asked for and never begun
		}
	}
	l.reserve(p, q.Work, now)
	l.placed(s, reason)
	h.take(p, q, c, now)
	h.placed = true
}

// adopt pins a playback that a server reports and nobody here placed.
func (l *Ledger) adopt(q *Query, h *Hold, c *Client, j *job, set *Settings, now time.Duration) {
	s := j.server
	own := *q
	if q.Client == "" {
		// A segment does not say whose it is; its timelines, which say no
		// more than that, are to find it all the same.
		c, own.Client, own.Session = nil, j.about.client, cmp.Or(q.Session, j.about.session)
		if st := l.sites[q.Site]; st != nil {
			c = st.byID[own.Client]
		}
	}
	if c == nil && own.Client != "" {
		c = l.newClient(&own, now)
	}
	h.see(c, now)
	p := l.newPlayback(&own, c, s, now)
	p.why = why{reason: Adopted, at: now, chosen: s}
	if c != nil {
		if !set.Replicated && c.server == nil {
			c.stayOn(s)
		}
		if c.playback.live(set.Idle, now) {
			c.pending = p
		} else {
			c.playback = p
		}
	}
	if p.ids.Transcode == "" && j.work != None && l.transcodes.get(j.id) == nil {
		p.ids.Transcode = j.id
		l.transcodes.put(j.id, p)
	}
	id, work := j.id, j.work
	p.job.about = j.about
	l.strike(j)
	l.enter(&p.job, s, id)
	p.job.set(Confirmed, work, now)
	h.take(p, q, c, now)
	h.placed = true
}

// move places a running playback anew because its server cannot serve it.
func (l *Ledger) move(p *Playback, q *Query, h *Hold, c *Client, set *Settings, candidates []Candidate, now time.Duration) (int, Reason) {
	i, reason := l.choose(q, set, candidates, now)
	if i < 0 {
		return i, reason
	}
	p.explained(l.explain(q, i, ServerLost, set, candidates, now))
	work := p.job.work
	if q.Role == Start {
		work = q.Work
	}
	if p.job.state == Reserved && out(candidates, p.server) == Tried {
		l.leave(&p.job, Reserved, now+failedHold, now) // failing fast must not look idle
	}
	if p.begun != 0 || p.job.state == Confirmed {
		l.abandon(p.server, p.ids.Transcode, now)
	}
	if q.Begins && out(candidates, p.server) == Tried {
		l.abandon(p.server, q.Transcode, now) // it may have begun all the same
	}
	cause, since := LostServer, now
	if q.Role == Start {
		since = h.at // it is this start that leaves what was there behind
		if out(candidates, p.server) == Tried {
			cause = Refused
		}
	}
	p.moves++
	p.noteMove(p.server, candidates[i].Server, cause, since)
	l.moved(p, cause)
	l.pin(p, candidates[i].Server)
	if own := p.client; own != nil && own.server != nil {
		own.stayOn(p.server)
	}
	l.rename(p, q, h, now)
	l.reserve(p, work, now)
	l.placed(p.server, ServerLost)
	h.take(p, q, c, now)
	h.placed = true
	return i, ServerLost
}

// pin moves a playback to a server. What it had on another is struck out.
func (l *Ledger) pin(p *Playback, s *Server) {
	if p.server == s {
		return
	}
	l.strike(&p.job)
	p.server = s
	for _, id := range append(p.older, p.ids.Transcode) {
		if id != "" && l.transcodes.get(id) == p {
			l.transcodes.put(id, p)
		}
	}
}

// reserve enters the playback's job into its server's books.
func (l *Ledger) reserve(p *Playback, work Work, now time.Duration) {
	j := &p.job
	id := p.ids.Transcode
	if id == "" {
		// Direct play has no transcode id. A name that PMS cannot report
		// keeps it apart from all that it does.
		id = "\x00" + cmp.Or(p.ids.name(), p.ids.Client)
	}
	l.enter(j, p.server, id)
	j.hold, j.proven, j.listed = 0, false, false
	j.set(Reserved, p.server.guess(j, work), now)
	j.at = now
}

// rename learns the ids of a request of p: a quality change brings a new
// transcode id, and some clients start under another one than they decided
// with.
func (l *Ledger) rename(p *Playback, q *Query, h *Hold, now time.Duration) {
	if p.client != nil && q.Client != p.client.id {
		return // it may be somebody else's
	}
	learn := func(name *string, id string) {
		if id != "" && *name == "" && l.bySession[id] == nil {
			*name = strings.Clone(id)
			l.bySession[*name] = p
		}
	}
	learn(&p.ids.Session, q.Session)
	learn(&p.ids.Playback, q.Playback)
	if q.Role != Start || p.endedAt > h.at {
		return // a late answer does not bring an ended playback back
	}
	if q.Item != "" && q.Item != p.item {
		p.item = strings.Clone(q.Item)
	}
	work := q.Work
	switch {
	case h.decided:
		work = h.work
	case q.Begins && p.decided:
		work = p.job.work // what the decision said holds for the start
	}
	p.decided = q.Begins && p.decided || h.decided
	p.endedAt, p.lost = 0, false
	switch id := q.Transcode; {
	case id == "" || id == p.ids.Transcode:
		if !p.job.counts() {
			l.reserve(p, work, now)
		}
	case l.transcodes.get(id) == nil, q.Begins && slices.Contains(p.older, id):
		if p.job.counts() && p.confirmed.Load() {
			// PMS ends the former transcode, and may list it for a moment.
			l.leave(&p.job, Ended, 0, now)
		}
		l.retranscode(p, id)
		l.reserve(p, work, now)
	}
}

// retranscode gives the playback another transcode id. The former ones go on
// leading to it.
func (l *Ledger) retranscode(p *Playback, id string) {
	const most = 3
	if i := slices.Index(p.older, id); i >= 0 {
		id = p.older[i]
		p.older = slices.Delete(p.older, i, i+1)
	} else {
		id = strings.Clone(id)
	}
	if p.ids.Transcode != "" {
		if len(p.older) == most {
			l.transcodes.remove(p.older[0], p)
			p.older = slices.Delete(p.older, 0, 1)
		}
		p.older = append(p.older, p.ids.Transcode)
	}
	p.ids.Transcode = id
	l.transcodes.put(id, p)
	if p.client != nil {
		p.client.use(id)
	}
}

// take makes the hold one of p and c.
func (h *Hold) take(p *Playback, q *Query, c *Client, now time.Duration) {
	if p != nil && h.playback != p {
		if h.playback != nil {
			h.playback.holds.Add(-1)
		}
		h.hold(p, q, now)
	}
	h.see(c, now)
}

// newPlayback enters a playback of c, which may be nil, on s into the ledger.
func (l *Ledger) newPlayback(q *Query, c *Client, s *Server, now time.Duration) *Playback {
	set := l.settings.Load()
	for len(l.playbacks.members) >= set.MaxPlaybacks {
		idlest, ok := l.playbacks.spare(now)
		if !ok {
			break // all are needed: there are as many as requests under way
		}
		l.forgetPlayback(idlest, now)
	}
	ids := q.IDs
	if c != nil {
		ids.Client = "" // it has that already
	}
	p := &Playback{ids: ids.clone(), item: strings.Clone(q.Item), pins: l.transcodes, server: s, placed: now}
	p.job.playback = p
	p.touch(now)
	l.playbacks.add(p)
	if c != nil {
		p.client, p.ids.Client = c, c.id
		c.use(p.ids.Transcode)
	}

	// A name goes to the new playback if the old one under it is over or was
	// the same client's; from somebody else's running playback it is not
	// taken.
	claim := func(name *string, old *Playback) bool {
		switch {
		case *name == "":
			return false
		case old == nil || old == p:
		case old.live(set.Idle, now) && (old.ids.Client != p.ids.Client || old.ids.Client == ""):
			*name = ""
			return false
		default:
			l.forgetPlayback(old, now)
		}
		return true
	}
	if claim(&p.ids.Transcode, l.transcodes.get(p.ids.Transcode)) {
		l.transcodes.put(p.ids.Transcode, p)
	}
	if claim(&p.ids.Session, l.bySession[p.ids.Session]) {
		l.bySession[p.ids.Session] = p
	}
	if claim(&p.ids.Playback, l.bySession[p.ids.Playback]) {
		l.bySession[p.ids.Playback] = p
	}
	return p
}

func (l *Ledger) newClient(q *Query, now time.Duration) *Client {
	set := l.settings.Load()
	for len(l.clients.members) >= set.MaxPlaybacks {
		idlest, ok := l.clients.spare(now)
		if !ok {
			break
		}
		l.forgetClient(idlest)
	}
	st := l.sites[q.Site]
	if st == nil {
		st = &site{byID: make(map[string]*Client), byAlias: make(map[uint64]*Client)}
		l.sites[strings.Clone(q.Site)] = st
	}
	if old := st.byID[q.Client]; old != nil {
		l.forgetClient(old) // away for so long that it begins anew
	}
	c := &Client{id: strings.Clone(q.Client), site: st}
	c.touch(now)
	l.clients.add(c)
	st.byID[c.id] = c
	return c
}
