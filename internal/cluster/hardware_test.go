package cluster

import (
	"fmt"
	"testing"
	"time"
)

// plays places a transcode, and has its server list it.
func (d *desk) plays(n int, r Report) string {
	d.Helper()
	ids := IDs{Transcode: fmt.Sprint("t", n), Session: fmt.Sprint("s", n), Client: fmt.Sprint("c", n)}
	name := d.play(Query{IDs: ids})
	r.ID, r.Session, r.Client = ids.Transcode, ids.Session, ids.Client
	d.l.Seen(d.server(name), r, d.wait(time.Second).now)
	return name
}

func TestAServerWithoutHardwareIsTakenForOne(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(1)...)
	for n := range 2 {
		d.plays(n, Report{Work: CPU})
	}
	if ids := (IDs{Transcode: "x", Client: "x"}); d.play(Query{IDs: ids}) != "a" || d.view("a").Jobs != [4]int{GPU: 1, CPU: 2} {
		t.Fatalf("after two without: %v", d.view("a").Jobs)
	}
	d.l.Forget("x", d.now)
	d.plays(2, Report{Work: CPU})

	// As it is placed, decided, and listed for the first time.
	q := decision(IDs{Transcode: "y", Session: "y", Client: "y"})
	h, _, _ := d.open(&q)
	want := [4]int{CPU: 4}
	if got := d.view("a").Jobs; got != want {
		t.Errorf("placed: %v", got)
	}
	if v, _ := d.l.Explain("y"); v.Why.Table[0].Cost != float32(DefaultCosts.CPU) {
		t.Errorf("it is said to cost %v", v.Why.Table[0].Cost)
	}
	d.l.Decided(&h, GPU, d.now)
	d.l.Settle(&q, &h, Accepted, d.now)
	if got := d.view("a").Jobs; got != want {
		t.Errorf("decided: %v", got)
	}
	d.l.Seen(d.server("a"), Report{ID: "y", Work: GPU, Young: true}, d.now)
	if got := d.view("a").Jobs; got != want {
		t.Errorf("young: %v", got)
	}
	d.l.Seen(d.server("a"), Report{ID: "past", Work: GPU, Young: true}, d.now)
	if got := d.view("a").Jobs; got != [4]int{CPU: 5} {
		t.Errorf("young, from past the balancer: %v", got)
	}

	// One that has hardware ends the guess.
	d.l.Seen(d.server("a"), Report{ID: "y", Work: GPU}, d.now)
	d.play(Query{IDs: IDs{Transcode: "z", Client: "z"}})
	if got := d.view("a").Jobs; got != [4]int{CPU: 4, GPU: 2} {
		t.Errorf("in the end: %v", got)
	}
	check(t, d.l)
}

// The more a transcode costs there, the sooner another server is the roomier.
func TestAServerWithoutHardwareGetsWhatItCostsThere(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(2, 1)...)
	d.set(Down, "a")
	for n := range 3 {
		d.plays(n, Report{Work: CPU})
	}
	d.set(Down, "b")
	d.set(In, "a")
	for n := range 10 {
		d.plays(10+n, Report{Work: GPU})
	}
	d.set(In, "b")
	for n := range 3 {
		d.l.Forget(fmt.Sprint("t", n), d.now)
	}
	for range 3 {
		d.wait(5 * time.Second).poll("b")
	}
	for n := range 3 {
		d.plays(20+n, Report{Work: GPU, Young: true}) // the third would make b as full as 6, and makes a as full as 5.5
	}
	if a, b := d.view("a"), d.view("b"); a.Load != 11 || b.Load != 4 {
		t.Errorf("a has %v, b has %v", a.Load, b.Load)
	}
	check(t, d.l)
}

func TestACarriedTranscodeIsWhatItsNewServerMakesOfIt(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(1, 1)...)
	d.set(Down, "a")
	for n := range 3 {
		d.plays(n, Report{Work: CPU})
	}
	d.set(In, "a")
	d.play(Query{IDs: IDs{Transcode: "x", Session: "x", Client: "x"}})
	d.set(Down, "a")
	r := d.setsOut(d.l.PlaybackOf("x"), "b", Resumed)
	r.Decided(d.l, GPU, d.now)
	d.arrives(r)
	if got := d.view("b").Jobs; got != [4]int{CPU: 4} {
		t.Errorf("b has %v", got)
	}
	check(t, d.l)
}

func TestTheSameTranscodeProvesNothingTwice(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(1)...)
	d.plays(0, Report{Work: CPU})
	for range 5 {
		d.wait(5*time.Second).poll("a", Report{ID: "t0", Session: "s0", Client: "c0", Work: CPU})
	}
	d.plays(1, Report{Work: CPU})
	d.play(Query{IDs: IDs{Transcode: "x", Client: "x"}})
	if got := d.view("a").Jobs; got != [4]int{GPU: 1, CPU: 2} {
		t.Errorf("%v", got)
	}
}

// Some have hardware for so many at once. How many is learned from those that
// found none, and as soon as one ends the next is taken to find some.
func TestHardwareForSoManyAtOnceIsLearned(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(1)...)
	taken := func(when string, want Work) {
		t.Helper()
		ids := IDs{Transcode: "x", Session: "x", Client: "x"}
		q := decision(ids)
		h, _, _ := d.open(&q)
		d.l.Decided(&h, GPU, d.now)
		d.l.Settle(&q, &h, Accepted, d.now)
		d.ok(start(ids))
		if v, _ := d.l.Explain("x"); v.Work != want {
			t.Errorf("%s, the next is taken for %v, want %v", when, v.Work, want)
		}
		d.l.Forget("x", d.now)
	}
	end := func(id string) {
		d.l.Stopped(&Query{IDs: IDs{Transcode: id}, Role: Follow}, d.now)
	}
	for n := range 5 {
		work := GPU
		if n >= 2 {
			work = CPU
		}
		d.plays(n, Report{Work: work})
	}
	taken("with two in hardware", CPU)
	end("t0")
	taken("with one of them over", GPU)
	d.plays(5, Report{Work: GPU})
	taken("with two again", CPU)
	d.plays(6, Report{Work: GPU})
	taken("with three, of which nobody knew", GPU)
	check(t, d.l)
}

// Where a transcode is booked already, it takes no hardware from itself.
func TestTheLastOneThatHasHardwareIsNotTakenForOneWithout(t *testing.T) {
	for name, again := range map[string]func(d *desk){
		"it seeks": func(d *desk) {
			q := start(IDs{Transcode: "t0", Session: "s0", Client: "c0"})
			h, _, _ := d.open(&q)
			d.l.Decided(&h, GPU, d.now)
			d.l.Settle(&q, &h, Accepted, d.now)
		},
		"its server has lost it, and tells no more than that it transcodes": func(d *desk) {
			for n := range 3 {
				r := d.setsOut(d.l.PlaybackOf(fmt.Sprint("t", n)), "a", Pinned)
				r.Decided(d.l, GPU, d.now)
				d.arrives(r)
				id := fmt.Sprint(n)
				d.l.Seen(d.server("a"), Report{ID: "t" + id, Session: "s" + id, Client: "c" + id, Work: GPU, Young: true}, d.now)
			}
		},
		"it is carried to where the last place is": func(d *desk) {
			d.l.Stopped(&Query{IDs: IDs{Transcode: "t0"}, Role: Follow}, d.now)
			d.set(Down, "a")
			d.play(Query{IDs: IDs{Transcode: "x", Session: "x", Client: "x"}})
			d.set(In, "a")
			d.set(Down, "b")
			r := d.setsOut(d.l.PlaybackOf("x"), "a", Resumed)
			r.Decided(d.l, GPU, d.now)
			d.arrives(r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true}, named(1, 1)...)
			d.set(Down, "b")
			for n := range 6 {
				work := GPU
				if n >= 3 {
					work = CPU
				}
				d.plays(n, Report{Work: work})
			}
			d.set(In, "b")
			again(d)
			if got := d.view("a").Jobs; got != [4]int{GPU: 3, CPU: 3} {
				t.Errorf("it has %v", got)
			}
			check(t, d.l)
		})
	}
}

// What is booked is what the next lesson is learned from.
func TestHowManyHaveHardwareIsNotLearnedTooLow(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(1)...)
	for n := range 5 {
		work := GPU
		if n >= 2 {
			work = CPU
		}
		d.plays(n, Report{Work: work})
	}
	d.l.Stopped(&Query{IDs: IDs{Transcode: "t0"}, Role: Follow}, d.now)
	q := decision(IDs{Transcode: "x", Session: "x", Client: "x"})
	h, _, _ := d.open(&q)
	d.l.Decided(&h, GPU, d.now)
	d.l.Settle(&q, &h, Accepted, d.now)
	d.plays(5, Report{Work: CPU})
	if got := d.server("a").aided; got != 2 {
		t.Errorf("it is taken to have hardware for %d, want 2", got)
	}
}
