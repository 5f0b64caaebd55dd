package cluster

import "time"

const (
	// A reservation that no good reading confirms is dropped after this.
	reservationLife = 20 * time.Second

	// An entry that ended is remembered this long: PMS may still list it
	// for a moment, and it must not come back to life by that.
	endedMemory = 10 * time.Second

	// A reported entry has ended when this many good readings lack it.
	missedLimit = 2

	// What others started there is dropped when no good reading came for
	// this long.
	pictureLife = time.Hour
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
	client   string // PMS reports the player's identifier
	session  string
	title    string
	server   *Server
	playback *Playback // nil for what came past the balancer
	at       time.Duration
	hold     time.Duration // not expired before; 0: reservationLife after at
	state    State
	work     Work
	missed   uint8
}

func (j *job) counts() bool { return j.state == Reserved || j.state == Confirmed }

// set changes what an entry counts for; it is the only place that does.
func (j *job) set(state State, work Work, now time.Duration) {
	if j.counts() {
		j.server.tally.work[j.work]--
	}
	if state != j.state {
		j.at = now
	}
	j.state, j.work = state, work
	if j.counts() {
		j.server.tally.work[j.work]++
	}
}

// attach enters the job into a server's books under id.
func (j *job) attach(s *Server, id string) {
	if old := s.jobs[id]; old != nil && old != j {
		old.detach()
	}
	j.server, j.id = s, id
	s.jobs[id] = j
}

// detach strikes the job out of its server's books.
func (j *job) detach() {
	if j.server == nil {
		return
	}
	if j.counts() {
		j.server.tally.work[j.work]--
	}
	if j.server.jobs[j.id] == j {
		delete(j.server.jobs, j.id)
	}
	j.server, j.state = nil, 0
}
