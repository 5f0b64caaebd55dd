//go:build unix

package integration

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// apart are servers with a library and an identity each.
var apart = []string{"-machine", "NAME", "-database", "NAME"}

// Where every server has its own library, a playback can go on nowhere else.
// It heals on its own server as long as there is one.
func TestSeparateLibraries(t *testing.T) {
	f := startFleet(t, 3, apart...)
	b := load(t, f.site(""))

	t.Run("a server that lost its sessions goes on", func(t *testing.T) {
		a := invite(t, b.URL, 11, segmentKinds...)
		a.play(11 * time.Second)
		before := a.at()
		time.Sleep(500 * time.Millisecond)
		for _, s := range f {
			s.forget()
		}
		time.Sleep(2 * time.Second)
		f[0].kill() // as for an update
		f[0].start()
		time.Sleep(2 * time.Second)
		a.oneEncoderEach(f)
		a.unharmed(5 * time.Second)
		a.movedFrom("", before)
	})

	t.Run("a server that is gone", func(t *testing.T) {
		lost := plextest.NewViewer(plextest.Mobile, b.URL, token, plextest.HEVC, 21)
		defer lost.Close()
		if err := errors.Join(lost.Start(t.Context()), lost.Segment(t.Context(), 0)); err != nil {
			t.Fatal(err)
		}
		home := lost.Account().Servers()[0]
		for _, s := range f {
			if s.name == home {
				s.kill()
			}
		}
		killed := time.Now()

		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { // another device
			v := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, 22)
			defer v.Close()
			if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0), v.Stop(t.Context())); err != nil {
				t.Errorf("a new device: %v", err)
			}
			if servers := v.Servers(); len(servers) != 1 || servers[0] == home {
				t.Errorf("a new device was on %v, %s is gone", servers, home)
			}
			if took := time.Since(killed); took > 5*time.Second {
				t.Errorf("a new device played after %v", took)
			}
		})
		wg.Go(func() { // the same device, in another window
			status, header, _ := b.get("/library/sections", "X-Plex-Token", token, "X-Plex-Client-Identifier", lost.CID)
			if at := header.Get("X-Plextest-Server"); status != http.StatusOK || at == home {
				t.Errorf("browsing got %d from %q", status, at)
			}
			if took := time.Since(killed); took > 8*time.Second {
				t.Errorf("browsing was answered after %v", took)
			}
		})

		// The player asks for its next segment until it gets a final answer.
		path := "/video/:/transcode/universal/session/" + lost.TSID + "/base/00001.ts"
		for status := 0; status != http.StatusNotFound; time.Sleep(200 * time.Millisecond) {
			var header http.Header
			status, header, _ = b.get(path)
			switch {
			case status == http.StatusServiceUnavailable:
				if header.Get("Retry-After") == "" {
					t.Error("503 does not say when to come back")
				}
			case status != http.StatusNotFound:
				t.Errorf("after %v: status %d from %q", time.Since(killed), status, header.Get("X-Plextest-Server"))
			}
			if took := time.Since(killed); took > 22*time.Second {
				t.Fatalf("no final answer after %v, but %d", took, status)
			}
		}
		t.Logf("final answer after %v", time.Since(killed).Round(100*time.Millisecond))
		began := time.Now()
		if status, _, _ := b.get(path); status != http.StatusNotFound || time.Since(began) > time.Second {
			t.Errorf("then: status %d after %v", status, time.Since(began))
		}

		// No other server was asked for what it cannot have.
		for _, s := range f {
			if slices.ContainsFunc(s.log(), func(e plextest.Entry) bool {
				return e.TSID == lost.TSID && s.name != home && strings.Contains(e.Path, "/start")
			}) {
				t.Errorf("%s was asked to start what belongs to %s", s.name, home)
			}
		}

		// The device can begin anew.
		next := lost.Next("2")
		if err := errors.Join(next.Start(t.Context()), next.Segment(t.Context(), 0)); err != nil {
			t.Errorf("the device's next playback: %v", err)
		}
		if servers := next.Servers(); len(servers) != 1 || servers[0] == home {
			t.Errorf("the device's next playback was on %v", servers)
		}
	})
}

// A viewer who begins again while the server restarts has not lost the playback.
func TestSeparateStartWhileTheServerRestarts(t *testing.T) {
	servers := stand(t, 1, nil)
	b := load(t, site(servers, ""))
	v := plextest.NewViewer(plextest.Mobile, b.URL, token, plextest.HEVC, 1)
	t.Cleanup(v.Close)
	if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
		t.Fatal(err)
	}
	addr := servers[0].Addr()
	servers[0].Close()
	var wg sync.WaitGroup
	wg.Go(func() { b.get(segment(v.TSID, 1)) }) // which has it resumed
	time.Sleep(500 * time.Millisecond)
	wg.Go(func() { _ = v.Begin(t.Context()) })
	time.Sleep(4 * time.Second)
	if lost := b.ledger().Totals().Lost; lost > 0 {
		t.Errorf("%d playbacks are lost, after four seconds", lost)
	}
	if err := servers[0].StartOn(addr); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	eventually(t, "it plays again", 10*time.Second, func() bool {
		return errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 2)) == nil
	})
	if lost := b.ledger().Totals().Lost; lost > 0 {
		t.Errorf("%d playbacks are lost", lost)
	}
}
