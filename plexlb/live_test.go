package plexlb

import (
	"strings"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
)

// newLive returns an app with one server, whose pages are told by hand.
func newLive(now time.Time) *App {
	st := &state{ledger: cluster.NewLedger(now)}
	st.ledger.Configure(cluster.Settings{Costs: cluster.DefaultCosts}, []cluster.ServerSettings{{Name: "plex1", Address: "a:1", Weight: 1}}, now)
	return &App{state: st, Mode: ModeSeparate}
}

// Nobody waits for a page that does not read.
func TestSlowPagesAreLeft(t *testing.T) {
	now := time.Now()
	a := newLive(now)
	slow, err := a.state.live.open(a, false, now)
	if err != nil {
		t.Fatal(err)
	}
	quick, err := a.state.live.open(a, false, now)
	if err != nil {
		t.Fatal(err)
	}
	<-quick.messages
	for range 40 {
		now = now.Add(time.Second)
		a.state.live.moved(moveNews{Session: "x"})
		a.state.live.show(a, now)
		if text := string(<-quick.messages); !strings.HasPrefix(text, "event: change\n") || strings.Count(text, `"session":"x"`) != 1 {
			t.Fatalf("a page is told %q", text)
		}
	}
	n := 0
	for range slow.messages {
		n++
	}
	if n != cap(slow.messages) {
		t.Errorf("the slow page got %d messages before it was left, want %d", n, cap(slow.messages))
	}
}

func TestPagesHearNothingNew(t *testing.T) {
	now := time.Now()
	a := newLive(now)
	p, err := a.state.live.open(a, false, now)
	if err != nil {
		t.Fatal(err)
	}
	<-p.messages
	a.state.live.show(a, now) // the first point of the history
	<-p.messages
	for i := range 14 {
		a.state.live.show(a, now.Add(time.Duration(i+1)*time.Second))
	}
	if n := len(p.messages); n != 0 {
		t.Fatalf("%d messages without news: %s", n, <-p.messages)
	}
	a.state.live.show(a, now.Add(beat))
	if text := string(<-p.messages); !strings.HasPrefix(text, "event: beat\n") {
		t.Errorf("a sign of life is %q", text)
	}
}

func TestHistoryIsOfTheLastHour(t *testing.T) {
	now := time.Now()
	a := newLive(now)
	for range 4 * 3600 {
		now = now.Add(time.Second)
		a.state.live.show(a, now)
	}
	if n := len(a.state.live.history["plex1"]); n != 180 {
		t.Errorf("after four hours there are %d points, want 180", n)
	}
	// A server that is gone takes its history with it.
	a.state.ledger.Configure(cluster.Settings{Costs: cluster.DefaultCosts}, []cluster.ServerSettings{{Name: "plex2", Address: "b:1", Weight: 1}}, now)
	a.state.ledger.Tick(now)
	now = now.Add(historyStep)
	a.state.live.show(a, now)
	if h := a.state.live.history; len(h["plex2"]) != 1 {
		t.Errorf("the history is of %v", h)
	}
}
