package integration

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// docs/coming-from.md says what Caddy's own policies do to playbacks. These
// tests show that it is so, and that it is not with plexlb.

// stock is a site with Caddy's reverse_proxy and nothing of ours.
func stock(servers []*plextest.Server, settings string) string {
	addrs := make([]string, len(servers))
	for i, s := range servers {
		addrs[i] = s.Addr()
	}
	return "{\nGLOBAL\n}\nHERE {\nreverse_proxy " + strings.Join(addrs, " ") + " {\n" + settings + "\n}\n}\n"
}

// begin starts a playback as Plex Web does and returns the path of its
// segments.
func (b *balancer) begin(session string) string {
	b.t.Helper()
	query := "?path=%2Flibrary%2Fmetadata%2F1&protocol=dash&session=" + session +
		"&X-Plex-Session-Identifier=x-" + session + "&X-Plex-Client-Identifier=c-" + session + "&X-Plex-Token=" + token
	for _, what := range []string{"decision", "start.mpd"} {
		if status, _, _ := b.get("/video/:/transcode/universal/" + what + query); status != http.StatusOK {
			b.t.Fatalf("%s: %d", what, status)
		}
	}
	return "/video/:/transcode/universal/session/" + session + "/0/"
}

func TestHashOfTheURITearsPlaybacksApart(t *testing.T) {
	const segments = 40
	for name, tc := range map[string]struct {
		config func([]*plextest.Server) string
		whole  bool
	}{
		"uri_hash": {func(s []*plextest.Server) string { return stock(s, "lb_policy uri_hash") }, false},
		"plexlb":   {func(s []*plextest.Server) string { return site(s, replicated) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			servers := stand(t, 2, nil)
			b := load(t, tc.config(servers))
			path := b.begin("film")
			answers := make(map[string]int)
			for n := range segments {
				status, header, _ := b.get(fmt.Sprintf("%s%d.m4s", path, n))
				answers[fmt.Sprintf("%s said %d", header.Get("X-Plextest-Server"), status)]++
			}
			t.Log(answers)
			good, bad := 0, 0
			for answer, n := range answers {
				switch {
				case strings.HasSuffix(answer, "200"):
					good += n
				case strings.HasSuffix(answer, "404"):
					bad += n
				default:
					t.Errorf("%d times %s", n, answer)
				}
			}
			if tc.whole && (bad > 0 || len(answers) != 1) || !tc.whole && (bad == 0 || good == 0) {
				t.Errorf("%d segments were there and %d were not: %v", good, bad, answers)
			}
		})
	}
}

// One file that no server can play, and everybody is without a server.
func TestOneBrokenFileTakesEveryServerOut(t *testing.T) {
	for name, tc := range map[string]struct {
		config func([]*plextest.Server) string
		status int // of what others ask for
	}{
		"unhealthy_status and max_fails 1": {func(s []*plextest.Server) string {
			return stock(s, "lb_policy uri_hash\nfail_duration 30s\nmax_fails 1\nunhealthy_status 5xx")
		}, http.StatusServiceUnavailable},
		"plexlb": {func(s []*plextest.Server) string { return site(s, replicated) }, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			servers := stand(t, 3, nil)
			b := load(t, tc.config(servers))
			watching := b.begin("film")
			for _, s := range servers {
				s.FailStarts(http.StatusInternalServerError)
			}
			player := plextest.NewViewer(plextest.PlexWeb, b.URL, token, "2", 1)
			failed := 0
			for range servers { // people try again
				var status *plextest.StatusError
				if err := player.Begin(t.Context()); !errors.As(err, &status) || status.Status != http.StatusInternalServerError {
					t.Errorf("the broken file: %v", err)
				} else {
					failed++
				}
			}
			for _, s := range servers {
				s.FailStarts(0)
			}
			for _, path := range []string{watching + "1.m4s", "/library/sections?X-Plex-Token=" + token, "/identity"} {
				if status, _, _ := b.get(path); status != tc.status {
					t.Errorf("after %d failures %s is answered %d, want %d", failed, path, status, tc.status)
				}
			}
		})
	}
}
