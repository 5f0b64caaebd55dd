package plextest

import (
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// What a player has to go through for one segment counts as one wait.
func TestAccount(t *testing.T) {
	s := pms(t, Config{Name: "plex7", SegmentDuration: 50 * time.Millisecond})
	var trouble atomic.Value
	trouble.Store("")
	base := newHTTPServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch trouble.Swap("") {
		case "breaks":
			panic(http.ErrAbortHandler)
		case "breaks in the middle":
			w.Header().Set("Content-Length", "9999")
			_, _ = w.Write([]byte("plextest server=plex7"))
			panic(http.ErrAbortHandler)
		case "unavailable":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "empty":
		default:
			s.ServeHTTP(w, r)
		}
	}))
	for name, tc := range map[string]struct{ refused, wrong int }{
		"breaks":               {0, 0},
		"breaks in the middle": {0, 0},
		"unavailable":          {1, 0},
		"empty":                {0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			v := NewViewer(MPVShim, base, "owner-token", HEVC, 1)
			defer v.Close()
			if err := v.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			// A connection that has been idle would be tried again by the
			// client itself.
			v.HTTP.CloseIdleConnections()
			trouble.Store(name)
			if err := v.endure(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			a := v.Account()
			if len(a.Refused) != tc.refused || len(a.Wrong) != tc.wrong || len(a.Missing) > 0 {
				t.Errorf("%d refused, %d wrong, missing %q", len(a.Refused), len(a.Wrong), a.Missing)
			}
			if len(a.Waits) != 2 {
				t.Fatalf("%d waits for a playlist and a segment", len(a.Waits))
			}
			if w := a.Longest(); w.Asked != "base/0" || w.Tries != 2 || w.Took < 100*time.Millisecond || w.Server != "plex7" {
				t.Errorf("the wait was %+v, want one with the player's pause between two tries", w)
			}
		})
	}
}

func TestAccountOfEveryKind(t *testing.T) {
	for _, kind := range Kinds() {
		s := pms(t, Config{Name: "plex7"})
		v := viewer(t, kind, s, 1)
		if err := v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		for n := range 3 {
			if err := v.Segment(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		a := v.Account()
		want := 3
		switch v.habits.protocol {
		case "hls":
			want = 4 // with the playlist
		case "dash": // each with its header
			want = 4 * len(v.representations())
		}
		if len(a.Waits) != want || len(a.Missing)+len(a.Refused)+len(a.Wrong) > 0 || !slices.Equal(a.Servers(), []string{"plex7"}) {
			t.Errorf("%s: %d waits, want %d; servers %q; missing %q, %d refused, %d wrong",
				kind, len(a.Waits), want, a.Servers(), a.Missing, len(a.Refused), len(a.Wrong))
		}
		s.Forget()
		if kind == DirectPlay || kind == MusicHTTP {
			continue
		}
		if err := v.Segment(t.Context(), 9); err == nil {
			t.Errorf("%s: a segment of a forgotten session", kind)
		}
		if a := v.Account(); len(a.Missing) == 0 || len(a.Refused) == 0 {
			t.Errorf("%s: missing %q, %d refused; want what was not found", kind, a.Missing, len(a.Refused))
		}
	}
}

// A player does not wait for what it only reports.
func TestReportsHoldNothingUp(t *testing.T) {
	s := pms(t, Config{SegmentDuration: 50 * time.Millisecond})
	var timelines atomic.Int32
	base := newHTTPServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/:/timeline" && r.URL.Query().Get("state") == "playing" && timelines.Add(1) > 1 {
			<-r.Context().Done()
			return
		}
		s.ServeHTTP(w, r)
	}))
	v := NewViewer(MPVShim, base, "owner-token", HEVC, 1)
	defer v.Close()
	v.TimelineEvery = 50 * time.Millisecond
	begin := time.Now()
	if err := v.Play(t.Context(), 500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if n := len(v.Account().Waits); n < 10 {
		t.Errorf("%d segments in the time of 10", n)
	}
	if n := timelines.Load(); n != 2 {
		t.Errorf("%d timelines, want one at the beginning and one that hangs", n)
	}
}

// Two segments in one answer are none.
func TestPaddingIsChecked(t *testing.T) {
	v := NewViewer(MPVShim, "", "", "1", 1)
	one := Body{Session: "s", Rep: "base", Item: "1"}.bytes(600)
	if _, err := v.check(one, "s", "base", 0); err != nil {
		t.Error(err)
	}
	if _, err := v.check(append(one[:300:300], one...), "s", "base", 0); err == nil {
		t.Error("one and a half segments passed for one")
	}
}
