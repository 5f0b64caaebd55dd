package cluster

import (
	"cmp"
	"slices"
	"time"
)

// Orphan is a transcode that nobody watches any more, on a server that cannot
// know it: its viewer was carried away, or plays something else elsewhere.
type Orphan struct {
	Server    *Server
	Transcode string
}

// orphan is what is known of one that waits to be stopped.
type orphan struct {
	at    time.Duration // when it was left last
	asked time.Duration // when its server was told to stop it; 0: not yet
	told  chan struct{} // closed when the server has answered; nil unless it is being told
}

const (
	// maxOrphans bounds what waits to be stopped. PMS ends the rest by itself
	// after three minutes [P §4.3].
	maxOrphans = 20_000

	// orphanLife is when a server that did not come back has ended it itself.
	orphanLife = 5 * time.Minute

	// orphanRetry is when a server is told again that did not say it has
	// stopped one. If readings lack the orphan by then, it is gone.
	orphanRetry = 15 * time.Second
)

// abandon notes that the transcode id is of no use on s any more. What is left
// there leads nobody to s.
func (l *Ledger) abandon(s *Server, id string, now time.Duration) {
	x := Orphan{s, id}
	o := l.orphans[x]
	switch {
	case id == "" || s.gone || o == nil && len(l.orphans) >= maxOrphans:
		return
	case o == nil:
		l.orphans[x] = &orphan{at: now}
	case o.asked >= o.at: // it was there once more
		o.at = now
	}
	if j := s.jobs[id]; j != nil && j.playback == nil {
		l.strangers.remove(j)
	}
}

// stray has the names of a job that is nobody's lead to it, unless it waits to be
// stopped.
func (l *Ledger) stray(j *job) {
	if l.orphans[Orphan{j.server, j.id}] == nil {
		l.strangers.add(j)
	}
}

// Orphans returns what is to be stopped now: at most one of each server, as
// bursts of stops have crashed servers [P §10.34], and only on servers that
// have been read since, so that those that are gone are not asked. What came of
// each is to be told by Told.
func (l *Ledger) Orphans(now time.Time) (list []Orphan) {
	at := l.since(now)
	l.mu.Lock()
	defer l.mu.Unlock()
	next := make(map[*Server]Orphan)
	for x, o := range l.orphans {
		if o.told != nil {
			continue
		}
		if l.buried(x, o, at) {
			delete(l.orphans, x)
			continue
		}
		last, good := max(o.at, o.asked), l.good(x.Server)
		if good <= last || o.asked >= o.at && at-o.asked < orphanRetry || l.returns(x) {
			continue
		}
		if y, ok := next[x.Server]; !ok || cmp.Or(cmp.Compare(last, max(l.orphans[y].at, l.orphans[y].asked)), cmp.Compare(x.Transcode, y.Transcode)) < 0 {
			next[x.Server] = x
		}
	}
	for _, x := range next {
		list = append(list, x)
		o := l.orphans[x]
		o.asked, o.told = at, make(chan struct{})
		if j := x.Server.jobs[x.Transcode]; j != nil && j.playback == nil && j.state == Confirmed {
			l.finish(j, at) // if it lives on, it is reported again
		}
	}
	slices.SortFunc(list, func(x, y Orphan) int { return cmp.Compare(x.Server.addr, y.Server.addr) })
	return list
}

// buried reports whether an orphan is none any more: it is watched again, or gone.
func (l *Ledger) buried(x Orphan, o *orphan, now time.Duration) bool {
	if p := l.transcodes.get(x.Transcode); p != nil && p.server == x.Server && p.endedAt == 0 && max(p.begun, p.resumedAt) > o.at {
		return true
	}
	j := x.Server.jobs[x.Transcode]
	return now-o.at > orphanLife || x.Server.gone ||
		l.good(x.Server) > max(o.at, o.asked)+orphanRetry && (j == nil || j.state == Ended)
}

// returns reports whether the orphan's id is used again where it is, or about to
// be: what is begun under it there ends what there was.
func (l *Ledger) returns(x Orphan) bool {
	if p := l.transcodes.get(x.Transcode); p != nil && p.server == x.Server && (p.endedAt == 0 || p.holds.Load() > 0) {
		return true
	}
	j := x.Server.jobs[x.Transcode]
	return j != nil && j.coming && j.counts()
}

// Told notes whether a server has stopped an orphan that it was told to.
func (l *Ledger) Told(x Orphan, stopped bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.orphans[x]
	if o == nil || o.told == nil {
		return
	}
	close(o.told)
	o.told = nil
	if stopped && o.at <= o.asked {
		delete(l.orphans, x)
	}
}

// BeingStopped returns a channel that is closed when s has answered that it
// stops a transcode; nil if it is not being told to. What is begun under the id
// before that might be what it stops.
func (l *Ledger) BeingStopped(s *Server, transcode string) <-chan struct{} {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if o := l.orphans[Orphan{s, transcode}]; o != nil && o.told != nil {
		return o.told
	}
	return nil
}
