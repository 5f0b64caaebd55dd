package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
)

// samples is the folder of recorded answers and requests.
func samples(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PLEX_SAMPLES")
	if dir == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("PLEX_SAMPLES is not set: it names the folder of recorded payloads")
		}
		t.Skip("set PLEX_SAMPLES to the folder of recorded payloads")
	}
	return dir
}

// A whole playback as a browser made it.
func TestRecordedPlexWebPlayback(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(samples(t), "trace.plexweb-dash.json"))
	if err != nil {
		t.Fatal(err)
	}
	var trace struct {
		Host     string
		Requests []struct {
			Method, Target string
			Headers        map[string]string
		}
	}
	if err := json.Unmarshal(raw, &trace); err != nil {
		t.Fatal(err)
	}
	if len(trace.Requests) < 30 {
		t.Fatalf("only %d requests", len(trace.Requests))
	}
	for mode, more := range map[string]string{"separate": "", "replicated": replicated} {
		t.Run(mode, func(t *testing.T) {
			servers := stand(t, 3, nil)
			// Something plays on the primary, so that the playback's server
			// is another one.
			servers[0].AddBypass(2)
			b := load(t, site(servers, more))
			eventually(t, "plex1 is seen to be busy", 5*time.Second, func() bool {
				return b.server("plex1").Jobs[cluster.GPU] == 2
			})
			var home string
			for i, rec := range trace.Requests {
				target := strings.ReplaceAll(rec.Target, "REDACTED", token)
				r, err := http.NewRequest(rec.Method, b.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				// As recorded, to the letter.
				if r.URL, err = url.ParseRequestURI(target); err != nil {
					t.Fatal(err)
				}
				r.URL.Scheme, r.URL.Host = "http", b.addr
				path := r.URL.Path
				for k, v := range rec.Headers {
					r.Header.Set(k, v)
				}
				res, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode >= 400 {
					t.Errorf("request %d: %s %.60s: status %d", i, rec.Method, path, res.StatusCode)
				}
				at := res.Header.Get("X-Plextest-Server")
				switch {
				case strings.Contains(path, "/universal/"), strings.HasPrefix(path, "/:/timeline"), strings.HasPrefix(path, "/status/sessions"):
					if home == "" {
						home = at
					}
				case mode == "replicated":
					continue // pictures and the library are not the playback's
				case home == "":
					home = at // a client has one server
				}
				if at != home {
					t.Errorf("request %d: %s %.60s reached %s, the playback is on %s", i, rec.Method, path, at, home)
				}
			}
			if home == "plex1" || home == "" {
				t.Fatalf("the playback is on %q, want a server with room", home)
			}
			eventually(t, "its load is confirmed and counted once", 5*time.Second, func() bool {
				v := b.server(home)
				return v.Jobs == [4]int{cluster.GPU: 1} && v.Reserved == 0
			})
			for i, s := range servers {
				want := map[string]int{"plex1": 2, home: 1}[fmt.Sprintf("plex%d", i+1)]
				if got := len(s.Jobs()); got != want {
					t.Errorf("plex%d has %d transcodes, want %d", i+1, got, want)
				}
			}
		})
	}
}
