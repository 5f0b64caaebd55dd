package cluster

import (
	"fmt"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// Each story begins with one transcode that was placed and accepted.
func TestLivesOfAReservation(t *testing.T) {
	report := Report{ID: "tsid-1", Client: "cid-1", Session: "xsi-1", Work: GPU}
	for name, tc := range map[string]struct {
		tell  func(d *desk)
		state State
		count int
	}{
		"a report confirms it": {func(d *desk) { d.wait(time.Second).poll("a", report) }, Confirmed, 1},
		"an event confirms it": {func(d *desk) { d.l.Seen(d.server("a"), report, d.now) }, Confirmed, 1},
		"a stop ends it": {func(d *desk) {
			q := follow(IDs{Transcode: "tsid-1"})
			d.l.Stopped(&q, d.now)
		}, Ended, 0},
		"a timeline that says stopped ends it": {func(d *desk) {
			q := follow(IDs{Session: "xsi-1", Client: "cid-1"})
			d.l.Stopped(&q, d.now)
		}, Ended, 0},
		"one reading that lacks it is not enough": {func(d *desk) {
			d.wait(time.Second).poll("a", report)
			d.wait(5 * time.Second).poll("a")
		}, Confirmed, 1},
		"two readings that lack it do not end it": {func(d *desk) {
			d.wait(time.Second).poll("a", report)
			d.wait(5 * time.Second).poll("a")
			d.wait(5 * time.Second).poll("a")
		}, Confirmed, 1},
		"three readings that lack it end it": {func(d *desk) {
			d.wait(time.Second).poll("a", report)
			for range 3 {
				d.wait(5 * time.Second).poll("a")
			}
		}, Ended, 0},
		"readings lack nothing that an event has just told of": {func(d *desk) {
			d.wait(time.Second).l.Seen(d.server("a"), report, d.now)
			for range 3 {
				d.wait(500 * time.Millisecond).poll("a")
			}
		}, Confirmed, 1},
		"but what an event told of and no reading shows is gone in the end": {func(d *desk) {
			d.wait(time.Second).l.Seen(d.server("a"), report, d.now)
			for range 4 {
				d.wait(2 * time.Second).poll("a")
			}
		}, Ended, 0},
		"three readings that lack it are not believed while its player asks": {func(d *desk) {
			d.wait(time.Second).poll("a", report)
			for range 3 {
				d.wait(5 * time.Second).poll("a")
				d.wait(time.Second).l.FindSegment("tsid-1")
			}
		}, Confirmed, 1},
		"they are after twenty seconds all the same": {func(d *desk) {
			d.wait(time.Second).poll("a", report)
			for range 5 {
				d.wait(5 * time.Second).poll("a")
				d.wait(time.Second).l.FindSegment("tsid-1")
			}
		}, Ended, 0},
		"a player that asked before they lacked it does not save it": {func(d *desk) {
			d.wait(time.Second).poll("a", report)
			d.wait(3 * time.Second).l.FindSegment("tsid-1")
			d.wait(2 * time.Second).poll("a")
			d.wait(5 * time.Second).poll("a")
			d.wait(5 * time.Second).poll("a")
		}, Ended, 0},
		"readings that lack it count in a row only": {func(d *desk) {
			d.wait(time.Second).poll("a", report)
			d.wait(5 * time.Second).poll("a")
			d.wait(5*time.Second).poll("a", report)
			d.wait(5 * time.Second).poll("a")
		}, Confirmed, 1},
		"the end of its encoder is believed when a reading agrees": {func(d *desk) {
			d.wait(time.Second).poll("a", report)
			d.l.Gone(d.server("a"), "tsid-1", d.now)
			d.wait(time.Second).poll("a")
		}, Ended, 0},
		"a seek ends its encoder and begins another": {func(d *desk) {
			d.wait(time.Second).poll("a", report)
			d.l.Gone(d.server("a"), "tsid-1", d.now)
			d.l.Seen(d.server("a"), report, d.now)
			d.wait(time.Second).poll("a", report)
		}, Confirmed, 1},
		"so it does if the reading is between the two": {func(d *desk) {
			d.wait(time.Second).poll("a", report)
			d.l.Gone(d.server("a"), "tsid-1", d.now)
			d.wait(time.Second).poll("a")
			d.wants("a", 0, "sought")
			d.wait(time.Second).l.Seen(d.server("a"), report, d.now)
		}, Confirmed, 1},
		"its player's word is the last, whatever an event says": {func(d *desk) {
			d.wait(time.Second).poll("a", report)
			d.l.Gone(d.server("a"), "tsid-1", d.now)
			d.wait(time.Second).l.FindSegment("tsid-1")
			for range 3 {
				d.wait(time.Second).poll("a")
				d.wait(time.Second).l.FindSegment("tsid-1")
			}
			q := follow(IDs{Transcode: "tsid-1"})
			d.l.Stopped(&q, d.now)
			d.l.Seen(d.server("a"), report, d.now)
		}, Ended, 0},
		"between two encoders it goes on counting": {func(d *desk) {
			bare := Report{ID: "\x00session 1", Client: "cid-1", Session: "xsi-1"}
			d.wait(time.Second).poll("a", report)
			d.l.Gone(d.server("a"), "tsid-1", d.now)
			d.wait(300*time.Millisecond).poll("a", bare)
			d.wants("a", 1, "sought")
			d.wait(5*time.Second).poll("a", bare)
			d.wait(5*time.Second).poll("a", report)
		}, Confirmed, 1},
		"a session without it for twenty seconds has none": {func(d *desk) {
			bare := Report{ID: "\x00session 1", Client: "cid-1", Session: "xsi-1"}
			d.wait(time.Second).poll("a", report)
			for range 6 {
				d.wait(5*time.Second).poll("a", bare)
			}
		}, Confirmed, 0},
		"a late listing does not bring it back": {func(d *desk) {
			d.wait(time.Second).poll("a", report)
			q := follow(IDs{Transcode: "tsid-1"})
			d.l.Stopped(&q, d.now)
			d.wait(time.Second).poll("a", report)
			d.l.Seen(d.server("a"), report, d.now)
		}, Ended, 0},
		"what is listed for long after its end is there": {func(d *desk) {
			q := follow(IDs{Transcode: "tsid-1"})
			d.l.Stopped(&q, d.now)
			d.tick(11*time.Second).poll("a", report)
		}, Confirmed, 1},
		"it expires when a reading after twenty seconds lacks it": {func(d *desk) {
			d.tick(21 * time.Second).poll("a")
			d.tick(time.Second)
		}, Expired, 0},
		"it does not expire while nothing is read": {func(d *desk) { d.tick(time.Minute); d.tick(time.Minute) }, Reserved, 1},
		"it does not expire by a reading that began early": {func(d *desk) {
			began := d.now.Add(time.Second)
			d.wait(25 * time.Second)
			d.l.Observe(d.server("a"), nil, began, d.now)
			d.tick(time.Minute)
		}, Reserved, 1},
		"it does not expire by a reading that began before it": {func(d *desk) {
			d.wait(25 * time.Second)
			d.l.Observe(d.server("a"), nil, d.now.Add(-time.Minute), d.now)
			d.tick(time.Second)
		}, Reserved, 1},
		"a report after it expired brings it back": {func(d *desk) {
			d.wait(21 * time.Second).poll("a")
			d.wait(time.Second).poll("a", report)
		}, Confirmed, 1},
		"failed readings change nothing": {func(d *desk) {
			d.wait(time.Second).poll("a", report)
			for range 10 {
				d.tick(10 * time.Second)
				d.l.Unread(d.server("a"), "timeout", false, d.now)
				d.l.FindSegment("tsid-1")
			}
			if v := d.view("a"); v.Picture.Failure != "timeout" || v.Picture.Tried.Sub(v.Picture.Good) != 100*time.Second {
				d.Errorf("the picture is %+v", v.Picture)
			}
		}, Confirmed, 1},
		"a decision for direct play costs no transcode": {func(d *desk) {
			q := decision(web(1))
			h, _, _ := d.open(&q)
			d.l.Decided(&h, None, d.now)
			d.l.Settle(&q, &h, Accepted, d.now)
		}, Reserved, 0},
		"a session listed without its transcode yet does not take it back": {func(d *desk) {
			d.wait(time.Second).poll("a", Report{ID: "\x00session 1", Client: "cid-1", Session: "xsi-1"})
		}, Reserved, 1},
		"a session and its transcode may be listed apart": {func(d *desk) {
			d.wait(time.Second).poll("a", report)
			d.wait(time.Second).poll("a", Report{ID: "\x00session 1", Client: "cid-1", Session: "xsi-1"}, Report{ID: "tsid-1", Work: GPU})
			d.wait(time.Second).poll("a", Report{ID: "tsid-1", Work: GPU}, Report{ID: "\x00session 1", Client: "cid-1", Session: "xsi-1"})
		}, Confirmed, 1},
		"hardware may turn out to be software": {func(d *desk) {
			r := report
			r.Work = CPU
			d.wait(time.Second).poll("a", r)
			if v := d.view("a"); v.Jobs[CPU] != 1 || v.Load != DefaultCosts.CPU {
				d.Errorf("%+v", v)
			}
		}, Confirmed, 1},
		"a restart of the playback that failed ends it in half a minute": {func(d *desk) {
			d.do(start(web(1)), Failed)
			d.tick(29 * time.Second)
			d.wants("a", 1, "after 29s")
			d.tick(2 * time.Second)
		}, Expired, 0},
		"a seek that the viewer gave up ends nothing": {func(d *desk) {
			d.do(start(web(1)), Abandoned)
			d.tick(time.Minute)
		}, Reserved, 1},
		"a start that works makes up for one that failed": {func(d *desk) {
			d.do(start(web(1)), Failed)
			d.ok(start(web(1)))
			d.tick(time.Minute)
		}, Reserved, 1},
		"readings that began before an event do not lack it": {func(d *desk) {
			began := d.now
			d.wait(10 * time.Second)
			d.l.Seen(d.server("a"), report, d.now)
			d.l.Observe(d.server("a"), nil, began, d.now)
			d.l.Observe(d.server("a"), nil, began, d.now)
		}, Confirmed, 1},
		"the late answer to a decision does not bring a stopped one back": {func(d *desk) {
			q := decision(web(1))
			h, _, _ := d.open(&q)
			d.wait(time.Second)
			stop := follow(web(1))
			d.l.Stopped(&stop, d.now)
			d.l.Settle(&q, &h, Accepted, d.now)
		}, Ended, 0},
		"a start after the end begins it again": {func(d *desk) {
			stop := follow(web(1))
			d.l.Stopped(&stop, d.now)
			d.wait(time.Second).ok(start(web(1)))
		}, Reserved, 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true}, named(1)...)
			d.play(Query{IDs: web(1)})
			tc.tell(d)
			if got := d.state("tsid-1"); got != tc.state {
				t.Errorf("it is %v, want %v", got, tc.state)
			}
			d.wants("a", tc.count, "in the end")
			check(t, d.l)
		})
	}
}

// Segments alone keep a playback, and only they tell of it.
func TestSegmentsKeepAPlaybackAlive(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(1, 1)...)
	at := d.play(Query{IDs: web(1)})
	d.wait(200 * time.Second).l.FindSegment("tsid-1")
	d.wait(200 * time.Second)
	if got, reason := d.do(follow(IDs{Session: "xsi-1"}), Accepted); got != at || reason != Pinned {
		t.Errorf("it goes from %s to %s: %v", at, got, reason)
	}
}

// An endless stream is settled when it ends, which may be after the next began.
func TestAStreamThatEndsLateDoesNotTakeOver(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(1)...)
	first, next := start(web(1)), web(2)
	next.Client = "cid-1"
	h, _, _ := d.open(&first)
	d.wait(time.Minute).play(Query{IDs: next})
	d.wait(time.Second)
	d.l.Settle(&first, &h, Accepted, d.now)
	if v, _ := d.l.Explain("cid-1"); v.Transcode != "tsid-2" || v.Ended {
		t.Errorf("the client plays %+v", v)
	}
	check(t, d.l)
}

// A policy without a handler sees no answers: the servers' reports confirm.
func TestUnwatchedPlaybacksAreConfirmedByReports(t *testing.T) {
	for _, replicated := range []bool{false, true} {
		t.Run(fmt.Sprint("replicated ", replicated), func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: replicated}, named(1, 1)...)
			at, _ := d.do(start(web(1)), Unwatched)
			d.wait(time.Second).poll(at, Report{ID: "tsid-1", Client: "cid-1", Session: "xsi-1", Work: GPU})
			d.do(start(web(1)), Rejected)
			if v, ok := d.l.Explain("xsi-1"); !ok || !v.Confirmed {
				t.Errorf("it is remembered: %v, %+v", ok, v)
			}
			better := web(1)
			better.Transcode = "tsid-1b"
			if got, _ := d.do(start(better), Unwatched); got != at {
				t.Errorf("a quality change goes from %s to %s", at, got)
			}
			if s := d.l.FindSegment("tsid-1b"); s == nil || s.Name() != at {
				t.Error("its segments are not known")
			}
			d.wants(at, 1, "after the change")
			check(t, d.l)
		})
	}
}

func TestWhatADecisionSaidHoldsForTheStart(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(1)...)
	q := decision(IDs{"t1", "x", "", "c"})
	h, _, _ := d.open(&q)
	d.l.Decided(&h, Copy, d.now)
	d.l.Settle(&q, &h, Accepted, d.now)
	d.ok(start(IDs{"t2", "x", "", "c"}))
	if v := d.view("a"); v.Jobs != [4]int{Copy: 1} {
		t.Errorf("%v is counted, want one copy", v.Jobs)
	}
}

func TestRejectedRequestsLeaveNothing(t *testing.T) {
	for _, replicated := range []bool{false, true} {
		t.Run(fmt.Sprint("replicated ", replicated), func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: replicated}, named(1, 1, 1)...)
			var wg sync.WaitGroup
			for w := range 4 {
				wg.Go(func() {
					for i := range 5_000 {
						q := [...]Query{
							start(web(w*5_000 + i)), decision(kodi(w*5_000 + i)), follow(web(w*5_000 + i)),
							visit(fmt.Sprint(w, i)), {IDs: web(i), Role: Stream, Begins: true}, start(web(i % 7)),
						}[i%6]
						q.Alias = uint64(i)
						h, _, _ := d.open(&q)
						d.l.Settle(&q, &h, Rejected, d.now)
					}
				})
			}
			wg.Wait()
			empty(t, d.l)
		})
	}
}

func TestFailedStartsCountForAWhile(t *testing.T) {
	t.Run("half a minute", func(t *testing.T) {
		d := newDesk(t, Settings{Replicated: true}, named(1)...)
		d.do(start(web(1)), Failed)
		if n, m := d.l.Len(); n+m != 0 {
			t.Errorf("%d playbacks and %d clients are left", n, m)
		}
		d.tick(29 * time.Second).poll("a")
		d.wants("a", 1, "a second before")
		if got, reason := d.do(follow(IDs{Client: "cid-1"}), Accepted); reason == Adopted {
			t.Errorf("a failed start on %s was adopted", got)
		}
		d.tick(2 * time.Second)
		empty(t, d.l)
	})
	t.Run("but not those of who hung up and may never have been let in", func(t *testing.T) {
		d := newDesk(t, Settings{Replicated: true}, named(1)...)
		d.do(start(web(1)), Abandoned)
		empty(t, d.l)
	})
	t.Run("and do not fill the table", func(t *testing.T) {
		d := newDesk(t, Settings{Replicated: true}, named(1)...)
		for i := range 10_000 {
			d.do(start(web(i)), []Outcome{Failed, Abandoned}[i%2])
		}
		if n := len(d.server("a").jobs); n > mostRemains {
			t.Errorf("%d jobs are left", n)
		}
		d.tick(time.Minute)
		empty(t, d.l)
	})
	t.Run("on the server that failed, when another takes it", func(t *testing.T) {
		d := newDesk(t, Settings{Replicated: true}, named(2, 1)...)
		q := start(web(1))
		h, first, _ := d.open(&q)
		d.set(Tried, first)
		i, reason := d.l.Place(&q, &h, d.pool, d.now)
		d.l.Settle(&q, &h, Accepted, d.now)
		if second := d.pool[i].Server.Name(); second != "b" || reason != ServerLost {
			t.Errorf("first on %s, then on %s: %v", first, second, reason)
		}
		d.wants("a", 1, "after it failed")
		d.wants("b", 1, "after it took over")
		d.tick(31 * time.Second)
		d.wants("a", 0, "in the end")
		d.wants("b", 1, "in the end")
		check(t, d.l)
	})
}

func TestMaintenanceTakesNoNewPlaybacks(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true}, named(9, 1, 1)...)
	at := d.play(Query{IDs: web(1)})
	a := d.server(at)
	d.l.Unread(a, "maintenance", true, d.now)
	d.l.Unread(a, "timeout", false, d.now)
	if got := d.ok(follow(web(1))); got != at {
		t.Errorf("what plays there is sent to %s", got)
	}
	for i := range 5 {
		if got := d.ok(start(web(10 + i))); got == at {
			t.Errorf("a new playback is placed on %s", got)
		}
	}
	d.poll(at)
	if got := d.ok(start(web(20))); got != at {
		t.Errorf("after maintenance a playback goes to %s", got)
	}
}

func TestTheLongestIdleFallsOut(t *testing.T) {
	d := newDesk(t, Settings{Replicated: true, MaxPlaybacks: 10}, named(1)...)
	var hold Hold
	for i := range 10 {
		d.wait(2 * time.Second).play(Query{IDs: web(i)})
		if i == 0 {
			q := follow(web(0))
			hold, _, _ = d.open(&q)
		}
	}
	d.wait(2 * time.Second)
	d.ok(follow(web(2)))
	if d.l.FindSegment("tsid-3") == nil {
		t.Fatal("lost")
	}
	for i := range 3 {
		d.wait(2 * time.Second).play(Query{IDs: web(100 + i)})
	}
	for i, want := range []bool{true, false, true, true, false, false, true, true, true, true} {
		if _, ok := d.l.Explain(fmt.Sprint("xsi-", i)); ok != want {
			t.Errorf("playback %d: remembered %v, want %v", i, ok, want)
		}
	}
	if n, m := d.l.Len(); n != 10 || m != 10 {
		t.Errorf("%d playbacks and %d clients", n, m)
	}
	q := follow(web(0))
	d.l.Settle(&q, &hold, Accepted, d.now)
	check(t, d.l)
}

func TestIdleOnesAreForgotten(t *testing.T) {
	d := newDesk(t, Settings{Idle: 4 * time.Minute}, named(1)...)
	d.play(Query{IDs: web(1)})
	d.play(Query{IDs: web(2)})
	for range 5 {
		d.tick(time.Minute)
		d.l.FindSegment("tsid-2")
	}
	if _, ok := d.l.Explain("tsid-1"); ok {
		t.Error("an idle playback is remembered")
	}
	if _, ok := d.l.Explain("tsid-2"); !ok {
		t.Error("one with segments is forgotten")
	}
	for range 46 {
		d.tick(time.Minute)
	}
	empty(t, d.l)
}

// jump sets the wall clock of a time that keeps its monotonic reading. It
// knows how package time lays a Time out, and says so if that changes.
func jump(t *testing.T, now time.Time, by time.Duration) time.Time {
	set := now
	*(*uint64)(unsafe.Pointer(&set)) += uint64(int64(by/time.Second) << 30)
	if set.Sub(now) != 0 || set.Round(0).Sub(now.Round(0)) != by {
		t.Fatal("a Time looks different now: find another way to set its wall clock")
	}
	return set
}

func TestAClockThatIsSetChangesNothing(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			d := newDesk(t, Settings{}, named(1, 1)...)
			at := d.play(Query{IDs: web(1)})
			d.wait(time.Second).poll(at, Report{ID: "tsid-1", Work: GPU})
			d.play(Query{IDs: web(2)})
			before := []any{d.view("a").Load, d.view("b").Load}
			d.now = jump(t, d.now, by)
			for range 5 {
				d.tick(time.Second)
			}
			if got := []any{d.view("a").Load, d.view("b").Load}; fmt.Sprint(got) != fmt.Sprint(before) {
				t.Errorf("loads were %v and are %v", before, got)
			}
			if got := d.ok(follow(web(1))); got != at {
				t.Errorf("the playback is on %q, was on %s", got, at)
			}
			if n, m := d.l.Len(); n != 2 || m != 2 {
				t.Errorf("%d playbacks and %d clients", n, m)
			}
			check(t, d.l)
		})
	}
}
