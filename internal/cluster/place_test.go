package cluster

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// Sixty viewers press play at once, before any poll can tell. Each gets the
// server that is emptiest at that moment.
func TestABurstSpreadsByWeight(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(4, 2, 1)...)
	weights := []float64{4, 2, 1}
	greedy := make([]int, 3)
	for range 60 {
		best := 0
		for i := range greedy {
			if float64(greedy[i]+1)/weights[i] < float64(greedy[best]+1)/weights[best] {
				best = i
			}
		}
		greedy[best]++
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range 60 {
		wg.Go(func() {
			q := start(web(i))
			h := d.l.Find(&q, d.now)
			d.l.Place(&q, &h, d.pool, d.now)
			if i == 30 { // a reading that began before and shows nothing of it
				mu.Lock()
				for _, c := range d.pool {
					d.l.Observe(c.Server, nil, d.now.Add(-time.Second), d.now)
				}
				mu.Unlock()
			}
			d.l.Settle(&q, &h, Accepted, d.now)
		})
	}
	wg.Wait()
	check(t, d.l)
	for i, name := range []string{"a", "b", "c"} {
		d.wants(name, greedy[i], "after the burst")
	}
	// Each choice was the best at its moment.
	load := make(map[*Server]float64)
	for _, p := range d.l.Playbacks() {
		for _, r := range p.Why.Table {
			if r.Out == In && r.Score < p.Why.Table[0].Score {
				t.Errorf("%s was placed on %s with score %v, but %s had %v", p.Session, p.Server, p.Why.Table[0].Score, r.Server.Name(), r.Score)
			}
		}
		load[d.server(p.Server)]++
	}
	// The report of a reservation is the same entry.
	reports := make(map[string][]Report)
	for _, p := range d.l.Playbacks() {
		reports[p.Server] = append(reports[p.Server], Report{ID: p.Transcode, Session: p.Session, Client: p.Client, Work: GPU})
	}
	d.wait(time.Second)
	for name, r := range reports {
		d.poll(name, r...)
	}
	for i, name := range []string{"a", "b", "c"} {
		d.wants(name, greedy[i], "after the report")
		if n := d.view(name).Reserved; n != 0 {
			t.Errorf("%s still has %d reservations", name, n)
		}
	}
	check(t, d.l)
}

func TestThirtyTwoFirstRequestsAgree(t *testing.T) {
	for _, replicated := range []bool{false, true} {
		t.Run(fmt.Sprint("replicated ", replicated), func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: replicated}, named(1, 1, 1)...)
			for round := range 50 {
				var seen sync.Map
				var wg sync.WaitGroup
				for i := range 32 {
					wg.Go(func() {
						q := [...]Query{decision(web(round)), start(web(round)), follow(web(round))}[i%3]
						if q.Role == Follow {
							q.Transcode = ""
							if replicated {
								return // without any start, the primary's
							}
						}
						h, name, _ := d.open(&q)
						d.l.Settle(&q, &h, Accepted, d.now)
						seen.Store(name, true)
					})
				}
				wg.Wait()
				n := 0
				seen.Range(func(any, any) bool { n++; return true })
				if n != 1 {
					t.Fatalf("round %d: %d servers", round, n)
				}
				if v, ok := d.l.Explain(web(round).Session); !ok || v.Ended {
					t.Fatalf("round %d: the playback is lost", round)
				}
			}
			check(t, d.l)
			if n, _ := d.l.Len(); n != 50 {
				t.Errorf("%d playbacks, want 50", n)
			}
		})
	}
}

// One story each of what clients do with ids; afterwards the transcodes of all
// servers are counted.
func TestAPlaybackIsKnownByWhateverItsClientSends(t *testing.T) {
	type story func(d *desk) (first, then string)
	for name, tc := range map[string]struct {
		tell  story
		same  bool
		count int
	}{
		"decision and start differ in transcode id and share the session": {func(d *desk) (string, string) {
			first := d.ok(decision(IDs{"t1", "x", "", "c"}))
			return first, d.ok(start(IDs{"t2", "x", "", "c"}))
		}, true, 1},
		"the report of a start that differs comes before its answer is settled": {func(d *desk) (string, string) {
			first := d.ok(decision(IDs{"t1", "x", "", "c"}))
			d.poll(first, Report{ID: "t2", Session: "x", Client: "c", Work: GPU})
			d.wants(first, 1, "before the answer")
			return first, d.ok(start(IDs{"t2", "x", "", "c"}))
		}, true, 1},
		"a quality change brings a new transcode id": {func(d *desk) (string, string) {
			first := d.play(Query{IDs: web(1)})
			d.wait(time.Second).poll(first, Report{ID: "tsid-1", Work: GPU})
			again := web(1)
			again.Transcode = "tsid-1b"
			then := d.play(Query{IDs: again})
			d.wait(time.Second).poll(first, Report{ID: "tsid-1", Work: GPU}, Report{ID: "tsid-1b", Work: GPU})
			if s := d.l.FindSegment("tsid-1"); s == nil || s.Name() != first {
				d.Error("late segments of the former transcode are lost")
			}
			return first, then
		}, true, 1},
		"a late stop of the former transcode does not end the playback": {func(d *desk) (string, string) {
			first := d.play(Query{IDs: web(1)})
			again := web(1)
			again.Transcode = "tsid-1b"
			d.play(Query{IDs: again})
			q := follow(web(1))
			d.l.Stopped(&q, d.now)
			return first, d.ok(follow(again))
		}, true, 1},
		"a client without session ids is known by its own": {func(d *desk) (string, string) {
			first := d.play(Query{IDs: IDs{Transcode: "t1", Client: "c"}})
			return first, d.ok(follow(IDs{Client: "c"}))
		}, true, 1},
		"a client without session ids plays the next item": {func(d *desk) (string, string) {
			first := d.play(Query{IDs: IDs{Transcode: "t1", Client: "c"}})
			return first, d.play(Query{IDs: IDs{Transcode: "t2", Client: "c"}, Item: "2"})
		}, true, 1},
		"the name is in the other member": {func(d *desk) (string, string) {
			first := d.play(Query{IDs: IDs{"t1", "x", "", "c"}})
			return first, d.ok(follow(IDs{Playback: "x"}))
		}, true, 1},
		"a newer client has only the newer name": {func(d *desk) (string, string) {
			first := d.play(Query{IDs: IDs{"t1", "", "p", ""}})
			return first, d.ok(follow(IDs{Playback: "p"}))
		}, true, 1},
		"a constant id, while it plays": {func(d *desk) (string, string) {
			first := d.play(Query{IDs: kodi(1), Item: "1"})
			return first, d.play(Query{IDs: kodi(1), Item: "2"})
		}, true, 1},
		"a path has the transcode id alone": {func(d *desk) (string, string) {
			first := d.play(Query{IDs: web(1)})
			return first, d.ok(follow(IDs{Transcode: "tsid-1"}))
		}, true, 1},
		"a very long transcode id": {func(d *desk) (string, string) {
			ids := web(1)
			ids.Transcode = fmt.Sprintf("%0200d", 1)
			first := d.play(Query{IDs: ids})
			if s := d.l.FindSegment(ids.Transcode); s == nil || s.Name() != first {
				d.Error("segments are lost")
			}
			return first, d.ok(follow(IDs{Transcode: ids.Transcode}))
		}, true, 1},
		"a nameless start goes on with the one before it": {func(d *desk) (string, string) {
			first := d.ok(start(IDs{Transcode: "n1"}))
			return first, d.ok(start(IDs{Transcode: "n2"}, Query{Near: "n1"}))
		}, true, 2},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true}, named(1, 1, 1)...)
			first, then := tc.tell(d)
			if first == "" || (first == then) != tc.same {
				t.Errorf("first on %q, then on %q", first, then)
			}
			n := 0
			for _, v := range d.l.View(d.now) {
				n += v.Jobs[GPU]
			}
			if n != tc.count {
				t.Errorf("%d transcodes are counted, want %d", n, tc.count)
			}
			check(t, d.l)
		})
	}
}

// Kodi's next film may go anywhere once the last one was stopped.
func TestAConstantIDIsPlacedAnewAfterStop(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(1, 1)...)
	first := d.play(Query{IDs: kodi(1), Item: "1"})
	late := follow(kodi(1))
	late.Transcode, late.Item = "", "1"
	d.l.Stopped(&late, d.now)
	d.wants(first, 0, "after stop")
	d.l.Seen(d.server(first), Report{ID: "other", Work: GPU}, d.now)
	then := d.play(Query{IDs: kodi(1), Item: "2"})
	if then == first {
		t.Errorf("the next film is on %s too, which is busier", then)
	}
	// The end of the first is told once more, late.
	d.l.Stopped(&late, d.now)
	if d.state("kodi-1") != Reserved {
		t.Error("a late stop of the former film ended the present one")
	}
	// And its server lists it for a moment longer.
	d.wait(time.Second).poll(first, Report{ID: "other", Work: GPU}, Report{ID: "kodi-1", Work: GPU})
	d.wants(first, 1, "after a late listing")
	check(t, d.l)
}

func TestAStrangerCannotTouchAPin(t *testing.T) {
	for name, ids := range map[string]IDs{
		"with the transcode id": {Transcode: "tsid-1", Client: "stranger"},
		"without any name":      {Transcode: "mine", Session: "xsi-1"},
		"with the session id":   {Transcode: "mine", Session: "xsi-1", Client: "stranger"},
		"with the other name":   {Transcode: "mine", Playback: "xsi-1", Client: "stranger"},
	} {
		for _, replicated := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", replicated ", replicated), func(t *testing.T) {
				d := newDesk(t, Settings{Replicated: replicated}, named(1, 1, 1)...)
				at := d.play(Query{IDs: web(1)})
				before, _ := d.l.Explain("tsid-1")
				for _, outcome := range []Outcome{Accepted, Rejected, Failed, Abandoned} {
					for _, q := range []Query{decision(ids), start(ids, Query{Item: "other", Work: CPU})} {
						h, _, _ := d.open(&q)
						d.l.Decided(&h, None, d.now)
						d.l.Settle(&q, &h, outcome, d.now)
					}
				}
				if ids.Client != "" { // who has none and knows the id is believed
					stop := follow(ids)
					d.l.Stopped(&stop, d.now)
					stop.Transcode = ""
					d.l.Stopped(&stop, d.now)
				}
				after, ok := d.l.Explain("xsi-1")
				if !ok || after.IDs != before.IDs || after.Server != at || after.Ended || after.Work != GPU || after.Moves != 0 || after.State != Reserved || after.Item != before.Item {
					t.Errorf("the playback was %+v, and is %+v", before, after)
				}
				if got := d.ok(follow(web(1))); got != at {
					t.Errorf("its client is sent to %s, not %s", got, at)
				}
				check(t, d.l)
			})
		}
	}
}

func TestExplainKeepsTheBestEight(t *testing.T) {
	for _, n := range []int{1, 3, 8, 30} {
		t.Run(fmt.Sprint(n, " servers"), func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true}, named(make([]float64, n)...)...)
			for i, c := range d.pool {
				for k := range i * 7 % n {
					d.l.Seen(c.Server, Report{ID: fmt.Sprint(i, "-", k), Work: GPU}, d.now)
				}
			}
			d.set(Down, d.pool[0].Server.Name())
			if n == 1 {
				d.set(In, "a")
			}
			at := d.ok(start(web(1)))
			v, _ := d.l.Explain("tsid-1")
			if v.Why.Chosen.Name() != at || v.Why.Table[0].Server.Name() != at {
				t.Errorf("chosen %s, first in the table %s, went to %s", v.Why.Chosen.Name(), v.Why.Table[0].Server.Name(), at)
			}
			if len(v.Why.Table) != min(n, 8) || v.Why.More != max(0, n-8) {
				t.Errorf("%d rows and %d more of %d", len(v.Why.Table), v.Why.More, n)
			}
			for i := 1; i < len(v.Why.Table); i++ {
				if a, b := v.Why.Table[i-1], v.Why.Table[i]; b.Out == In && (a.Out != In || a.Score > b.Score) {
					t.Errorf("row %d is better than the one before: %+v", i, b)
				}
			}
			if n > 8 && v.Why.Table[7].Out != In {
				t.Error("a server that is down is among the best eight")
			}
		})
	}
}
