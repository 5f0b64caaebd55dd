package cluster

import (
	"strings"
	"time"
)

const (
	// A reservation is dropped when a reading that began this long after it
	// does not show it.
	reservationLife = 20 * time.Second

	// An entry that ended is remembered this long: PMS may still list it
	// for a moment, and it must not come back to life by that.
	endedMemory = 10 * time.Second

	// A server tells of a playback in an event before it lists it [P §1.8]: for
	// so long, readings that lack it say nothing.
	listingLag = 3 * time.Second

	// A reported entry has ended when this many good readings lack it.
	missedLimit = 3

	// What others started there is dropped when no good reading came for
	// this long.
	pictureLife = time.Hour

	// A reported transcode that readings lack counts for this long if its viewer
	// is there all the same: they may be wrong, and a seek ends an encoder, the
	// next of which takes a moment to be listed.
	lackLife = 20 * time.Second

	// A server remembers this many failed and abandoned starts. By then it
	// looks anything but idle, and nobody shall fill the table by failing.
	mostRemains = 64
)

// State is where an entry of the ledger is in its life.
type State uint8

const (
	Reserved  State = iota + 1 // placed by us, not yet seen on the server
	Confirmed                  // reported by the server, whoever placed it
	Ended                      // stopped, or gone from the reports
	Expired                    // reserved and never seen
)

var states = [...]string{"", "reserved", "confirmed", "ended", "expired"}

func (s State) String() string { return states[s] }

// job is an entry of a server's load, keyed by transcode id: a reservation
// and the server's report of it are the same entry, so nothing counts twice.
type job struct {
	id       string
	server   *Server       // nil: in no server's books
	playback *Playback     // nil for what came past the balancer, and for remains
	about    *about        // nil: nothing but what the playback knows
	at       time.Duration // when it came into its state
	hold     time.Duration // when a failed start is forgotten; 0: none
	lackedAt time.Duration // since when readings lack it; 0: they do not
	reading  uint32        // the server's last reading that showed it
	state    State
	work     Work
	missed   uint8
	proven   bool // whether there is hardware for it was told
	listed   bool // a reading has shown it
	echo     bool // on the primary, and perhaps no more than copied timelines
	coming   bool // a resumption is about to begin it
}

// about is what a report says of a job.
type about struct {
	client  string // the player
	session string
	title   string
	device  string // the player's name, for people
}

func (j *job) counts() bool { return j.state == Reserved || j.state == Confirmed }

// bare reports whether the server lists a session and no transcode for it. It
// does that for a while for those that have gone elsewhere.
func (j *job) bare() bool { return strings.HasPrefix(j.id, "\x00") }

// lacked notes that a reading lacks the job, and returns for how long they have.
func (j *job) lacked(now time.Duration) time.Duration {
	if j.lackedAt == 0 {
		j.lackedAt = now
	}
	return now - j.lackedAt
}

// wanted reports whether the job's player has asked for more since readings
// lack it. If the server had lost it, it would have said so to the player, and
// the playback would have been resumed.
func (j *job) wanted() bool {
	p := j.playback
	if p == nil {
		return false
	}
	p.refresh()
	return time.Duration(p.seen.Load()) > j.lackedAt
}

// vanished reports whether the job has ended by what readings lack alone. They
// may have been taken between the two encoders of a seek.
func (j *job) vanished() bool {
	return j.state == Ended && j.missed >= missedLimit && (j.playback == nil || j.playback.endedAt == 0)
}

// told returns what reports said of the job.
func (j *job) told() about {
	if j.about == nil {
		return about{}
	}
	return *j.about
}

// tell adds what a report says of the job. Its strings come from an answer,
// which they would otherwise keep in memory.
func (j *job) tell(r *Report) {
	old := j.about
	switch {
	case old == nil && (j.playback == nil || r.Title != "" || r.Device != ""),
		old != nil && (old.client == "" && r.Client != "" || old.session == "" && r.Session != "" ||
			old.title == "" && r.Title != "" || old.device == "" && r.Device != ""):
		j.about = &about{strings.Clone(r.Client), strings.Clone(r.Session), strings.Clone(r.Title), strings.Clone(r.Device)}
	}
}

// count enters the job into its server's tally, or takes it out.
func (j *job) count(by int32) {
	j.server.changed()
	t := &j.server.tally
	if j.state == Reserved {
		t.reserved += by
		if j.playback == nil {
			t.remains += by
		}
	}
	if j.counts() {
		t.work[j.work] += by
	}
}

// set changes what an entry counts for.
func (j *job) set(state State, work Work, now time.Duration) {
	j.count(-1)
	if state != j.state {
		j.at = now
	}
	j.state, j.work = state, work
	j.count(1)
	j.recount()
}

func (j *job) recount() {
	if j.playback != nil && j.playback.client != nil {
		j.playback.client.recount()
	}
}

// enter puts a job into a server's books under id, in place of what was there.
func (l *Ledger) enter(j *job, s *Server, id string) {
	if j.server != nil && (j.server != s || j.id != id) {
		l.strike(j)
	}
	if old := s.jobs[id]; old != nil && old != j {
		l.strike(old)
	}
	j.server, j.id, j.missed = s, id, 0
	s.jobs[id] = j
	if j.playback == nil {
		l.watch[j] = struct{}{}
	}
}

// strike takes a job out of its server's books.
func (l *Ledger) strike(j *job) {
	if j.server == nil {
		return
	}
	j.count(-1)
	delete(j.server.jobs, j.id)
	if j.playback == nil {
		l.strangers.remove(j)
	}
	delete(l.watch, j)
	j.server, j.state, j.hold = nil, 0, 0
	j.recount()
}

// keep holds on to a reservation until a time, whatever becomes of it.
func (l *Ledger) keep(j *job, until time.Duration) {
	if j.state == Reserved {
		j.hold = until
		l.watch[j] = struct{}{}
	}
}

// leave strikes a playback's job and leaves a job of nobody's in its place,
// for what still goes on on the server, or may be listed for a while.
func (l *Ledger) leave(j *job, state State, until, now time.Duration) {
	p, s, id, work := j.playback, j.server, j.id, j.work
	rest := &job{about: &about{client: p.ids.Client, session: p.ids.name(), title: j.told().title}, hold: until}
	l.strike(j)
	if state == Reserved && s.tally.remains >= mostRemains {
		return
	}
	l.enter(rest, s, id)
	rest.set(state, work, now)
	if state == Confirmed {
		l.stray(rest)
	}
}

// finish ends a job.
func (l *Ledger) finish(j *job, now time.Duration) {
	j.set(Ended, j.work, now)
	if j.playback == nil {
		l.strangers.remove(j)
	}
}

// lapse moves a job on when its time is up.
func (l *Ledger) lapse(j *job, now time.Duration) {
	switch j.state {
	case Reserved:
		if j.hold != 0 {
			if now < j.hold {
				return
			}
		} else if j.work == None || l.good(j.server) < j.at+reservationLife {
			// Never seen means: not in a good reading that would have shown
			// it. Without readings, our word is all there is; and PMS may
			// list direct play under no name that we know [P §1.5].
			return
		}
		j.hold = 0
		j.set(Expired, j.work, now)
		if j.playback == nil {
			l.strike(j)
		}
	case Confirmed:
		if j.playback == nil && now-max(j.at, l.good(j.server)) > pictureLife {
			l.strike(j)
		}
	case Ended, Expired:
		if j.playback == nil && now-j.at > endedMemory {
			l.strike(j)
		}
	}
}

// good returns when the last good reading of a server began; 0: never.
func (l *Ledger) good(s *Server) time.Duration {
	if s.picture.Good.IsZero() {
		return 0
	}
	return l.since(s.picture.Good)
}
