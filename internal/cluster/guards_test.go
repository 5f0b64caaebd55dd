package cluster

import (
	"fmt"
	"testing"
	"time"
)

// film is a start of an item by a client.
func film(n int, item string) Query {
	q := start(web(n))
	q.Item = item
	return q
}

// failOn makes n starts fail on server a.
func failOn(d *desk, n int, item, client func(i int) string) {
	d.set(Down, "b", "c")
	for i := range n {
		q := film(1000+i, item(i))
		q.Client = client(i)
		if at, _ := d.do(q, Failed); at != "a" {
			d.Fatalf("start %d is on %q", i, at)
		}
	}
	d.set(In, "b", "c")
}

func TestShunning(t *testing.T) {
	each := func(what string) func(int) string { return func(i int) string { return fmt.Sprint(what, i) } }
	same := func(what string) func(int) string { return func(int) string { return what } }
	for name, tc := range map[string]struct {
		tell func(d *desk)
		want bool
	}{
		"several items of several clients":        {func(d *desk) { failOn(d, 3, each("i"), each("c")) }, true},
		"one poison item of many clients":         {func(d *desk) { failOn(d, 30, same("i"), each("c")) }, false},
		"one odd client with many items":          {func(d *desk) { failOn(d, 30, each("i"), same("c")) }, false},
		"two items of two clients":                {func(d *desk) { failOn(d, 2, each("i"), each("c")) }, false},
		"one item among failures of many clients": {func(d *desk) { failOn(d, 30, func(i int) string { return fmt.Sprint(i % 2) }, each("c")) }, false},
		"a start that works clears it": {func(d *desk) {
			d.set(Down, "b", "c")
			d.play(Query{IDs: web(5)})
			failOn(d, 3, each("i"), each("c"))
			d.ok(start(web(5)))
		}, false},
		"failures are forgotten": {func(d *desk) {
			failOn(d, 3, each("i"), each("c"))
			d.tick(61 * time.Second)
		}, false},
		"failures that another server made up for count": {func(d *desk) {
			for i := range 3 {
				q := film(i, fmt.Sprint(i))
				d.set(Down, "b", "c")
				h, _, _ := d.open(&q)
				d.set(In, "b", "c")
				d.set(Tried, "a")
				d.l.Place(&q, &h, d.pool, d.now)
				d.l.Settle(&q, &h, Accepted, d.now)
				d.set(In, "a")
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true}, named(100, 1, 1)...)
			tc.tell(d)
			if got := d.view("a").Shunned; got != tc.want {
				t.Errorf("shunned: %v, want %v", got, tc.want)
			}
			if got := d.ok(start(web(9999))); (got != "a") != tc.want {
				t.Errorf("the next start goes to %s", got)
			}
			check(t, d.l)
		})
	}
	t.Run("but not when too few would be left", func(t *testing.T) {
		d := newDesk(t, Settings{Replicated: true}, named(100, 1, 1)...)
		failOn(d, 3, each("i"), each("c"))
		d.set(Down, "b")
		if got := d.ok(start(web(9999))); got != "a" {
			t.Errorf("with one of three left, the next start goes to %s", got)
		}
	})
}

func limited(limits ...int) []ServerSettings {
	list := named(make([]float64, len(limits))...)
	for i, n := range limits {
		list[i].MaxTranscodes = n
	}
	return list
}

func TestFullServers(t *testing.T) {
	fill := func(d *desk, name string, n int, w Work) {
		for i := range n {
			d.l.Seen(d.server(name), Report{ID: fmt.Sprint(name, w, i), Work: w}, d.now)
		}
	}
	for name, tc := range map[string]struct {
		set    Settings
		tell   func(d *desk)
		want   string
		reason Reason
	}{
		"a full one is passed over": {Settings{Replicated: true}, func(d *desk) { fill(d, "a", 1, GPU); fill(d, "b", 2, GPU) }, "b", LeastLoad},
		"software transcodes count": {Settings{Replicated: true}, func(d *desk) { fill(d, "a", 1, CPU); fill(d, "b", 2, GPU) }, "b", LeastLoad},
		"remuxes do not":            {Settings{Replicated: true}, func(d *desk) { fill(d, "a", 5, Copy); fill(d, "b", 1, GPU) }, "a", LeastLoad},
		"reservations count": {Settings{Replicated: true}, func(d *desk) {
			d.set(Down, "b")
			d.do(start(web(7)), Accepted)
			d.set(In, "b")
			fill(d, "b", 2, GPU)
		}, "b", LeastLoad},
		"when all are full, the least loaded takes one more": {Settings{Replicated: true}, func(d *desk) { fill(d, "a", 1, GPU); fill(d, "b", 3, GPU) }, "a", Overflow},
		"or nobody does": {Settings{Replicated: true, Reject: true}, func(d *desk) { fill(d, "a", 1, GPU); fill(d, "b", 3, GPU) }, "", AllFull},
		"one that is down does not count as room": {Settings{Replicated: true, Reject: true}, func(d *desk) {
			fill(d, "a", 1, GPU)
			d.set(Down, "b")
		}, "", AllFull},
		"a client's full server takes one more": {Settings{}, func(d *desk) {
			d.set(Down, "b")
			d.ok(visit("cid-1"))
			d.set(In, "b")
			fill(d, "a", 1, GPU)
		}, "a", ClientServer},
		"or refuses": {Settings{Reject: true}, func(d *desk) {
			d.set(Down, "b")
			d.ok(visit("cid-1"))
			d.set(In, "b")
			fill(d, "a", 1, GPU)
		}, "", AllFull},
		"but not what takes the place of its own": {Settings{Reject: true}, func(d *desk) {
			d.set(Down, "b")
			ids := web(8)
			ids.Client = "cid-1"
			d.play(Query{IDs: ids})
			d.set(In, "b")
		}, "a", ClientServer},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, tc.set, limited(1, 3)...)
			tc.tell(d)
			if got, reason := d.do(start(web(1)), Accepted); got != tc.want || reason != tc.reason {
				t.Errorf("it goes to %q: %v, want %q: %v", got, reason, tc.want, tc.reason)
			}
			check(t, d.l)
		})
	}
}

func TestDrainingTakesNoNewPlaybacks(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(100, 1)...)
	d.play(Query{IDs: web(1)})
	d.l.Drain(d.server("a"), true)
	if got := d.ok(follow(web(1))); got != "a" {
		t.Errorf("what plays there is sent to %s", got)
	}
	for i := range 5 {
		if got := d.ok(start(web(10 + i))); got != "b" {
			t.Errorf("a new playback goes to %q", got)
		}
	}
	d.set(Down, "b")
	if got, reason := d.do(start(web(20)), Accepted); got != "" || reason != Nowhere {
		t.Errorf("with no other left, it goes to %q: %v", got, reason)
	}
	d.l.Drain(d.server("a"), false)
	if got := d.ok(start(web(21))); got != "a" {
		t.Errorf("after that, it goes to %q", got)
	}
}

func TestServersInMaintenanceTakeNoNewPlaybacks(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(100, 1)...)
	maintain := func(names ...string) {
		for _, n := range names {
			d.l.Unread(d.server(n), "maintenance", true, d.now)
		}
	}
	maintain("a")
	if got := d.ok(start(web(1))); got != "b" {
		t.Errorf("a new playback goes to %q", got)
	}
	maintain("a", "b")
	if got := d.ok(start(web(2))); got != "a" {
		t.Errorf("where all are in maintenance, it goes to %q", got)
	}
	d.poll("b")
	if got := d.ok(start(web(3))); got != "b" {
		t.Errorf("where one of them is done, it goes to %q", got)
	}
	d.wait(maintenanceMemory + time.Second)
	if got := d.ok(start(web(4))); got != "a" {
		t.Errorf("after a while without a word, it goes to %q", got)
	}
	check(t, d.l)
}

func TestAServerThatComesBackStartsSlowly(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true, SlowStart: 30 * time.Second}, named(10, 10)...)
	weight := func() float64 {
		d.do(start(web(1)), Rejected)
		return d.server("a").weight(30*time.Second, d.l.since(d.now))
	}
	if got := weight(); got != 10 {
		t.Errorf("at first it weighs %v", got)
	}
	d.set(Down, "a")
	weight()
	d.set(In, "a")
	for step := 1; step <= 10; step++ {
		if got := weight(); got != float64(step) {
			t.Errorf("in step %d it weighs %v", step, got)
		}
		if got := d.ok(start(web(10 + step))); step < 4 && got != "b" {
			t.Errorf("in step %d it gets a playback, where another has room", step)
		}
		d.wait(3 * time.Second)
	}
	if got := weight(); got != 10 || d.server("a").returned != 0 {
		t.Errorf("in the end it weighs %v", got)
	}
}

// A transcode is on one server. One reading in which another has it too may be
// a list that went astray, and must not make that server look twice as full.
func TestTheListOfAnotherServerCountsOnlyWhenItIsRepeated(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(1, 1)...)
	theirs := []Report{{ID: "t1", Client: "c1", Session: "s1", Work: GPU}, {ID: "t2", Work: GPU}}
	d.wait(time.Second).poll("a", theirs...)
	d.play(Query{IDs: web(1)})
	ours := Report{ID: "tsid-1", Client: "cid-1", Session: "xsi-1", Work: GPU}
	d.wait(time.Second).poll("b", ours)
	d.wants("a", 2, "at first")
	d.wants("b", 1, "at first")

	d.wait(5*time.Second).poll("b", theirs...)
	d.wait(5*time.Second).poll("a", ours)
	d.wants("a", 2, "with the lists exchanged")
	d.wants("b", 1, "with the lists exchanged")
	d.wait(5*time.Second).poll("b", ours)
	d.tick(11 * time.Second)
	check(t, d.l)

	// Carried by another balancer, it is on both for a while.
	d.poll("b", ours, theirs[0])
	d.wants("b", 1, "the next time")
	d.wait(5*time.Second).poll("b", ours, theirs[0])
	d.wants("b", 2, "said twice")
	check(t, d.l)
}
