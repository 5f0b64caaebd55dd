package balance

import (
	"math/rand/v2"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// run is what one contender makes of a scenario.
type run struct {
	sc       *Scenario
	viewings []viewing // shared with other runs
	seats    []seat
	machines []machine
	gauge    *gauge
	agenda   agenda
	readers  []*reader // by door and server
	now      time.Duration
	rng      *rand.Rand // for what the contender throws dice for
	c        contender
	tally    tally
}

// tally counts what became of the placements.
type tally struct {
	starts    int
	misplaced int // on another than the best server
	refused   int // in the end
	astray    int // requests that did not get to where their playback is
}

// contender is a way of placing playbacks. It knows of the run what its methods
// say, unless it is an oracle.
type contender interface {
	// place chooses a server for a viewing that is asked for. failed is one
	// that could not take it; -1: none yet. It returns -1 if there is no server.
	place(i int32, failed int) int

	// follow tells that a viewing's next request comes: its answer, begin,
	// stay, or end.
	follow(i int32, step what)

	// carry chooses a server for a viewing whose server is gone.
	carry(i int32) int

	// heard tells of a server's event: appear, settleIn, whole, seek or end.
	heard(door uint8, s int, i int32, event what)

	// taken tells of a reading of a server, which began at a time, and unread
	// of one that failed. honest says that the list is what it seems.
	taken(door uint8, s int, list []line, began time.Duration, honest bool)
	unread(door uint8, s int)

	// ticked tells that a second has passed.
	ticked()
}

// deaf is a contender's indifference to all it does not care about.
type deaf struct{}

func (deaf) follow(int32, what)                            {}
func (deaf) heard(uint8, int, int32, what)                 {}
func (deaf) taken(uint8, int, []line, time.Duration, bool) {}
func (deaf) unread(uint8, int)                             {}
func (deaf) ticked()                                       {}

const (
	// noticing is how long Caddy takes to find a server down, or up again.
	noticing = 4 * time.Second

	// segment is how far a player's requests are apart at most.
	segment = 6 * time.Second

	// staying is how far the requests of a player are apart. Of a crowd, fewer
	// have to do.
	staying        = 5 * time.Second
	stayingInCrowd = time.Minute
	crowd          = 5000
)

func newRun(sc *Scenario, viewings []viewing, seed uint64, k *Contender) *run {
	n := sc.servers()
	r := &run{
		sc: sc, viewings: viewings, seats: make([]seat, len(viewings)), machines: make([]machine, 0, n),
		gauge: newGauge(n, sc.warming()), rng: rand.New(rand.NewPCG(seed, 2)),
	}
	for _, c := range sc.Servers {
		for range c.Count {
			r.machines = append(r.machines, machine{weight: c.Weight, limit: c.Limit, sessions: c.Sessions, up: true})
		}
	}
	for s := range r.machines {
		r.gauge.set(0, s, &r.machines[s])
	}
	for i := range r.seats {
		r.seats[i].server = -1
	}
	r.c = k.make(r)
	r.startReaders(seed, k)
	for _, d := range sc.Deaths {
		at := sc.warming() + d.At
		r.agenda.add(act{at: at, what: die, n: int32(d.Server)})
		r.agenda.add(act{at: at + d.For, what: back, n: int32(d.Server)})
	}
	r.agenda.add(act{at: time.Second, what: tick})
	if len(viewings) > 0 {
		r.agenda.add(act{at: viewings[0].at, what: ask})
	}
	return r
}

// do runs to the end.
func (r *run) do() {
	for end := r.sc.end(); ; {
		a := r.agenda.next()
		if a.at > end {
			r.now = end
			r.gauge.pass(end)
			return
		}
		r.now = a.at
		r.act(a)
	}
}

func (r *run) act(a act) {
	switch a.what {
	case ask:
		if next := a.n + 1; int(next) < len(r.viewings) {
			r.agenda.add(act{at: r.viewings[next].at, what: ask, n: next})
		}
		r.ask(a.n)
	case read:
		r.reader(a.door, a.n).read(a.order)
	case reply:
		r.reader(a.door, a.n).reply()
	case tick:
		r.c.ticked()
		r.agenda.add(act{at: r.now + time.Second, what: tick})
	case die:
		r.die(int(a.n))
	case missed:
		r.machines[a.n].down = !r.machines[a.n].up
	case back:
		r.machines[a.n].up = true
		r.reconnect(int(a.n))
		r.gauge.set(r.now, int(a.n), &r.machines[a.n])
		r.agenda.add(act{at: r.now + noticing, what: found, n: a.n})
	case found:
		r.machines[a.n].down = !r.machines[a.n].up
	default:
		r.live(a)
	}
}

// ask has a viewing begin.
func (r *run) ask(i int32) {
	v := &r.viewings[i]
	s := int(v.past)
	if s < 0 {
		if s = r.start(i); s < 0 {
			return
		}
	} else if m := &r.machines[s]; !m.up || m.full() {
		return // and tries it again some other day
	}
	if v.asked {
		r.in(v.answered(), answer, i)
		return
	}
	r.sit(i, s)
	if v.past < 0 {
		r.in(v.answered(), answer, i)
		r.in(v.begun(), begin, i)
		r.in(v.begun()+v.part(5, staying), stay, i)
	}
	r.runs(i)
	over := v.begun() + v.length
	if !v.silent {
		r.in(over, end, i)
	} else {
		r.in(over, vanish, i)
		r.in(over+reaping, end, i)
	}
	if v.seek > 0 && v.seek < v.length {
		r.in(v.seek, seek, i)
		r.in(v.seek+seeking, appear, i)
		r.in(v.seek+seeking+warmingUp, settleIn, i)
	}
	if v.whole > 0 {
		r.in(v.begun()+v.whole, whole, i)
	}
}

// runs has its server tell that the viewing's encoder runs.
func (r *run) runs(i int32) {
	v := &r.viewings[i]
	r.in(v.begun()+50*time.Millisecond, appear, i)
	if r.seats[i].work > plex.Copy {
		r.in(v.begun()+50*time.Millisecond+warmingUp, settleIn, i)
	}
}

func (r *run) in(d time.Duration, w what, i int32) { r.agenda.add(act{at: r.now + d, what: w, n: i}) }

// start has the contender place a viewing, once more if the first server cannot
// take it. It returns -1 if nobody does.
func (r *run) start(i int32) int {
	v := &r.viewings[i]
	counts := !v.asked && r.now >= r.sc.warming()
	first := r.c.place(i, -1)
	if counts {
		r.tally.starts++
		if !r.best(first, i) {
			r.tally.misplaced++
		}
	}
	if first < 0 || r.takes(first, v.kind) {
		if first < 0 && counts {
			r.tally.refused++
		}
		return first
	}
	second := r.c.place(i, first)
	if second >= 0 && r.takes(second, v.kind) {
		return second
	}
	if counts {
		r.tally.refused++
	}
	if second >= 0 {
		r.c.place(i, second) // which is what tells it; nobody tries a third time
	}
	return -1
}

// takes reports whether a server can take a viewing of a kind.
func (r *run) takes(s int, k kind) bool {
	m := &r.machines[s]
	return m.up && (!m.full() || m.would(k) < plex.CPU)
}

// best reports whether no other server would be less full of the viewing, as far
// as can be known beforehand: not what it will be decided to be.
func (r *run) best(s int, i int32) bool {
	o := r.roomiest(i, video)
	switch {
	case o < 0 || s == o:
		return s == o
	case s < 0 || !r.machines[s].up || r.takes(o, video) && !r.takes(s, video):
		return false
	}
	return r.machines[s].score(video) <= r.machines[o].score(video)*(1+1e-9)
}

// live is what happens to a viewing.
func (r *run) live(a act) {
	i := a.n
	v, seat := &r.viewings[i], &r.seats[i]
	if seat.over {
		return
	}
	switch a.what {
	case answer:
		r.c.follow(i, answer)
	case begin:
		if seat.server >= 0 {
			r.c.follow(i, begin)
		}
	case stay:
		if seat.ended != 0 {
			return
		}
		if seat.server >= 0 {
			r.c.follow(i, stay)
		}
		if r.sc.Viewers < crowd {
			r.in(staying, stay, i)
		} else {
			r.in(stayingInCrowd, stay, i)
		}
	case vanish:
		seat.ended = r.now // it says no more
		if seat.server < 0 {
			seat.over = true
		}
	case carry:
		if seat.server < 0 && seat.ended == 0 {
			r.carry(i)
		}
	case end:
		seat.over = true
		if v.past < 0 && !v.silent {
			r.c.follow(i, end)
		}
		if seat.server >= 0 {
			m := &r.machines[seat.server]
			s := int(seat.server)
			r.rise(i)
			seat.ended = r.now
			m.ended = append(m.ended, i)
			r.say(s, i, end)
		}
	default:
		if seat.server < 0 || seat.work == plex.None && a.what != appear {
			return
		}
		if a.what == whole && seat.work > plex.Copy {
			r.turn(i, plex.Copy)
		}
		r.say(int(seat.server), i, a.what)
	}
}

// carry has a viewing go on elsewhere.
func (r *run) carry(i int32) {
	v := &r.viewings[i]
	s := r.c.carry(i)
	if s < 0 || !r.takes(s, v.kind) {
		r.in(2*time.Second, carry, i)
		return
	}
	r.tally.starts++
	if !r.best(s, i) {
		r.tally.misplaced++
	}
	whole := v.whole > 0 && r.now >= v.at+v.begun()+v.whole
	r.sit(i, s)
	if whole && r.seats[i].work > plex.Copy {
		r.turn(i, plex.Copy)
	}
	r.runs(i)
}

// die ends all that a server does.
func (r *run) die(s int) {
	m := &r.machines[s]
	m.up, m.died = false, r.now
	for len(m.jobs) > 0 {
		i := m.jobs[len(m.jobs)-1]
		v := &r.viewings[i]
		r.rise(i)
		if v.past >= 0 {
			r.seats[i].over = true
			continue
		}
		r.in(noticing+v.part(6, segment), carry, i)
	}
	m.ended = nil
	r.gauge.set(r.now, s, m)
	r.agenda.add(act{at: r.now + noticing, what: missed, n: int32(s)})
}
