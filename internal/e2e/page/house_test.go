// Package page looks at the status page in a real browser: Debian's Chromium, in
// front of the Caddy that xcaddy.sh builds.
package page

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/child"
	"github.com/plexlb/caddy-plexlb/internal/e2e/transcript"
	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// token is the owner's, at all servers.
const token = "owner-token"

// binary is Caddy as ./xcaddy.sh build builds it.
var binary string

func TestMain(m *testing.M) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(root, "bin", "caddy")
	build := exec.Command(filepath.Join(root, "xcaddy.sh"), "build", binary)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building Caddy: %v\n%s", err, out)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// house is a Caddy in front of clones.
type house struct {
	t    *testing.T
	URL  string
	Plex []*plextest.Server
}

// build starts n stand-ins that play titles, and a Caddy whose status page has
// the block; more holds further settings.
func build(t *testing.T, n int, block, more string, titles ...string) *house {
	t.Helper()
	h := &house{t: t}
	var items []plextest.Item
	for _, title := range titles {
		items = append(items, plextest.Item{Title: title})
	}
	var servers strings.Builder
	for i := range n {
		s := plextest.New(plextest.Config{
			Name: fmt.Sprintf("plex%d", i+1), Token: token, Items: items, SegmentSize: 1024,
			MachineIdentifier: "clone", Database: "clone",
		})
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		h.Plex = append(h.Plex, s)
		fmt.Fprintf(&servers, "server plex%d %s\n", i+1, s.Addr())
	}
	h.URL = "http://" + freeAddr(t)

	dir := t.TempDir()
	config := filepath.Join(dir, "Caddyfile")
	text := "{\nadmin off\nauto_https off\npersist_config off\ngrace_period 1s\nplexlb {\ntoken " + token + "\nmode replicated plex1\n" + more +
		servers.String() + "}\n}\n" + h.URL + " {\nplexlb_dashboard /lb* " + block + "\nplexlb\n}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log transcript.Transcript
	cmd := exec.Command(binary, "run", "--adapter", "caddyfile", "--config", config)
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		res, err := http.Get(h.URL + "/lb/")
		if err == nil {
			res.Body.Close()
			return h
		}
		if time.Now().After(end) {
			t.Fatalf("Caddy does not answer: %v\n%s", err, log.String())
		}
	}
}

// freeAddr returns an address that is free on all of the machine's, as Caddy
// listens on all of them.
func freeAddr(t *testing.T) string {
	t.Helper()
	port, err := child.FreePort("")
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// start begins a playback as a client of this name and id.
func (h *house) start(ctx context.Context, item int, id, device string) error {
	q := url.Values{
		"path": {fmt.Sprintf("/library/metadata/%d", item)}, "protocol": {"hls"}, "session": {"tsid-" + id},
		"X-Plex-Session-Identifier": {id}, "X-Plex-Client-Identifier": {"client-" + id}, "X-Plex-Token": {token},
		"X-Plex-Device-Name": {device}, "X-Plex-Product": {"Plex Web"}, "X-Plex-Platform": {"Chrome"},
	}
	for _, what := range []string{"decision", "start.m3u8"} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL+"/video/:/transcode/universal/"+what+"?"+q.Encode(), nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s of %s: status %d", what, id, res.StatusCode)
		}
	}
	return nil
}

func (h *house) mustStart(item int, id, device string) {
	h.t.Helper()
	if err := h.start(h.t.Context(), item, id, device); err != nil {
		h.t.Fatal(err)
	}
}
