package balance

import (
	"time"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// machine is a simulated server as it truly is.
type machine struct {
	weight   float64
	limit    int
	sessions int
	up       bool
	down     bool // to Caddy
	died     time.Duration

	work  [4]int  // what it does, by kind
	jobs  []int32 // the viewings
	ended []int32 // those that are over and may still be listed
}

// line is a viewing as its server lists it.
type line struct {
	viewing int32
	work    plex.Work
	bare    bool // a session whose transcode is not listed
	young   bool // a transcode that does not tell if there is hardware for it
}

func (m *machine) load() float64 { return load(&m.work) }

// load is what so much work of each kind amounts to.
func load(work *[4]int) float64 {
	c := &cluster.DefaultCosts
	return float64(work[plex.GPU])*c.GPU + float64(work[plex.CPU])*c.CPU +
		float64(work[plex.Copy])*c.Copy + float64(work[plex.None])*c.Client
}

func (m *machine) transcodes() int { return m.work[plex.GPU] + m.work[plex.CPU] }

func (m *machine) full() bool { return m.limit > 0 && m.transcodes() >= m.limit }

// would says what a viewing of a kind would ask of the machine.
func (m *machine) would(k kind) plex.Work {
	switch {
	case k == direct:
		return plex.None
	case k == remux:
		return plex.Copy
	case k == software, m.sessions < 0, m.sessions > 0 && m.work[plex.GPU] >= m.sessions:
		return plex.CPU
	}
	return plex.GPU
}

// score says how full it would be of a viewing of a kind.
func (m *machine) score(k kind) float64 {
	return cluster.Score(m.load(), cluster.DefaultCosts.Of(cluster.Work(m.would(k))), m.weight)
}

// seat is where a viewing is.
type seat struct {
	server  int32 // -1: nowhere
	slot    int32 // among its server's jobs
	work    plex.Work
	over    bool
	listed  time.Duration // when its server begins to list it
	settled time.Duration // when its encoder tells what it is
	ended   time.Duration
}

// How the plug-in reads what servers say of a transcode, by what it truly is: of
// one whose encoder has just begun, and of one that is done with.
var (
	reads = [...]plex.Work{
		plex.Copy: plex.Transcode{VideoDecision: "copy", Progress: 1, Speed: 20}.Work(),
		plex.CPU:  plex.Transcode{VideoDecision: "transcode", Progress: 1, Speed: 2, HwRequested: true}.Work(),
		plex.GPU:  plex.Transcode{VideoDecision: "transcode", Progress: 1, Speed: 8, HwEncoding: "nvenc"}.Work(),
	}
	youth = plex.Transcode{VideoDecision: "transcode", HwRequested: true}
)

// line says how the server lists a viewing, if it does.
func (r *run) line(i int32) (line, bool) {
	v, s := &r.viewings[i], &r.seats[i]
	if r.now < s.listed {
		return line{}, false
	}
	if s.work == plex.None {
		return line{viewing: i, bare: true}, true
	}
	settled := s.settled
	if sought := v.at + v.seek; v.seek > 0 && r.now >= sought {
		if r.now < sought+seeking {
			return line{viewing: i, bare: true}, true
		}
		settled = max(settled, sought+seeking+warmingUp)
	}
	if s.work > plex.Copy && r.now < settled {
		return line{viewing: i, work: youth.Work(), young: youth.Young()}, true
	}
	return line{viewing: i, work: reads[s.work]}, true
}

// seeking is how long a server has no encoder after a seek.
const seeking = 1500 * time.Millisecond

// list is all that a server lists, in the buffer.
func (r *run) list(s int, list []line) []line {
	m := &r.machines[s]
	list = list[:0]
	for _, i := range m.jobs {
		if l, ok := r.line(i); ok {
			list = append(list, l)
		}
	}
	stay := m.ended[:0]
	for _, i := range m.ended {
		if r.now < r.seats[i].ended+r.viewings[i].lingers() {
			stay = append(stay, i)
			list = append(list, line{viewing: i, bare: true})
		}
	}
	m.ended = stay
	return list
}

// sit puts a viewing on a server.
func (r *run) sit(i int32, s int) {
	m := &r.machines[s]
	seat := &r.seats[i]
	v := &r.viewings[i]
	seat.server, seat.slot, seat.work = int32(s), int32(len(m.jobs)), m.would(v.kind)
	seat.listed, seat.settled = r.now+v.listed(), r.now+v.begun()+warmingUp
	m.jobs = append(m.jobs, i)
	m.work[seat.work]++
	r.gauge.set(r.now, s, m)
}

// rise takes it away again.
func (r *run) rise(i int32) {
	seat := &r.seats[i]
	m := &r.machines[seat.server]
	last := m.jobs[len(m.jobs)-1]
	m.jobs[seat.slot] = last
	r.seats[last].slot = seat.slot
	m.jobs = m.jobs[:len(m.jobs)-1]
	m.work[seat.work]--
	r.gauge.set(r.now, int(seat.server), m)
	seat.server = -1
}

// turn makes it another kind of work.
func (r *run) turn(i int32, w plex.Work) {
	seat := &r.seats[i]
	m := &r.machines[seat.server]
	m.work[seat.work]--
	m.work[w]++
	seat.work = w
	r.gauge.set(r.now, int(seat.server), m)
}
