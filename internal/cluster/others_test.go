package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// strangers begins transcodes past the balancer, which are over soon.
func (d *desk) strangers(server string, n int) {
	d.poll(server)
	for range n {
		d.wait(5*time.Second).poll(server, Report{ID: fmt.Sprint("theirs-", d.now.UnixNano()), Work: GPU})
	}
	d.ended(server)
}

// ended lets all that was begun past the balancer be over.
func (d *desk) ended(server string) {
	for range missedLimit {
		d.wait(5 * time.Second).poll(server)
	}
}

// expected is what a placement was made from, of each of its candidates.
func (d *desk) expected(transcode string) map[string]float32 {
	d.Helper()
	v, ok := d.l.Explain(transcode)
	if !ok {
		d.Fatalf("%s is nowhere", transcode)
	}
	list := make(map[string]float32)
	for _, r := range v.Why.Table {
		list[r.Server.Name()] = r.Expected
		if want := (r.Load + r.Expected + r.Cost) / r.Weight; r.Score != want {
			d.Errorf("%s scores %v, want %v", r.Server.Name(), r.Score, want)
		}
	}
	return list
}

func TestNobodyElseIsExpected(t *testing.T) {
	for name, before := range map[string]func(d *desk){
		"where all comes through the balancer": func(*desk) {},
		"for what was there before it": func(d *desk) {
			var theirs []Report
			for i := range 20 {
				theirs = append(theirs, Report{ID: fmt.Sprint("theirs-", i), Work: GPU})
			}
			d.poll("a", theirs...)
			d.ended("a")
		},
		"for what went on while the server could not be read": func(d *desk) {
			var theirs []Report
			for i := range 20 {
				theirs = append(theirs, Report{ID: fmt.Sprint("theirs-", i), Work: GPU})
			}
			d.wait(5*time.Minute).poll("a", theirs...)
			d.ended("a")
		},
		"for direct play": func(d *desk) {
			for i := range 20 {
				d.poll("a", Report{ID: fmt.Sprint("\x00session ", i), Work: None, Client: fmt.Sprint("tv-", i), Session: fmt.Sprint("s-", i)})
			}
			d.ended("a")
		},
		"for what viewers have left behind": func(d *desk) {
			var left []Report
			for i := range 20 {
				d.watch("a", web(100+i))
				d.watch("b", IDs{Transcode: fmt.Sprint("next-", i), Session: fmt.Sprint("next-", i), Client: web(100 + i).Client})
				left = append(left, Report{ID: web(100 + i).Transcode, Work: GPU})
			}
			for range 60 {
				d.tick(5*time.Second).poll("a", left...)
			}
			d.wants("a", len(left), "left there")
			d.ended("a")
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true}, named(1, 1)...)
			if !strings.Contains(name, "there before") {
				d.poll("a")
			}
			before(d)
			d.play(Query{IDs: web(1)})
			for server, x := range d.expected("tsid-1") {
				if x != 0 {
					t.Errorf("on %s %v is expected", server, x)
				}
			}
		})
	}
}

// Others begin as much as the balancer itself: a server gets nothing that has
// a whole transcode more than another one of its weight, and where loads are
// closer it is a matter of chance, but the same one for a second balancer.
func TestOthersAreExpected(t *testing.T) {
	two := []*desk{newDesk(t, Settings{Replicated: true}, named(1, 1)...), newDesk(t, Settings{Replicated: true}, named(1, 1)...)}
	for _, d := range two {
		d.strangers("a", 300)
		d.now = two[0].now // both choose by what the last hour was like
	}
	for i := range 200 {
		d := two[0]
		d.poll("a", Report{ID: "one more", Work: GPU})
		d.wait(time.Second)
		if server, _ := d.do(decision(web(5000+i)), Rejected); server != "b" {
			t.Errorf("playback %d goes to %s, where one more runs", i, server)
		}
	}
	two[0].ended("a")
	on := make(map[string]int)
	for i := range 200 {
		q := Query{IDs: web(i)}
		var first string
		for n, d := range two {
			d.poll("b", Report{ID: "remux", Work: Copy})
			d.poll("a")
			server := d.play(q)
			if n == 0 {
				first = server
				on[server]++
			} else if server != first {
				t.Errorf("playback %d goes to %s and %s", i, first, server)
			}
			for name, x := range d.expected(q.Transcode) {
				if x < 0.5 || x > 2 {
					t.Errorf("on %s %v is expected", name, x)
				}
			}
			stop := follow(web(i))
			d.l.Stopped(&stop, d.now)
			d.wait(time.Second)
		}
	}
	t.Logf("placements: %v", on)
	if on["b"] < 40 || on["b"] >= on["a"] {
		t.Errorf("placements: %v; a is the emptier one by a tenth", on)
	}
}

// A playback of our own counts once, however often it is listed.
func TestOthersAreFewerThanOurOwn(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(1)...)
	d.strangers("a", 4)
	d.play(Query{IDs: web(0)})
	for range 50 {
		d.wait(time.Second).poll("a", Report{ID: "tsid-0", Work: GPU})
	}
	d.play(Query{IDs: web(1)})
	if x := d.expected("tsid-1")["a"]; x < 4./9 || x >= 8./9 {
		t.Errorf("%v is expected", x)
	}
}

// A second balancer that took over leaves no traces for long.
func TestOthersAreForgotten(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(1, 1)...)
	d.strangers("a", 300)
	d.wait(12 * time.Hour)
	d.play(Query{IDs: web(0)})
	if x := d.expected("tsid-0")["a"]; x > 0.02 {
		t.Errorf("%v is expected half a day later", x)
	}
}

// They count less the more there is of our own.
func TestOthersAreGone(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(1, 1)...)
	d.strangers("a", 300)
	d.play(Query{IDs: web(0)})
	if x := d.expected("tsid-0")["a"]; x < 1 {
		t.Errorf("%v is expected while all others come past the balancer", x)
	}
	for i := range 2000 {
		id := web(i)
		server := d.play(Query{IDs: id})
		d.wait(time.Second).poll(server, Report{ID: id.Transcode, Work: GPU})
		stop := follow(id)
		d.l.Stopped(&stop, d.now)
	}
	d.play(Query{IDs: web(2000)})
	if x := d.expected("tsid-2000")["a"]; x == 0 || x > 0.02 {
		t.Errorf("%v is expected after two thousand of our own", x)
	}
}
