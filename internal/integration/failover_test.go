//go:build unix

package integration

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// A server dies, and comes back later. Whoever watched there has to wait for
// one segment; nobody else notices.
func TestKilledServer(t *testing.T) {
	for name, tc := range map[string]struct {
		kinds   []plextest.ViewerKind
		killed  string
		reloads bool
	}{
		"HLS":                          {hlsKinds, "plex2", false},
		"DASH and music, the primary":  {dashKinds, "plex1", false},
		"while the config is reloaded": {segmentKinds, "plex3", true},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFleet(t, 3, clones...)
			config := f.site(replicated)
			b := load(t, config)
			a := invite(t, b.URL, 18, tc.kinds...)
			a.play(15 * time.Second)
			if a.reloads = tc.reloads; a.reloads {
				reloading := reloadOften(t, b, config)
				defer reloading()
			}
			time.Sleep(2 * time.Second)
			before := a.at()
			if n := count(before, tc.killed); n < 3 {
				t.Fatalf("%d of 18 viewers are on %s: the test tests little", n, tc.killed)
			}
			f.named(tc.killed).kill()
			time.Sleep(3500 * time.Millisecond)
			starts := f.starts()
			f.named(tc.killed).start()
			time.Sleep(2 * time.Second)
			a.oneEncoderEach(f)
			a.unharmed(3 * time.Second)
			a.movedFrom(tc.killed, before)
			// Requests that waited side by side were served by one start. A
			// reload may cut off an answer that waits, which is asked for again.
			for i, v := range a.viewers {
				if n := starts[v.TSID]; before[i] == tc.killed && n != 1 && !tc.reloads {
					t.Errorf("%s was started %d times after the loss", a.who(i), n)
				}
			}
		})
	}
}

// reloadOften reloads a config with a small change twice a second, until the
// returned function is called.
func reloadOften(t *testing.T, b *balancer, config string) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-time.After(500 * time.Millisecond):
			}
			if err := b.reload(strings.Replace(config, "HERE {\n", fmt.Sprintf("HERE {\nheader X-Reload %d\n", n), 1)); err != nil {
				t.Errorf("reload %d: %v", n, err)
				return
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// oneEncoderEach checks that each viewer has one transcode on all servers, and
// that there are no others.
func (a *audience) oneEncoderEach(f fleet) {
	a.t.Helper()
	n := make(map[string]int)
	for _, j := range f.jobs() {
		n[j.TSID]++
	}
	for i, v := range a.viewers {
		if n[v.TSID] != 1 {
			a.t.Errorf("%s has %d encoders", a.who(i), n[v.TSID])
		}
		delete(n, v.TSID)
	}
	if len(n) > 0 {
		a.t.Errorf("encoders of nobody: %v", n)
	}
}

// A server accepts and answers nothing any more, until it wakes up.
func TestStoppedServer(t *testing.T) {
	f := startFleet(t, 3, clones...)
	b := load(t, f.site(replicated))
	a := invite(t, b.URL, 12, segmentKinds...)
	a.play(22 * time.Second)
	time.Sleep(time.Second)
	before := a.at()
	if n := count(before, "plex1"); n < 2 {
		t.Fatalf("%d of 12 viewers are on plex1: the test tests little", n)
	}
	primary := f.named("plex1")
	primary.stop()
	stuck := a.viewers[slices.Index(before, "plex1")]
	defer writeToStopped(t, b, f, stuck)()
	defer pingStopped(t, b, stuck)()
	time.Sleep(11 * time.Second) // two checks that fail, and the six seconds of a buffer
	if now := a.at(); slices.Contains(now, "plex1") {
		t.Errorf("viewers are at %v, plex1 does not answer", now)
	}
	a.oneEncoderEach(f[1:])
	primary.cont()
	eventually(t, "old transcodes are stopped on the server that woke up", 15*time.Second, func() bool { return len(primary.jobs()) == 0 })
	a.unharmed(9 * time.Second)
	a.movedFrom("plex1", before)
}

// pingStopped sends what controls a playback on a server that does not answer.
// The returned function checks that it was not left there.
func pingStopped(t *testing.T, b *balancer, v *plextest.Viewer) (check func()) {
	began := time.Now()
	answered := make(chan error, 1)
	go func() {
		client := &http.Client{Timeout: 9 * time.Second}
		res, err := client.Get(b.URL + "/video/:/transcode/universal/ping?session=" + v.TSID + "&X-Plex-Token=" + token)
		if err == nil {
			res.Body.Close()
			t.Logf("ping: status %d from %q after %v", res.StatusCode, res.Header.Get("X-Plextest-Server"), time.Since(began).Round(time.Millisecond))
		}
		answered <- err
	}()
	return func() {
		t.Helper()
		if err := <-answered; err != nil {
			t.Errorf("ping: %v", err)
		}
	}
}

// writeToStopped sends requests that write to a primary that does not answer,
// one of them for a playback there. The returned function checks that none was
// sent twice.
func writeToStopped(t *testing.T, b *balancer, f fleet, v *plextest.Viewer) (check func()) {
	writes := []string{
		"GET /:/scrobble?key=1&identifier=com.plexapp.plugins.library",
		"PUT /library/parts/1?audioStreamID=2",
		"POST /playQueues?type=video&uri=x",
		"PUT /:/prefs?TranscodeCountLimit=0",
		"POST /video/:/transcode/universal/fallback?session=" + v.TSID,
	}
	client := &http.Client{Timeout: 15 * time.Second}
	var wg sync.WaitGroup
	for i, w := range writes {
		method, path, _ := strings.Cut(w, " ")
		wg.Go(func() {
			r, _ := http.NewRequest(method, fmt.Sprintf("%s%s&mark=write-%d", b.URL, path, i), http.NoBody)
			r.Header.Set("X-Plex-Token", token)
			r.Header.Set("X-Plex-Client-Identifier", "writer")
			if res, err := client.Do(r); err == nil {
				res.Body.Close()
				if at := res.Header.Get("X-Plextest-Server"); at != "plex1" && at != "" {
					t.Errorf("%s: status %d from %s, it was sent to plex1", w, res.StatusCode, at)
				}
			}
		})
	}
	return func() {
		t.Helper()
		wg.Wait()
		for i, w := range writes {
			n := 0
			for _, s := range f {
				for _, e := range s.log() {
					if strings.Contains(e.Query, fmt.Sprintf("mark=write-%d", i)) {
						n++
					}
				}
			}
			if n > 1 {
				t.Errorf("%s arrived %d times", w, n)
			}
		}
	}
}

// A server loses its sessions and goes on: each playback heals where it is, with
// nothing worse than one slow segment.
func TestForgottenSessions(t *testing.T) {
	f := startFleet(t, 3, clones...)
	b := load(t, f.site(replicated))
	a := invite(t, b.URL, 12, segmentKinds...)
	a.play(13 * time.Second)
	before := a.at()
	for _, s := range f {
		time.Sleep(1500 * time.Millisecond)
		s.forget()
	}
	time.Sleep(2 * time.Second)
	a.oneEncoderEach(f)
	a.unharmed(3 * time.Second)
	a.movedFrom("", before)
	for i, v := range a.viewers {
		slow := make(map[string]bool) // by number: sound and picture wait together
		for _, w := range v.Account().Waits {
			if _, number, _ := strings.Cut(w.Asked, "/"); w.Took > 500*time.Millisecond {
				slow[number] = true
			}
		}
		if len(slow) > 1 {
			t.Errorf("%s waited for %d segments", a.who(i), len(slow))
		}
	}
}

// A paused playback whose transcode was killed goes on when the viewer does.
func TestPausedPlaybackGoesOn(t *testing.T) {
	f := startFleet(t, 3, append([]string{"-reap", "2s"}, clones...)...)
	b := load(t, f.site(replicated))
	a := invite(t, b.URL, len(segmentKinds), segmentKinds...)
	each := func(what string, do func(v *plextest.Viewer) error) {
		t.Helper()
		var wg sync.WaitGroup
		for i, v := range a.viewers {
			wg.Go(func() {
				if err := do(v); err != nil {
					t.Errorf("%s: %s: %v", a.who(i), what, err)
				}
			})
		}
		wg.Wait()
	}
	each("start", func(v *plextest.Viewer) error { return v.Start(t.Context()) })
	each("first segment", func(v *plextest.Viewer) error { return v.Segment(t.Context(), 0) })
	each("pause", func(v *plextest.Viewer) error { return v.Timeline(t.Context(), "paused") })
	before := a.at()
	eventually(t, "all transcodes are reaped", 10*time.Second, func() bool { return len(f.jobs()) == 0 })
	each("segment after the pause", func(v *plextest.Viewer) error { return v.Segment(t.Context(), 1) })
	each("timeline after the pause", func(v *plextest.Viewer) error { return v.Timeline(t.Context(), "playing") })
	each("segment after that", func(v *plextest.Viewer) error { return v.Segment(t.Context(), 2) })
	a.unharmed(3 * time.Second)
	a.movedFrom("", before)
}

// A stream ends with its server, and the client begins another; a file is the
// same everywhere.
func TestStreamsAndFilesGoOnElsewhere(t *testing.T) {
	f := startFleet(t, 2, clones...)
	b := load(t, f.site(replicated))
	a := invite(t, b.URL, 8, plextest.MusicHTTP, plextest.DirectPlay)
	a.play(6 * time.Second)
	time.Sleep(time.Second)
	before := a.at()
	if count(before, "plex2") == 0 {
		t.Fatal("nobody is on plex2: the test tests nothing")
	}
	f.named("plex2").kill()
	a.unharmed(5 * time.Second)
	a.movedFrom("plex2", before)
	streams := uint64(0)
	for i, v := range a.viewers {
		if v.Kind == plextest.MusicHTTP && before[i] == "plex2" {
			streams++
		}
	}
	if lost := b.ledger().Totals().Lost; lost != streams || lost == 0 {
		t.Errorf("%d playbacks are counted as lost, want the %d streams", lost, streams)
	}
}
