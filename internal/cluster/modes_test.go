package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestSeparateServersKeepTheirClients(t *testing.T) {
	for name, tell := range map[string]func(d *desk){
		"a client stays for what it looks at and what it plays": func(d *desk) {
			for i := range 20 {
				c := fmt.Sprint("cid-", i)
				home := d.ok(visit(c))
				d.l.Seen(d.server(home), Report{ID: "x" + c, Work: GPU}, d.now) // it is not the best any more
				if got := d.play(Query{IDs: web(i)}); got != home {
					d.Errorf("%s looks at %s and plays on %s", c, home, got)
				}
				if v, _ := d.l.Explain(web(i).Session); v.Why.Reason != ClientServer || v.State != Reserved {
					d.Errorf("it is %v for %v", v.State, v.Why.Reason)
				}
				if got := d.ok(Query{IDs: IDs{Client: c}, Role: Artwork}); got != home {
					d.Errorf("%s gets its pictures from %s", c, got)
				}
			}
		},
		"what a lost server's client plays is refused until it has looked elsewhere": func(d *desk) {
			home := d.ok(visit("cid-1"))
			d.play(Query{IDs: web(1)})
			d.set(Down, home)
			other := web(1)
			other.Transcode, other.Session = "t2", "x2"
			for what, q := range map[string]Query{
				"a segment": follow(web(1)), "its start": start(web(1)), "another start": start(other), "a file": {IDs: web(1), Role: Stream},
				"a picture": {IDs: IDs{Client: "cid-1"}, Role: Artwork}, "a mark": {IDs: IDs{Client: "cid-1"}, Role: Visit, Writes: true},
				"its start without the client's name": start(IDs{Transcode: "tsid-1", Session: "xsi-1"}),
			} {
				if got, reason := d.do(q, Accepted); got != "" || reason != ServerGone {
					d.Errorf("%s goes to %q: %v", what, got, reason)
				}
			}
			then, reason := d.do(visit("cid-1"), Accepted)
			if then == home || then == "" || reason != ServerLost {
				d.Errorf("looking around it goes to %q: %v", then, reason)
			}
			if got := d.ok(start(other)); got != then {
				d.Errorf("it looks at %s and plays on %s", then, got)
			}
			if got, reason := d.do(start(web(1)), Accepted); got != "" {
				d.Errorf("its start of the former film, whose id is another's there, goes to %s: %v", got, reason)
			}
			d.set(In, home)
			if got := d.ok(visit("cid-1")); got != then {
				d.Errorf("it goes back to %s", got)
			}
		},
		"a device with a constant id plays anew where it has looked": func(d *desk) {
			home := d.ok(visit("kodi-1"))
			d.play(Query{IDs: kodi(1)})
			d.set(Down, home)
			if got, _ := d.do(start(kodi(1)), Accepted); got != "" {
				d.Errorf("before it has looked, it plays on %s", got)
			}
			then := d.ok(visit("kodi-1"))
			if got := d.ok(start(kodi(1))); got != then {
				d.Errorf("it looks at %s and plays on %q", then, got)
			}
		},
		"a first start that fails is not tried with another's ids": func(d *desk) {
			home := d.ok(visit("cid-1"))
			q := start(web(1))
			h, _, _ := d.open(&q)
			d.set(Tried, home)
			if i, reason := d.l.Place(&q, &h, d.pool, d.now); i >= 0 || reason != ServerGone {
				d.Errorf("it is tried on %s: %v", d.pool[i].Server.Name(), reason)
			}
			d.l.Settle(&q, &h, Failed, d.now)
		},
		"requests without a client's name are known by guess": func(d *desk) {
			q := visit("cid-1")
			q.Alias = 77
			home := d.ok(q)
			for range 5 {
				d.ok(visit(fmt.Sprint("c", d.now.UnixNano())))
				if got, reason := d.do(Query{Alias: 77, Role: Artwork}, Accepted); got != home || reason != Pinned {
					d.Errorf("a picture comes from %s: %v", got, reason)
				}
			}
		},
		"who never says its name plays from the library it has seen": func(d *desk) {
			for alias := range uint64(20) {
				look := Query{Role: Visit, Alias: 1000 + alias}
				home := d.ok(look)
				for n := range 3 {
					q := Query{IDs: IDs{Transcode: fmt.Sprint("t", alias, n)}, Role: Start, Alias: 1000 + alias, Work: GPU}
					if got := d.ok(q); got != home {
						d.Errorf("it looks at %s and plays on %s", home, got)
					}
				}
			}
			s := d.l.Servers().Named("a")
			d.l.Drain(s, true)
			for alias := range uint64(20) {
				look := Query{Role: Visit, Alias: 1000 + alias}
				if got := d.ok(look); got == "a" {
					d.Errorf("it looks at a server that is to be emptied")
				}
			}
		},
		"an idle client costs a little, and one that plays only what it plays": func(d *desk) {
			home := d.ok(visit("cid-1"))
			if v := d.view(home); v.Idle != 1 || v.Load != DefaultCosts.Client {
				d.Errorf("idle: %d clients, load %v", v.Idle, v.Load)
			}
			d.play(Query{IDs: web(1)})
			if v := d.view(home); v.Idle != 0 || v.Load != DefaultCosts.GPU {
				d.Errorf("playing: %d idle clients, load %v", v.Idle, v.Load)
			}
			d.wait(time.Second).poll(home, Report{ID: "tsid-1", Client: "cid-1", Session: "xsi-1", Work: GPU}, Report{ID: "\x00session 2", Client: "cid-1"})
			if v := d.view(home); v.Idle != 0 || v.Load != DefaultCosts.GPU {
				d.Errorf("reported: %d idle clients, load %v", v.Idle, v.Load)
			}
			stop := follow(web(1))
			d.l.Stopped(&stop, d.now)
			if v := d.view(home); v.Idle != 1 || v.Load != DefaultCosts.Client {
				d.Errorf("stopped: %d idle clients, load %v", v.Idle, v.Load)
			}
		},
		"another front door is another client": func(d *desk) {
			one, two := visit("cid-1"), visit("cid-1")
			one.Site, two.Site = "one", "two"
			home := d.ok(one)
			d.set(Down, home)
			other := d.ok(two)
			d.set(In, home)
			if other == home || d.ok(one) != home || d.ok(two) != other {
				d.Errorf("by one door %s, by the other %s", d.ok(one), d.ok(two))
			}
		},
		"a drained server's client leaves when it plays nothing and looks around": func(d *desk) {
			home := d.ok(visit("cid-1"))
			d.play(Query{IDs: web(1)})
			d.l.Drain(d.server(home), true)
			if got := d.ok(visit("cid-1")); got != home {
				d.Errorf("while playing it is sent to %s", got)
			}
			stop := follow(web(1))
			d.l.Stopped(&stop, d.now)
			if got := d.ok(visit("cid-1")); got == home {
				d.Errorf("it stays on %s", home)
			}
			if v := d.view(home); v.Load != 0 {
				d.Errorf("%s keeps load %v", home, v.Load)
			}
		},
		"where all are drained, clients stay": func(d *desk) {
			home := d.ok(visit("cid-1"))
			for _, c := range d.pool {
				d.l.Drain(c.Server, true)
			}
			if got := d.ok(visit("cid-1")); got != home {
				d.Errorf("it is sent to %q", got)
			}
		},
		"a client that was away for long begins anew": func(d *desk) {
			d.ok(visit("cid-1"))
			d.wait(41 * time.Minute) // nobody ticks meanwhile
			d.ok(visit("cid-1"))
			check(d, d.l)
			d.tick(time.Second)
			if got, reason := d.do(visit("cid-1"), Accepted); reason != Pinned {
				d.Errorf("it goes to %s: %v", got, reason)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{}, named(1, 1, 1)...)
			tell(d)
			check(t, d.l)
		})
	}
}

func TestClonesShareTheWork(t *testing.T) {
	for name, tell := range map[string]func(d *desk){
		"what is not a playback goes to the primary": func(d *desk) {
			for i := range 10 {
				if got, reason := d.do(visit(fmt.Sprint("c", i)), Accepted); got != "b" || reason != Primary {
					d.Errorf("to %s: %v", got, reason)
				}
			}
		},
		"reads fall back, and writes do not": func(d *desk) {
			d.set(Down, "b")
			if got, reason := d.do(visit("c"), Accepted); got == "" || got == "b" || reason != Fallback {
				d.Errorf("a read goes to %q: %v", got, reason)
			}
			q := visit("c")
			q.Writes = true
			if got, reason := d.do(q, Accepted); got != "" || reason != ServerGone {
				d.Errorf("a write goes to %q: %v", got, reason)
			}
		},
		"a picture has its server, and only a lost one's move": func(d *desk) {
			was := make(map[uint64]string)
			count := make(map[string]int)
			for i := range uint64(300) {
				was[i] = d.ok(Query{Role: Artwork, Alias: i * 7919})
				count[was[i]]++
			}
			for name, n := range count {
				if n < 60 || n > 140 {
					d.Errorf("%s has %d of 300 pictures", name, n)
				}
			}
			d.set(Down, "c")
			for i := range uint64(300) {
				if got := d.ok(Query{Role: Artwork, Alias: i * 7919}); got == "c" || was[i] != "c" && got != was[i] {
					d.Errorf("picture %d goes from %s to %s", i, was[i], got)
				}
			}
		},
		"the next film goes where the present one plays": func(d *desk) {
			at := d.play(Query{IDs: web(1)})
			next := web(2)
			next.Client = "cid-1"
			q := start(next)
			h, got, reason := d.open(&q)
			d.l.Settle(&q, &h, Accepted, d.now)
			if left := d.orphans(); len(left) > 0 {
				d.Errorf("%v is left behind, which PMS ends by itself", left)
			}
			if got != at || reason != LivePlayback {
				d.Errorf("it goes from %s to %s: %v", at, got, reason)
			}
			d.wants(at, 1, "after the change")
		},
		"a film that goes elsewhere leaves the former one behind": func(d *desk) {
			at := d.play(Query{IDs: web(1)})
			d.l.Drain(d.server(at), true)
			next := web(2)
			next.Client = "cid-1"
			ask := decision(next)
			h, got, _ := d.open(&ask)
			d.l.Settle(&ask, &h, Accepted, d.now)
			if left := d.orphans(); got == at || len(left) > 0 {
				d.Errorf("the decision goes to %s and leaves %v", got, left)
			}
			q := start(next)
			h, got, _ = d.open(&q)
			d.l.Settle(&q, &h, Accepted, d.now)
			if left := d.orphans(); got == at || len(left) != 1 || left[0] != (Orphan{d.server(at), "tsid-1"}) {
				d.Errorf("the start goes to %s and leaves %v", got, left)
			}
			if v, _ := d.l.Explain("tsid-1"); !v.Ended {
				d.Error("the former film goes on")
			}
		},
		"a lost server's playback is placed anew by its next start": func(d *desk) {
			at := d.play(Query{IDs: web(1)})
			d.set(Down, at)
			if got, reason := d.do(follow(web(1)), Accepted); got != "" || reason != ServerGone {
				d.Errorf("a segment goes to %q: %v", got, reason)
			}
			then, reason := d.do(start(web(1)), Accepted)
			if then == at || then == "" || reason != ServerLost {
				d.Errorf("it goes from %s to %q: %v", at, then, reason)
			}
			d.wants(at, 0, "after the loss")
			d.wants(then, 1, "after the move")
			d.set(In, at)
			if got := d.ok(follow(web(1))); got != then {
				d.Errorf("it goes back to %s", got)
			}
			if s := d.l.FindSegment("tsid-1"); s.Name() != then {
				d.Errorf("its segments go to %s", s.Name())
			}
			if v, _ := d.l.Explain("tsid-1"); v.Moves != 1 {
				d.Errorf("%d moves", v.Moves)
			}
		},
		"with no server left, the playback waits for its own": func(d *desk) {
			at := d.play(Query{IDs: web(1)})
			d.set(Down, "a", "b", "c")
			if got, reason := d.do(start(web(1)), Accepted); got != "" || reason != Nowhere {
				d.Errorf("it goes to %q: %v", got, reason)
			}
			d.set(In, "a", "b", "c")
			if got := d.ok(start(web(1))); got != at {
				d.Errorf("it goes from %s to %s", at, got)
			}
			d.wants(at, 1, "afterwards")
		},
		"the client's own question goes to its playback": func(d *desk) {
			at := d.play(Query{IDs: web(1)})
			if got := d.ok(Query{IDs: IDs{Client: "cid-1"}, Role: Inquire}); got != at {
				d.Errorf("it plays on %s and asks %s", at, got)
			}
			if got := d.ok(Query{IDs: IDs{Client: "other"}, Role: Inquire}); got != "b" {
				d.Errorf("who plays nothing asks %s", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true, Primary: "b"}, named(1, 1, 1)...)
			tell(d)
			check(t, d.l)
		})
	}
}

// After a restart of the balancer the servers are all that is known.
// After a restart the first that comes of a playback is a segment, which says
// nothing but the transcode's id. What follows has other ids.
func TestTimelinesFindWhatASegmentLedTo(t *testing.T) {
	report := Report{ID: "tsid-1", Client: "cid-1", Session: "xsi-1", Work: GPU}
	for name, adopt := range map[string]func(*desk){
		"reported before": func(d *desk) {
			d.poll("c", report)
			d.ok(follow(IDs{Transcode: "tsid-1"}))
		},
		"asked for": func(d *desk) {
			d.l.Seen(d.l.Servers().Named("c"), Report{ID: "tsid-1", Work: GPU}, d.now)
			d.ok(follow(IDs{Transcode: "tsid-1"}))
			d.wait(time.Second).poll("c", report)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true, Primary: "a"}, named(1, 1, 1)...)
			adopt(d)
			for _, ids := range []IDs{{Session: "xsi-1", Client: "cid-1"}, {Session: "xsi-1"}} {
				if got, reason := d.do(follow(ids), Accepted); got != "c" || reason != Pinned {
					t.Errorf("a timeline of %+v goes to %s: %v", ids, got, reason)
				}
			}
		})
	}
	t.Run("its device's name is its own", func(t *testing.T) {
		d := newDesk(t, Settings{Replicated: true, Primary: "a"}, named(1, 1, 1)...)
		d.l.Seen(d.l.Servers().Named("c"), Report{ID: "kodi-1", Work: GPU}, d.now)
		d.ok(follow(IDs{Transcode: "kodi-1"}))
		if got, reason := d.do(follow(IDs{Client: "kodi-1"}), Accepted); got != "c" {
			t.Errorf("a timeline goes to %s: %v", got, reason)
		}
	})
}

func TestRunningPlaybacksAreAdopted(t *testing.T) {
	report := Report{ID: "tsid-1", Client: "cid-1", Session: "xsi-1", Title: "Film", Work: GPU}
	for name, q := range map[string]Query{
		"by the transcode id":       follow(IDs{Transcode: "tsid-1"}),
		"by the session":            follow(IDs{Session: "xsi-1"}),
		"by the session, otherwise": follow(IDs{Playback: "xsi-1", Client: "cid-1"}),
		"by the client":             follow(IDs{Client: "cid-1"}),
		"by a start":                start(web(1)),
		"by the client's file":      {IDs: IDs{Client: "cid-1"}, Role: Stream, Begins: true},
	} {
		for _, replicated := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", replicated ", replicated), func(t *testing.T) {
				d := newDesk(t, Settings{Replicated: replicated, Primary: "a"}, named(9, 1, 1)...)
				d.l.Seen(d.server("c"), Report{ID: "tsid-1", Work: GPU}, d.now) // an event knows no more
				d.poll("c", report)
				if got, reason := d.do(q, Rejected); got != "c" || reason != Adopted {
					t.Errorf("it goes to %s: %v", got, reason)
				}
				if n, m := d.l.Len(); n+m != 0 {
					t.Errorf("a rejected request leaves %d playbacks and %d clients", n, m)
				}
				d.wants("c", 1, "after a rejected request")
				if got, reason := d.do(q, Accepted); got != "c" || reason != Adopted {
					t.Errorf("it goes to %s: %v", got, reason)
				}
				if s := d.l.FindSegment("tsid-1"); s == nil || s.Name() != "c" {
					t.Error("its segments are not known")
				}
				d.wait(time.Second).poll("c", report)
				d.wants("c", 1, "after adoption")
				if v := d.view("c"); v.Load != DefaultCosts.GPU {
					t.Errorf("load %v, want that of one transcode", v.Load)
				}
				check(t, d.l)
			})
		}
	}
	t.Run("but not by somebody else", func(t *testing.T) {
		d := newDesk(t, Settings{Replicated: true, Primary: "a"}, named(9, 1, 1)...)
		d.poll("c", report)
		if got, reason := d.do(follow(IDs{Session: "xsi-1", Client: "stranger"}), Accepted); reason == Adopted {
			t.Errorf("it goes to %s: %v", got, reason)
		}
	})
	t.Run("and a client's next film goes there", func(t *testing.T) {
		d := newDesk(t, Settings{Replicated: true, Primary: "a"}, named(9, 1, 1)...)
		d.poll("c", report)
		next := web(2)
		next.Client = "cid-1"
		if got, reason := d.do(start(next), Accepted); got != "c" || reason != LivePlayback {
			t.Errorf("it goes to %s: %v", got, reason)
		}
	})
}

func TestReloadsKeepWhatRuns(t *testing.T) {
	d := newDesk(t, Settings{}, named(1, 1)...)
	at := d.play(Query{IDs: web(1)})
	d.wait(time.Second).poll(at, Report{ID: "tsid-1", Work: GPU})
	was := d.server(at)

	cfg := named(1, 1)
	for i := range cfg {
		cfg[i].Name += "-renamed"
		cfg[i].Weight = 3
	}
	d.l.Configure(Settings{}, append(cfg, cfg[0]), d.now)
	if got := d.ok(follow(web(1))); got != at+"-renamed" || d.l.Servers().Named(got) != was {
		t.Errorf("after a rename it is on %q", got)
	}
	if n := len(d.l.Servers().List()); n != 2 {
		t.Errorf("%d servers", n)
	}
	if v := d.view(at + "-renamed"); v.Jobs[GPU] != 1 || v.Weight != 3 || !v.Named {
		t.Errorf("after a rename: %+v", v)
	}

	// One is configured no more, and nothing plays there.
	d.l.Configure(Settings{}, []ServerSettings{{Name: "other", Address: "other:1"}}, d.now)
	d.l.Configure(Settings{}, nil, d.now)
	if s := d.l.Servers().byAddr["other:1"]; !s.Dropped() || !was.Dropped() {
		t.Errorf("servers that no configuration names any more are not dropped: %+v", d.l.View(d.now))
	}
	d.tick(time.Minute + time.Second)
	if list := d.l.Servers().List(); !slices.Contains(list, was) || d.l.Servers().byAddr["other:1"] != nil {
		t.Errorf("the servers after a minute: %+v", d.l.View(d.now))
	}
	was.Sighted(d.l, d.now)
	if was.Dropped() {
		t.Error("a server is dropped that a pool has")
	}

	// One is configured no more: it is used as long as a pool has it.
	d.l.Configure(Settings{}, nil, d.now)
	for range 12 {
		was.Sighted(d.l, d.now)
		d.tick(time.Minute)
		d.ok(follow(web(1)))
	}
	list := d.l.Servers().List()
	if len(list) != 1 || list[0] != was || was.Name() != was.Address() || was.Named() || was.settings.Weight != 1 {
		t.Errorf("%d servers, %+v", len(list), d.l.View(d.now))
	}
	for range 11 {
		d.tick(time.Minute)
		d.l.FindSegment("tsid-1")
	}
	if n := len(d.l.Servers().List()); n != 0 {
		t.Errorf("%d servers are left", n)
	}
	// It comes back, and so do its client and what that plays.
	again := d.l.Admit(was.Address(), d.now)
	d.pool = []Candidate{{Server: d.l.Admit("other:1", d.now)}, {Server: again}}
	if again == was || again.settings.Weight != 1 {
		t.Errorf("admitted %+v", again)
	}
	if got := d.ok(start(web(1))); got != was.Address() {
		t.Errorf("its playback goes to %q", got)
	}
	if got := d.ok(visit("cid-1")); got != was.Address() {
		t.Errorf("its client goes to %q", got)
	}
	if s := d.l.FindSegment("tsid-1"); s != again {
		t.Error("its segments do not come back")
	}
	check(t, d.l)
}

func TestClonesHaveNoIdleClients(t *testing.T) {
	d := newDesk(t, Settings{}, named(1)...)
	d.ok(visit("cid-1"))
	d.l.Configure(Settings{Replicated: true, Primary: "a"}, named(1), d.now)
	if v := d.view("a"); v.Load != 0 {
		t.Errorf("load %v after the mode was changed", v.Load)
	}
	d.l.Configure(Settings{}, named(1), d.now)
	if got := d.ok(visit("cid-1")); got != "a" || d.view("a").Idle != 1 {
		t.Errorf("changed back, it goes to %q", got)
	}
	check(t, d.l)
}

// In replicated mode the primary hears of every playback by its timelines, and
// lists what it does not play.
func TestCopiedTimelinesAreNoPlaybacks(t *testing.T) {
	row := Report{ID: "\x00session 7", Client: "cid-1", Session: "xsi-1"}
	set := Settings{Replicated: true, Primary: "a"}
	t.Run("they count for nothing", func(t *testing.T) {
		d := newDesk(t, set, named(1, 9)...)
		if got := d.play(start(web(1))); got != "b" {
			t.Fatalf("it is on %s", got)
		}
		for range 3 {
			d.wait(5 * time.Second)
			d.poll("b", Report{ID: "tsid-1", Client: "cid-1", Session: "xsi-1", Work: GPU})
			d.poll("a", row, Report{ID: "\x00session 8", Client: "cid-1"})
			if v := d.view("a"); v.Load != 0 {
				t.Errorf("the primary has load %v", v.Load)
			}
		}
		d.wants("b", 1, "after three readings")
		check(t, d.l)
	})
	t.Run("what the primary does play counts", func(t *testing.T) {
		d := newDesk(t, set, named(1, 9)...)
		d.play(start(web(1)))
		d.poll("a", Report{ID: "other", Client: "cid-1", Session: "xsi-1", Work: GPU}, Report{ID: "\x00session 9", Client: "bypass"})
		if v := d.view("a"); v.Jobs[GPU] != 1 || v.Jobs[None] != 1 {
			t.Errorf("the primary counts %v", v.Jobs)
		}
		check(t, d.l)
	})
	for name, order := range map[string][]string{"first": {"a", "b"}, "last": {"b", "a"}} {
		t.Run("a new balancer is not misled by them, read "+name, func(t *testing.T) {
			d := newDesk(t, set, named(9, 1)...)
			for range 2 {
				for _, server := range order {
					d.poll(server, row) // direct play looks the same
				}
			}
			if got, reason := d.do(follow(IDs{Session: "xsi-1", Client: "cid-1"}), Accepted); got != "b" || reason != Adopted {
				t.Errorf("it goes to %s: %v", got, reason)
			}
			check(t, d.l)
		})
	}
}
