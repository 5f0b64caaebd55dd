package cluster

import "time"

// Report is one session or transcode as a server reports it.
type Report struct {
	ID      string // the transcode's id; for direct play what PMS calls it
	Client  string // the player
	Session string // the playback, as its client may name it
	Title   string
	Work    Work
}

// Observe takes in one complete good reading of a server's sessions, which
// began at began.
func (l *Ledger) Observe(s *Server, reports []Report, began, now time.Time) {
	at, asked := l.since(now), l.since(began)
	l.mu.Lock()
	defer l.mu.Unlock()

	s.picture = Picture{Good: began, Tried: now}
	s.maintenance = false
	seen := make(map[*job]bool, len(reports))
	for _, r := range reports {
		if j := l.report(s, r, asked, at); j != nil {
			seen[j] = true
		}
	}
	for _, j := range s.jobs {
		switch {
		case seen[j]:
			j.missed = 0
		case j.state == Confirmed && (j.playback == nil || j.work != None):
			// Direct play of ours is left to our own bookkeeping: PMS may
			// list it under no name that we know [P §1.5].
			if asked < j.at {
				continue // read before it was there
			}
			if j.missed++; j.missed >= missedLimit {
				l.finish(j, at)
			}
		}
	}
	for _, j := range s.jobs {
		l.lapse(j, at)
	}
}

// Seen takes in a server's word on a single session, from an event.
func (l *Ledger) Seen(s *Server, r Report, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.since(now)
	l.report(s, r, at, at)
}

// Gone takes in a server's word that a transcode ended, from an event.
func (l *Ledger) Gone(s *Server, transcode string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j := s.jobs[transcode]; j != nil && j.state == Confirmed {
		l.finish(j, l.since(now))
	}
}

// Unread notes that a reading failed: what is known of the server stays as it
// was and ages. A server in maintenance takes no new playbacks.
func (l *Ledger) Unread(s *Server, failure string, maintenance bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.picture.Tried, s.picture.Failure = now, failure
	s.maintenance = maintenance
}

// report enters one report and returns its entry, nil if there is none to
// count.
func (l *Ledger) report(s *Server, r Report, asked, now time.Duration) *job {
	j := s.jobs[r.ID]
	if j == nil && r.Work == None {
		// Direct play goes by no id of ours; the viewer tells.
		if p := l.bySession[r.Session]; r.Session != "" && p != nil && p.server == s {
			j = &p.job
		} else if l.plays(r.Client, s) {
			return nil
		}
		if j != nil && j.server != s {
			return nil
		}
	}
	if j == nil {
		j = &job{}
		r = clean(r)
		j.client, j.session, j.title = r.Client, r.Session, r.Title
		if p := l.byTranscode[r.ID]; p != nil && p.server == s && p.job.server == nil && p.endedAt == 0 {
			j = &p.job
			j.playback = p
		}
		j.attach(s, r.ID)
		j.set(Confirmed, r.Work, now)
		if j.playback == nil {
			l.strangers.add(j)
		} else if c := j.playback.client; c != nil {
			c.recount()
		}
		return j
	}
	if j.state == Ended && asked < j.at+endedMemory {
		return nil // PMS lists it for a moment longer
	}
	if j.title == "" && r.Title != "" {
		j.title = clean(r).Title
	}
	j.missed = 0
	j.set(Confirmed, r.Work, now)
	if p := j.playback; p != nil && p.client != nil {
		p.client.recount()
	}
	return j
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

// finish ends an entry that its server no longer has.
func (l *Ledger) finish(j *job, now time.Duration) {
	j.set(Ended, j.work, now)
	l.strangers.remove(j)
	if j.playback != nil && j.playback.client != nil {
		j.playback.client.recount()
	}
}

// lapse moves an entry on when its time is up.
func (l *Ledger) lapse(j *job, now time.Duration) {
	s := j.server
	switch j.state {
	case Reserved:
		if now < j.hold || now-j.at < reservationLife {
			return
		}
		// Never seen means: not in a good reading that could have shown it.
		// Without readings, a running playback's reservation is all we have.
		running := j.playback != nil && !j.playback.gone && j.playback.endedAt == 0
		if running && j.hold == 0 && (s.picture.Good.IsZero() || l.since(s.picture.Good) <= j.at) {
			return
		}
		if running && j.work == None {
			return
		}
		j.set(Expired, j.work, now)
		if running && j.playback.client != nil {
			j.playback.client.recount()
		}
		if j.playback == nil {
			l.strangers.remove(j)
			j.detach()
		}
	case Confirmed:
		if j.playback == nil && now-j.at > pictureLife && (s.picture.Good.IsZero() || now-l.since(s.picture.Good) > pictureLife) {
			l.finish(j, now)
		}
	case Ended, Expired:
		if now-j.at > endedMemory && (j.playback == nil || j.playback.gone) {
			l.strangers.remove(j)
			j.detach()
		}
	}
}
