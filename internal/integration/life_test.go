package integration

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// An event makes the next reading come early, long before it is due.
func TestEventsMakeReadingsComeEarly(t *testing.T) {
	servers := stand(t, 1, nil)
	b := load(t, "{\nGLOBAL\nplexlb {\ntoken "+token+"\npoll_interval 1h\nserver plex1 "+servers[0].Addr()+"\n}\n}\nHERE {\nplexlb\n}\n")
	eventually(t, "the first reading", 5*time.Second, func() bool { return !b.server("plex1").Picture.Good.IsZero() })
	eventually(t, "the event stream is open", 5*time.Second, func() bool {
		for _, e := range servers[0].Log() {
			if strings.HasPrefix(e.Path, "/:/eventsource") {
				return true
			}
		}
		return false
	})
	first := b.server("plex1").Picture.Good
	servers[0].AddBypass(2)
	eventually(t, "what began is known", 5*time.Second, func() bool {
		v := b.server("plex1")
		return v.Jobs[cluster.GPU] == 2 && v.Picture.Good.After(first)
	})
}

// A device's next playback on another server leaves no encoder behind.
func TestNextPlaybackElsewhereStopsTheOld(t *testing.T) {
	servers := stand(t, 3, nil)
	b := load(t, site(servers, replicated))
	v := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, 1)
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	home := v.Servers()[0]
	l := b.ledger()
	l.Drain(l.Servers().Named(home), true)
	next := v.Next(plextest.HEVC)
	if err := next.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := next.Servers(); len(got) != 1 || got[0] == home {
		t.Fatalf("the next playback is on %v, %s is draining", got, home)
	}
	eventually(t, "the old transcode is stopped", 10*time.Second, func() bool {
		n := 0
		for _, s := range servers {
			n += len(s.Jobs())
		}
		return n == 1
	})
}

// Reloads must not leave pollers, connections or state behind.
func TestReloadsLeaveNothingBehind(t *testing.T) {
	servers := stand(t, 3, nil)
	config := site(servers, "")
	b := load(t, config)
	ours := func() int {
		buf := make([]byte, 4<<20)
		buf = buf[:runtime.Stack(buf, true)]
		n := 0
		for g := range strings.SplitSeq(string(buf), "\n\n") {
			if strings.Contains(g, "caddy-plexlb/plexlb.") {
				n++
			}
		}
		return n
	}
	eventually(t, "the pollers run", 5*time.Second, func() bool { return ours() >= 8 })
	time.Sleep(500 * time.Millisecond)
	before := ours()
	for range 10 {
		if err := b.reload(config); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, fmt.Sprintf("as many goroutines as before, %d", before), 10*time.Second, func() bool { return ours() == before })
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "none is left", 5*time.Second, func() bool { return ours() == 0 })
}

// A token is a key to the whole account.
func TestNoTokenInOurLogs(t *testing.T) {
	const secret = "s3cr3t-0wner-t0ken"
	log := filepath.Join(t.TempDir(), "log")
	servers := stand(t, 2, func(_ int, cfg *plextest.Config) { cfg.Token = secret })
	b := &balancer{t: t, addr: freeAddr(t)}
	b.URL = "http://" + b.addr
	err := b.reload("{\nadmin off\npersist_config off\nauto_https off\ndebug\nlog {\noutput file " + log + "\nlevel DEBUG\ninclude plexlb http.handlers.plexlb http.reverse_proxy.selection_policies.least_transcodes\n}\n" +
		strings.ReplaceAll(option(servers, replicated), token, secret) + "}\nHERE {\nplexlb {\nlb_try_duration 500ms\n}\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	for _, kind := range plextest.Kinds() {
		v := plextest.NewViewer(kind, b.URL, secret, kind.Item(), 5)
		if err := v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		_ = v.ChooseStreams(t.Context(), "1", "2")
		_ = v.Timeline(t.Context(), "playing")
		_ = v.Stop(t.Context())
	}
	for _, poll := range []plextest.Poll{plextest.Poll401, plextest.PollHTML, plextest.PollTruncated, plextest.PollHang} {
		servers[0].SetPoll(poll)
		time.Sleep(400 * time.Millisecond)
	}
	servers[0].Close()
	time.Sleep(time.Second)
	_, _, _ = b.get("/library/sections?X-Plex-Token=" + secret)
	_, _, _ = b.get("/:/scrobble?X-Plex-Token=" + secret)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(raw), "\n"); lines < 10 {
		t.Errorf("only %d lines were logged: the test tests little", lines)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.Contains(line, secret) {
			t.Errorf("token in: %s", line)
		}
	}
}

// What lasts for hours passes through as it comes.
func TestLongLivedStreams(t *testing.T) {
	servers := stand(t, 2, nil)
	b := load(t, site(servers, ""))
	t.Run("event stream", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, b.URL+"/:/eventsource/notifications", nil)
		r.Header.Set("X-Plex-Token", token)
		r.Header.Set("X-Plex-Client-Identifier", "listener")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		at := res.Header.Get("X-Plextest-Server")
		for i, s := range servers {
			if at == fmt.Sprintf("plex%d", i+1) {
				s.AddBypass(1)
			}
		}
		line, err := bufio.NewReader(res.Body).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "event:") && !strings.HasPrefix(line, ":") {
			t.Errorf("got %q, %v; want an event", line, err)
		}
	})
	t.Run("websocket", func(t *testing.T) {
		conn, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprintf(conn, "GET /:/websockets/notifications?X-Plex-Token=%s&X-Plex-Client-Identifier=listener HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", token, b.addr)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("status %d, want 101", res.StatusCode)
		}
	})
}

// A poll with a certificate that cannot be verified, and one that can be.
func TestOnlyTheConfiguredServerCounts(t *testing.T) {
	servers := stand(t, 1, func(_ int, cfg *plextest.Config) { cfg.MachineIdentifier = "the-right-one" })
	config := func(id string) string {
		return "{\nGLOBAL\nplexlb {\ntoken " + token + "\npoll_interval 200ms\nserver plex1 " + servers[0].Addr() + " {\nmachine_identifier " + id + "\n}\n}\n}\nHERE {\nplexlb {\nlb_try_duration 1s\n}\n}\n"
	}
	b := load(t, config("the-right-one"))
	eventually(t, "the right server is read", 5*time.Second, func() bool { return !b.server("plex1").Picture.Good.IsZero() })
	if status, _, _ := b.get("/library/sections", "X-Plex-Token", token); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	if err := b.reload(config("another-one")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the wrong server is not believed", 5*time.Second, func() bool { return b.server("plex1").Picture.Failure == "other_server" })
	eventually(t, "nor used", 10*time.Second, func() bool {
		status, _, _ := b.get("/library/sections", "X-Plex-Token", token)
		return status == http.StatusServiceUnavailable
	})
}
