package cluster

import (
	"cmp"
	"slices"
	"time"
)

// Outcome says what became of a request.
type Outcome uint8

const (
	Accepted  Outcome = iota // answered below 400
	Rejected                 // answered 4xx, or refused in the decision
	Failed                   // answered 5xx, or not at all
	Abandoned                // the client left before there was an answer
	Unwatched                // nobody saw the answer; the servers' reports have to tell
)

// Settle gives a hold back and draws the conclusions: the first good answer
// confirms what was placed, and what no server ever accepted leaves nothing
// behind; but a failed start goes on counting for a while.
func (l *Ledger) Settle(q *Query, h *Hold, outcome Outcome, now time.Time) {
	p, c := h.playback, h.client
	if p == nil && c == nil {
		return
	}
	at := l.since(now)
	if h.settled(q, outcome) {
		h.release(at)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h.release(at)
	if outcome == Unwatched {
		if p != nil && !p.gone && p.confirmed.Load() {
			l.rename(p, q, h, at) // all that its later requests can be known by
		}
		return
	}

	if c != nil && !c.gone && outcome == Accepted {
		c.confirmed.Store(true)
		l.know(c, q.Alias)
	}
	if p != nil && !p.gone {
		switch {
		case outcome == Accepted && !h.foreign:
			p.confirmed.Store(true)
			l.rename(p, q, h, at)
			if q.Role == Start {
				p.job.hold = 0
			}
			if q.Begins {
				h.forgive()
				l.promote(p, h, at)
			}
		case outcome == Failed && q.Role == Start:
			if h.Server != nil {
				h.Server.charge(q.Item, q.Client, at)
			}
			if h.Server == p.server && !h.foreign {
				l.keep(&p.job, at+failedHold)
			}
		}
		// An abandoned start may have begun all the same; its server will say
		// so. Nobody knows that the one who left was let in at all.
		l.dropPlayback(p, at)
	}
	if c != nil {
		l.dropClient(c)
	}
}

// forgive takes back what was held against the hold's server, if it has one.
func (h *Hold) forgive() {
	if h.Server != nil {
		h.Server.forgive()
	}
}

// settled reports whether there is nothing to learn from the outcome, as
// with most requests of what is running already.
func (h *Hold) settled(q *Query, outcome Outcome) bool {
	p, c := h.playback, h.client
	if outcome == Unwatched && (p == nil || q.Role != Start) {
		return true
	}
	if p != nil && (!p.confirmed.Load() || q.Role == Start || q.Begins) {
		return false
	}
	return c == nil || c.confirmed.Load() && (outcome != Accepted || q.Alias == 0 || c.alias.Load() == q.Alias)
}

func (h *Hold) release(now time.Duration) {
	if h.playback != nil {
		h.playback.touch(now)
		h.playback.holds.Add(-1)
	}
	if h.held != nil {
		h.held.holds.Add(-1)
		h.held = nil
	}
}

// dropPlayback forgets a playback that no server accepted and no request
// under way needs.
func (l *Ledger) dropPlayback(p *Playback, now time.Duration) {
	if !p.gone && !p.confirmed.Load() && p.holds.Load() == 0 {
		l.forgetPlayback(p, now)
	}
}

// dropClient is the same for a client.
func (l *Ledger) dropClient(c *Client) {
	if !c.gone && !c.confirmed.Load() && c.holds.Load() == 0 && c.pending == nil && c.playback == nil {
		l.forgetClient(c)
	}
}

// know remembers by what guess the client can be recognised when a request
// does not name it.
func (l *Ledger) know(c *Client, alias uint64) {
	old := c.alias.Load()
	if alias == 0 || alias == old {
		return
	}
	unmap(c.site.byAlias, old, c)
	c.alias.Store(alias)
	c.site.byAlias[alias] = c
}

// promote makes p what its client plays. PMS ends the former playback if it is
// on the same server; elsewhere it would go on encoding for nobody.
func (l *Ledger) promote(p *Playback, h *Hold, now time.Duration) {
	c := p.client
	p.begun = max(p.begun, h.at)
	if c == nil || c.gone || c.playback == p || p.endedAt > h.at {
		return
	}
	old := c.playback
	if old != nil && old.begun > h.at {
		return // an answer that took so long that it is history
	}
	c.playback = p
	if c.pending == p {
		c.pending = nil
	}
	if old != nil && old.endedAt == 0 {
		if id := old.ids.Transcode; old.server != p.server && id != "" && old.job.counts() {
			l.abandon(old.server, id, now)
		}
		l.end(old, now)
	}
	c.recount()
}

// Decided corrects what a playback costs by what its server decided. To be
// called before Settle.
func (l *Ledger) Decided(h *Hold, work Work, now time.Time) {
	if h.playback == nil || h.foreign {
		return
	}
	h.decided, h.work = true, work
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := h.playback; p.job.counts() {
		p.decided = true
		p.job.set(p.job.state, p.server.guess(&p.job, work), l.since(now))
	}
}

// Stopped notes that a playback was ended by its client: by its transcode id,
// its own name, or, when the request has neither, as what the device plays.
func (l *Ledger) Stopped(q *Query, now time.Time) {
	at := l.since(now)
	l.mu.Lock()
	defer l.mu.Unlock()
	p, _ := l.locate(q, l.settings.Load(), at)
	if p == nil {
		if j := l.strangers.byID[q.Transcode]; j != nil {
			l.finish(j, at)
		}
		return
	}
	switch {
	case p.foreign(q):
		return
	case slices.Contains(p.older, q.Transcode):
		return // a former transcode of a playback that goes on
	case q.named() && !p.named(q):
		return // another playback of the device, unknown here
	case (!q.named() || p.constantID()) && q.Item != "" && p.item != "" && q.Item != p.item:
		return // the late end of what it played before
	}
	l.end(p, at)
}

// End notes that the hold's playback was ended by somebody who may: an operator
// at its server.
func (l *Ledger) End(h *Hold, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := h.playback; p != nil && !p.gone {
		l.end(p, l.since(now))
	}
}

// LeaveBehind notes that the hold's playback is over, of which its server could
// not be told: what runs there is to be stopped once that is back.
func (l *Ledger) LeaveBehind(h *Hold, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := h.playback; p != nil && !p.gone && !h.foreign {
		for _, id := range append(slices.Clone(p.older), p.ids.Transcode) {
			l.abandon(p.server, id, l.since(now))
		}
	}
}

// end notes that a playback is over. Its late requests still find it.
func (l *Ledger) end(p *Playback, now time.Duration) {
	if p.endedAt != 0 {
		return
	}
	p.endedAt = now
	if p.job.counts() {
		l.finish(&p.job, now)
	}
	if c := p.client; c != nil && c.pending == p {
		c.pending = nil
		if c.playback == nil || c.playback.endedAt != 0 {
			c.playback = p
		}
		c.recount()
	}
}

// Forget drops the pin of the playback that goes by any of its ids, and
// reports whether there was one.
func (l *Ledger) Forget(id string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.named(id)
	if p == nil {
		return false
	}
	l.forgetPlayback(p, l.since(now))
	return true
}

// named finds a playback by any id that its client uses.
func (l *Ledger) named(id string) *Playback {
	if p := l.transcodes.get(id); p != nil {
		return p
	}
	if p := l.bySession[id]; p != nil {
		return p
	}
	for _, st := range l.sites {
		if c := st.byID[id]; c != nil && cmp.Or(c.playback, c.pending) != nil {
			if c.pending != nil && c.playback != nil && c.playback.endedAt != 0 {
				return c.pending
			}
			return cmp.Or(c.playback, c.pending)
		}
	}
	return nil
}
