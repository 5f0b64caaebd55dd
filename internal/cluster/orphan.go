package cluster

import (
	"slices"
	"time"
)

// Orphan is a transcode that nobody watches any more, on a server that cannot
// know it: its viewer was carried away, or plays something else elsewhere.
type Orphan struct {
	Server    *Server
	Transcode string
}

// orphan is one that waits to be stopped.
type orphan struct {
	Orphan
	at    time.Duration
	asked time.Duration // when its server was told to stop it; 0: not yet
}

const (
	// maxOrphans bounds what waits to be stopped. PMS ends the rest by itself
	// after three minutes [P §4.3].
	maxOrphans = 1000

	// orphanLife is when a server that did not come back has ended it itself.
	orphanLife = 5 * time.Minute

	// orphanRetry is when a server is told again that did not say it has
	// stopped one.
	orphanRetry = 15 * time.Second
)

// abandon notes that the transcode id is of no use on s any more.
func (l *Ledger) abandon(s *Server, id string, now time.Duration) {
	if id == "" || s.gone || len(l.orphans) >= maxOrphans {
		return
	}
	for i := range l.orphans {
		if o := &l.orphans[i]; o.Server == s && o.Transcode == id {
			if o.asked != 0 { // it was there once more
				o.at, o.asked = now, 0
			}
			return
		}
	}
	l.orphans = append(l.orphans, orphan{Orphan: Orphan{s, id}, at: now})
}

// Buried forgets an orphan that its server has stopped.
func (l *Ledger) Buried(x Orphan) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.orphans = slices.DeleteFunc(l.orphans, func(o orphan) bool { return o.Orphan == x })
}

// abandoned reports whether a transcode is one that waits to be stopped.
func (l *Ledger) abandoned(j *job) bool {
	return slices.ContainsFunc(l.orphans, func(o orphan) bool { return o.Server == j.server && o.Transcode == j.id })
}

// Orphans returns what is to be stopped now: at most one of each server, as
// bursts of stops have crashed servers [P §10.34], and only on servers that
// have been read since, so that those that are gone are not asked. What was
// stopped is forgotten by Buried.
func (l *Ledger) Orphans(now time.Time) (list []Orphan) {
	at := l.since(now)
	l.mu.Lock()
	defer l.mu.Unlock()
	stay := l.orphans[:0]
	asked := make(map[*Server]bool)
	for _, o := range l.orphans {
		p := l.transcodes.get(o.Transcode)
		switch {
		case at-o.at > orphanLife, o.Server.gone,
			p != nil && p.server == o.Server && p.endedAt == 0: // it is watched there again
		case !asked[o.Server] && l.good(o.Server) > max(o.at, o.asked) && (o.asked == 0 || at-o.asked >= orphanRetry):
			asked[o.Server] = true
			list = append(list, o.Orphan)
			o.asked = at
			stay = append(stay, o)
			if j := o.Server.jobs[o.Transcode]; j != nil && j.playback == nil && j.counts() {
				l.finish(j, at) // if it lives on, it is reported again
			}
		default:
			stay = append(stay, o)
		}
	}
	clear(l.orphans[len(stay):])
	l.orphans = stay
	return list
}
