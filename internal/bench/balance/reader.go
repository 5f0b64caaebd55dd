package balance

import (
	"math/rand/v2"
	"time"
)

// reader reads one server's reports for one balancer, as plexlb's poller does.
type reader struct {
	r      *run
	door   uint8
	server int32
	every  time.Duration
	events bool
	rng    *rand.Rand

	due      uint32 // the reading that is to come
	busy     bool   // one is under way
	settling bool   // an event has asked for the one that is to come
	woken    bool   // and for another after that
	deaf     time.Duration
	began    time.Duration
	pause    time.Duration
	content  []line
	prior    []line // of the reading before
	failed   bool
	honest   bool
}

const (
	patience = 3 * time.Second        // how long a reading may take
	minPause = time.Second            // from one reading to one that an event asks for
	maxPause = time.Minute            // from one that failed to the next
	settling = 300 * time.Millisecond // from an event to the reading
)

func (r *run) startReaders(seed uint64, k *Contender) {
	every := k.every
	if k.informed {
		every = r.sc.Polls.Every
	}
	if every == 0 {
		return
	}
	for door := range max(1, r.sc.Balancers) {
		for s := range r.machines {
			d := &reader{
				r: r, door: uint8(door), server: int32(s), every: every, events: k.informed && r.sc.Polls.Events,
				rng: rand.New(rand.NewPCG(seed<<8|uint64(door), uint64(s)+3)),
			}
			r.readers = append(r.readers, d)
			if k.informed {
				d.in(d.upTo(200 * time.Millisecond))
			} else {
				d.in(d.upTo(every))
			}
		}
	}
}

func (r *run) reader(door uint8, s int32) *reader {
	return r.readers[int(door)*len(r.machines)+int(s)]
}

func (d *reader) in(pause time.Duration) {
	d.due = d.r.agenda.add(act{at: d.r.now + pause, what: read, door: d.door, n: d.server})
}

func (d *reader) upTo(most time.Duration) time.Duration {
	return time.Duration(d.rng.Int64N(int64(most)))
}

// jitter varies a pause by up to a tenth either way.
func (d *reader) jitter(pause time.Duration) time.Duration {
	return pause - pause/10 + d.upTo(pause/5+1)
}

// read asks the server for its list, which it makes at once and may be slow to
// send.
func (d *reader) read(due uint32) {
	if due != d.due || d.busy {
		return
	}
	r, p := d.r, &d.r.sc.Polls
	d.busy, d.settling, d.began = true, false, r.now
	takes := 5*time.Millisecond + d.upTo(50*time.Millisecond)
	late := d.rng.Float64() < p.Late
	if late {
		takes = time.Second + d.upTo(patience-time.Second)
	}
	luck := d.rng.Float64()
	d.failed, d.honest = false, false
	d.prior, d.content = d.content, d.prior
	switch {
	case !r.machines[d.server].up:
		d.failed = true
	case luck < p.Missing:
		d.failed, takes = true, patience
	case luck < p.Missing+p.Half:
		d.content = r.list(int(d.server), d.content)
		d.content = d.content[:len(d.content)/2]
	case luck < p.Missing+p.Half+p.Stale:
		d.content = append(d.content[:0], d.prior...)
	case luck < p.Missing+p.Half+p.Stale+p.Other:
		d.content = r.list((int(d.server)+1)%len(r.machines), d.content)
	default:
		d.content = r.list(int(d.server), d.content)
		d.honest = true
	}
	r.agenda.add(act{at: r.now + takes, what: reply, door: d.door, n: d.server})
}

// reply has the list come.
func (d *reader) reply() {
	d.busy = false
	if d.failed {
		d.content, d.prior = d.prior, d.content // what was there before is what can be repeated
		d.r.c.unread(d.door, int(d.server))
		d.pause = min(max(2*d.pause, d.every), max(maxPause, d.every))
	} else {
		d.r.c.taken(d.door, int(d.server), d.content, d.began, d.honest)
		d.pause = d.every
	}
	if d.woken {
		d.woken, d.settling = false, true
		d.in(max(settling, d.began+minPause-d.r.now))
		return
	}
	d.in(d.jitter(d.pause))
}

// wake has the next reading come early.
func (d *reader) wake() {
	if d.busy || d.settling {
		d.woken = true
		return
	}
	d.settling = true
	d.in(max(settling, d.began+minPause-d.r.now))
}

// say tells those who listen of a server's event.
func (r *run) say(s int, i int32, event what) {
	for at := s; at < len(r.readers); at += len(r.machines) {
		d := r.readers[at]
		if !d.events || r.now < d.deaf {
			continue
		}
		r.c.heard(d.door, s, i, event)
		if event != settleIn && event != whole {
			d.wake()
		}
	}
}

// reconnect has those who listen to a server that is back hear it again, when
// they next try to. Their pauses grow while it is away.
func (r *run) reconnect(s int) {
	for at := s; at < len(r.readers); at += len(r.machines) {
		d := r.readers[at]
		d.deaf = r.machines[s].died
		for pause := time.Second; d.deaf < r.now; pause = min(2*pause, maxPause) {
			d.deaf += d.jitter(pause)
		}
	}
}
