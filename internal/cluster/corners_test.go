package cluster

import (
	"fmt"
	"testing"
	"time"
)

// Corners of resuming and draining that were wrong once; the comment above each
// says how.
func TestCorners(t *testing.T) {
	report := Report{ID: "tsid-1", Client: "cid-1", Session: "xsi-1", Title: "Film", Work: GPU}
	for name, tell := range map[string]func(d *desk){
		// jobOf asks for begun == 0, which Resumed leaves as it is.
		"what was decided here, begun elsewhere and carried by us does not jump back": func(d *desk) {
			p := d.on("a", decision(web(1)), Accepted)
			d.carry(p, "b")
			d.wait(time.Second).poll("a", report)
			d.is(p, "b", "its former server lists it")
		},
		// Rebalance looks at no playback twice.
		"a plan is not stuck with what it has moved itself": func(d *desk) {
			d.l.Configure(Settings{Replicated: true}, named(1, 2, 4), d.now)
			d.watch("a", web(1))
			d.watch("b", web(2))
			d.poll("b", Report{ID: "tsid-2", Work: CPU})
			b := newBalance(d, Settings{Replicated: true})
			for _, m := range d.l.Rebalance(d.now) {
				d.Logf("%s from %s to %s", m.ID, m.From.Name(), m.To.Name())
				b.apply(m)
			}
			if p, to := b.better(); p != nil {
				d.Errorf("with %s on %s, the highest load would be lower than %v", p.ids.Session, to.Name(), b.highest())
			}
		},
		// An entry that had ended stayed so for ten seconds.
		"what came past us and seeks counts again at once": func(d *desk) {
			d.poll("a", report)
			d.l.Gone(d.server("a"), "tsid-1", d.now)
			d.wait(time.Second).poll("a", Report{ID: "\x00session 1", Client: "cid-1", Session: "xsi-1"})
			d.wants("a", 0, "between two encoders")
			d.wait(time.Second).l.Seen(d.server("a"), Report{ID: "tsid-1", Work: GPU, Young: true}, d.now)
			d.wants("a", 1, "sought")
			if !d.l.Reported("tsid-1") {
				d.Error("its requests would not be led to it")
			}
		},
		// Whoever is at the player knows better than its server's late event.
		"what came past us and was stopped through us stays so": func(d *desk) {
			d.poll("a", report)
			d.l.Gone(d.server("a"), "tsid-1", d.now)
			stop := follow(IDs{Transcode: "tsid-1"})
			d.l.Stopped(&stop, d.now)
			d.wait(time.Second).l.Seen(d.server("a"), Report{ID: "tsid-1", Work: GPU}, d.now)
			d.wants("a", 0, "stopped")
		},
		// Keep goes by the stamps of the queue, which are those of the time
		// when the playbacks began until they come to its front.
		"who watches all the time keeps its requests before who is idle": func(d *desk) {
			for i := range 3 {
				d.wait(2*time.Second).watch("a", web(i))
			}
			for range 20 {
				d.tick(5 * time.Second)
				d.l.FindSegment("tsid-0")
				d.ok(follow(web(0)))
			}
			for i := range 3 {
				q := follow(web(i))
				h := Hold{playback: d.l.PlaybackOf(q.Transcode)} // without a touch
				d.l.Keep(&h, false, memo(25<<20))
			}
			if busy, idle := d.l.Origin(d.l.PlaybackOf("tsid-0")), d.l.Origin(d.l.PlaybackOf("tsid-1")); busy == nil || idle != nil {
				d.Errorf("kept: the busy one %v, the idle one %v", busy, idle)
			}
		},
		// move goes by begun, which only a start through here sets.
		"an adopted playback that its start moves leaves its encoder to be stopped": func(d *desk) {
			d.poll("a", report)
			d.ok(follow(web(1)))
			d.set(Down, "a", "c")
			d.ok(start(web(1)))
			d.set(In, "a", "c")
			d.is(d.l.PlaybackOf("tsid-1"), "b", "moved")
			if left := d.orphans(); len(left) != 1 {
				d.Errorf("%v is to be stopped", left)
			}
		},
		"so does one that was begun through another balancer": func(d *desk) {
			p := d.on("a", decision(web(1)), Accepted)
			d.poll("a", report)
			d.set(Down, "a", "c")
			d.ok(start(web(1)))
			d.set(In, "a", "c")
			d.is(p, "b", "moved")
			if left := d.orphans(); len(left) != 1 {
				d.Errorf("%v is to be stopped", left)
			}
		},
		// What Orphans hands out counts until enough readings lack it.
		"a plan does not move too much while what the last one left is being stopped": func(d *desk) {
			d.l.Drain(d.server("c"), true)
			var rep []Report
			for i := range 4 {
				d.watch("a", web(i))
				rep = append(rep, Report{ID: fmt.Sprint("tsid-", i), Work: GPU})
			}
			d.poll("a", rep...)
			for _, m := range d.l.Rebalance(d.now) {
				d.carry(m.Playback(), m.To.Name())
			}
			if plan := d.l.Rebalance(d.now); len(plan) > 0 {
				d.Errorf("at once it moves %d more", len(plan))
			}
			d.wait(time.Second).poll("a", rep...)
			for range 3 {
				d.l.Orphans(d.now)
			}
			if plan := d.l.Rebalance(d.now); len(plan) > 0 {
				d.Errorf("a second later it moves %d more", len(plan))
			}
		},
		// A server that fails fast looks idle.
		"a server where starts fail is no target of a plan": func(d *desk) {
			for i := range 4 {
				d.watch("a", web(i))
			}
			for i := range 3 {
				d.server("b").charge(fmt.Sprint("item", i), fmt.Sprint("client", i), d.l.since(d.now))
			}
			for _, m := range d.l.Rebalance(d.now) {
				if m.To == d.server("b") {
					d.Errorf("%s goes to b", m.ID)
				}
			}
		},
		// Resumed leaves a job on the same server as it is, one that a reading
		// has lacked already included.
		"one that its server forgot counts when it was begun there anew": func(d *desk) {
			p := d.watch("a", web(1))
			d.wait(time.Second).poll("a", report)
			d.wait(5 * time.Second).poll("a")
			d.arrives(d.setsOut(p, "a", Pinned))
			d.wait(time.Second).poll("a") // PMS lists it a moment later
			d.wants("a", 1, "not listed yet")
			d.wait(5*time.Second).poll("a", report)
			d.wants("a", 1, "listed")
		},
		// The playback takes over the state of the reservation, whatever it is.
		"a reservation that came and went does not end the playback": func(d *desk) {
			p := d.watch("a", web(1))
			r := d.l.Move(Mover{From: d.server("a"), To: d.server("b"), playback: p})
			d.chooses(r, "b", Resumed)
			d.wait(time.Second).poll("b", report)
			d.wait(time.Second).poll("b")
			d.wait(time.Second).poll("b")
			d.arrives(r)
			d.wants("b", 1, "resumed")
		},
		// Choose does not ask whether it is over, and puts its reservation in
		// the place of what its device plays now.
		"a choice for what is over takes nothing from what its device plays now": func(d *desk) {
			p := d.watch("a", kodi(1))
			r := d.l.Move(Mover{From: d.server("a"), To: d.server("b"), playback: p})
			d.stopped(kodi(1))
			d.watch("b", kodi(1), Query{Item: "next"})
			d.choose(r)
			d.tick(31 * time.Second)
			d.wants("b", 1, "in the end")
		},
		// ids.Transcode stays the id that nobody has begun.
		"one that goes on under a former id can be stopped by that": func(d *desk) {
			p := d.watch("a", web(1))
			better := web(1)
			better.Transcode = "tsid-1b"
			d.on("a", decision(better), Accepted)
			d.set(Down, "a", "c")
			r := d.l.Resume(p, "tsid-1")
			d.chooses(r, "b", Resumed)
			d.arrives(r)
			d.stopped(IDs{Transcode: "tsid-1", Client: "cid-1"})
			d.wants("b", 0, "stopped")
		},
		// Resume notes the old server, and Choose brings the playback to the
		// new one.
		"one whose server was forgotten and is known again can be carried": func(d *desk) {
			d.l.Configure(Settings{Replicated: true}, named(1, 1, 1)[1:], d.now)
			p := d.watch("a:32400", web(1))
			for range 11 {
				d.tick(time.Minute)
				d.l.FindSegment("tsid-1")
			}
			r := d.l.Resume(p, "")
			d.pool[0] = Candidate{Server: d.l.Admit("a:32400", d.now), Out: Down}
			d.set(Down, "c")
			d.chooses(r, "b", Resumed)
			d.arrives(r)
		},
		// The stop came before the start that brought it back.
		"what was begun anew on its own server after its end is to be stopped": func(d *desk) {
			p := d.watch("a", web(1))
			r := d.setsOut(p, "a", Pinned)
			d.stopped(web(1))
			if d.l.Resumed(r, d.now) {
				d.Error("it is resumed")
			}
			if left := d.orphans(); len(left) != 1 {
				d.Errorf("%v is to be stopped", left)
			}
		},
		// named prefers the former playback, which is over.
		"a client's next playback can be moved by the client's id": func(d *desk) {
			d.watch("a", web(1))
			d.stopped(web(1))
			next := web(2)
			next.Client = "cid-1"
			d.wait(time.Second).on("a", decision(next), Accepted)
			if _, ok := d.l.Mover("cid-1", nil); !ok {
				d.Error("it cannot be moved")
			}
		},
		// abandon asks the server whether it is gone.
		"one without a server chosen that comes too late is no accident": func(d *desk) {
			p := d.watch("a", web(1))
			r := d.l.Resume(p, "")
			d.stopped(web(1))
			defer func() {
				if e := recover(); e != nil {
					d.Error(e)
				}
			}()
			d.l.Resumed(r, d.now)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, Settings{Replicated: true, Idle: time.Hour}, named(1, 1, 1)...)
			tell(d)
			check(t, d.l)
		})
	}
}
