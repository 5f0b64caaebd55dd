//go:build unix

package integration

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
	"github.com/plexlb/caddy-plexlb/plexlb"
)

// app returns the one of the running Caddy.
func (b *balancer) app() *plexlb.App {
	b.t.Helper()
	app, err := caddy.ActiveContext().AppIfConfigured("plexlb")
	if err != nil {
		b.t.Fatalf("no app: %v", err)
	}
	return app.(*plexlb.App)
}

// A server is emptied for an update while people watch.
func TestDrainWithMove(t *testing.T) {
	f := startFleet(t, 3, clones...)
	b := load(t, f.site(replicated))
	a := invite(t, b.URL, 14, slices.Concat(segmentKinds, []plextest.ViewerKind{plextest.DirectPlay})...)
	a.play(14 * time.Second)
	time.Sleep(2 * time.Second)
	before := a.at()
	if n := count(before, "plex2"); n < 3 {
		t.Fatalf("%d of 14 viewers are on plex2: the test tests little", n)
	}
	if err := b.app().Drain("plex2", true, 3*time.Second); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if now := a.at(); !slices.Equal(now, before) {
		t.Errorf("before the deadline they went from %v to %v", before, now)
	}
	eventually(t, "nobody is on plex2", 8*time.Second, func() bool { return count(a.at(), "plex2") == 0 })
	// A server is told to stop one a second, is read in between, and asked once more
	// after 15 s if it does not answer.
	eventually(t, "its sessions are stopped", time.Duration(2*count(before, "plex2")+20)*time.Second, func() bool {
		return len(f.named("plex2").jobs()) == 0
	})
	late := invite(t, b.URL, 3, plextest.Mobile)
	late.play(time.Second)
	late.unharmed(2 * time.Second)
	if n := count(late.at(), "plex2"); n > 0 {
		t.Errorf("%d new playbacks are on the draining server", n)
	}
	a.unharmed(2 * time.Second)
	a.movedFrom("plex2", before)
	if got, want := b.ledger().Totals().Moved, uint64(count(before, "plex2")); got != want {
		t.Errorf("%d moves are counted, want %d", got, want)
	}

	if err := b.app().Undrain("plex2"); err != nil {
		t.Fatal(err)
	}
	again := invite(t, b.URL, 1, plextest.PlexWeb)
	again.play(500 * time.Millisecond)
	again.unharmed(2 * time.Second)
	if b.server("plex2").Draining {
		t.Error("plex2 is still draining")
	}
}

// A paused viewer sends pings and timelines only, and is carried all the same.
func TestMovePaused(t *testing.T) {
	f := startFleet(t, 2, clones...)
	b := load(t, f.site(replicated))
	a := invite(t, b.URL, 1, plextest.Plezy)
	v := a.viewers[0]
	if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0), v.Timeline(t.Context(), "paused")); err != nil {
		t.Fatal(err)
	}
	from := a.at()[0]
	to := map[string]string{"plex1": "plex2", "plex2": "plex1"}[from]
	if err := b.app().Move(t.Context(), v.TSID, to); err != nil {
		t.Fatal(err)
	}
	if n := len(f.named(to).jobs()); n != 1 {
		t.Errorf("%d transcodes on %s after the move", n, to)
	}
	eventually(t, "the old session is stopped", 5*time.Second, func() bool { return len(f.named(from).jobs()) == 0 })
	if err := errors.Join(v.Ping(t.Context()), v.Segment(t.Context(), 1), v.Timeline(t.Context(), "playing")); err != nil {
		t.Fatal(err)
	}
	a.unharmed(time.Second)
	if at := a.at()[0]; at != to {
		t.Errorf("after the move it is on %s, want %s", at, to)
	}
	if p, _ := b.ledger().Explain(v.TSID); p.Moves != 1 || p.Why.Reason.String() != "resumed" || len(p.Why.Table) != 2 {
		t.Errorf("it is explained by %+v", p.Why)
	}

	for what, tc := range map[string]struct {
		do   func() error
		want error
	}{
		"unknown server":      {func() error { return b.app().Move(t.Context(), v.TSID, "plex9") }, plexlb.ErrUnknown},
		"unknown session":     {func() error { return b.app().Move(t.Context(), "nobody", "plex1") }, plexlb.ErrUnknown},
		"drain unknown":       {func() error { return b.app().Drain("plex9", false, 0) }, plexlb.ErrUnknown},
		"undrain unknown":     {func() error { return b.app().Undrain("plex9") }, plexlb.ErrUnknown},
		"where it is already": {func() error { return b.app().Move(t.Context(), v.TSID, to) }, nil},
		"to a draining server": {func() error {
			return errors.Join(b.app().Drain(from, false, 0), b.app().Move(t.Context(), v.TSID, from))
		}, plexlb.ErrImpossible},
	} {
		if err := tc.do(); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", what, err, tc.want)
		}
	}
	if at := a.at()[0]; at != to || len(f.named(from).jobs()) > 0 {
		t.Errorf("what was refused was done: it is on %s", at)
	}
}

// All are on one server, as the others were away; then they are shared out.
func TestRebalance(t *testing.T) {
	f := startFleet(t, 3, clones...)
	b := load(t, f.site(replicated))
	for _, name := range []string{"plex2", "plex3"} {
		if err := b.app().Drain(name, false, 0); err != nil {
			t.Fatal(err)
		}
	}
	a := invite(t, b.URL, 9, plextest.MPVShim, plextest.Plezy, plextest.PlexAPIRust)
	a.play(9 * time.Second)
	time.Sleep(time.Second)
	if n := count(a.at(), "plex1"); n != 9 {
		t.Fatalf("%d of 9 are on plex1", n)
	}
	for _, name := range []string{"plex2", "plex3"} {
		if err := b.app().Undrain(name); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
	plan, err := b.app().Rebalance(t.Context(), true)
	if err != nil || len(plan) == 0 {
		t.Fatalf("the plan is %v, %v", plan, err)
	}
	time.Sleep(500 * time.Millisecond)
	if n := count(a.at(), "plex1"); n != 9 {
		t.Errorf("a plan has moved %d", 9-n)
	}
	moved, err := b.app().Rebalance(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range moved {
		if m.Err != nil || m.From != "plex1" || m.To == "plex1" {
			t.Errorf("%+v", m)
		}
	}
	loads := make(map[string]float64)
	for _, s := range b.ledger().View(time.Now()) {
		loads[s.Name] = s.Load
	}
	if again, err := b.app().Rebalance(t.Context(), true); err != nil || len(again) > 0 {
		t.Errorf("loads are %v, and there is more to move: %v, %v", loads, again, err)
	}
	a.unharmed(2 * time.Second)
	for i, v := range a.viewers {
		if servers := v.Account().Servers(); len(servers) > 2 {
			t.Errorf("%s was on %v", a.who(i), servers)
		}
	}
	for _, name := range []string{"plex1", "plex2", "plex3"} {
		if n := count(a.at(), name); n == 0 {
			t.Errorf("nobody is on %s; loads were %v", name, loads)
		}
	}
}

// Libraries of their own: nothing can be carried, and it is said so.
func TestNoMovesBetweenLibraries(t *testing.T) {
	f := startFleet(t, 2)
	b := load(t, f.site(""))
	a := invite(t, b.URL, 1, plextest.Mobile)
	a.play(2 * time.Second)
	from := a.at()[0]
	to := map[string]string{"plex1": "plex2", "plex2": "plex1"}[from]
	_, rebalanced := b.app().Rebalance(t.Context(), false)
	for what, err := range map[string]error{
		"move":      b.app().Move(t.Context(), a.viewers[0].TSID, to),
		"drain":     b.app().Drain(from, true, 0),
		"rebalance": rebalanced,
	} {
		if !errors.Is(err, plexlb.ErrImpossible) {
			t.Errorf("%s: %v", what, err)
		}
	}
	a.unharmed(time.Second)
	a.movedFrom("", []string{from})
}
