// Package players has real players play a film through the Caddy that xcaddy.sh
// builds: hls.js and dash.js in Debian's Chromium, and ffmpeg. The stand-ins
// behind it serve what ffmpeg has encoded, so what is measured is what a viewer
// sees: each picture says which moment of the film it is, and from which server.
//
// The table of it goes to bin/players/measured.md, and from there to
// BENCHMARKS.md by go run ./internal/bench players -write BENCHMARKS.md. Where
// PLEXLB_PICTURES names a folder, there are screenshots in it from before and
// after each event; ./xcaddy.sh test --e2e and ./xcaddy.sh bench set it to
// bin/players.
package players

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/child"
	"github.com/plexlb/caddy-plexlb/internal/e2e/transcript"
	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

const (
	// token is the owner's, at all servers.
	token = "owner-token"

	// buffer is how far ahead players fetch: what Plex's manifests ask for
	// as minBufferTime.
	buffer = 10 * time.Second

	// timelineEvery is how often a client of Plex tells where it is.
	timelineEvery = 10 * time.Second

	// reap is how long the stand-ins keep a transcode that nobody fetches
	// from. A real server waits for three minutes.
	reap = 8 * time.Second
)

// The Caddy as ./xcaddy.sh build builds it, and the folder of the players.
var binary, players string

func TestMain(m *testing.M) {
	for _, needed := range []string{"chromium", "ffmpeg", "npm"} {
		if _, err := exec.LookPath(needed); err != nil {
			fmt.Fprintf(os.Stderr, "there is no %s: install it, in Debian by apt-get install %[1]s\n", needed)
			if os.Getenv("CI") != "" {
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
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
	players = filepath.Join(root, "bin", "players")
	if err := install(); err != nil {
		fmt.Fprintf(os.Stderr, "installing the players: %v\n", err)
		os.Exit(1)
	}
	code := m.Run()
	closeChromium()
	if err := publish(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// install fetches the players, if they are not there: the versions that
// package-lock.json names, with the content that it names.
func install() error {
	lock, err := os.ReadFile("package-lock.json")
	if err != nil {
		return err
	}
	done := filepath.Join(players, "installed.json")
	if have, err := os.ReadFile(done); err == nil && bytes.Equal(have, lock) {
		return nil
	}
	if err := os.MkdirAll(players, 0o777); err != nil {
		return err
	}
	manifest, err := os.ReadFile("package.json")
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"package.json": manifest, "package-lock.json": lock} {
		if err := os.WriteFile(filepath.Join(players, name), content, 0o666); err != nil {
			return err
		}
	}
	cmd := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = players
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return os.WriteFile(done, lock, 0o666)
}

// house is a Caddy with a certificate, in front of three clones that have
// encoded the film. All begin at plex2, which is by far the strongest; plex1 is
// the primary.
type house struct {
	t      *testing.T
	URL    string
	Plex   []*plextest.Server
	admin  string
	config string
	log    transcript.Transcript
	client *http.Client
}

// newHouse builds one whose servers encode in their own ways.
func newHouse(t *testing.T, encoders ...encoder) *house {
	t.Helper()
	h := &house{t: t, admin: address(t), client: &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		Timeout:   30 * time.Second,
	}}
	media := make([]*film, len(encoders))
	errs := make([]error, len(encoders))
	var wg sync.WaitGroup
	for i, e := range encoders {
		wg.Go(func() { media[i], errs[i] = filmOf(context.WithoutCancel(t.Context()), i+1, e) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	var servers strings.Builder
	for i := range encoders {
		s := plextest.New(plextest.Config{
			Name: fmt.Sprintf("plex%d", i+1), Token: token, MachineIdentifier: "clone", Database: "clone",
			Items: []plextest.Item{{Title: "Test Pattern", Duration: filmSeconds * time.Second}},
			Media: media[i], Reap: reap,
		})
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		h.Plex = append(h.Plex, s)
		weight := 1
		if i == 1 {
			weight = 1000
		}
		fmt.Fprintf(&servers, "\t\tserver plex%d %s {\n\t\t\tweight %d\n\t\t}\n", i+1, s.Addr(), weight)
	}

	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	site := address(t)
	_, port, _ := net.SplitHostPort(site)
	h.URL = "https://localhost:" + port
	h.config = fmt.Sprintf(`{
	admin %s
	auto_https disable_redirects
	skip_install_trust
	persist_config off
	grace_period 1s
	log {
		format plexlb
	}
	plexlb {
		token %s
		mode replicated plex1
%s	}
}

%s {
	bind 127.0.0.1
	tls internal
	handle /players/hls.min.js {
		root %[5]s/hls.js/dist
		uri strip_prefix /players
		file_server
	}
	handle /players/dash.all.min.js {
		root %[5]s/dashjs/dist/modern/umd
		uri strip_prefix /players
		file_server
	}
	handle_path /players/* {
		root %[6]s
		file_server
	}
	handle {
		plexlb
	}
}
`, h.admin, token, servers.String(), h.URL, filepath.Join(players, "node_modules"), filepath.Join(dir, "page"))
	h.run()
	return h
}

// run runs Caddy until the test ends.
func (h *house) run() {
	h.t.Helper()
	dir := h.t.TempDir()
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, []byte(h.config), 0o600); err != nil {
		h.t.Fatal(err)
	}
	// Caddy ends with the shell's standard input, so that it does not outlive a
	// test that was killed.
	cmd := exec.Command("sh", "-c", `"$@" <&- & cat >/dev/null; kill $!; wait $!`, "sh", binary, "run", "--config", config, "--adapter", "caddyfile")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}
	cmd.Stdout, cmd.Stderr = &h.log, &h.log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
		text := h.log.String()
		if strings.Contains(text, token) {
			h.t.Error("a token is in the log")
		}
		if h.t.Failed() {
			h.t.Log(text)
		}
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		res, err := h.client.Get(h.URL + "/players/index.html")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
			err = errors.New(res.Status)
		}
		if time.Now().After(end) {
			h.t.Fatalf("Caddy does not answer: %v\n%s", err, h.log.String())
		}
	}
}

// tell gives an order to Caddy's admin endpoint.
func (h *house) tell(path, contentType, body string) {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, "http://"+h.admin+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Cache-Control", "must-revalidate") // also a config that is the same
	res, err := h.client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode >= 300 {
		h.t.Fatalf("%s: %s: %s", path, res.Status, text)
	}
}

// address is one of this machine where nobody listens.
func address(t *testing.T) string {
	t.Helper()
	const host = "127.0.0.1"
	port, err := child.FreePort(host)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(host, port)
}
