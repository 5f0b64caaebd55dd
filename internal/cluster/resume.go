package cluster

import (
	"cmp"
	"slices"
	"time"
)

// Request is what a playback was decided or started with, for asking it again.
// What it looks like is the caller's business.
type Request interface {
	// Size is what it takes of memory, in bytes.
	Size() int

	// Endless says that what was asked for has no segments, so that it
	// cannot be carried.
	Endless() bool
}

// kept is what a playback is resumed from.
type kept struct{ decision, start Request }

// maxKept bounds the memory of all requests that are kept, in bytes. The
// playbacks that are idle longest lose theirs first, and then cannot be
// carried.
const maxKept = 64 << 20

// Keep remembers a decision or start that the hold's playback was accepted
// with, in place of the former one. Without one, nothing is remembered any
// more: the former one may be about something else.
func (l *Ledger) Keep(h *Hold, decision bool, r Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := h.playback
	if p == nil || p.gone || h.foreign {
		return
	}
	if r == nil {
		l.drop(p)
		return
	}
	if p.kept == nil {
		p.kept = new(kept)
	}
	if decision && h.decided && h.work == None && p.kept.start != nil {
		// It plays the file as it is from now on.
		l.keeps -= size(p.kept.start)
		p.kept.start = nil
	}
	at := &p.kept.start
	if decision {
		at = &p.kept.decision
	}
	l.keeps += r.Size() - size(*at)
	*at = r
	if l.keeps <= maxKept {
		return
	}
	// Some at a time, so that this is seldom done.
	type idler struct {
		seen time.Duration
		p    *Playback
	}
	var idlest []idler
	for _, m := range l.playbacks.members {
		if o := m.owner; o != p && o.kept != nil {
			o.refresh()
			idlest = append(idlest, idler{time.Duration(o.seen.Load()), o})
		}
	}
	slices.SortFunc(idlest, func(a, b idler) int { return cmp.Compare(a.seen, b.seen) })
	for _, o := range idlest {
		if l.drop(o.p); l.keeps <= maxKept-maxKept/16 {
			return
		}
	}
}

func size(r Request) int {
	if r == nil {
		return 0
	}
	return r.Size()
}

// drop forgets what a playback was asked for with.
func (l *Ledger) drop(p *Playback) {
	if p.kept != nil {
		l.keeps -= size(p.kept.decision) + size(p.kept.start)
		p.kept = nil
	}
}

// Origin returns what a playback was started with, or else decided with; nil if
// that is not known.
func (l *Ledger) Origin(p *Playback) Request {
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case p.kept == nil:
		return nil
	case p.kept.start != nil:
		return p.kept.start
	}
	return p.kept.decision
}

// Endless reports whether the playback is a stream without segments, which
// ends with its connection and whose player begins another.
func (l *Ledger) Endless(p *Playback) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return p.kept != nil && p.kept.start != nil && p.kept.start.Endless()
}

// Superseded reports whether the hold's playback was begun anew since, or its
// client is beginning something else: PMS ends what was there before.
func (l *Ledger) Superseded(h *Hold) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	p := h.playback
	if p == nil || p.begun > h.at {
		return true
	}
	c := p.client
	return c != nil && (c.playback != p || c.pending != nil && c.pending != p && c.pending.holds.Load() > 0)
}

// SameClient reports whether two playbacks are one device's.
func (l *Ledger) SameClient(p, q *Playback) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return p == q || p.client != nil && p.client == q.client
}

// Resumption is a playback on the way to where it goes on: on another server,
// or on its own, which has lost its session.
type Resumption struct {
	// Decision and Start are what it was asked for with, nil if not known.
	Decision, Start Request

	// Transcode is the id under which it goes on; empty for direct play.
	Transcode string

	// Direct says that the client plays the file as it is: there is a decision
	// and no start.
	Direct bool

	// Cause is why it does not simply go on.
	Cause Cause

	// From is where it was, and To where it goes on: chosen by Choose.
	From, To *Server

	playback *Playback
	target   *Server // where an operator wants it; nil: where there is room
	leave    bool    // it is not to stay where it is
	job      *job    // reserved on To
	why      why
	work     Work
}

// Playback returns the playback to which the hold belongs, nil if there is
// none.
func (h *Hold) Playback() *Playback {
	if h.foreign {
		return nil
	}
	return h.playback
}

// PlaybackOf returns the playback that has a transcode, nil if none is known.
func (l *Ledger) PlaybackOf(transcode string) *Playback {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.transcodes.get(transcode)
}

// ServerOf returns where a playback is and whether it goes on.
func (l *Ledger) ServerOf(p *Playback) (s *Server, goesOn bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return p.server, !p.gone && p.endedAt == 0
}

// StartOf returns what the playback was started with that has a transcode, nil
// if that is not known; where it is now; and which of all resumptions has
// brought it there, 0 if none has.
func (l *Ledger) StartOf(transcode string) (start Request, at *Server, resumption uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	p := l.transcodes.get(transcode)
	if p == nil || p.kept == nil {
		return nil, nil, 0
	}
	return p.kept.start, p.server, p.resumed
}

// Resumptions counts the playbacks that were resumed, for ResumedSince.
func (l *Ledger) Resumptions() uint64 { return l.resumptions.Load() }

// ResumedSince reports whether a playback was resumed since Resumptions had
// been count: a failure of that time has been mended by now.
func (l *Ledger) ResumedSince(p *Playback, count uint64) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return p.resumed > count
}

const (
	// A session that was just begun anew is there, if its server cannot be
	// asked: what is not in it does not exist.
	resumedHolds = 5 * time.Second

	// The same holds for a server's word that it has the session.
	presentHolds = time.Second

	// mostResumptions in a minute are made for a playback whose server keeps
	// losing it: its encoder dies, and bursts of starts have crashed servers
	// [P §10.34].
	mostResumptions = 4
)

// Present notes a server's word that it has the playback's session.
func (l *Ledger) Present(p *Playback, now time.Time) {
	l.mu.Lock()
	p.presentAt = l.since(now)
	l.mu.Unlock()
}

// Missing reports whether a playback whose server says that it has not what was
// asked for shall be resumed for it. If not, the server's word stands. ask says
// that the server can be asked whether it has the session at all.
func (l *Ledger) Missing(p *Playback, ask bool, now time.Time) bool {
	at := l.since(now)
	l.mu.RLock()
	defer l.mu.RUnlock()
	return !p.gone && p.endedAt == 0 && (ask || p.resumedAt == 0 || at-p.resumedAt >= resumedHolds) &&
		(p.presentAt == 0 || at-p.presentAt >= presentHolds)
}

// Again reports whether a playback whose server has lost its session may be
// begun there once more.
func (l *Ledger) Again(p *Playback, now time.Time) bool {
	at := l.since(now)
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.budgetAt == 0 || at-p.budgetAt > time.Minute {
		p.budgetAt, p.budget = at, mostResumptions
	}
	if p.budget == 0 {
		return false
	}
	p.budget--
	return true
}

// BegunBefore reports whether the playback's last start passed through here
// before a time, rather than later, or through another balancer.
func (l *Ledger) BegunBefore(p *Playback, t time.Time) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return p.begun != 0 && max(p.begun, p.resumedAt) < l.since(t)
}

// Stale returns the servers that a playback had left when its client started it
// last, and those on which its id was left behind by another. What they may
// still hold under the id is another film, where that is the device's for ever,
// or of another quality.
func (l *Ledger) Stale(p *Playback) (list []*Server) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, m := range p.history {
		if m.from != p.server && (m.at <= p.begun || m.cause == Refused) { // the latter is by that start
			list = append(list, m.from)
		}
	}
	for _, s := range l.servers.Load().list {
		if o := l.orphans[Orphan{s, p.ids.Transcode}]; o != nil && s != p.server && o.at <= p.begun {
			list = append(list, s)
		}
	}
	return list
}

// Resume begins to resume a playback under one of its transcode ids. It
// returns nil if the playback is over, or was lost.
func (l *Ledger) Resume(p *Playback, transcode string) *Resumption {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if p.gone || p.endedAt != 0 || l.replaced(p) {
		return nil
	}
	r := &Resumption{
		Transcode: cmp.Or(transcode, p.ids.Transcode), From: p.server,
		playback: p, work: p.job.work,
	}
	if p.kept != nil {
		r.Decision, r.Start = p.kept.decision, p.kept.start
		r.Direct = r.Start == nil && p.decided && p.job.work == None
	}
	return r
}

// replaced reports whether the playback's device plays something else by now,
// which it has begun through another site or another balancer:
// resuming this one would end that [P §4.4].
func (l *Ledger) replaced(p *Playback) bool {
	if p.ids.Client == "" {
		return false
	}
	for _, st := range l.sites {
		if c := st.byID[p.ids.Client]; c != nil && c.playback != nil && c.playback != p &&
			c.playback.server == p.server && c.playback.endedAt == 0 && c.playback.begun > p.begun {
			return true
		}
	}
	// What the device has used here was not begun elsewhere: its server was away
	// when it left that, or a stop was lost.
	j := l.strangers.byClient[p.ids.Client]
	if j != nil && p.client != nil && p.client.used(j.id) {
		return false
	}
	return j != nil && j.state == Confirmed && j.work != None && j.at > max(p.placed, p.begun) && !j.bare() &&
		j.id != p.ids.Transcode && !slices.Contains(p.older, j.id)
}

// Choose finds the server to go on with: the present one if it can be used,
// unless the playback is to leave it, or the roomiest. There the load is
// reserved; the playback's requests go on going where it was until Resumed.
func (l *Ledger) Choose(r *Resumption, candidates []Candidate, now time.Time) (int, Reason) {
	at := l.since(now)
	set := l.settings.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	p := r.playback
	l.rejoin(p, nil)
	if r.From.gone && r.From.addr == p.server.addr {
		r.From = p.server
	}
	r.arrive()
	r.job, r.To = nil, nil // a former reservation lapses: what fails fast must not look idle
	if p.gone || p.endedAt != 0 {
		return -1, ServerGone
	}
	if r.target == nil && !r.leave {
		if i := usable(candidates, p.server); i >= 0 {
			r.To = p.server
			return i, Pinned
		}
	}
	if !set.Replicated {
		return -1, ServerGone // its ids mean something else elsewhere [P §10.29]
	}
	q := Query{IDs: p.ids, Role: Start, Work: r.work, Item: p.item}
	i, reason := -1, Nowhere
	switch {
	case r.target != nil:
		i = usable(candidates, r.target)
	default:
		if here := usable(candidates, p.server); here >= 0 {
			candidates[here].Out = Draining
		}
		i, reason = l.choose(&q, set, candidates, at)
	}
	if i < 0 {
		return -1, reason
	}
	r.why = l.explain(&q, i, reason, set, candidates, at)
	r.why.reason = Resumed
	r.To = candidates[i].Server
	r.job = &job{about: &about{client: p.ids.Client, session: p.ids.name(), title: p.job.told().title}}
	l.enter(r.job, r.To, r.id())
	r.job.hold = at + failedHold
	r.job.set(Reserved, r.work, at)
	r.job.coming = true
	return i, Resumed
}

// arrive notes that nothing is on its way to the chosen server any more.
func (r *Resumption) arrive() {
	if r.job != nil {
		r.job.coming = false
	}
}

// id is by what the job of the playback is known.
func (r *Resumption) id() string {
	if r.Transcode != "" {
		return r.Transcode
	}
	return "\x00" + cmp.Or(r.playback.ids.name(), r.playback.ids.Client)
}

// Decided corrects what the playback costs by what the new server decided.
func (r *Resumption) Decided(l *Ledger, work Work, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.To != nil {
		work = r.To.guess(cmp.Or(r.job, &r.playback.job), work) // the latter where it goes on in its place
	}
	r.work = work
	if j := r.job; j != nil && j.counts() {
		j.set(j.state, work, l.since(now))
	}
}

// Failed charges the server that was chosen with the failure.
func (r *Resumption) Failed(l *Ledger, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.arrive()
	if r.To != nil {
		r.To.charge(r.playback.item, r.playback.ids.Client, l.since(now))
	}
}

// Forsaken notes that nobody knows what became of the resumption's start: what
// that may have begun is to be stopped.
func (r *Resumption) Forsaken(l *Ledger, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.arrive()
	if r.To != nil {
		l.abandon(r.To, r.Transcode, l.since(now))
	}
}

// Resumed notes that the server that was chosen has the playback: from now on
// its requests go there, and what it had elsewhere is to be stopped. It
// reports false if the playback ended or went elsewhere meanwhile.
func (l *Ledger) Resumed(r *Resumption, now time.Time) bool {
	at := l.since(now)
	l.mu.Lock()
	defer l.mu.Unlock()
	p := r.playback
	r.arrive()
	if p.gone || p.endedAt != 0 || p.server != r.From && p.server != r.To {
		if r.To != nil && (r.To != p.server || p.endedAt != 0 && !p.gone) {
			l.abandon(r.To, r.Transcode, at)
		}
		return false
	}
	r.To.forgive()
	p.touch(at)
	p.resumed, p.resumedAt = l.resumptions.Add(1), at
	if p.begun == 0 {
		p.begun = p.placed // not now: a next film may have been asked for meanwhile
	}
	if p.server == r.To {
		l.reserve(p, r.work, at)
		return true
	}
	p.moves++
	p.noteMove(p.server, r.To, r.Cause, at)
	l.moved(p, r.Cause)
	l.carry(p, r.To, at)
	if slices.Contains(p.older, r.Transcode) {
		l.retranscode(p, r.Transcode) // nobody has begun the later one
	}
	if r.job != nil && r.job.server == r.To && r.job.counts() {
		state := r.job.state
		l.strike(r.job)
		l.enter(&p.job, r.To, r.id())
		p.job.set(state, r.work, at)
		p.job.at = at
	} else {
		l.reserve(p, r.work, at)
	}
	p.explained(r.why)
	p.confirmed.Store(true)
	l.placed(r.To, Resumed)
	l.totals.Moved++
	return true
}

// carry moves a playback to another server. What it had where it was is left
// behind.
func (l *Ledger) carry(p *Playback, to *Server, now time.Duration) {
	from := p.server
	if p.job.state == Confirmed {
		l.leave(&p.job, Confirmed, 0, now)
	}
	l.pin(p, to)
	for _, old := range append(p.older, p.ids.Transcode) {
		l.abandon(from, old, now)
	}
}

// Found notes that a server says that it has the playback's transcode, which
// another balancer has begun there; cause is what made us look.
func (l *Ledger) Found(p *Playback, s *Server, transcode string, work Work, cause Cause, now time.Time) {
	at := l.since(now)
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.gone || p.server == s {
		return
	}
	p.noteMove(p.server, s, cause, at)
	l.moved(p, cause)
	l.pin(p, s)
	p.endedAt, p.lost = 0, false
	p.explained(why{reason: Adopted, at: at, chosen: s})
	p.confirmed.Store(true)
	p.resumed = l.resumptions.Add(1)
	l.enter(&p.job, s, transcode)
	p.job.set(Confirmed, work, at)
	p.touch(at)
}

// Lose gives a playback up that cannot be carried, and reports whether that is
// news.
func (l *Ledger) Lose(p *Playback, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.gone || p.lost || p.endedAt != 0 {
		return false
	}
	p.lost = true
	l.totals.Lost++
	l.end(p, l.since(now))
	if p.kept == nil {
		// Another balancer may know how to bring it back: then it is found
		// as any other that is not known here.
		l.forgetPlayback(p, l.since(now))
	}
	return true
}

// Lost reports whether a playback was given up.
func (l *Ledger) Lost(p *Playback) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return p.lost
}

// Totals counts what became of playbacks since the ledger was made.
type Totals struct {
	Moved uint64 // carried to another server
	Lost  uint64 // given up
}

// Totals returns the counts so far.
func (l *Ledger) Totals() Totals {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.totals
}
