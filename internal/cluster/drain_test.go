package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// names are what is to be moved, in order.
func names(list []Mover) (ids []string) {
	for _, m := range list {
		ids = append(ids, m.ID)
	}
	slices.Sort(ids)
	return ids
}

// Each story begins with two playbacks on a and one on b, all of them kept.
func TestDrainingServersAreEmptied(t *testing.T) {
	for name, tell := range map[string]func(d *desk){
		"not unless that is asked for": func(d *desk) {
			d.l.Drain(d.server("a"), true)
			d.tick(time.Hour / 20)
			if due := d.l.Due(d.now); len(due) > 0 || !d.l.Draining(d.server("a")) {
				d.Errorf("%v are to leave", names(due))
			}
		},
		"at once": func(d *desk) {
			d.l.Empty(d.server("a"), d.now)
			due := d.l.Due(d.now)
			if got := names(due); !slices.Equal(got, []string{"xsi-1", "xsi-2"}) {
				d.Errorf("%v are to leave", got)
			}
			for _, m := range due {
				if m.From != d.server("a") || m.To != nil || m.Playback() == nil {
					d.Errorf("%s is to go from %v to %v", m.ID, m.From, m.To)
				}
			}
		},
		"also when that was asked for before there was time": func(d *desk) {
			for _, before := range []time.Duration{time.Hour, 1} { // that is when the ledger's time begins
				d.l.Empty(d.server("a"), d.now.Add(-before))
				if due := d.l.Due(d.now); len(due) != 2 {
					d.Errorf("%v are to leave since %v", names(due), before)
				}
			}
		},
		"at the deadline": func(d *desk) {
			d.l.Empty(d.server("a"), d.now.Add(time.Minute))
			if got := d.ok(start(web(4))); got == "a" {
				d.Error("a takes a new playback before its deadline")
			}
			d.tick(59 * time.Second)
			if due := d.l.Due(d.now); len(due) > 0 {
				d.Errorf("%v are to leave a second before", names(due))
			}
			d.tick(time.Second)
			if due := d.l.Due(d.now); len(due) != 2 {
				d.Errorf("%v are to leave", names(due))
			}
		},
		"two of them": func(d *desk) {
			d.l.Empty(d.server("a"), d.now)
			d.l.Empty(d.server("b"), d.now.Add(time.Second))
			if due := d.l.Due(d.now); len(due) != 2 {
				d.Errorf("at first %v are to leave", names(due))
			}
			d.tick(time.Second)
			if due := d.l.Due(d.now); len(due) != 3 {
				d.Errorf("then %v are to leave", names(due))
			}
		},
		"until an operator thinks otherwise": func(d *desk) {
			d.l.Empty(d.server("a"), d.now)
			d.l.Drain(d.server("a"), false)
			if due := d.l.Due(d.now); len(due) > 0 || d.l.Draining(d.server("a")) {
				d.Errorf("%v are to leave", names(due))
			}
			d.l.Empty(d.server("a"), d.now)
			d.l.Drain(d.server("a"), true)
			if due := d.l.Due(d.now); len(due) > 0 {
				d.Errorf("%v are to leave a server that is only drained", names(due))
			}
		},
		"of what can be resumed": func(d *desk) {
			d.stopped(web(2))
			d.do(start(web(4)), Failed)
			d.set(Down, "b", "c")
			d.play(Query{IDs: web(5)}) // through another site: nothing is kept
			q := start(web(6))
			h, _, _ := d.open(&q) // nobody accepted it yet
			d.l.Keep(&h, false, memo(1))
			d.set(In, "b", "c")
			d.l.Empty(d.server("a"), d.now)
			if got := names(d.l.Due(d.now)); !slices.Equal(got, []string{"xsi-1"}) {
				d.Errorf("%v are to leave", got)
			}
			d.l.Settle(&q, &h, Accepted, d.now)
			if got := names(d.l.Due(d.now)); !slices.Equal(got, []string{"xsi-1", "xsi-6"}) {
				d.Errorf("%v are to leave", got)
			}
		},
		"for the roomiest others, for good": func(d *desk) {
			d.l.Empty(d.server("a"), d.now)
			for _, m := range d.l.Due(d.now) {
				r := d.l.Move(m)
				if got, reason := d.choose(r); got == "a" || got == "" || reason != Resumed {
					d.Errorf("%s goes to %q: %v", m.ID, got, reason)
				}
				d.arrives(r)
			}
			if due := d.l.Due(d.now); len(due) > 0 {
				d.Errorf("%v are to leave in the end", names(due))
			}
			d.wants("a", 0, "in the end")
			d.wants("c", 2, "in the end") // b has one, and more weight
			d.l.Drain(d.server("a"), false)
			for i := range 3 {
				if got := d.ok(follow(web(1 + i))); got == "a" {
					d.Errorf("playback %d is back on a", 1+i)
				}
			}
		},
		"never where another drains": func(d *desk) {
			d.l.Drain(d.server("c"), true)
			m, _ := d.l.Mover("xsi-1", nil)
			d.chooses(d.l.Move(m), "b", Resumed)
			d.l.Drain(d.server("b"), true)
			d.chooses(d.l.Move(m), "", Nowhere)
			d.is(m.Playback(), "a", "in the end")
		},
		"but an operator's word goes": func(d *desk) {
			m, _ := d.l.Mover("xsi-1", d.server("b"))
			d.l.Seen(d.server("b"), Report{ID: "other", Work: CPU}, d.now)
			r := d.l.Move(m)
			d.chooses(r, "b", Resumed) // although c is empty
			d.set(Down, "b")
			d.chooses(r, "", Nowhere) // and not to c instead
			d.set(In, "b")
			d.chooses(r, "b", Resumed)
			d.arrives(r)
			d.is(m.Playback(), "b", "in the end")
		},
		"a choice to leave does not change the present one": func(d *desk) {
			m, _ := d.l.Mover("xsi-1", nil)
			d.chooses(d.l.Move(m), "c", Resumed)
			d.is(m.Playback(), "a", "chosen")
			d.wants("a", 2, "chosen")
			d.wants("c", 1, "chosen")
			d.tick(31 * time.Second)
			d.wants("c", 0, "in the end")
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true}, named(1, 1, 4)...)
			d.watch("a", web(1))
			d.watch("a", web(2))
			d.watch("b", web(3))
			tell(d)
			check(t, d.l)
		})
	}
	t.Run("but not where ids differ", func(t *testing.T) {
		d := newDesk(t, Settings{}, named(1, 1)...)
		for i := range 4 {
			d.watch("a", web(i))
		}
		if plan := d.l.Rebalance(d.now); len(plan) > 0 {
			t.Errorf("%v are to move to a better place", names(plan))
		}
		d.l.Empty(d.server("a"), d.now)
		if due := d.l.Due(d.now); len(due) > 0 {
			t.Errorf("%v are to leave", names(due))
		}
		if got := d.ok(follow(web(1))); got != "a" {
			t.Errorf("it goes to %q", got)
		}
		check(t, d.l)
	})
}

func TestMovers(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(1, 1)...)
	ids := IDs{"tsid-1", "xsi-1", "pb-1", "cid-1"}
	p := d.watch("a", ids)
	for _, id := range []string{"tsid-1", "xsi-1", "pb-1", "cid-1"} {
		m, ok := d.l.Mover(id, d.server("b"))
		if !ok || m.ID != "xsi-1" || m.From != d.server("a") || m.To != d.server("b") || m.Playback() != p {
			t.Errorf("by %s: %v, %+v", id, ok, m)
		}
	}
	if _, ok := d.l.Mover("tsid-2", nil); ok {
		t.Error("an unknown id can be moved")
	}
	here, _ := d.l.Mover("xsi-1", d.server("a"))
	away, _ := d.l.Mover("xsi-1", nil)
	there, _ := d.l.Mover("xsi-1", d.server("b"))
	if d.l.Move(here) != nil {
		t.Error("it moves where it is")
	}
	d.carry(p, "b")
	if d.l.Move(away) != nil || d.l.Move(there) != nil {
		t.Error("it moves although it is not where it was")
	}
	if !d.l.Movable(p) || d.l.TranscodeOf(p) != "tsid-1" {
		t.Errorf("movable %v, transcode %q", d.l.Movable(p), d.l.TranscodeOf(p))
	}
	away, _ = d.l.Mover("xsi-1", nil)
	d.stopped(ids)
	if _, ok := d.l.Mover("xsi-1", nil); ok || d.l.Move(away) != nil || d.l.Movable(p) {
		t.Error("it moves although it is over")
	}
	d.l.Forget("xsi-1", d.now)
	if _, ok := d.l.Mover("xsi-1", nil); ok || d.l.Move(away) != nil || d.l.Movable(p) {
		t.Error("it moves although it is forgotten")
	}
	check(t, d.l)
}

// Each story begins with four playbacks on a, and what was on b for the first
// two; that is, two transcodes wait to be stopped on a.
func TestOrphansAreStopped(t *testing.T) {
	// reads is a good reading of servers, a second later.
	reads := func(d *desk, servers ...string) {
		d.tick(time.Second)
		for _, s := range servers {
			d.poll(s)
		}
	}
	stops := func(d *desk, want ...Orphan) {
		d.Helper()
		got := d.l.Orphans(d.now)
		if !slices.Equal(got, want) {
			d.Errorf("%v are to be stopped, want %v", got, want)
		}
		for _, o := range got {
			d.l.Told(o, true)
		}
	}
	on := func(d *desk, server string, n int) Orphan { return Orphan{d.server(server), fmt.Sprint("tsid-", n)} }
	for name, tell := range map[string]func(d *desk){
		"once each, and one after the other": func(d *desk) {
			reads(d, "a")
			stops(d, on(d, "a", 1))
			stops(d, on(d, "a", 2))
			stops(d)
			reads(d, "a", "b")
			stops(d)
		},
		"one of each server at a time": func(d *desk) {
			d.carry(d.watch("b", web(5)), "a")
			d.carry(d.watch("b", web(6)), "a")
			reads(d, "a", "b")
			stops(d, on(d, "a", 1), on(d, "b", 5))
			stops(d, on(d, "a", 2), on(d, "b", 6))
			stops(d)
		},
		"when their server was read": func(d *desk) {
			stops(d)
			reads(d, "b")
			stops(d)
			d.l.Unread(d.server("a"), "timeout", false, d.now)
			stops(d)
			d.l.Observe(d.server("a"), nil, d.now.Add(-5*time.Second), d.now)
			stops(d) // it began before they were left
			reads(d, "a")
			stops(d, on(d, "a", 1))
		},
		"each after a reading of its own": func(d *desk) {
			reads(d, "a")
			d.carry(d.l.PlaybackOf("tsid-3"), "b")
			stops(d, on(d, "a", 1))
			stops(d, on(d, "a", 2))
			stops(d)
			reads(d, "a")
			stops(d, on(d, "a", 3))
		},
		"though not if they are watched there again": func(d *desk) {
			d.carry(d.l.PlaybackOf("tsid-1"), "a")
			reads(d, "a")
			stops(d, on(d, "a", 2))
			stops(d)
		},
		"also where they were in between": func(d *desk) {
			d.carry(d.l.PlaybackOf("tsid-1"), "c")
			reads(d, "a", "b")
			stops(d, on(d, "a", 1), on(d, "b", 1))
			stops(d, on(d, "a", 2))
		},
		"to and fro, once": func(d *desk) {
			for range 3 {
				d.carry(d.l.PlaybackOf("tsid-1"), "a")
				d.carry(d.l.PlaybackOf("tsid-1"), "b")
			}
			reads(d, "a", "b")
			stops(d, on(d, "a", 1))
			stops(d, on(d, "a", 2))
			stops(d)
		},
		"also if their playback is over where it went": func(d *desk) {
			d.stopped(web(1))
			d.l.Forget("tsid-2", d.now)
			reads(d, "a")
			stops(d, on(d, "a", 1))
			stops(d, on(d, "a", 2))
		},
		"though not when their server has ended them itself": func(d *desk) {
			d.tick(5*time.Minute - time.Second)
			d.carry(d.l.PlaybackOf("tsid-1"), "c")
			reads(d, "a", "b")
			d.tick(time.Second)
			stops(d, on(d, "b", 1))
			if n := len(d.l.orphans); n > 0 {
				d.Errorf("%d are left", n)
			}
		},
		"and again if their server does not say that it has": func(d *desk) {
			reads(d, "a")
			want := []Orphan{on(d, "a", 1)}
			if got := d.l.Orphans(d.now); !slices.Equal(got, want) {
				d.Errorf("%v are to be stopped, want %v", got, want)
			}
			d.l.Told(want[0], false)
			stops(d, on(d, "a", 2))
			reads(d, "a")
			stops(d)
			d.tick(orphanRetry)
			d.poll("a", Report{ID: "tsid-1", Work: GPU})
			stops(d, want...)
			d.tick(orphanRetry)
			reads(d, "a")
			stops(d)
		},
		"though not while a resumption is on its way to where they are": func(d *desk) {
			d.carry(d.l.PlaybackOf("tsid-2"), "c") // and is stopped on b as well
			d.set(Down, "c")
			r := d.setsOut(d.l.PlaybackOf("tsid-2"), "b", Resumed)
			reads(d, "a", "b")
			stops(d, on(d, "a", 1))
			stops(d, on(d, "a", 2))
			d.tick(time.Second)
			d.poll("b", Report{ID: "tsid-2", Work: GPU}) // the former one, listed still
			stops(d)
			r.Forsaken(d.l, d.now)
			stops(d, on(d, "b", 2))
		},
		"nor while a start is, of what is over there": func(d *desk) {
			q := follow(web(1))
			h := d.l.Find(&q, d.now)
			d.l.LeaveBehind(&h, d.now) // on b
			d.l.Stopped(&q, d.now)
			d.l.Settle(&q, &h, Accepted, d.now)
			again := start(web(1))
			hold, name, _ := d.open(&again)
			if name != "b" {
				d.Fatalf("it begins on %s", name)
			}
			reads(d, "a", "b")
			stops(d, on(d, "a", 1))
			d.l.Settle(&again, &hold, Accepted, d.now)
			reads(d, "a", "b")
			stops(d, on(d, "a", 2))
			reads(d, "b")
			stops(d)
		},
		"while others wait who begin them anew": func(d *desk) {
			reads(d, "a")
			list := d.l.Orphans(d.now)
			told := d.l.BeingStopped(d.server("a"), "tsid-1")
			if len(list) != 1 || told == nil || d.l.BeingStopped(d.server("a"), "tsid-2") != nil || d.l.BeingStopped(d.server("b"), "tsid-1") != nil {
				d.Fatalf("%v are to be stopped, and %v tells when", list, told)
			}
			select {
			case <-told:
				d.Error("it is stopped before its server says so")
			default:
			}
			d.carry(d.l.PlaybackOf("tsid-1"), "a")
			stops(d, on(d, "a", 2))
			if d.l.BeingStopped(d.server("a"), "tsid-1") == nil {
				d.Error("nobody waits for the stop any more")
			}
			d.wait(time.Second).carry(d.l.PlaybackOf("tsid-1"), "b") // which leaves it there once more
			d.l.Told(list[0], true)
			select {
			case <-told:
			default:
				d.Error("nobody is told that it is stopped")
			}
			if d.l.BeingStopped(d.server("a"), "tsid-1") != nil {
				d.Error("others wait still")
			}
			reads(d, "a")
			stops(d, on(d, "a", 1)) // the later one, of which nothing was said
			stops(d)
		},
		"and lead nobody to where they are": func(d *desk) {
			p := d.watch("a", kodi(7))
			d.poll("a", Report{ID: "kodi-7", Client: "kodi-7", Work: GPU})
			d.carry(p, "b")
			d.stopped(kodi(7))
			d.wait(time.Second).poll("a", Report{ID: "kodi-7", Client: "kodi-7", Work: GPU})
			d.l.Drain(d.server("a"), true)
			if s, reason := d.do(decision(kodi(7), Query{Item: "next"}), Accepted); s != "c" || reason != LeastLoad {
				d.Errorf("the next film is placed on %s, for %v", s, reason)
			}
		},
		"nor what a device began there under the same name": func(d *desk) {
			p := d.watch("a", kodi(7))
			d.carry(p, "b")
			d.stopped(kodi(7))
			d.watch("a", kodi(7), Query{Item: "next"})
			reads(d, "a")
			stops(d, on(d, "a", 1))
			stops(d, on(d, "a", 2))
			stops(d)
		},
		"also what a start may have begun that got no answer": func(d *desk) {
			d.set(Down, "a", "c")
			q := start(web(9))
			h, name, _ := d.open(&q)
			d.set(In, "c")
			d.set(Tried, name)
			d.l.Place(&q, &h, d.pool, d.now)
			d.l.Settle(&q, &h, Accepted, d.now)
			reads(d, "b", "c")
			stops(d, on(d, "b", 9))
			stops(d)
			d.wants("b", 3, "with the one that failed")
		},
		"under the id of the start": func(d *desk) {
			d.set(Down, "a", "c")
			ids := web(9)
			d.ok(decision(ids))
			ids.Transcode = "another"
			d.set(In, "c")
			q := start(ids)
			h := d.l.Find(&q, d.now)
			d.set(Tried, "b")
			d.l.Place(&q, &h, d.pool, d.now)
			d.l.Settle(&q, &h, Accepted, d.now)
			reads(d, "b", "c")
			stops(d, Orphan{d.server("b"), "another"})
			stops(d)
		},
		"not on servers that are no more": func(d *desk) {
			d.l.Configure(Settings{Replicated: true}, named(1, 1, 1)[1:], d.now)
			a := d.server("a:32400")
			for range 11 {
				d.tick(time.Minute)
			}
			if !a.gone {
				d.Error("a is known still")
			}
			stops(d)
			d.carry(d.watch("b", web(9)), "c")
			reads(d, "b")
			stops(d, on(d, "b", 9))
		},
		"so that there are never too many": func(d *desk) {
			for i := range maxOrphans + 50 {
				d.carry(d.watch("b", web(10+i)), "c")
			}
			if n := len(d.l.orphans); n != maxOrphans {
				d.Errorf("%d are left", n)
			}
			reads(d, "a", "b")
			stops(d, on(d, "a", 1), on(d, "b", 10))
			if n := len(d.l.orphans); n != maxOrphans-2 {
				d.Errorf("%d are left", n)
			}
			reads(d, "a", "b") // what they do not list is gone
			d.tick(orphanRetry)
			reads(d, "a", "b")
			stops(d)
			if n := len(d.l.orphans); n > 0 {
				d.Errorf("%d are left of those that are gone", n)
			}
		},
		"those that nobody can stop as well": func(d *desk) {
			d.tick(5*time.Minute + time.Second)
			stops(d)
			if n := len(d.l.orphans); n > 0 {
				d.Errorf("%d are left", n)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true, Idle: time.Hour}, named(1, 1, 1)...)
			for i := range 4 {
				d.watch("a", web(1+i))
			}
			d.carry(d.l.PlaybackOf("tsid-1"), "b")
			d.carry(d.l.PlaybackOf("tsid-2"), "b")
			tell(d)
			check(t, d.l)
		})
	}
}

// balance recounts what a plan does, from what the ledger shows.
type balance struct {
	testing.TB
	costs  Costs
	load   map[*Server]float64
	weight map[*Server]float64
	room   map[*Server]int // for transcodes
	from   map[*Server]bool
	to     map[*Server]bool
	at     map[*Playback]*Server // those that can be carried
	work   map[*Playback]Work
}

func newBalance(d *desk, set Settings) *balance {
	b := &balance{
		TB: d, costs: set.withDefaults().Costs, load: make(map[*Server]float64), weight: make(map[*Server]float64), room: make(map[*Server]int),
		from: make(map[*Server]bool), to: make(map[*Server]bool), at: make(map[*Playback]*Server), work: make(map[*Playback]Work),
	}
	for _, v := range d.l.View(d.now) {
		s := d.server(v.Name)
		b.load[s], b.weight[s], b.room[s] = v.Load, v.Weight, 1000
		if v.MaxTranscodes > 0 {
			b.room[s] = v.MaxTranscodes - v.Jobs[GPU] - v.Jobs[CPU]
		}
		b.from[s] = !v.Down && !v.Maintenance
		b.to[s] = b.from[s] && !v.Draining
	}
	for o := range d.l.orphans {
		if j := o.Server.jobs[o.Transcode]; j != nil && j.playback == nil && j.state == Confirmed {
			b.load[o.Server] -= b.costs.Of(j.work)
			if j.work >= CPU {
				b.room[o.Server]++
			}
		}
	}
	for _, v := range d.l.Playbacks() {
		if p := d.l.PlaybackOf(v.Transcode); d.l.Movable(p) && (v.State == Reserved || v.State == Confirmed) {
			b.at[p], b.work[p] = d.server(v.Server), v.Work
		}
	}
	return b
}

func (b *balance) fill(s *Server) float64 { return b.load[s] / b.weight[s] }

// highest is the fill of the fullest server that is not away.
func (b *balance) highest() (most float64) {
	for s, ok := range b.from {
		if ok {
			most = max(most, b.fill(s))
		}
	}
	return most
}

// can reports whether a playback may go to a server.
func (b *balance) can(p *Playback, to *Server) bool {
	return b.to[to] && b.from[b.at[p]] && to != b.at[p] && (b.work[p] < CPU || b.room[to] > 0)
}

func (b *balance) move(p *Playback, to *Server) {
	from, cost := b.at[p], b.costs.Of(b.work[p])
	b.load[from] -= cost
	b.load[to] += cost
	if b.work[p] >= CPU {
		b.room[from]++
		b.room[to]--
	}
	b.at[p] = to
}

const tiny = 1e-6

// apply does what a mover says, and checks that it is of use.
func (b *balance) apply(m Mover) {
	b.Helper()
	p := m.Playback()
	if b.at[p] != m.From || m.To == nil || !b.can(p, m.To) {
		b.Fatalf("%s, which is on %v, cannot go from %s to %v", m.ID, b.at[p], m.From.Name(), m.To)
	}
	if b.fill(m.From) < b.highest()-tiny {
		b.Errorf("%s leaves %s, which is not the fullest", m.ID, m.From.Name())
	}
	for s := range b.load {
		if cost := b.costs.Of(b.work[p]); b.can(p, s) && (b.load[s]+cost)/b.weight[s] < (b.load[m.To]+cost)/b.weight[m.To]-tiny {
			b.Errorf("%s goes to %s, but %s would be less full", m.ID, m.To.Name(), s.Name())
		}
	}
	before := max(b.fill(m.From), b.fill(m.To))
	b.move(p, m.To)
	if after := max(b.fill(m.From), b.fill(m.To)); after > before-1e-12 {
		b.Errorf("%s goes from %s to %s, and the fuller of them has %v after %v", m.ID, m.From.Name(), m.To.Name(), after, before)
	}
}

// better returns a single move that lowers the highest load.
func (b *balance) better() (p *Playback, to *Server) {
	most := b.highest()
	for p, from := range b.at {
		for to := range b.load {
			if !b.can(p, to) {
				continue
			}
			b.move(p, to)
			lower := b.highest() < most-tiny
			b.move(p, from)
			if lower {
				return p, to
			}
		}
	}
	return nil, nil
}

// scatter fills some servers with some playbacks.
func scatter(t *testing.T, rng *rand.Rand) (*desk, Settings) {
	pick := func(of ...float64) float64 { return of[rng.IntN(len(of))] }
	set := Settings{Replicated: true}
	if rng.IntN(3) == 0 {
		set.Costs = Costs{GPU: pick(0.5, 1), CPU: pick(1, 3), Copy: pick(0, 0.2), Client: pick(0, 0.05)}
	}
	var weights []float64
	for range 2 + rng.IntN(3) {
		weights = append(weights, pick(0.5, 1, 1, 2, 4))
	}
	cfg := named(weights...)
	for i := range cfg {
		if rng.IntN(3) == 0 {
			cfg[i].MaxTranscodes = 1 + rng.IntN(4)
		}
	}
	d := newDesk(t, set, cfg...)
	crowded := rng.IntN(len(cfg)) // the later ones came up later
	for i := range 1 + rng.IntN(9) {
		at := d.pool[rng.IntN(1+crowded)].Server.Name()
		ids := web(i)
		q := start(ids, Query{Item: "item"})
		q.Work = Work(rng.IntN(4))
		switch rng.IntN(8) {
		case 0: // its start was not kept
			was := d.pool
			d.pool = []Candidate{{Server: d.server(at)}}
			d.do(q, Accepted)
			d.pool = was
		case 1:
			d.on(at, q, Accepted)
			d.stopped(ids)
		case 2:
			d.l.Seen(d.server(at), Report{ID: fmt.Sprint("other", i), Work: Work(rng.IntN(4))}, d.now)
		case 3:
			d.on(at, q, Accepted)
			d.l.Seen(d.server(at), Report{ID: ids.Transcode, Session: ids.Session, Client: ids.Client, Work: max(q.Work, Copy)}, d.now)
		default:
			d.on(at, q, Accepted)
		}
	}
	for i := range d.pool {
		switch rng.IntN(10) {
		case 0:
			d.l.Drain(d.pool[i].Server, true)
		case 1:
			d.l.Unread(d.pool[i].Server, "maintenance", true, d.now)
		case 2:
			d.pool[i].Out = Down
		}
	}
	for i := range 9 { // some were carried already, and are to be stopped where they were
		if p := d.l.PlaybackOf(fmt.Sprint("tsid-", i)); p != nil && rng.IntN(5) == 0 && d.l.Movable(p) {
			if to := &d.pool[rng.IntN(len(d.pool))]; to.Out == In && to.Server != p.server {
				d.carry(p, to.Server.Name())
			}
		}
	}
	d.do(start(web(1000)), Rejected) // which tells the ledger who is down
	return d, set
}

func TestRebalanceLowersTheHighestLoad(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	moves := 0
	for i := range 3_000 {
		d, set := scatter(t, rng)
		b := newBalance(d, set)
		plan := d.l.Rebalance(d.now)
		moves += len(plan)
		for _, m := range plan {
			b.apply(m)
		}
		if p, to := b.better(); p != nil {
			t.Errorf("with %s on %s, the highest load would be lower", p.ids.Session, to.Name())
		}
		// What was planned is what happens, and then there is no more to gain.
		for _, m := range plan {
			r := d.l.Move(m)
			if r == nil {
				t.Fatalf("%s cannot be moved from %s", m.ID, m.From.Name())
			}
			d.chooses(r, m.To.Name(), Resumed)
			d.arrives(r)
		}
		is := newBalance(d, set)
		for s, load := range b.load {
			if diff := is.load[s] - load; diff > tiny || diff < -tiny || b.room[s] < 500 && is.room[s] != b.room[s] {
				t.Errorf("%s has load %v and room %d, planned were %v and %d", s.Name(), is.load[s], is.room[s], load, b.room[s])
			}
		}
		if p, _ := b.better(); p == nil {
			most := is.highest() // which several may share, so that one may still leave it
			for _, m := range d.l.Rebalance(d.now) {
				is.apply(m)
			}
			if now := is.highest(); now < most-tiny {
				t.Errorf("a second plan brings %v down to %v", most, now)
			}
		}
		check(t, d.l)
		if t.Failed() {
			for _, v := range d.l.View(d.now) {
				t.Logf("%s: load %v, weight %v, %v, limit %d, draining %v, maintenance %v, down %v", v.Name, v.Load, v.Weight, v.Jobs, v.MaxTranscodes, v.Draining, v.Maintenance, v.Down)
			}
			for _, m := range plan {
				t.Logf("%s of %v from %s to %s", m.ID, b.work[m.Playback()], m.From.Name(), m.To.Name())
			}
			t.Fatalf("case %d", i)
		}
	}
	if moves < 1_000 {
		t.Errorf("only %d moves were tried", moves)
	}
}
