//go:build unix

package integration

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// Each deployment's Caddyfile, as it is: people play through it, a reload by
// its socket does not interrupt them, and it ends when told to, with no token
// in its log.
func TestDeployments(t *testing.T) {
	for name, tc := range map[string]struct {
		env    map[string]string
		probes bool
	}{
		"systemd": {},
		"compose": {env: map[string]string{"CADDY_ADMIN": "SOCKET"}},
		// One server, which is at two addresses at most: TestTasksOfAService
		// has more.
		"swarm":      {env: map[string]string{"CADDY_ADMIN": "SOCKET", "PLEX": "localhost", "PLEX_PORT": "PORT1"}},
		"kubernetes": {env: map[string]string{"PLEX0": "PMS1", "PLEX1": "PMS2"}, probes: true},
		"keepalived": {env: map[string]string{"CERTIFICATES": "FOLDER"}, probes: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			f := startFleet(t, 2, clones...)
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "plex_token"), []byte(token+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			probes := freeAddr(t)
			_, probesPort, _ := net.SplitHostPort(probes)
			_, port, _ := net.SplitHostPort(f[0].addr)
			b := &balancer{t: t, addr: freeAddr(t)}
			b.URL = "http://" + b.addr
			socket := "unix/" + filepath.Join(dir, "s") // a short name: sockets have a limit
			values := strings.NewReplacer("SOCKET", socket, "FOLDER", dir, "PORT1", port, "PMS1", f[0].addr, "PMS2", f[1].addr)
			file := filepath.Join("..", "..", "examples", "deploy", name, "Caddyfile")
			config, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p := &process{t: t, program: "caddy", addr: b.addr, args: []string{"run", "--config", file}}
			p.env = []string{
				"SITE=" + b.URL, "PLEX1=" + f[0].addr, "PLEX2=" + f[1].addr, "PROBES=" + probesPort,
				"SECRETS=" + dir, "CREDENTIALS_DIRECTORY=" + dir,
			}
			if m := socketOf.FindSubmatch(config); m != nil {
				p.env = append(p.env, "ADMIN="+socket+string(m[1]))
			}
			for key, value := range tc.env {
				p.env = append(p.env, key+"="+values.Replace(value))
			}
			t.Cleanup(p.kill)
			p.start()

			viewers := make([]*plextest.Viewer, 0, len(plextest.Kinds()))
			for i, kind := range plextest.Kinds() {
				v := plextest.NewViewer(kind, b.URL, token, kind.Item(), uint64(i))
				t.Cleanup(v.Close)
				if err := v.Start(t.Context()); err != nil {
					t.Fatalf("%s: %v", kind, err)
				}
				if err := v.Segment(t.Context(), 0); err != nil {
					t.Errorf("%s: %v", kind, err)
				}
				viewers = append(viewers, v)
			}
			// What the units and images call.
			eventually(t, "a server is up, and read with the token", 5*time.Second, func() bool {
				out := p.command("plexlb", "status", "--address", socket)
				return strings.Contains(out, " up ") && strings.Contains(out, " ago\n")
			})
			if out := p.command("plexlb", "sessions", "--address", socket); strings.Count(out, "\n") < 4 {
				t.Errorf("hardly any playbacks:\n%s", out)
			}
			p.command("reload", "--config", file, "--address", socket, "--force")
			for i, v := range viewers {
				if err := v.Segment(t.Context(), 1); err != nil {
					t.Errorf("after the reload: %s: %v", plextest.Kinds()[i], err)
				}
				_ = v.Stop(t.Context())
				v.Close()
			}
			if name == "systemd" || name == "keepalived" {
				if info, err := os.Stat(filepath.Join(dir, "s")); err != nil || info.Mode().Perm() != 0o660 {
					t.Errorf("the socket has mode %v, want 0660 (%v)", info.Mode(), err)
				}
			}
			if tc.probes {
				if status, _, _ := do(t, http.MethodGet, "http://"+probes+"/ready"); status != http.StatusOK {
					t.Errorf("not ready: %d", status)
				}
			}
			for _, s := range f {
				s.kill()
			}
			b.get("/:/timeline?state=playing&X-Plex-Token="+token+"&url=x%253FX-Plex-Token%253D"+token, "X-Plex-Token", token, "Referer", "http://x/?X-Plex-Token="+token)
			p.signal(syscall.SIGTERM)
			if tc.probes {
				// The word goes round while it still serves.
				eventually(t, "it says that it leaves", 2*time.Second, func() bool {
					status, _, _ := do(t, http.MethodGet, "http://"+probes+"/ready")
					return status == http.StatusServiceUnavailable
				})
				if status, _, _ := b.get("/identity"); status == 0 {
					t.Error("it leaves without serving on")
				}
			}
			if err := p.ends(40 * time.Second); err != nil {
				t.Errorf("ended with %v", err)
			}
			said := p.said.String()
			if !strings.Contains(said, "/:/timeline") || !strings.Contains(said, "REDACTED") || strings.Contains(said, token) {
				t.Errorf("the failed request is not in the log, or a token is:\n%s", said)
			}
		})
	}
}

// socketOf finds where a Caddyfile has its admin endpoint, and with what mode.
var socketOf = regexp.MustCompile(`\{\$ADMIN:unix//run/caddy/admin\.sock(\S*)\}`)

// command runs another command of the same program and returns what it said.
func (p *process) command(args ...string) string {
	p.t.Helper()
	dir, err := programs()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, p.program), args...)
	stdin, err := cmd.StdinPipe() // with whose end it ends
	if err != nil {
		p.t.Fatal(err)
	}
	defer stdin.Close()
	cmd.Env = append(os.Environ(), p.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		p.t.Errorf("%v: %v\n%s", args, err, &errs)
	}
	return out.String()
}

// ends waits for a process that was told to end.
func (p *process) ends(within time.Duration) error {
	cmd, stdin := p.cmd, p.stdin
	p.cmd = nil
	defer func(c io.Closer) { _ = c.Close() }(stdin)
	late := time.AfterFunc(within, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	return cmd.Wait()
}
