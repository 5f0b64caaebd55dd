package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// A server that takes long over a segment, after a deep seek say, is not a lost
// one [P §4.1].
func TestLongFirstSegmentIsLeftAlone(t *testing.T) {
	const long = 12 * time.Second
	servers := stand(t, 3, func(_ int, cfg *plextest.Config) { cfg.Startup = long })
	b := load(t, site(servers, replicated))
	hls := plextest.NewViewer(plextest.Mobile, b.URL, token, plextest.HEVC, 1)
	dash := plextest.NewViewer(plextest.PlexWeb, b.URL, token, "2", 2)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := errors.Join(hls.Start(t.Context()), hls.Segment(t.Context(), 300)); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() { // whose headers take as long
		if err := errors.Join(dash.Start(t.Context()), dash.Segment(t.Context(), 0)); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	for _, v := range []*plextest.Viewer{hls, dash} {
		a := v.Account()
		if w := a.Longest(); w.Took < long-time.Second || w.Took > long+3*time.Second || w.Tries != 1 {
			t.Errorf("%s: waited %v in %d tries, want %v in one", v.Kind, w.Took, w.Tries, long)
		}
		if got := v.Servers(); len(got) != 1 {
			t.Errorf("%s: was on %v", v.Kind, got)
		}
		asked := make(map[string]int)
		for _, s := range servers {
			for _, e := range s.Log() {
				if e.TSID == v.TSID {
					asked[e.Path]++
				}
			}
		}
		for path, n := range asked {
			if n != 1 {
				t.Errorf("%s: %s arrived %d times", v.Kind, path, n)
			}
		}
	}
}

// A 404 that means nothing is passed on, and starts nothing [P §4.2].
func TestSegmentZeroAfterAnOffset(t *testing.T) {
	servers := stand(t, 2, nil)
	b := load(t, site(servers, replicated))
	for protocol, segment := range map[string]string{"m3u8": "base/%05d.ts", "mpd": "0/%d.m4s"} {
		query := "path=%2Flibrary%2Fmetadata%2F1&offset=6&session=late-" + protocol + "&X-Plex-Client-Identifier=late-" + protocol + "&X-Plex-Token=" + token +
			"&protocol=" + map[string]string{"m3u8": "hls", "mpd": "dash"}[protocol]
		for _, what := range []string{"decision", "start." + protocol} {
			if status, _, _ := b.get("/video/:/transcode/universal/" + what + "?" + query); status != http.StatusOK {
				t.Fatalf("%s: status %d", what, status)
			}
		}
		get := func(n int) (int, time.Duration) {
			began := time.Now()
			status, _, _ := b.get("/video/:/transcode/universal/session/late-" + protocol + "/" + fmt.Sprintf(segment, n))
			return status, time.Since(began)
		}
		for range 3 {
			if status, took := get(0); status != http.StatusNotFound || took > time.Second {
				t.Errorf("%s: segment 0 before the offset got %d after %v, want 404 at once", protocol, status, took)
			}
		}
		if status, _ := get(6); status != http.StatusOK {
			t.Errorf("%s: segment 6 got %d", protocol, status)
		}
	}
	starts := 0
	for _, s := range servers {
		for _, e := range s.Log() {
			if strings.Contains(e.Path, "/universal/start") {
				starts++
			}
		}
	}
	if starts != 2 {
		t.Errorf("%d starts for two playbacks", starts)
	}
}

// Anybody can make up ids, and servers must not have to answer for it.
func TestJunkSegmentsAskLittle(t *testing.T) {
	servers := stand(t, 3, nil)
	b := load(t, site(servers, replicated))
	v := plextest.NewViewer(plextest.Mobile, b.URL, token, plextest.HEVC, 1)
	if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
		t.Fatal(err)
	}
	// asked is how often each server was asked whether it holds a session.
	asked := func(id string) []int {
		n := make([]int, len(servers))
		for i, s := range servers {
			for _, e := range s.Log() {
				if strings.HasPrefix(e.Path, "/transcode/sessions/"+id) {
					n[i]++
				}
			}
		}
		return n
	}
	segment := func(id string, n int) string {
		return fmt.Sprintf("/video/:/transcode/universal/session/%s/%s", id, [...]string{"base/%05d.ts", "0/%d.m4s", "1/header"}[n%3])
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	junk := func(id string, n int) {
		path := segment(id, n)
		if strings.Contains(path, "%") {
			path = fmt.Sprintf(path, n)
		}
		res, err := client.Get(b.URL + path)
		if err != nil {
			t.Error(err)
			return
		}
		res.Body.Close()
		if res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: status %d", path, res.StatusCode)
		}
	}

	for range 50 {
		junk("one-and-the-same-unknown", 7)
	}
	for i, n := range asked("one-and-the-same-unknown") {
		if n > 3 {
			t.Errorf("plex%d was asked %d times for one id", i+1, n)
		}
	}

	began := time.Now()
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 2000 / 16 {
				junk(fmt.Sprintf("%024x", rng.Uint64()), rng.IntN(1000))
			}
		})
	}
	// Who is known plays on meanwhile.
	for n := 1; n < 4; n++ {
		if err := v.Segment(t.Context(), n); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("2,000 requests took %v", took)
	}
	if w := v.Account().Longest(); w.Took > time.Second {
		t.Errorf("a known playback waited %v", w.Took)
	}
	for i, n := range asked("") {
		if n > 300 {
			t.Errorf("plex%d was asked for %d sessions", i+1, n)
		}
	}
	if n, _ := b.ledger().Len(); n != 1 {
		t.Errorf("%d playbacks are known, want the one there is", n)
	}

	// What began past this balancer is found all the same.
	other := plextest.NewViewer(plextest.Mobile, servers[1].URL(), token, "2", 2)
	if err := other.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	other.Base = b.URL
	eventually(t, "a playback that nobody has made up is found", 3*time.Second, func() bool {
		return other.Segment(t.Context(), 0) == nil
	})
	if got := other.Account().Servers(); !slices.Equal(got, []string{"plex2"}) {
		t.Errorf("it was found on %v", got)
	}
}
