package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// called returns the stand-in of that name.
func called(servers []*plextest.Server, name string) *plextest.Server {
	for _, s := range servers {
		if serverName(s, servers) == name {
			return s
		}
	}
	panic("no server " + name)
}

// startsOf counts how often a transcode was started on any of the servers.
func startsOf(servers []*plextest.Server, tsid string) (n int) {
	for _, s := range servers {
		for _, e := range s.Log() {
			if e.TSID == tsid && strings.Contains(e.Path, "/universal/start") {
				n++
			}
		}
	}
	return n
}

// Many playbacks lose their sessions at once, and each player asks for several
// segments side by side: one start each brings them back.
func TestManyResumesAtOnce(t *testing.T) {
	const n = 80
	servers := stand(t, 3, nil)
	b := load(t, site(servers, replicated))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4 * n}}
	defer client.CloseIdleConnections()
	get := func(path string) (string, error) {
		res, err := client.Get(b.URL + path)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		at := res.Header.Get("X-Plextest-Server")
		if res.StatusCode != http.StatusOK {
			return at, fmt.Errorf("status %d from %q", res.StatusCode, at)
		}
		if got, _ := plextest.ReadBody(body); strings.Contains(path, "/session/") && !strings.Contains(path, got.Session) {
			return at, fmt.Errorf("got %v", got)
		}
		return at, err
	}
	side := func(what string, do func(i int) error) {
		t.Helper()
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				if err := do(i); err != nil {
					t.Errorf("%s of playback %d: %v", what, i, err)
				}
			})
		}
		wg.Wait()
	}
	at := make([]string, n)
	side("start", func(i int) error {
		ask := fmt.Sprintf("?path=%%2Flibrary%%2Fmetadata%%2F%d&protocol=hls&session=many-%d-&X-Plex-Client-Identifier=device-%d&X-Plex-Token=%s", 1+i%8, i, i, token)
		_, err := get("/video/:/transcode/universal/decision" + ask)
		if err == nil {
			at[i], err = get("/video/:/transcode/universal/start.m3u8" + ask)
		}
		return err
	})
	segments := func(i int) error {
		errs := make([]error, 4)
		var wg sync.WaitGroup
		for k := range errs {
			wg.Go(func() {
				began := time.Now()
				_, errs[k] = get(fmt.Sprintf("/video/:/transcode/universal/session/many-%d-/base/%05d.ts", i, k+1))
				if took := time.Since(began); took > 5*time.Second {
					errs[k] = errors.Join(errs[k], fmt.Errorf("took %v", took))
				}
			})
		}
		wg.Wait()
		return errors.Join(errs...)
	}
	for _, s := range servers {
		s.Forget()
	}
	side("segments after the sessions were forgotten", segments)
	for i := range n {
		if got := startsOf(servers, fmt.Sprintf("many-%d-", i)); got != 2 {
			t.Errorf("playback %d was started %d times, want once and once again", i, got)
		}
	}
	servers[1].Close()
	side("segments after the loss of a server", segments)
	for i := range n {
		want := 2
		if at[i] == "plex2" {
			want = 3
		}
		if got := startsOf(servers, fmt.Sprintf("many-%d-", i)); got != want {
			t.Errorf("playback %d was started %d times in the end, want %d", i, got, want)
		}
	}
	if a, b := len(servers[0].Jobs()), len(servers[2].Jobs()); a+b != n || a < n/3 || b < n/3 {
		t.Errorf("%d and %d transcodes, want %d in all and spread", a, b, n)
	}
}

// What a viewer has chosen last is what goes on elsewhere.
func TestResumeKeepsWhatWasChosen(t *testing.T) {
	for _, kind := range []plextest.ViewerKind{plextest.Mobile, plextest.PlexWeb, plextest.Plezy} {
		t.Run(string(kind), func(t *testing.T) {
			servers := stand(t, 3, nil)
			b := load(t, site(servers, replicated))
			v := plextest.NewViewer(kind, b.URL, token, plextest.HEVC, 1)
			defer v.Close()
			ctx := t.Context()
			if err := errors.Join(v.Start(ctx), v.Segment(ctx, 0), v.ChooseStreams(ctx, "4242", "4343"), v.ChangeQuality(ctx, 2000), v.Segment(ctx, 1)); err != nil {
				t.Fatal(err)
			}
			home := v.Account().Servers()[0]
			called(servers, home).Close()
			if err := v.Segment(ctx, 2); err != nil {
				t.Fatal(err)
			}
			all := v.Observed()
			if o := all[len(all)-1]; o.Server == home || o.Body.Audio != "4242" || o.Body.Subtitle != "4343" || o.Body.Quality != 2000 {
				t.Errorf("segment is %v, want audio 4242, subtitle 4343 and quality 2000 from another server than %s", o.Body, home)
			}
			if got := v.Account().Servers(); len(got) != 2 {
				t.Errorf("was on %v", got)
			}
		})
	}
}

// A server that has no room for a playback does not end it, if another has.
func TestResumeGoesWhereThereIsRoom(t *testing.T) {
	servers := stand(t, 3, nil)
	// Whatever plays, plex2 comes first and then plex3.
	b := load(t, site(servers, replicated, 0.01, 100, 1))
	v := plextest.NewViewer(plextest.Mobile, b.URL, token, plextest.HEVC, 1)
	if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
		t.Fatal(err)
	}
	if got := v.Account().Servers(); got[0] != "plex2" {
		t.Fatalf("started on %v", got)
	}
	// It lost its session, and others have taken its place.
	servers[1].Forget()
	servers[1].SetTranscodeLimit(1)
	servers[1].AddBypass(1)
	if err := v.Segment(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got := v.Account().Servers(); len(got) != 2 || got[1] != "plex3" {
		t.Errorf("was on %v, want it to go on at plex3", got)
	}
}

// Who gives up waiting takes nothing from those who wait for the same.
func TestLeaverDoesNotEndAResume(t *testing.T) {
	servers := stand(t, 2, nil)
	b := load(t, site(servers, replicated))
	v := plextest.NewViewer(plextest.Mobile, b.URL, token, plextest.HEVC, 1)
	if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		s.Forget()
		s.SetDelay(400 * time.Millisecond)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond) // after the 404, in the middle of the decision
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		r, _ := http.NewRequestWithContext(impatient, http.MethodGet, b.URL+"/video/:/transcode/universal/session/"+v.TSID+"/base/00001.ts", nil)
		if res, err := http.DefaultClient.Do(r); err == nil {
			res.Body.Close()
			t.Errorf("status %d: the test tests nothing", res.StatusCode)
		}
	})
	time.Sleep(100 * time.Millisecond)
	if err := v.Segment(t.Context(), 2); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if w := v.Account().Longest(); w.Took > 3*time.Second {
		t.Errorf("waited %v", w.Took)
	}
	if n := startsOf(servers, v.TSID); n > 3 {
		t.Errorf("started %d times", n)
	}
}

// What cannot be done now may be possible soon: players take 503 for that, and
// 404 for the end [P §4.5].
func TestResumeThatCannotBeDoneYet(t *testing.T) {
	servers := stand(t, 2, nil)
	b := load(t, site(servers, replicated))
	v := plextest.NewViewer(plextest.Mobile, b.URL, token, plextest.HEVC, 1)
	if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		s.Forget()
		s.FailStarts(http.StatusServiceUnavailable)
	}
	path := "/video/:/transcode/universal/session/" + v.TSID + "/base/00001.ts"
	for range 2 {
		status, header, _ := b.get(path)
		if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
			t.Errorf("status %d, Retry-After %q; want 503 with one", status, header.Get("Retry-After"))
		}
	}
	for _, s := range servers {
		s.FailStarts(0)
	}
	eventually(t, "it goes on when that is possible", 10*time.Second, func() bool {
		status, _, _ := b.get(path)
		return status == http.StatusOK
	})
}
