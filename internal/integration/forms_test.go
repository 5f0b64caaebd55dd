package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// Every way to write the balancer down does the same.
func TestForms(t *testing.T) {
	for name, config := range map[string]func(servers []*plextest.Server) string{
		"one-line directive": func(servers []*plextest.Server) string { return site(servers, "") },
		"hand-written proxy, unnamed upstreams": func(servers []*plextest.Server) string {
			return "{\nGLOBAL\nplexlb {\npoll_interval 300ms\n}\n}\nHERE {\nplexlb_session\nreverse_proxy " + servers[0].Addr() + " " + servers[1].Addr() +
				" {\nlb_policy least_transcodes {\ntoken " + token + "\n}\nhealth_uri /identity\n}\n}\n"
		},
		"hand-written proxy, no option at all": func(servers []*plextest.Server) string {
			return "{\nGLOBAL\n}\nHERE {\nplexlb_session\nreverse_proxy " + servers[0].Addr() + " " + servers[1].Addr() +
				" {\nlb_policy least_transcodes {\ntoken " + token + "\n}\n}\n}\n"
		},
		"policy without a handler in front": func(servers []*plextest.Server) string {
			return "{\nGLOBAL\nplexlb {\npoll_interval 300ms\n}\n}\nHERE {\nreverse_proxy " + servers[0].Addr() + " " + servers[1].Addr() +
				" {\nlb_policy least_transcodes {\ntoken " + token + "\n}\n}\n}\n"
		},
		"dynamic upstreams": func(servers []*plextest.Server) string {
			source := ""
			for _, s := range servers {
				host, port, _ := strings.Cut(s.Addr(), ":")
				source += fmt.Sprintf("a {\nname %s\nport %s\n}\n", host, port)
			}
			return "{\nGLOBAL\nplexlb {\ntoken " + token + "\npoll_interval 300ms\n}\n}\nHERE {\nplexlb {\ndynamic multi {\n" + source + "}\n}\n}\n"
		},
		"without a token": func(servers []*plextest.Server) string {
			return "{\nGLOBAL\nplexlb {\nserver plex1 " + servers[0].Addr() + "\nserver plex2 " + servers[1].Addr() + "\n}\n}\nHERE {\nplexlb\n}\n"
		},
	} {
		t.Run(name, func(t *testing.T) {
			servers := stand(t, 2, nil)
			load(t, config(servers)).plays(servers)
		})
	}
	t.Run("JSON", func(t *testing.T) {
		servers := stand(t, 2, nil)
		b := &balancer{t: t, addr: freeAddr(t)}
		b.URL = "http://" + b.addr
		config := map[string]any{
			"admin":   map[string]any{"disabled": true, "config": map[string]any{"persist": false}},
			"logging": map[string]any{"logs": map[string]any{"default": map[string]any{"writer": map[string]any{"output": "discard"}}}},
			"apps": map[string]any{
				"plexlb": map[string]any{
					"token":         token,
					"poll_interval": "300ms",
					"servers": []any{
						map[string]any{"name": "plex1", "address": servers[0].Addr()},
						map[string]any{"name": "plex2", "address": servers[1].Addr(), "weight": 1.0},
					},
				},
				"http": map[string]any{"servers": map[string]any{"s": map[string]any{
					"listen":          []string{b.addr},
					"automatic_https": map[string]any{"disable": true},
					"routes": []any{map[string]any{"handle": []any{
						map[string]any{"handler": "plexlb", "servers": []string{"plex1", "plex2"}},
						map[string]any{
							"handler":        "reverse_proxy",
							"upstreams":      []any{map[string]any{"dial": servers[0].Addr()}, map[string]any{"dial": servers[1].Addr()}},
							"load_balancing": map[string]any{"selection_policy": map[string]any{"policy": "least_transcodes"}},
						},
					}}},
				}}},
			},
		}
		raw, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		if err := caddy.Load(raw, true); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = caddy.Stop() })
		b.plays(servers)
	})
}

// plays has a few viewers play and checks that they are spread and stay.
func (b *balancer) plays(servers []*plextest.Server) {
	t := b.t
	t.Helper()
	viewers := make([]*plextest.Viewer, 4)
	for i := range viewers {
		kind := []plextest.ViewerKind{plextest.PlexWeb, plextest.Mobile}[i%2]
		viewers[i] = plextest.NewViewer(kind, b.URL, token, plextest.HEVC, uint64(i))
		if err := viewers[i].Start(t.Context()); err != nil {
			t.Errorf("viewer %d: %v", i, err)
			for _, o := range viewers[i].Observed() {
				t.Logf("%-10s %s %d", o.What, o.Server, o.Status)
			}
			for _, p := range b.ledger().Playbacks() {
				t.Logf("%+v", p)
			}
			t.FailNow()
		}
	}
	for _, s := range servers {
		if got := len(s.Jobs()); got != 2 {
			t.Errorf("a server has %d of 4 transcodes, want 2", got)
		}
	}
	for i, v := range viewers {
		for n := range 3 {
			if err := v.Segment(t.Context(), n); err != nil {
				t.Errorf("viewer %d: %v", i, err)
			}
			if err := v.Timeline(t.Context(), "playing"); err != nil {
				t.Errorf("viewer %d: %v", i, err)
			}
		}
		if got := v.Servers(); len(got) != 1 {
			t.Errorf("viewer %d was on %v", i, got)
		}
	}
}

// A site for one server sends everything there, and what it plays counts for
// all.
func TestSiteOfOneServer(t *testing.T) {
	servers := stand(t, 2, nil)
	direct := freeAddr(t)
	b := load(t, "{\nGLOBAL\n"+option(servers, replicated)+"}\nHERE {\nplexlb\n}\nhttp://"+direct+" {\nplexlb plex1\n}\n")
	for i := range 3 {
		v := plextest.NewViewer(plextest.PlexWeb, "http://"+direct, token, plextest.HEVC, uint64(i))
		if err := v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := v.Servers(); len(got) != 1 || got[0] != "plex1" {
			t.Fatalf("playback at the site of plex1 was on %v", got)
		}
	}
	v := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, 9)
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(servers[1].Jobs()) != 1 {
		t.Error("what plex1 plays for its own site was not counted")
	}
}

// In separate mode a device keeps to one library; through another site it may
// be in another one.
func TestClientKeepsToOneLibrary(t *testing.T) {
	servers := stand(t, 3, func(i int, cfg *plextest.Config) { cfg.Database = cfg.Name })
	direct := freeAddr(t)
	b := load(t, "{\nGLOBAL\n"+option(servers, "")+"}\nHERE {\nplexlb\n}\nhttp://"+direct+" {\nplexlb plex3\n}\n")
	at := func(base, path, client string) string {
		t.Helper()
		status, header, _ := do(t, http.MethodGet, base+path, "X-Plex-Client-Identifier", client, "X-Plex-Token", token)
		if status != http.StatusOK {
			t.Fatalf("%s: status %d", path, status)
		}
		return header.Get("X-Plextest-Server")
	}
	homes := make(map[string]int)
	for i := range 9 {
		client := fmt.Sprint("device-", i)
		home := at(b.URL, "/library/sections", client)
		homes[home]++
		for range 3 {
			for _, path := range []string{"/library/metadata/1", "/", "/status/sessions", "/video/:/transcode/universal/decision?path=%2Flibrary%2Fmetadata%2F1&session=s-" + client} {
				if got := at(b.URL, path, client); got != home {
					t.Errorf("%s of %s went to %s, its library is on %s", path, client, got, home)
				}
			}
		}
	}
	if len(homes) != 3 || homes["plex1"] != 3 {
		t.Errorf("nine clients are spread as %v", homes)
	}
	for i := range 9 {
		client := fmt.Sprint("device-", i)
		home := at(b.URL, "/library/sections", client)
		if got := at("http://"+direct, "/library/sections", client); got != "plex3" {
			t.Errorf("the site of plex3 led to %s", got)
		}
		if got := at(b.URL, "/library/sections", client); got != home {
			t.Errorf("%s went from %s to %s by a visit at another site", client, home, got)
		}
	}
}

// A segment of a server that is gone is asked of another one only when that has
// decided and started the playback: before, it knows nothing of it.
func TestSegmentsAreNotAskedOfAStranger(t *testing.T) {
	servers := stand(t, 3, nil)
	b := load(t, "{\nGLOBAL\n"+option(servers, replicated)+"}\nHERE {\n"+labels+"\nplexlb {\nlb_try_duration 1s\n}\n}\n")
	servers[0].AddBypass(9) // the primary stays out of this
	eventually(t, "plex1 is seen to be busy", 5*time.Second, func() bool { return b.server("plex1").Load >= 9 })
	v := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, 1)
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	home, other := servers[1], servers[2]
	if v.Servers()[0] == "plex3" {
		home, other = other, home
	}
	addr := home.Addr()
	home.Close()
	other.ResetLog()
	status, header, _ := b.get("/video/:/transcode/universal/session/" + v.TSID + "/0/5.m4s")
	if reason := header.Get("X-Plexlb-Reason"); status != http.StatusOK || reason != "resumed" {
		t.Errorf("segment of a lost server: status %d, reason %s", status, reason)
	}
	var asked []string
	for _, e := range other.Log() {
		if e.TSID == v.TSID {
			asked = append(asked, path.Base(e.Path))
		}
	}
	if want := []string{"decision", "start.mpd", "header", "5.m4s"}; !slices.Equal(asked, want) {
		t.Errorf("the other server was asked for %q, want %q", asked, want)
	}
	// The next playback of the device goes on elsewhere, and comes at once.
	began := time.Now()
	next := v.Next(plextest.HEVC)
	if err := next.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the next start took %v", took)
	}
	if err := home.StartOn(addr); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		if err := next.Segment(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	if got := next.Servers(); len(got) != 1 {
		t.Errorf("the next playback was on %v; a server that comes back takes nothing away", got)
	}
}

// The primary keeps the watch state, and the choice of audio and subtitles,
// which the server that transcodes must know before it decides.
func TestReplicated(t *testing.T) {
	servers := stand(t, 3, func(i int, cfg *plextest.Config) { cfg.MachineIdentifier = "one-and-the-same" })
	servers[0].AddBypass(5)
	b := load(t, site(servers, replicated))
	eventually(t, "plex1 is seen to be busy", 5*time.Second, func() bool {
		return b.server("plex1").Jobs[cluster.GPU] == 5
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	for _, kind := range []plextest.ViewerKind{plextest.PlexWeb, plextest.PlexForKodi, plextest.PythonPlexAPI} {
		t.Run(string(kind), func(t *testing.T) {
			v := plextest.NewViewer(kind, b.URL, token, plextest.HEVC, 3)
			defer v.Close()
			if err := v.ChooseStreams(ctx, "4242", "4343"); err != nil {
				t.Fatalf("choosing streams: %v", err)
			}
			if err := v.Start(ctx); err != nil {
				t.Fatal(err)
			}
			if err := v.Segment(ctx, 0); err != nil {
				t.Fatal(err)
			}
			var body plextest.Body
			for _, o := range v.Observed() {
				if o.What == "segment" {
					body = o.Body
				}
			}
			if body.Server == "plex1" || body.Server == "" {
				t.Fatalf("segment came from %q, want another server than the busy primary", body.Server)
			}
			if body.Audio != "4242" || body.Subtitle != "4343" {
				t.Errorf("segment has audio %s and subtitle %s, want the chosen 4242 and 4343", body.Audio, body.Subtitle)
			}
			for _, s := range servers {
				s.ResetLog()
			}
			if err := v.Timeline(ctx, "playing"); err != nil {
				t.Fatal(err)
			}
			if kind == plextest.PythonPlexAPI {
				return // sends none
			}
			eventually(t, "the timeline is on its server and on the primary, and nowhere else", 3*time.Second, func() bool {
				for _, s := range servers {
					n := 0
					for _, e := range s.Log() {
						if e.Path == "/:/timeline" && e.CID == v.CID && e.Status == http.StatusOK {
							n++
						}
					}
					want := 0
					if name := serverName(s, servers); name == "plex1" || name == body.Server {
						want = 1
					}
					if n != want {
						return false
					}
				}
				return true
			})
		})
	}

	t.Run("all else goes to the primary", func(t *testing.T) {
		for _, path := range []string{"/library/sections", "/library/metadata/2", "/", "/:/prefs"} {
			status, header, _ := b.get(path, "X-Plex-Token", token, "X-Plex-Client-Identifier", "browser")
			if at := header.Get("X-Plextest-Server"); status != http.StatusOK || at != "plex1" {
				t.Errorf("%s: %d from %s", path, status, at)
			}
		}
		_, header, _ := do(t, http.MethodPost, b.URL+"/playQueues?type=video&uri=x", "X-Plex-Token", token, "X-Plex-Client-Identifier", "browser")
		if at := header.Get("X-Plextest-Server"); at != "plex1" {
			t.Errorf("a play queue was made by %s", at)
		}
	})
	t.Run("artwork is shared out, the same picture by the same server", func(t *testing.T) {
		seen := make(map[string]bool)
		for i := range 30 {
			path := fmt.Sprintf("/photo/:/transcode?width=100&height=100&url=%%2Flibrary%%2Fmetadata%%2F%d%%2Fthumb%%2F1&X-Plex-Token=%s", i, token)
			_, h1, _ := b.get(path)
			_, h2, _ := b.get(path)
			at := h1.Get("X-Plextest-Server")
			seen[at] = true
			if again := h2.Get("X-Plextest-Server"); at == "" || again != at {
				t.Errorf("picture %d came from %q and then from %q", i, at, again)
			}
		}
		if len(seen) != 3 {
			t.Errorf("artwork came from %v, want all three servers", seen)
		}
	})
	t.Run("reads fall back while the primary is away, writes do not", func(t *testing.T) {
		servers[0].Close()
		status, header, _ := b.get("/library/sections", "X-Plex-Token", token)
		if at := header.Get("X-Plextest-Server"); status != http.StatusOK || at == "plex1" {
			t.Errorf("a read got %d from %q", status, at)
		}
		for _, s := range servers[1:] {
			s.ResetLog()
		}
		if status, _, _ := b.get("/:/scrobble?key=1&identifier=com.plexapp.plugins.library", "X-Plex-Token", token); status < 500 {
			t.Errorf("a write got %d", status)
		}
		for _, s := range servers[1:] {
			for _, e := range s.Log() {
				if e.Path == "/:/scrobble" {
					t.Error("a write reached a server that is not the primary")
				}
			}
		}
	})
}

func serverName(s *plextest.Server, servers []*plextest.Server) string {
	for i := range servers {
		if servers[i] == s {
			return fmt.Sprintf("plex%d", i+1)
		}
	}
	return ""
}
