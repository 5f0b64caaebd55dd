package cluster

import (
	"slices"
	"strings"
	"time"
)

// Report is one session or transcode as a server reports it.
type Report struct {
	ID      string // the transcode's id; for direct play what PMS calls it
	Client  string // the player
	Session string // the playback, as its client may name it
	Title   string
	Device  string // the player's name, for people
	Work    Work

	// Young says that it is a video transcode of which it is not told yet
	// whether there is hardware for it.
	Young bool
}

// Observe takes in one complete good reading of a server's sessions, which
// began at began.
func (l *Ledger) Observe(s *Server, reports []Report, began, now time.Time) {
	at, asked := l.since(now), l.since(began)
	l.mu.Lock()
	defer l.mu.Unlock()

	s.steady = began.Sub(s.picture.Good) < steadyGap
	s.picture = Picture{Good: began, Tried: now}
	s.maintenance = 0
	s.changed()
	s.reading++
	for i := range reports {
		l.report(s, &reports[i], asked, at)
	}
	for _, j := range s.jobs {
		switch {
		case j.reading == s.reading:
			j.listed = true
		case j.state == Reserved:
			l.lapse(j, at)
		case j.state == Confirmed && (j.playback == nil || j.work != None):
			// Direct play of ours is left to our own bookkeeping: PMS may
			// list it under no name that we know [P §1.5].
			if asked < j.at || !j.listed && j.missed == 0 && asked < j.at+listingLag {
				continue // read before it was there, or listed
			}
			lacked := j.lacked(asked)
			if j.missed++; j.missed >= missedLimit && (lacked >= lackLife || !j.wanted()) {
				l.finish(j, at)
			}
		}
	}
}

// Seen takes in a server's word on a single session, from an event. Other than
// a reading, it does not repeat what is over.
func (l *Ledger) Seen(s *Server, r Report, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.since(now)
	if j := s.jobs[r.ID]; j != nil && j.vanished() {
		j.set(Confirmed, j.work, at)
	}
	l.report(s, &r, at, at)
}

// Gone takes in a server's word that a transcode ended, from an event. It
// counts as all but one of the readings that have to lack it: a seek ends an
// encoder as well, and begins another under the same id [P §4.2].
func (l *Ledger) Gone(s *Server, transcode string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j := s.jobs[transcode]; j != nil && j.state == Confirmed {
		j.missed = missedLimit - 1
		j.lacked(l.since(now))
	}
}

// Unread notes that a reading failed: what is known of the server stays as it
// was and ages. A server in maintenance takes no new playbacks.
func (l *Ledger) Unread(s *Server, failure string, maintenance bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.picture.Tried, s.picture.Failure = now, failure
	if maintenance {
		s.maintenance = l.since(now)
		s.changed()
	}
}

// report enters one report, from a reading that was asked for at asked.
func (l *Ledger) report(s *Server, r *Report, asked, now time.Duration) {
	if r.ID == "" || s.gone {
		return // nothing to know it by, or nobody to ask about it
	}
	j := s.jobs[r.ID]
	if j == nil {
		j = l.jobOf(s, r)
	}
	mine := j != nil && j.playback != nil
	// The primary gets a copy of all timelines, and makes a row of each whether
	// or not it plays anything [P §3.6].
	set := l.settings.Load()
	echo := set.Replicated && r.Work == None && s.Name() == set.Primary
	left := strings.HasPrefix(r.ID, "\x00") && r.Session != "" // perhaps what a carried playback has left behind
	switch {
	case j != nil && j.state == Ended && asked < j.at+endedMemory:
		return // PMS lists it for a moment longer
	case mine && r.Work == None && r.ID != j.id && j.work != None &&
		(j.state == Reserved || j.state == Confirmed && j.reading == s.reading):
		return // a session whose transcode is not listed yet, or listed besides
	case mine && r.Work == None && r.ID != j.id && j.work != None && j.state == Confirmed && j.lacked(now) < lackLife:
		// Its viewer is there and has sought: the server is between two
		// encoders, and must not look as if it had room.
		j.reading = s.reading
		return
	case !mine && (r.Work == None && l.plays(r.Client, s) || (echo || left) && l.playsElsewhere(r, s)):
		if j != nil {
			l.strike(j)
		}
		return // counted with its client
	case j == nil && l.runsElsewhere(r.ID, s):
		// A transcode is on one server, so this may be the list of another one.
		// When it is reported again it counts here too.
		j = &job{}
		l.enter(j, s, strings.Clone(r.ID))
		j.set(Expired, r.Work, now)
		return
	case j == nil:
		j = &job{}
		l.enter(j, s, strings.Clone(r.ID))
	}
	if !mine {
		l.strangers.remove(j) // it may be known better by now
	}
	if r.Work != None {
		switch {
		case mine && j.state == Reserved:
			l.others.begun(true, now)
		case !mine && j.state == 0 && s.steady:
			l.others.begun(false, now) // and was not there before we looked
		}
	}
	j.tell(r)
	j.missed, j.reading, j.hold, j.echo, j.lackedAt = 0, s.reading, 0, echo, 0
	work := r.Work
	switch {
	case !r.Young:
		s.learn(j, work)
	case j.work >= CPU:
		work = j.work
	default:
		work = s.guess(j, work)
	}
	j.set(Confirmed, work, now)
	if !mine {
		l.stray(j)
		return
	}
	if p := j.playback; p.ids.Session == "" && p.why.reason == Adopted && r.Session != "" && l.bySession[r.Session] == nil {
		// The segment that led to it did not say, but its timelines say no more.
		p.ids.Session = strings.Clone(r.Session)
		l.bySession[p.ids.Session] = p
	}
	j.playback.confirmed.Store(true) // the server itself says so
	if c := j.playback.client; c != nil {
		c.confirmed.Store(true)
	}
}

// jobOf finds the job of a playback that is reported under an id the books do
// not have, nil if there is none.
func (l *Ledger) jobOf(s *Server, r *Report) *job {
	if p := l.transcodes.get(r.ID); p != nil && p.server == s && p.job.server == nil && p.endedAt == 0 {
		l.enter(&p.job, s, p.ids.Transcode)
		return &p.job
	}
	if p := l.transcodes.get(r.ID); p != nil && p.server != s && r.Work != None &&
		p.job.state == Reserved && p.begun == 0 && p.endedAt == 0 && !p.constantID() {
		// It was decided through here, and started through another balancer.
		l.pin(p, s)
		l.enter(&p.job, s, p.ids.Transcode)
		return &p.job
	}
	p := l.bySession[r.Session]
	if r.Session == "" || p == nil || p.job.server != s {
		return nil
	}
	if r.Work == None {
		return &p.job // direct play goes by no id of ours
	}
	if p.job.state == Reserved && p.job.work != None && p.confirmed.Load() && !slices.Contains(p.older, r.ID) {
		// It was started under another id than it was decided with.
		if l.transcodes.get(r.ID) == nil {
			l.retranscode(p, r.ID)
			l.enter(&p.job, s, p.ids.Transcode)
			return &p.job
		}
	}
	return nil
}

// playsElsewhere reports whether what s lists is a playback of ours on another
// server.
func (l *Ledger) playsElsewhere(r *Report, s *Server) bool {
	if p := l.bySession[r.Session]; p != nil && r.Session != "" {
		return p.server != s
	}
	if r.Client == "" {
		return false
	}
	for _, st := range l.sites {
		if c := st.byID[r.Client]; c != nil && c.playback != nil && c.playback.server != s {
			return true
		}
	}
	return false
}

// runsElsewhere reports whether a transcode counts on another server than s.
func (l *Ledger) runsElsewhere(id string, s *Server) bool {
	if p := l.transcodes.get(id); p != nil {
		return p.server != s && p.job.counts()
	}
	j := l.strangers.byID[id]
	return j != nil && j.server != s && !j.bare()
}

// plays reports whether a client of ours is known to play, or just to stay, on
// the server, so that its direct play is counted already.
func (l *Ledger) plays(client string, s *Server) bool {
	if client == "" {
		return false
	}
	for _, st := range l.sites {
		if c := st.byID[client]; c != nil && (c.server == s || c.playback != nil && c.playback.server == s) {
			return true
		}
	}
	return false
}

// Reported reports whether a server lists a transcode that no playback here
// has, so that a request for it can be placed.
func (l *Ledger) Reported(transcode string) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.strangers.byID[transcode] != nil
}

// Unreadable reports whether the last reading of a server failed.
func (l *Ledger) Unreadable(s *Server) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return s.picture.Failure != ""
}
