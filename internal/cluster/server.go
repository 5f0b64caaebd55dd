package cluster

import (
	"sync/atomic"
	"time"
)

// How the ledger judges servers. None of these is a setting: they follow from
// how PMS behaves, not from what an operator wants.
const (
	// A failed start keeps its reservation this long: a server that fails
	// fast must not look idle.
	failedHold = 30 * time.Second

	// Failures are forgotten after this, and a shunned server is tried again.
	failureMemory = time.Minute

	// A server is shunned when this many items of as many clients failed.
	shunAfter = 3

	// After this many transcodes in a row without hardware, the next is taken
	// for one as well: a single one may be of a kind that no hardware can do.
	unaidedProof = 3

	// A server that no configuration names goes when unseen for this long.
	strangerLife = 10 * time.Minute

	// One that the former configuration named goes after this if nothing plays
	// there: the operator may only have made a mistake.
	droppedLife = time.Minute

	// PMS's word that it is in maintenance holds this long: it says so at
	// every reading, and a reading that fails otherwise says nothing.
	maintenanceMemory = time.Minute

	// What a reading shows for the first time so long after the one before may
	// have begun at any time.
	steadyGap = 2 * time.Minute

	// Slow start raises a returned server's weight in this many steps.
	slowStartSteps = 10
)

// Server is one PMS. Its identity is its address; a configuration may name it.
type Server struct {
	// What a choice among a thousand servers reads comes first. Guarded by
	// the ledger's mutex, but for hash, which does not change.
	hash     uint64
	load     float64 // of the tally; less than 0: to be computed
	settings ServerSettings
	plain    bool // load is known, and nothing but that and its weight counts

	tally       tally
	draining    bool
	down        bool          // when last part of a choice
	gone        bool          // no longer known; another may have the address by now
	returned    time.Duration // when it came back; 0 if it never went
	unaided     uint8         // how many transcodes in a row had no hardware
	aided       int32         // how many had it then, as far as is known
	maintenance time.Duration // when PMS last said so; 0: not since a good reading
	failures    []failure

	jobs       map[string]*job
	empty      time.Duration // when a draining server's playbacks are to move; 0: never
	picture    Picture
	reading    uint32 // counts the good ones
	steady     bool   // the last one came soon after the one before
	placements uint64
	placedBy   [len(reasons)]uint64 // while a configuration named it

	// The rest can be read without the mutex.
	addr  string
	named atomic.Bool // by a configuration

	// dropped says that a configuration named the server and the present one
	// does not, until a pool has it again.
	dropped atomic.Bool

	// seen is when a request last had the server in its pool, for servers
	// that no configuration names.
	seen atomic.Int64

	name atomic.Pointer[string]
}

// ServerSettings is what an operator says of a server.
type ServerSettings struct {
	// Weight is the relative transcoding capacity. Default: 1.
	Weight float64

	// MaxTranscodes limits video transcodes. Default 0: no limit.
	MaxTranscodes int

	// Name is the operator's word for the server; default: the address.
	Name string

	// Address is host:port, as Caddy's upstream dials it.
	Address string
}

// Picture says how fresh the last reading of a server's sessions is.
type Picture struct {
	// Good is when the last good reading began, and Tried when the last one
	// ended, good or not. Zero: never.
	Good, Tried time.Time

	// Failure is why the last reading failed; empty if it was good.
	Failure string
}

// Address returns the address that identifies the server.
func (s *Server) Address() string { return s.addr }

// Name returns the operator's name for the server, or its address.
func (s *Server) Name() string { return *s.name.Load() }

// Named reports whether a configuration names the server.
func (s *Server) Named() bool { return s.named.Load() }

// Dropped reports whether a configuration has named the server and the present
// one does not, and no pool has had it since: nobody means to use it any more.
func (s *Server) Dropped() bool { return s.dropped.Load() }

// Sighted notes that the server is part of a pool in use.
func (s *Server) Sighted(l *Ledger, now time.Time) {
	s.seen.Store(int64(l.since(now)))
	if s.dropped.Load() {
		s.dropped.Store(false)
	}
}

// carries reports whether a playback is on the server.
func (s *Server) carries() bool {
	for _, j := range s.jobs {
		if j.playback != nil {
			return true
		}
	}
	return false
}

func newServer(addr string) *Server {
	s := &Server{addr: addr, hash: hashString(addr), jobs: make(map[string]*job)}
	s.configure(ServerSettings{Name: addr, Address: addr}, false)
	return s
}

func (s *Server) configure(set ServerSettings, named bool) {
	if set.Weight <= 0 {
		set.Weight = 1
	}
	if set.Name == "" {
		set.Name = s.addr
	}
	s.settings = set
	s.changed() // the costs may be others now
	s.dropped.Store(!named && s.named.Load())
	s.named.Store(named)
	s.name.Store(&set.Name)
}

// changed has the next choice take a closer look: to be called with every change
// of the server that may count in one.
func (s *Server) changed() { s.load, s.plain = -1, false }

// look is a choice's closer look at a server that is not plain, or that the
// caller has taken out. It returns what keeps the server out, and its weight.
func (s *Server) look(out Exclusion, set *Settings, now time.Duration) (Exclusion, float64) {
	s.sighting(out != Down, now)
	weight := s.weight(set.SlowStart, now)
	if s.load < 0 {
		s.load, s.plain = s.tally.load(&set.Costs), s.isPlain(set)
	}
	switch {
	case out != In:
	case s.draining:
		out = Draining
	case s.inMaintenance(now):
		out = Maintenance
	case s.shunned(now):
		out = Shunned
	}
	return out, weight
}

// isPlain reports whether a choice need not look closer, whatever the time.
func (s *Server) isPlain(set *Settings) bool {
	return !s.down && !s.draining && s.maintenance == 0 && len(s.failures) < shunAfter &&
		(s.returned == 0 || set.SlowStart <= 0) && !s.full() && !s.software(nil)
}

// learn takes in whether a server has hardware for a transcode.
func (s *Server) learn(j *job, work Work) {
	if work < CPU || j.proven {
		return
	}
	j.proven = true
	others := s.inHardware(j)
	switch {
	case work == GPU && (s.unaided < unaidedProof || others >= s.aided):
		s.unaided = 0 // there is more than was thought
	case work == GPU: // one of those that had it is over
	case s.unaided < unaidedProof:
		s.unaided++
		s.aided = others
	default:
		s.aided = min(s.aided, others)
	}
	s.changed()
}

// inHardware counts the transcodes that have hardware, or are taken to, but for
// j, which may be nil or elsewhere.
func (s *Server) inHardware(j *job) int32 {
	n := s.tally.work[GPU]
	if j != nil && j.server == s && j.work == GPU && j.counts() {
		n--
	}
	return n
}

// software reports whether a transcode will have no hardware: there is none, or
// the others have all of it. j is what is booked for it, nil if nothing is yet.
func (s *Server) software(j *job) bool {
	return s.unaided >= unaidedProof && s.inHardware(j) >= s.aided
}

// guess is what a transcode will be on the server, as long as the server does
// not tell whether there is hardware for it. j is what is booked for it, nil if
// nothing is yet.
func (s *Server) guess(j *job, work Work) Work {
	if work == GPU && s.software(j) {
		return CPU
	}
	return work
}

// weight is the configured one, or part of it while the server starts slowly.
func (s *Server) weight(slowStart, now time.Duration) float64 {
	if s.returned == 0 || slowStart <= 0 {
		return s.settings.Weight
	}
	step := 1 + int64(slowStartSteps)*int64(now-s.returned)/int64(slowStart)
	if step >= slowStartSteps {
		s.returned = 0
		s.changed()
		return s.settings.Weight
	}
	return s.settings.Weight * float64(step) / slowStartSteps
}

// sighting keeps track of going and coming back, for the slow start.
func (s *Server) sighting(up bool, now time.Duration) {
	if s.down == !up {
		return
	}
	s.down = !up
	if up {
		s.returned = now
		s.failures = nil // they were another life's
	}
	s.changed()
}

func (s *Server) inMaintenance(now time.Duration) bool {
	return s.maintenance != 0 && now-s.maintenance <= maintenanceMemory
}

// idle counts clients that play nothing.
func (s *Server) idle(by int32) {
	s.tally.idle += by
	s.changed()
}

func (s *Server) full() bool {
	return s.settings.MaxTranscodes > 0 && s.tally.transcodes() >= s.settings.MaxTranscodes
}

// failure is one failed start, charged to what was asked and who asked.
type failure struct {
	item, client uint64
	at           time.Duration
}

// charge remembers a failed start.
func (s *Server) charge(item, client string, now time.Duration) {
	f := failure{hashString(item), hashString(client), now}
	for i, g := range s.failures {
		if g.item == f.item && g.client == f.client {
			s.failures[i] = f
			return
		}
	}
	const most = 16 // enough to find shunAfter distinct ones among
	if len(s.failures) == most {
		s.failures = append(s.failures[:0], s.failures[1:]...)
	}
	s.failures = append(s.failures, f)
	s.changed()
}

// forgive takes back what was held against a server that works.
func (s *Server) forgive() {
	if s.failures != nil {
		s.failures = nil
		s.changed()
	}
}

// shunned reports whether the failures of late look like the server's own
// fault: one broken file fails everywhere, and one odd client with everything.
func (s *Server) shunned(now time.Duration) bool {
	if len(s.failures) < shunAfter {
		return false
	}
	var items, clients [shunAfter]uint64
	ni, nc := 0, 0
	for _, f := range s.failures {
		if now-f.at > failureMemory {
			continue
		}
		ni = distinct(&items, ni, f.item)
		nc = distinct(&clients, nc, f.client)
	}
	return ni == shunAfter && nc == shunAfter
}

// distinct adds v to the first n of set unless it is there or set is full.
func distinct(set *[shunAfter]uint64, n int, v uint64) int {
	for _, w := range set[:n] {
		if w == v {
			return n
		}
	}
	if n < len(set) {
		set[n] = v
		n++
	}
	return n
}
