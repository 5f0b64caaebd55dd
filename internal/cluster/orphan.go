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
	at time.Duration
}

const (
	// maxOrphans bounds what waits to be stopped. PMS ends the rest by itself
	// after three minutes [P §4.3].
	maxOrphans = 1000

	// orphanLife is when a server that did not come back has ended it itself.
	orphanLife = 5 * time.Minute
)

// abandon notes that the transcode id is of no use on s any more.
func (l *Ledger) abandon(s *Server, id string, now time.Duration) {
	if id == "" || s.gone || len(l.orphans) >= maxOrphans {
		return
	}
	for _, o := range l.orphans {
		if o.Server == s && o.Transcode == id {
			return
		}
	}
	l.orphans = append(l.orphans, orphan{Orphan{s, id}, now})
}

// abandoned reports whether a transcode is one that waits to be stopped.
func (l *Ledger) abandoned(j *job) bool {
	return slices.ContainsFunc(l.orphans, func(o orphan) bool { return o.Server == j.server && o.Transcode == j.id })
}

// Orphans takes out what is to be stopped now: at most one of each server, as
// bursts of stops have crashed servers [P §10.34], and only on servers that
// have been read since, so that those that are gone are not asked.
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
		case !asked[o.Server] && l.good(o.Server) > o.at:
			asked[o.Server] = true
			list = append(list, o.Orphan)
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
