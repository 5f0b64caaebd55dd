package cluster

import (
	"strings"
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

// Orphan is a transcode that its client has left behind on a server that
// cannot know it.
type Orphan struct {
	Server    *Server
	Transcode string
}

// Settle gives a hold back and draws the conclusions: the first good answer
// confirms what was placed, and what no server ever accepted leaves nothing
// behind; but a failed start goes on counting for a while. It returns what the
// client has left running on another server, if anything.
func (l *Ledger) Settle(q *Query, h *Hold, outcome Outcome, now time.Time) (orphan Orphan) {
	p, c := h.playback, h.client
	if p == nil && c == nil {
		return orphan
	}
	at := l.since(now)
	if outcome == Unwatched || l.settled(q, h, outcome) {
		h.release(at)
		return orphan
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h.release(at)

	switch outcome {
	case Accepted:
		if c != nil && !c.gone {
			c.confirmed.Store(true)
			l.know(c, q.Alias)
		}
		if p == nil || p.gone {
			break
		}
		p.confirmed.Store(true)
		l.rename(p, q, at)
		if q.Begins {
			p.server.failures = nil
			orphan = l.promote(p, at)
		}
		return orphan
	case Failed:
		if p != nil && q.Role == Start {
			p.server.charge(q.Item, q.Client, at)
			p.job.hold = at + failedHold
		}
	case Abandoned:
		if p != nil && q.Begins {
			// PMS may have started all the same, and will say so.
			p.job.hold = at + reservationLife
		}
	}
	if p != nil && !p.gone && !p.confirmed.Load() && p.holds.Load() == 0 {
		l.forgetPlayback(p, at)
	}
	if c != nil && !c.gone && !c.confirmed.Load() && c.holds.Load() == 0 && c.pending == nil && c.playback == nil {
		l.forgetClient(c)
	}
	return orphan
}

// settled reports whether there is nothing to learn from the outcome, as
// with most requests of what is running already.
func (l *Ledger) settled(q *Query, h *Hold, outcome Outcome) bool {
	if outcome != Accepted {
		return (h.playback == nil || h.playback.confirmed.Load() && q.Role != Start) &&
			(h.client == nil || h.client.confirmed.Load())
	}
	return q.Role != Start && !q.Begins &&
		(h.playback == nil || h.playback.confirmed.Load()) &&
		(h.client == nil || h.client.confirmed.Load() && (q.Alias == 0 || h.client.alias.Load() == q.Alias))
}

func (h *Hold) release(now time.Duration) {
	if h.playback != nil {
		h.playback.touch(now)
		h.playback.holds.Add(-1)
	}
	if h.heldClient {
		h.client.holds.Add(-1)
		h.heldClient = false
	}
}

// know remembers by what guess the client can be recognised when a request
// does not name it.
func (l *Ledger) know(c *Client, alias uint64) {
	old := c.alias.Load()
	if alias == 0 || alias == old {
		return
	}
	if c.site.byAlias[old] == c {
		delete(c.site.byAlias, old)
	}
	c.alias.Store(alias)
	c.site.byAlias[alias] = c
}

// promote makes p what its client plays. PMS ends the former playback if it is
// on the same server; elsewhere it would go on encoding for nobody.
func (l *Ledger) promote(p *Playback, now time.Duration) (orphan Orphan) {
	c := p.client
	if c == nil || c.playback == p {
		return orphan
	}
	old := c.playback
	c.playback = p
	if c.pending == p {
		c.pending = nil
	}
	if old != nil && old.endedAt == 0 && !old.gone {
		if old.server != p.server && old.ids.Transcode != "" && old.ids.Transcode != p.ids.Transcode && old.job.counts() {
			orphan = Orphan{old.server, old.ids.Transcode}
		}
		l.end(old, now)
	}
	return orphan
}

// Decided corrects what a playback costs by what its server decided.
func (l *Ledger) Decided(h *Hold, work Work, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := h.playback; p != nil && !p.gone && p.job.counts() && p.job.work != work {
		p.job.set(p.job.state, work, l.since(now))
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
		for _, s := range l.servers.Load().list {
			if j := s.jobs[q.Transcode]; q.Transcode != "" && j != nil {
				j.set(Ended, j.work, at)
			}
		}
		return
	}
	switch {
	case q.Transcode != "" && q.Transcode != p.ids.Transcode && !p.isSession(q):
		return // a former transcode of a playback that goes on
	case q.named() && !p.named(q):
		return // another playback of the device, unknown here
	case !q.named() && q.Item != "" && p.item != "" && q.Item != p.item:
		return // the late end of what it played before
	}
	l.end(p, at)
}

func (p *Playback) isSession(q *Query) bool {
	return q.Session != "" && q.Session == p.ids.Session
}

func (l *Ledger) end(p *Playback, now time.Duration) {
	if p.endedAt != 0 {
		return
	}
	p.endedAt = now
	if p.job.server != nil && p.job.counts() {
		p.job.set(Ended, p.job.work, now)
	}
	if p.client != nil {
		p.client.recount()
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
	if p := l.byTranscode[id]; p != nil {
		return p
	}
	if p := l.bySession[id]; p != nil {
		return p
	}
	for _, st := range l.sites {
		if c := st.byID[id]; c != nil && c.playback != nil {
			return c.playback
		}
	}
	return nil
}

// clean is for ids that come from a server's answer, which would otherwise
// keep the whole answer in memory.
func clean(r Report) Report {
	r.ID, r.Client, r.Session, r.Title = strings.Clone(r.ID), strings.Clone(r.Client), strings.Clone(r.Session), strings.Clone(r.Title)
	return r
}
