package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// memo is a request that is kept, of this size.
type memo int

func (m memo) Size() int     { return int(m) }
func (m memo) Endless() bool { return false }

// on does a whole request that has no choice but a server.
func (d *desk) on(name string, q Query, outcome Outcome) *Playback {
	d.Helper()
	was := d.pool
	d.pool = slices.Clone(was)
	for i := range d.pool {
		if d.pool[i].Server.Name() != name {
			d.pool[i].Out = Tried
		}
	}
	h, at, reason := d.open(&q)
	d.pool = was
	if at != name {
		d.Fatalf("%v goes to %q instead of %s: %v", q.IDs, at, name, reason)
	}
	if outcome == Accepted {
		d.l.Keep(&h, !q.Begins, memo(len(q.Name())))
	}
	p := h.Playback()
	d.l.Settle(&q, &h, outcome, d.now)
	return p
}

// watch is a decision and a start on a server, both of them kept.
func (d *desk) watch(name string, ids IDs, more ...Query) *Playback {
	d.Helper()
	d.on(name, decision(ids, more...), Accepted)
	return d.on(name, start(ids, more...), Accepted)
}

// choose has a resumption's server chosen.
func (d *desk) choose(r *Resumption) (string, Reason) {
	i, reason := d.l.Choose(r, slices.Clone(d.pool), d.now)
	if i < 0 {
		return "", reason
	}
	return d.pool[i].Server.Name(), reason
}

// sets out to resume a playback, and checks where.
func (d *desk) setsOut(p *Playback, want string, reason Reason) *Resumption {
	d.Helper()
	r := d.l.Resume(p, "")
	if r == nil {
		d.Fatal("it cannot be resumed")
	}
	d.chooses(r, want, reason)
	return r
}

func (d *desk) chooses(r *Resumption, want string, reason Reason) {
	d.Helper()
	if got, why := d.choose(r); got != want || why != reason {
		d.Errorf("it goes on on %q: %v, want %q: %v", got, why, want, reason)
	}
}

// arrives completes a resumption.
func (d *desk) arrives(r *Resumption) {
	d.Helper()
	if !d.l.Resumed(r, d.now) {
		d.Errorf("on %s it is not resumed", r.To.Name())
	}
}

// carry moves a playback to a server.
func (d *desk) carry(p *Playback, to string) {
	d.Helper()
	r := d.l.Move(Mover{From: p.server, To: d.server(to), playback: p})
	if r == nil {
		d.Fatalf("it cannot be moved to %s", to)
	}
	d.chooses(r, to, Resumed)
	d.arrives(r)
}

// is checks where a playback's requests go.
func (d *desk) is(p *Playback, want, when string) {
	d.Helper()
	if s, _ := d.l.ServerOf(p); s.Name() != want {
		d.Errorf("%s: it is on %s, want %s", when, s.Name(), want)
	}
	for _, id := range append(slices.Clone(p.older), p.ids.Transcode) {
		if s := d.l.FindSegment(id); id != "" && (s == nil || s.Name() != want) {
			d.Errorf("%s: the segments of %s do not go to %s", when, id, want)
		}
	}
	if got := d.ok(follow(IDs{Session: p.ids.Session, Client: p.ids.Client})); p.endedAt == 0 && got != want {
		d.Errorf("%s: its requests go to %s, want %s", when, got, want)
	}
}

// stopped is the end of a playback.
func (d *desk) stopped(ids IDs) {
	q := follow(ids)
	d.l.Stopped(&q, d.now)
}

// Each story begins with a playback on a, which has to go on; b is the next
// best, and c has one transcode.
func TestAPlaybackIsResumed(t *testing.T) {
	report := Report{ID: "tsid-1", Client: "cid-1", Session: "xsi-1", Title: "Film", Work: GPU}
	for name, tell := range map[string]func(d *desk, p *Playback){
		"its requests stay where it is until it is resumed": func(d *desk, p *Playback) {
			before := d.l.Resumptions()
			d.set(Down, "a")
			r := d.setsOut(p, "b", Resumed)
			if r.From != d.server("a") || r.To != d.server("b") || r.Transcode != "tsid-1" || r.Decision == nil || r.Start == nil {
				d.Errorf("it is resumed as %+v", r)
			}
			d.set(In, "a")
			d.is(p, "a", "before")
			if d.l.ResumedSince(p, before) {
				d.Error("it says to be resumed before it is")
			}
			d.arrives(r)
			d.is(p, "b", "after")
			if !d.l.ResumedSince(p, before) || d.l.ResumedSince(p, d.l.Resumptions()) {
				d.Error("it does not say when it was resumed")
			}
			v, _ := d.l.Explain("xsi-1")
			if v.Moves != 1 || v.Ended || !v.Confirmed || v.Why.Reason != Resumed || v.Why.Chosen != d.server("b") || v.Why.Table[0].Server != d.server("b") {
				d.Errorf("it is seen as %+v", v)
			}
			if got := d.l.Totals(); got != (Totals{Moved: 1}) {
				d.Errorf("the totals are %+v", got)
			}
			if n := d.view("b").Placements; n != 1 {
				d.Errorf("b counts %d placements", n)
			}
		},
		"its load is reserved where it goes, and counted once": func(d *desk, p *Playback) {
			d.set(Down, "a")
			r := d.setsOut(p, "b", Resumed)
			d.wants("a", 1, "chosen")
			d.wants("b", 1, "chosen")
			d.arrives(r)
			d.wants("a", 0, "resumed")
			d.wants("b", 1, "resumed")
			if v := d.view("b"); v.Reserved != 1 || d.state("tsid-1") != Reserved {
				d.Errorf("b has %d reservations", v.Reserved)
			}
			d.wait(time.Second).poll("b", report)
			d.wants("b", 1, "reported")
			if v := d.view("b"); v.Reserved != 0 || d.state("tsid-1") != Confirmed {
				d.Errorf("b has %d reservations after the report", v.Reserved)
			}
			d.tick(time.Minute).poll("b", report)
			d.wants("b", 1, "in the end")
		},
		"its new server may report it before it is resumed": func(d *desk, p *Playback) {
			d.set(Down, "a")
			r := d.setsOut(p, "b", Resumed)
			d.set(In, "a")
			d.wait(time.Second).poll("b", report)
			d.wants("b", 1, "reported")
			d.is(p, "a", "reported")
			d.arrives(r)
			d.wants("b", 1, "resumed")
			if v, _ := d.l.Explain("tsid-1"); v.State != Confirmed || v.Server != "b" {
				d.Errorf("it is %v on %s", v.State, v.Server)
			}
			d.wait(time.Second).poll("b", report)
			d.tick(time.Minute).poll("b", report)
			d.wants("b", 1, "reported again")
		},
		"what its former server encodes counts there until it is gone": func(d *desk, p *Playback) {
			d.wait(time.Second).poll("a", report)
			d.carry(p, "b")
			d.wants("a", 1, "carried")
			d.wants("b", 1, "carried")
			d.wait(time.Second).poll("a", report)
			d.is(p, "b", "while both report it")
			d.wants("a", 1, "reported")
			for range 3 {
				d.wait(time.Second).poll("a")
			}
			d.wants("a", 0, "stopped")
			d.wants("b", 1, "stopped")
		},
		"one that never completes counts for half a minute": func(d *desk, p *Playback) {
			d.set(Down, "a")
			d.setsOut(p, "b", Resumed)
			d.tick(29 * time.Second)
			d.wants("b", 1, "after 29s")
			d.tick(2 * time.Second)
			d.wants("b", 0, "after 31s")
			d.set(In, "a")
			d.is(p, "a", "in the end")
			d.wants("a", 1, "in the end")
		},
		"one that comes after its reservation lapsed counts": func(d *desk, p *Playback) {
			d.set(Down, "a")
			r := d.setsOut(p, "b", Resumed)
			d.tick(31 * time.Second)
			d.arrives(r)
			d.wants("b", 1, "in the end")
		},
		"a server that fails it goes on counting it for half a minute": func(d *desk, p *Playback) {
			d.set(Down, "a")
			r := d.setsOut(p, "b", Resumed)
			r.Failed(d.l, d.now)
			d.set(Tried, "b")
			d.chooses(r, "c", Resumed)
			d.arrives(r)
			d.is(p, "c", "resumed")
			d.wants("b", 1, "resumed")
			d.wants("c", 2, "resumed")
			d.tick(31 * time.Second)
			d.wants("b", 0, "in the end")
			d.wants("c", 2, "in the end")
		},
		"the same server twice counts once": func(d *desk, p *Playback) {
			d.set(Down, "a")
			r := d.setsOut(p, "b", Resumed)
			d.set(Down, "c") // b has the reservation, so that c would be as good
			d.chooses(r, "b", Resumed)
			d.wants("b", 1, "chosen twice")
			d.arrives(r)
			d.wants("b", 1, "resumed")
			d.tick(time.Minute)
			d.wants("b", 1, "in the end")
		},
		"what its new server decides is what it costs": func(d *desk, p *Playback) {
			d.set(Down, "a")
			r := d.setsOut(p, "b", Resumed)
			r.Decided(d.l, Copy, d.now)
			if v := d.view("b"); v.Jobs != [4]int{Copy: 1} {
				d.Errorf("decided: b counts %v", v.Jobs)
			}
			d.arrives(r)
			if v := d.view("b"); v.Jobs != [4]int{Copy: 1} {
				d.Errorf("resumed: b counts %v", v.Jobs)
			}
		},
		"where it can be, it goes on on its own server": func(d *desk, p *Playback) {
			r := d.setsOut(p, "a", Pinned)
			d.wants("a", 1, "chosen")
			d.arrives(r)
			d.wants("a", 1, "resumed")
			if v, _ := d.l.Explain("tsid-1"); v.Moves != 0 || d.l.Totals() != (Totals{}) {
				d.Errorf("it is said to have moved %d times: %+v", v.Moves, d.l.Totals())
			}
			if left := d.orphans(); len(left) > 0 {
				d.Errorf("%v is to be stopped", left)
			}
		},
		"also if that is draining, without an operator's word": func(d *desk, p *Playback) {
			d.l.Drain(d.server("a"), true)
			d.arrives(d.setsOut(p, "a", Pinned))
		},
		"a server that forgot it has it again": func(d *desk, p *Playback) {
			d.wait(time.Second).poll("a", report)
			for range 3 {
				d.wait(time.Second).poll("a")
			}
			d.wants("a", 0, "forgotten")
			r := d.setsOut(p, "a", Pinned)
			d.wants("a", 0, "chosen")
			d.arrives(r)
			d.wants("a", 1, "resumed")
			d.tick(11*time.Second).poll("a", report)
			d.wants("a", 1, "reported")
			if v, _ := d.l.Explain("tsid-1"); v.State != Confirmed {
				d.Errorf("it is %v", v.State)
			}
		},
		"with nowhere to go, nothing changes": func(d *desk, p *Playback) {
			d.set(Down, "a", "b", "c")
			r := d.setsOut(p, "", Nowhere)
			if r.To != nil {
				d.Errorf("it is to go to %s", r.To.Name())
			}
			d.set(In, "a", "b", "c")
			d.wants("a", 1, "in the end")
			d.wants("b", 0, "in the end")
			d.is(p, "a", "in the end")
		},
		"full servers are passed over, or take one more when all are": func(d *desk, p *Playback) {
			d.l.Configure(Settings{Replicated: true}, limited(9, 1, 2), d.now)
			d.l.Seen(d.server("b"), Report{ID: "other b", Work: GPU}, d.now)
			d.set(Down, "a")
			r := d.setsOut(p, "c", Resumed)
			d.chooses(r, "b", Resumed) // with the reservation, both are full
		},
		"failures are charged to where it was to go": func(d *desk, p *Playback) {
			for i := range 3 {
				one := d.watch("a", web(10+i), Query{Item: fmt.Sprint("item", i)})
				r := d.l.Move(Mover{From: one.server, To: d.server("b"), playback: one})
				d.chooses(r, "b", Resumed)
				r.Failed(d.l, d.now)
			}
			if d.view("a").Shunned || !d.view("b").Shunned {
				d.Error("b is not shunned, or a is")
			}
			d.carry(p, "b")
			if d.view("b").Shunned {
				d.Error("b is shunned although it plays")
			}
		},
		"one without a server chosen charges nobody": func(d *desk, p *Playback) {
			d.l.Resume(p, "").Failed(d.l, d.now)
			for _, c := range d.pool {
				if len(c.Server.failures) > 0 {
					d.Errorf("%s is charged", c.Server.Name())
				}
			}
		},
		"it goes on under the id that is asked for": func(d *desk, p *Playback) {
			better := web(1)
			better.Transcode = "tsid-1b"
			d.watch("a", better)
			d.set(Down, "a")
			r := d.l.Resume(p, "tsid-1")
			d.chooses(r, "b", Resumed)
			d.arrives(r)
			d.is(p, "b", "resumed")
			d.wants("b", 1, "resumed")
			d.wait(time.Second).poll("b", report)
			d.wants("b", 1, "reported")
			if v, _ := d.l.Explain("xsi-1"); r.Transcode != "tsid-1" || v.State != Confirmed {
				d.Errorf("as %s it is %v", r.Transcode, v.State)
			}
		},
		"its former ids lead there too, and are all stopped where it was": func(d *desk, p *Playback) {
			better := web(1)
			better.Transcode = "tsid-1b"
			d.watch("a", better)
			d.carry(p, "b")
			d.is(p, "b", "carried")
			var left []Orphan
			for range 3 {
				left = append(left, d.orphans()...)
			}
			if want := []Orphan{{d.server("a"), "tsid-1"}, {d.server("a"), "tsid-1b"}}; !slices.Equal(left, want) {
				d.Errorf("%v is to be stopped, want %v", left, want)
			}
		},
		"direct play has no transcode to stop": func(d *desk, _ *Playback) {
			ids := IDs{Session: "xsi-2", Client: "cid-2"}
			q := decision(ids)
			q.Work = None
			p := d.on("a", q, Accepted)
			before := d.view("a").Jobs[None]
			d.set(Down, "a")
			r := d.setsOut(p, "b", Resumed)
			if r.Transcode != "" || d.view("b").Jobs[None] != 1 {
				d.Errorf("chosen: b counts %v for %q", d.view("b").Jobs, r.Transcode)
			}
			d.arrives(r)
			if a, b := d.view("a").Jobs[None], d.view("b").Jobs[None]; a != before-1 || b != 1 {
				d.Errorf("resumed: a counts %d, b %d", a, b)
			}
			d.is(p, "b", "resumed")
			if left := d.orphans(); len(left) > 0 {
				d.Errorf("%v is to be stopped", left)
			}
		},
		"it does not jump back when its server returns": func(d *desk, p *Playback) {
			d.wait(time.Second).poll("a", report)
			d.set(Down, "a")
			d.arrives(d.setsOut(p, "b", Resumed))
			d.set(In, "a")
			for range 3 {
				d.tick(5*time.Second).poll("a", report)
				d.l.Seen(d.server("a"), report, d.now)
				d.is(p, "b", "while a still lists it")
			}
			if got := d.ok(start(web(1))); got != "b" {
				d.Errorf("a seek goes to %s", got)
			}
		},
		"what has it elsewhere is found there": func(d *desk, p *Playback) {
			before := d.l.Resumptions()
			d.l.Found(p, d.server("c"), "tsid-1", CPU, LostSession, d.now)
			d.is(p, "c", "found")
			d.wants("a", 0, "found")
			d.wants("c", 2, "found")
			v, _ := d.l.Explain("tsid-1")
			if v.State != Confirmed || v.Work != CPU || v.Why.Reason != Adopted || !d.l.ResumedSince(p, before) {
				d.Errorf("it is seen as %+v", v)
			}
			d.wait(time.Second).poll("c", Report{ID: "tsid-1", Work: GPU}, Report{ID: "other", Work: GPU})
			d.wants("c", 2, "reported")
			before = d.l.Resumptions()
			d.l.Found(p, d.server("c"), "tsid-1", CPU, LostSession, d.now)
			if d.l.ResumedSince(p, before) {
				d.Error("where it is, it is found anew")
			}
		},
		"who was forgotten is not found": func(d *desk, p *Playback) {
			d.l.Forget("tsid-1", d.now)
			d.l.Found(p, d.server("c"), "tsid-1", GPU, LostSession, d.now)
			d.wants("c", 1, "in the end")
			if n, _ := d.l.Len(); n != 0 {
				d.Errorf("%d playbacks", n)
			}
		},
		"one that is over is not resumed": func(d *desk, p *Playback) {
			d.stopped(web(1))
			if d.l.Resume(p, "") != nil || d.l.Lose(p, d.now) || d.l.Lost(p) {
				d.Error("it is resumed, or lost")
			}
			d.l.Forget("tsid-1", d.now)
			if d.l.Resume(p, "") != nil || d.l.Lose(p, d.now) || d.l.Lost(p) {
				d.Error("forgotten, it is resumed, or lost")
			}
			if _, goesOn := d.l.ServerOf(p); goesOn {
				d.Error("it goes on")
			}
		},
		"one that is lost is lost once": func(d *desk, p *Playback) {
			if d.l.Lost(p) || !d.l.Lose(p, d.now) || d.l.Lose(p, d.now) || !d.l.Lost(p) {
				d.Error("it is not lost, or twice")
			}
			if got := d.l.Totals(); got != (Totals{Lost: 1}) {
				d.Errorf("the totals are %+v", got)
			}
			if v, _ := d.l.Explain("tsid-1"); !v.Ended || d.l.Resume(p, "") != nil || d.l.Movable(p) {
				d.Error("it goes on")
			}
			d.wants("a", 0, "in the end")
		},
		"a lost one that its client starts again goes on": func(d *desk, p *Playback) {
			d.l.Lose(p, d.now)
			d.tick(time.Second)
			if v, _ := d.l.Explain("tsid-1"); !v.Lost {
				d.Error("it is not seen as lost")
			}
			if got := d.play(Query{IDs: web(1)}); got != "a" {
				d.Errorf("it goes to %s", got)
			}
			if v, _ := d.l.Explain("tsid-1"); v.Ended || v.Lost || d.l.Lost(p) || d.l.Resume(p, "") == nil {
				d.Error("it is over, or lost still")
			}
			d.wants("a", 1, "in the end")
			if !d.l.Lose(p, d.now) || d.l.Totals().Lost != 2 {
				d.Error("it cannot be lost again")
			}
		},
		"also where another server takes it": func(d *desk, p *Playback) {
			d.l.Lose(p, d.now)
			d.tick(time.Second).set(Down, "a")
			if got := d.play(Query{IDs: web(1)}); got != "b" || d.l.Lost(p) {
				d.Errorf("it goes to %s, lost: %v", got, d.l.Lost(p))
			}
			d.is(p, "b", "in the end")
			d.wants("b", 1, "in the end")
		},
		"and one that another balancer has begun": func(d *desk, p *Playback) {
			d.l.Lose(p, d.now)
			d.l.Found(p, d.server("b"), "tsid-1", GPU, LostSession, d.now)
			if d.l.Lost(p) || d.l.Resume(p, "") == nil {
				d.Error("it is lost still")
			}
			d.is(p, "b", "in the end")
			d.wants("b", 1, "in the end")
		},
		"the late answer to its start does not bring a lost one back": func(d *desk, p *Playback) {
			q := start(web(1))
			h, _, _ := d.open(&q)
			d.wait(time.Second)
			d.l.Lose(p, d.now)
			d.l.Settle(&q, &h, Accepted, d.now)
			if !d.l.Lost(p) || d.l.Resume(p, "") != nil {
				d.Error("it goes on")
			}
		},
		"for some seconds it is just resumed": func(d *desk, p *Playback) {
			if !d.l.Missing(p, false, d.now) {
				d.Error("before it is")
			}
			d.arrives(d.setsOut(p, "a", Pinned))
			if !d.l.Missing(p, true, d.now) {
				d.Error("though its server can be asked")
			}
			if d.l.Missing(p, false, d.wait(4*time.Second).now) || !d.l.Missing(p, false, d.wait(2*time.Second).now) {
				d.Error("not after 4s, or after 6s still")
			}
		},
		"one whose server keeps losing it is given a rest": func(d *desk, p *Playback) {
			for n := range 10 {
				if got, want := d.l.Again(p, d.wait(time.Second).now), n < mostResumptions; got != want {
					d.Errorf("time %d: %v", n, got)
				}
			}
			if !d.l.Again(p, d.wait(time.Minute).now) {
				d.Error("not a minute later")
			}
		},
		"a server's word that it has the session stands for a moment": func(d *desk, p *Playback) {
			d.l.Present(p, d.now)
			if d.l.Missing(p, false, d.now) || !d.l.Missing(p, false, d.wait(2*time.Second).now) {
				d.Error("it does not")
			}
		},
		"a file that is played as it is has no start": func(d *desk, _ *Playback) {
			q := decision(web(2))
			h, _, _ := d.open(&q)
			d.l.Decided(&h, None, d.now)
			d.l.Keep(&h, true, memo(1))
			d.l.Settle(&q, &h, Accepted, d.now)
			if r := d.l.Resume(h.Playback(), ""); !r.Direct || r.Start != nil {
				d.Errorf("it is resumed as %+v", r)
			}
			q = decision(web(3))
			q.Work = None
			undecided := d.on("a", q, Accepted)
			if r := d.l.Resume(undecided, ""); r.Direct {
				d.Error("one whose decision nobody has read is played as it is")
			}
		},
		"not if its device plays something else, begun past here": func(d *desk, p *Playback) {
			d.wait(time.Second).poll("c", Report{ID: "past", Client: "cid-1", Work: GPU})
			if d.l.Resume(p, "") != nil {
				d.Error("it is resumed, which would end that")
			}
			m, _ := d.l.Mover("xsi-1", nil)
			if d.l.Move(m) != nil {
				d.Error("it is moved, which would end that")
			}
			for range 3 {
				d.wait(5 * time.Second).poll("c")
			}
			if d.l.Resume(p, "") == nil {
				d.Error("when that is over, it is not resumed")
			}
		},
		"but not for what its device left behind, or somebody else plays": func(d *desk, p *Playback) {
			d.wait(time.Second).poll("a", report, Report{ID: "theirs", Client: "cid-2", Work: GPU})
			d.carry(p, "b")
			d.wait(time.Second).poll("a", report)
			if d.l.Resume(p, "") == nil {
				d.Error("it is not resumed")
			}
			d.poll("c", Report{ID: "\x00session 1", Client: "cid-1"})
			if d.l.Resume(p, "") == nil {
				d.Error("it is not resumed, for some direct play")
			}
		},
		"nor for what its device played before it": func(d *desk, _ *Playback) {
			d.poll("a", Report{ID: "past", Client: "cid-9", Work: GPU})
			d.wait(time.Second)
			if p := d.watch("a", web(9)); d.l.Resume(p, "") == nil {
				d.Error("it is not resumed")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true}, named(1, 1, 1)...)
			d.poll("c", Report{ID: "other", Work: GPU})
			tell(d, d.watch("a", web(1)))
			check(t, d.l)
		})
	}
}

// As with new ones, while enough servers are left.
func TestAServerWhereStartsFailResumesNothing(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(1, 1, 1, 1)...)
	d.poll("c", Report{ID: "other", Work: GPU})
	d.poll("d", Report{ID: "yet another", Work: GPU}, Report{ID: "and one", Work: GPU})
	p := d.watch("a", web(1))
	for i := range 3 {
		d.server("b").charge(fmt.Sprint("item", i), fmt.Sprint("client", i), d.l.since(d.now))
	}
	d.chooses(d.l.Move(Mover{From: p.server, playback: p}), "c", Resumed)
	check(t, d.l)
}

// Between the choice and the end of a resumption, whose requests take seconds,
// its playback may be over or elsewhere: then what was begun for it is to be
// stopped, and nothing else touched.
func TestAResumptionThatComesTooLate(t *testing.T) {
	for name, tc := range map[string]struct {
		meanwhile func(d *desk, p *Playback)
		at        string // where it is then; empty: it is over
		moved     uint64
	}{
		"its client stopped it": {func(d *desk, p *Playback) { d.stopped(web(1)) }, "", 0},
		"an operator forgot it": {func(d *desk, p *Playback) { d.l.Forget("xsi-1", d.now) }, "", 0},
		"it was given up":       {func(d *desk, p *Playback) { d.l.Lose(p, d.now) }, "", 0},
		"it was idle for long":  {func(d *desk, p *Playback) { d.tick(5 * time.Minute) }, "", 0},
		"its client plays another film": {func(d *desk, p *Playback) {
			next := web(2)
			next.Client = "cid-1"
			d.on("a", start(next), Accepted)
		}, "", 0},
		"another resumption was faster":          {func(d *desk, p *Playback) { d.carry(p, "c") }, "c", 1},
		"another balancer has it":                {func(d *desk, p *Playback) { d.l.Found(p, d.server("c"), "tsid-1", GPU, LostSession, d.now) }, "c", 0},
		"its client's start moved it":            {func(d *desk, p *Playback) { d.set(Down, "a", "b"); d.ok(start(web(1))); d.set(In, "a", "b") }, "c", 0},
		"its client stopped it where it went":    {func(d *desk, p *Playback) { d.carry(p, "c"); d.stopped(web(1)) }, "", 1},
		"it was given up and its server is gone": {func(d *desk, p *Playback) { d.l.Lose(p, d.now); d.set(Down, "a") }, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true}, named(1, 1, 1)...)
			p := d.watch("a", web(1))
			r := d.l.Move(Mover{From: d.server("a"), To: d.server("b"), playback: p})
			d.chooses(r, "b", Resumed)
			tc.meanwhile(d, p)
			if d.l.Resumed(r, d.now) {
				t.Error("it is resumed")
			}
			if got := d.l.Totals().Moved; got != tc.moved {
				t.Errorf("%d moves are counted, want %d", got, tc.moved)
			}
			if tc.at != "" {
				d.is(p, tc.at, "in the end")
			}
			var left []Orphan
			for range 5 {
				left = append(left, d.orphans()...)
			}
			if n := len(slices.DeleteFunc(left, func(o Orphan) bool { return o != Orphan{d.server("b"), "tsid-1"} })); n != 1 {
				t.Errorf("what it began on b is stopped %d times", n)
			}
			d.tick(31 * time.Second)
			d.wants("b", 0, "in the end")
			check(t, d.l)
		})
	}
	t.Run("two that agree", func(t *testing.T) {
		d := newDesk(t, Settings{Replicated: true}, named(1, 1, 1)...)
		p := d.watch("a", web(1))
		move := func() *Resumption {
			r := d.l.Move(Mover{From: d.server("a"), To: d.server("b"), playback: p})
			d.chooses(r, "b", Resumed)
			return r
		}
		one, two := move(), move()
		d.arrives(one)
		d.arrives(two)
		d.wants("b", 1, "in the end")
		if left := d.orphans(); len(left) != 1 || left[0].Server != d.server("a") {
			t.Errorf("%v is to be stopped", left)
		}
		if v, _ := d.l.Explain("tsid-1"); v.Moves != 1 || d.l.Totals().Moved != 1 {
			t.Errorf("%d moves, %+v", v.Moves, d.l.Totals())
		}
		check(t, d.l)
	})
}

// With libraries of their own, ids mean something else on every server.
func TestSeparateServersResumeOnlyTheirOwn(t *testing.T) {
	for name, tell := range map[string]func(d *desk, p *Playback){
		"where it is": func(d *desk, p *Playback) {
			d.poll("a")
			d.arrives(d.setsOut(p, "a", Pinned))
			d.is(p, "a", "resumed")
		},
		"and nowhere while that is away": func(d *desk, p *Playback) {
			d.set(Down, "a")
			d.setsOut(p, "", ServerGone)
			d.wants("b", 0, "chosen")
			d.set(In, "a")
			d.arrives(d.setsOut(p, "a", Pinned))
		},
		"nor where an operator wants it": func(d *desk, p *Playback) {
			m, ok := d.l.Mover("xsi-1", d.server("b"))
			if r := d.l.Move(m); !ok || r == nil {
				d.Error("it has no mover")
			} else {
				d.chooses(r, "", ServerGone)
			}
			m, _ = d.l.Mover("xsi-1", nil)
			d.chooses(d.l.Move(m), "", ServerGone)
			d.wants("b", 0, "chosen")
			if d.l.Movable(p) {
				d.Error("it can be moved")
			}
		},
		"so that it is lost": func(d *desk, p *Playback) {
			d.set(Down, "a")
			d.setsOut(p, "", ServerGone)
			if !d.l.Lose(p, d.now) || !d.l.Lost(p) {
				d.Error("it is not lost")
			}
			if got, reason := d.do(visit("cid-1"), Accepted); got != "b" || reason != ServerLost {
				d.Errorf("its client looks around on %q: %v", got, reason)
			}
			if v := d.view("a"); v.Load != 0 || v.Idle != 0 {
				d.Errorf("a has load %v", v.Load)
			}
			if got := d.ok(start(IDs{"tsid-2", "xsi-2", "", "cid-1"})); got != "b" {
				d.Errorf("its client plays on %q", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{}, named(1, 1)...)
			d.on("a", visit("cid-1"), Accepted)
			tell(d, d.watch("a", web(1)))
			check(t, d.l)
		})
	}
}

// What was decided through here may have been started through another balancer,
// which is wiser.
func TestAPlaybackFollowsTheReportOfItsStart(t *testing.T) {
	report := Report{ID: "tsid-1", Client: "cid-1", Session: "xsi-1", Work: GPU}
	for name, tc := range map[string]struct {
		ids  IDs
		tell func(d *desk, p *Playback)
		want string
	}{
		"decided here and started elsewhere": {web(1), func(d *desk, p *Playback) {}, "b"},
		"decided twice": {web(1), func(d *desk, p *Playback) {
			d.on("a", decision(web(1)), Accepted)
		}, "b"},
		"started here": {web(1), func(d *desk, p *Playback) {
			d.on("a", start(web(1)), Accepted)
		}, "a"},
		"its own server has reported it": {web(1), func(d *desk, p *Playback) {
			d.poll("a", report)
		}, "a"},
		"it is over": {web(1), func(d *desk, p *Playback) {
			d.stopped(web(1))
		}, "a"},
		"carried here after it began": {web(1), func(d *desk, p *Playback) {
			d.on("a", start(web(1)), Accepted)
			d.carry(p, "b")
			d.carry(p, "a")
		}, "a"},
		"found elsewhere": {web(1), func(d *desk, p *Playback) {
			d.l.Found(p, d.server("c"), "tsid-1", GPU, LostSession, d.now)
		}, "c"},
		"a device that uses its id for all it plays": {kodi(1), func(d *desk, p *Playback) {}, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true}, named(1, 1, 1)...)
			p := d.on("a", decision(tc.ids), Accepted)
			if d.l.BegunBefore(p, d.now.Add(time.Hour)) {
				t.Error("it has begun before it was started")
			}
			tc.tell(d, p)
			r := report
			r.ID = tc.ids.Transcode
			d.wait(time.Second).poll("b", r)
			d.wait(time.Second).poll("b", r)
			d.is(p, tc.want, "reported by b")
			d.wants("b", 1, "reported by b")
			if _, goesOn := d.l.ServerOf(p); goesOn && tc.want != "b" {
				d.wants(tc.want, 1, "reported by b")
			}
			if tc.want == "b" {
				d.wants("a", 0, "reported by b")
			}
			check(t, d.l)
		})
	}
	t.Run("but not one of direct play, which any primary may list", func(t *testing.T) {
		d := newDesk(t, Settings{Replicated: true}, named(1, 1)...)
		p := d.on("a", decision(web(1)), Accepted)
		r := report
		r.Work = None
		d.wait(time.Second).poll("b", r)
		d.is(p, "a", "reported by b")
		check(t, d.l)
	})
}

func TestRequestsAreKeptForResumptions(t *testing.T) {
	const mib = 1 << 20
	// kept says which of the playbacks named by their number can be resumed.
	kept := func(d *desk, n int) (list []int) {
		for i := range n {
			if p := d.l.PlaybackOf(fmt.Sprint("tsid-", i)); p != nil && d.l.Origin(p) != nil {
				list = append(list, i)
			}
		}
		return list
	}
	// keep has a playback's start kept.
	keep := func(d *desk, i int, r Request) {
		q := follow(web(i))
		h, _, _ := d.open(&q)
		d.l.Keep(&h, false, r)
		d.l.Settle(&q, &h, Accepted, d.now)
	}
	wants := func(d *desk, n int, want ...int) {
		d.Helper()
		if got := kept(d, n); !slices.Equal(got, want) {
			d.Errorf("kept are %v, want %v", got, want)
		}
		if d.l.keeps > maxKept {
			d.Errorf("%d bytes are kept", d.l.keeps)
		}
	}
	for name, tell := range map[string]func(d *desk){
		"the latest of each kind": func(d *desk) {
			p := d.watch("a", web(1))
			keep(d, 1, memo(700))
			if r := d.l.Resume(p, ""); r.Decision != memo(len("xsi-1")) || r.Start != memo(700) || d.l.keeps != 700+len("xsi-1") {
				d.Errorf("%d bytes are kept: %+v", d.l.keeps, r)
			}
			keep(d, 1, memo(20))
			if r := d.l.Resume(p, ""); r.Start != memo(20) || d.l.keeps != 20+len("xsi-1") {
				d.Errorf("%d bytes are kept: %+v", d.l.keeps, r)
			}
			d.l.Forget("tsid-1", d.now)
			if d.l.keeps != 0 || d.l.Origin(p) != nil {
				d.Errorf("%d bytes are kept for nobody", d.l.keeps)
			}
		},
		"not for what is forgotten meanwhile": func(d *desk) {
			q := start(web(1))
			h, _, _ := d.open(&q)
			p := h.Playback()
			d.l.Forget("tsid-1", d.now)
			d.l.Keep(&h, false, memo(700))
			d.l.Settle(&q, &h, Accepted, d.now)
			if d.l.keeps != 0 || d.l.Origin(p) != nil {
				d.Errorf("%d bytes are kept", d.l.keeps)
			}
		},
		"not for what no server accepts": func(d *desk) {
			q := start(web(1))
			h, _, _ := d.open(&q)
			d.l.Keep(&h, false, memo(700))
			d.l.Settle(&q, &h, Rejected, d.now)
			if d.l.keeps != 0 {
				d.Errorf("%d bytes are kept", d.l.keeps)
			}
		},
		"not from somebody else": func(d *desk) {
			p := d.on("a", Query{IDs: web(1), Role: Stream, Begins: true}, Rejected)
			if p != nil && d.l.Origin(p) != nil {
				d.Error("a rejected file is kept")
			}
			p = d.watch("a", web(1))
			was := *d.l.Resume(p, "")
			q := start(IDs{Transcode: "tsid-1", Session: "xsi-1", Client: "stranger"})
			h, _, _ := d.open(&q)
			if h.Playback() != nil {
				d.Error("a stranger holds the playback")
			}
			d.l.Keep(&h, false, memo(700))
			d.l.Settle(&q, &h, Accepted, d.now)
			if is := d.l.Resume(p, ""); is.Start != was.Start || is.Decision != was.Decision {
				d.Errorf("it was kept as %+v, and is as %+v", was, is)
			}
		},
		"until there are too many; the idlest lose theirs first": func(d *desk) {
			for i := range 70 {
				d.wait(2 * time.Second).play(Query{IDs: web(i)})
				keep(d, i, memo(mib))
				if i == 63 && len(kept(d, 70)) != 64 {
					d.Errorf("of %d MiB, %d are kept", maxKept/mib, len(kept(d, 70)))
				}
			}
			var want []int
			for i := 10; i < 70; i++ { // each that is too much makes room for some more
				want = append(want, i)
			}
			wants(d, 70, want...)
		},
		"however large one is, the others lose theirs": func(d *desk) {
			for i := range 4 {
				d.wait(2 * time.Second).play(Query{IDs: web(i)})
				keep(d, i, memo(20*mib))
			}
			wants(d, 4, 1, 2, 3)
			keep(d, 1, memo(50*mib)) // which makes it the only one
			wants(d, 4, 1)
		},
		"one that lost its own is resumed without": func(d *desk) {
			for i := range 2 {
				d.wait(2 * time.Second).play(Query{IDs: web(i)})
				keep(d, i, memo(40*mib))
			}
			wants(d, 2, 1)
			p := d.l.PlaybackOf("tsid-0")
			if r := d.l.Resume(p, ""); r == nil || r.Start != nil || r.Decision != nil || d.l.Movable(p) {
				d.Errorf("it is resumed as %+v", r)
			}
			keep(d, 0, memo(1))
			wants(d, 2, 0, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true, Idle: time.Hour}, named(1)...)
			tell(d)
			check(t, d.l)
		})
	}
}

// What a server still runs under the id of a playback is not always the
// playback.
func TestWhatWasLeftBehindIsNotThePlayback(t *testing.T) {
	for name, tc := range map[string]struct {
		happens func(d *desk, former *Playback)
		stale   []string
	}{
		"its server was found down by the start": {func(d *desk, _ *Playback) {
			q := start(kodi(1), Query{Item: "/library/metadata/2"})
			h := d.l.Find(&q, d.now)
			d.wait(100*time.Millisecond).set(Down, "a")
			d.l.Place(&q, &h, d.pool, d.now)
			d.l.Settle(&q, &h, Accepted, d.now)
		}, []string{"a"}},
		"its server could not be told that it is over": {func(d *desk, _ *Playback) {
			d.set(Down, "a")
			q := follow(kodi(1))
			h := d.l.Find(&q, d.now)
			d.l.LeaveBehind(&h, d.now)
			d.l.Stopped(&q, d.now)
			d.l.Settle(&q, &h, Accepted, d.now)
			d.wait(time.Second).play(Query{IDs: kodi(1), Item: "/library/metadata/2"})
		}, []string{"a"}},
		"its server was lost after the start": {func(d *desk, p *Playback) {
			d.set(Down, "a")
			d.wait(time.Second).l.Resumed(d.setsOut(p, "b", Resumed), d.now)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true, Primary: "a"}, named(1, 1)...)
			former := d.watch("a", kodi(1))
			tc.happens(d.wait(time.Second), former)
			p := d.l.PlaybackOf("kodi-1")
			if s, _ := d.l.ServerOf(p); s.Name() != "b" {
				t.Fatalf("it is on %s, want b", s.Name())
			}
			var stale []string
			for _, s := range d.l.Stale(p) {
				stale = append(stale, s.Name())
			}
			if !slices.Equal(stale, tc.stale) {
				t.Errorf("not to be asked for it are %q, want %q", stale, tc.stale)
			}
		})
	}
}

// A device that plays something else by now has left the former playback. What
// it left itself on a server that was away is nothing else.
func TestWhatWasLeftBehindReplacesNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		left     string // what the server that was away runs
		replaced bool
	}{
		"its own of before":                     {"tsid-0", false},
		"its former playback, forgotten by now": {"tsid-8", false},
		"something begun through somebody else": {"tsid-9", true},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true, Primary: "a"}, named(1, 1)...)
			d.watch("a", IDs{Transcode: "tsid-8", Session: "xsi-8", Client: "cid-1"})
			d.wait(time.Second).l.Forget("xsi-8", d.now)
			ids := web(1)
			ids.Transcode = "tsid-0"
			p := d.watch("a", ids)
			d.wait(time.Second).set(Down, "a")
			d.l.Resumed(d.setsOut(p, "b", Resumed), d.now)
			for n := range 4 { // more than a playback remembers
				ids.Transcode = fmt.Sprint("quality-", n)
				d.wait(time.Second).watch("b", ids)
			}
			d.wait(time.Second).set(In, "a")
			d.poll("a", Report{ID: tc.left, Client: ids.Client, Work: GPU})
			if replaced := d.l.Resume(p, "") == nil; replaced != tc.replaced {
				t.Errorf("it counts as replaced: %v, want %v", replaced, tc.replaced)
			}
		})
	}
}

// What a resumption may have begun that was given up on the way is stopped.
func TestAForsakenResumptionLeavesNothingRunning(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true, Primary: "a"}, named(1, 1)...)
	p := d.watch("a", kodi(1))
	d.wait(time.Second).set(Down, "a")
	d.setsOut(p, "b", Resumed).Forsaken(d.l, d.now)
	if got, want := d.orphans(), []Orphan{{d.server("b"), "kodi-1"}}; !slices.Equal(got, want) {
		t.Errorf("%v are to be stopped, want %v", got, want)
	}
	if s, goesOn := d.l.ServerOf(p); s.Name() != "a" || !goesOn {
		t.Errorf("the playback is on %s and goes on: %v", s.Name(), goesOn)
	}
	check(t, d.l)
}
