//go:build unix

package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

var update = flag.Bool("update", false, "write the golden outputs anew")

// run runs a command of the CLI against the Caddy, and returns what it printed
// and its exit code.
func (m *managed) run(args ...string) (stdout, stderr string, code int) {
	m.t.Helper()
	dir, err := programs()
	if err != nil {
		m.t.Fatalf("building the programs: %v", err)
	}
	cmd := exec.Command(filepath.Join(dir, "caddy"), m.at(args)...)
	stdin, err := cmd.StdinPipe() // with whose end it ends
	if err != nil {
		m.t.Fatal(err)
	}
	defer stdin.Close()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		m.t.Fatal(err)
	}
	if strings.Contains(out.String()+errs.String(), token) {
		m.t.Errorf("%v prints a token: %s%s", args, &out, &errs)
	}
	return out.String(), errs.String(), code
}

// at adds the address of the admin endpoint to a command.
func (m *managed) at(args []string) []string {
	i := slices.Index(args, "plexlb") + 1
	return slices.Concat(args[:i], []string{"--address", m.admin}, args[i:])
}

// What differs from run to run.
var (
	dates  = regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?`)
	spans  = regexp.MustCompile(`\b\d+s\b`)
	ages   = regexp.MustCompile(`("\w+_seconds": )[\d.]+`)
	hosts  = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	spaces = regexp.MustCompile(` +\n`)
)

func normal(s string) string {
	s = dates.ReplaceAllString(s, "<time>")
	s = spans.ReplaceAllString(s, "1s")
	s = ages.ReplaceAllString(s, "${1}1")
	s = hosts.ReplaceAllString(s, "<address>")
	return spaces.ReplaceAllString(s, "\n")
}

// golden compares what a command prints with a file in testdata/cli.
func (m *managed) golden(name string, want int, args ...string) {
	m.t.Helper()
	stdout, stderr, code := m.run(args...)
	got := "$ caddy " + strings.Join(args, " ") + "\n" + normal(stdout)
	if stderr != "" {
		got += "-- stderr --\n" + normal(stderr)
	}
	if code != want {
		m.t.Errorf("%v exits with %d, want %d\n%s", args, code, want, got)
	}
	file := filepath.Join("testdata", "cli", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			m.t.Fatal(err)
		}
		return
	}
	golden, err := os.ReadFile(file)
	if err != nil {
		m.t.Fatal(err)
	}
	if got != string(golden) {
		m.t.Errorf("%s differs; go test -update writes it anew\ngot:\n%s\nwant:\n%s", file, got, golden)
	}
}

// A title of which a terminal would do something, and a page.
const hostile = "Big\x1b]0;owned\x07 \x1b[2JFilm\u009b31m <script>\u202e\n1"

func TestCommands(t *testing.T) {
	m := &managed{admin: freeAddr(t), servers: stand(t, 2, func(_ int, cfg *plextest.Config) {
		cfg.MachineIdentifier, cfg.Database = "clone", "clone"
		cfg.Items = []plextest.Item{{Title: hostile}, {Title: "Small Film"}}
	})}
	m.balancer = load(t, m.config(replicated, "", 4, 1))
	m.golden("sessions_none", 0, "plexlb", "sessions")
	v := m.watch(plextest.Plezy, "1", 1)
	w := m.watch(plextest.PlexWeb, "2", 2)

	m.golden("status", 0, "plexlb", "status")
	m.golden("status_json", 0, "plexlb", "status", "--json")
	m.golden("sessions", 0, "plexlb", "sessions")
	m.golden("sessions_server", 0, "plexlb", "sessions", "--server", "plex2")
	m.golden("explain", 0, "plexlb", "explain", v.XSI)
	m.golden("explain_json", 0, "plexlb", "explain", v.XSI, "--json")

	m.golden("drain", 0, "plexlb", "drain", "plex1", "--move-after", "45m")
	m.golden("status_draining", 0, "plexlb", "status")
	m.golden("undrain", 0, "plexlb", "undrain", "plex1")

	m.golden("move", 0, "plexlb", "move", v.XSI, "plex2")
	m.golden("explain_moved", 0, "plexlb", "explain", v.XSI)
	m.golden("move_json", 0, "plexlb", "move", v.XSI, "plex2", "--json")
	m.golden("rebalance_dry", 0, "plexlb", "rebalance", "--dry-run")
	m.golden("drain_late", 3, "plexlb", "drain", "plex1", "--wait", "--timeout", "100ms")
	if out, errs, code := m.run("plexlb", "drain", "plex1", "--move", "--wait", "--timeout", "20s"); code != 0 || out != "plex1 is empty\n" {
		t.Errorf("drain --wait exits with %d: %s%s", code, out, errs)
	}
	m.golden("move_to_draining", 1, "plexlb", "move", w.XSI, "plex1")
	m.watches(v.XSI)

	m.golden("unknown_session", 1, "plexlb", "explain", "nobody")
	m.golden("unknown_server", 1, "plexlb", "drain", "plex9")
	m.golden("no_server_named", 2, "plexlb", "drain")
	m.golden("empty_argument", 2, "plexlb", "move", "", "plex2")
	m.golden("unknown_flag", 2, "plexlb", "status", "--fast")
	m.golden("unknown_command", 2, "plexlb", "sesions")
	m.golden("move_twice", 2, "plexlb", "drain", "plex1", "--move", "--move-after", "1m")
	m.golden("timeout_alone", 2, "plexlb", "drain", "plex1", "--timeout", "1m")
	m.golden("complete_command", 0, "__complete", "plexlb", "re")
	m.golden("complete_server", 0, "__complete", "plexlb", "drain", "")
	m.golden("complete_session", 0, "__complete", "plexlb", "explain", "")
	m.golden("complete_target", 0, "__complete", "plexlb", "move", v.XSI, "")
	m.golden("complete_no_more", 0, "__complete", "plexlb", "drain", "plex1", "")
	if err := m.reload(m.with("", "\trespond ok\n", "")); err != nil {
		t.Fatal(err)
	}
	m.golden("not_configured", 1, "plexlb", "status")
	m.admin = freeAddr(t)
	m.golden("no_caddy", 1, "plexlb", "status")
	m.golden("complete_no_caddy", 0, "__complete", "plexlb", "drain", "")
}

// What others begin past the balancer is expected to go on, and a choice says so.
func TestChoicesTellWhatOthersAreExpectedToBegin(t *testing.T) {
	m := manage(t, 2, replicated, 4, 1)
	eventually(t, "the servers are read twice", 5*time.Second, func() bool {
		first := m.server("plex1").Picture.Good
		time.Sleep(200 * time.Millisecond)
		return !first.IsZero() && m.server("plex1").Picture.Good.After(first)
	})
	m.servers[0].AddBypass(8)
	eventually(t, "the bypassing sessions are seen", 5*time.Second, func() bool {
		return m.server("plex1").Jobs[cluster.GPU] == 8
	})
	v := m.watch(plextest.Plezy, plextest.HEVC, 1)
	out, errs, code := m.run("plexlb", "explain", v.XSI)
	if code != 0 || !regexp.MustCompile(`(?m)^SERVER +LOAD +EXPECTED +COST +WEIGHT +SCORE`).MatchString(out) {
		t.Fatalf("explain exits with %d: %s%s", code, out, errs)
	}
	why, _ := m.ok(http.MethodGet, "/plexlb/sessions/"+v.XSI, "")["why"].(map[string]any)
	rows, _ := why["table"].([]any)
	if len(rows) != 2 {
		t.Fatalf("why: %v", why)
	}
	for _, r := range rows {
		r, _ := r.(map[string]any)
		load, _ := r["load"].(float64)
		expected, _ := r["expected"].(float64)
		cost, _ := r["cost"].(float64)
		weight, _ := r["weight"].(float64)
		score, _ := r["score"].(float64)
		if expected < 0.3 || expected > 2 || math.Abs(score-(load+expected+cost)/weight) > 0.002 {
			t.Errorf("%v", r)
		}
		if want := strconv.FormatFloat(expected, 'f', -1, 64); !strings.Contains(out, "  "+want+" ") {
			t.Errorf("%s is not in:\n%s", want, out)
		}
	}
}

// A client may call its playback what it likes: it is not the way to another
// call.
func TestCommandsWithIDsThatLookLikePaths(t *testing.T) {
	m := manage(t, 1, replicated)
	for _, id := range []string{".", "..", "a/../b", "%2e%2e", "?", "//"} {
		path := "/video/:/transcode/universal/start.m3u8?path=%2Flibrary%2Fmetadata%2F1&protocol=hls&session=" + url.QueryEscape(id) + "&X-Plex-Token=" + token
		if status, _, body := m.get(path); status != http.StatusOK {
			t.Fatalf("%s: status %d: %s", id, status, body)
		}
		if out, errs, code := m.run("plexlb", "explain", id); code != 0 || !strings.Contains(out, id) {
			t.Errorf("explain %s exits with %d: %s%s", id, code, out, errs)
		}
	}
}

// The two words that a Plex server's key may say do what they say in both modes:
// where nothing can be moved, a drain waits for people to have seen their films.
func TestNodeDrainsAtTheBalancer(t *testing.T) {
	for mode, tc := range map[string]struct {
		option, state string
		code          int
		moved         bool
	}{
		"replicated": {replicated, "drained", 0, true},
		"separate":   {"", "draining", 3, false},
	} {
		t.Run(mode, func(t *testing.T) {
			m := manage(t, 2, tc.option, 4, 1)
			v := m.watch(plextest.Mobile, plextest.HEVC, 1)
			tell := func(word string) (out string, code int) {
				dir, err := programs()
				if err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command("sh", "../../examples/deploy/systemd/plexlb-drain", "plex1")
				cmd.Env = append(os.Environ(), "SSH_ORIGINAL_COMMAND="+word, "CADDY="+filepath.Join(dir, "caddy"), "ADMIN="+m.admin, "WAIT=3s")
				stdin, err := cmd.StdinPipe() // with whose end Caddy ends
				if err != nil {
					t.Fatal(err)
				}
				defer stdin.Close()
				said, _ := cmd.CombinedOutput()
				return string(said), cmd.ProcessState.ExitCode()
			}
			if out, code := tell("drain"); code != tc.code {
				t.Errorf("drain ends with %d, want %d:\n%s", code, tc.code, out)
			}
			if got := m.state("plex1"); got != tc.state {
				t.Errorf("plex1 is %v, want %s", got, tc.state)
			}
			if err := v.Segment(t.Context(), 1); err != nil {
				t.Error(err)
			}
			if moved := slices.Contains(v.Account().Servers(), "plex2"); moved != tc.moved {
				t.Errorf("the playback was moved: %v, want %v", moved, tc.moved)
			}
			if out, code := tell("undrain"); code != 0 || m.state("plex1") == tc.state {
				t.Errorf("undrain ends with %d:\n%s", code, out)
			}
			if _, code := tell("reboot"); code != 2 {
				t.Errorf("another word ends with %d, want %d", code, 2)
			}
		})
	}
}

// Each move has its cause.
func TestCausesOfMoves(t *testing.T) {
	f := startFleet(t, 3, clones...)
	b := load(t, f.site(replicated))
	v := plextest.NewViewer(plextest.Plezy, b.URL, token, plextest.HEVC, 1)
	t.Cleanup(v.Close)
	if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all servers are read", 5*time.Second, func() bool {
		for _, s := range b.ledger().View(time.Now()) {
			if s.Picture.Good.IsZero() {
				return false
			}
		}
		return true
	})
	at := func() *standIn {
		t.Helper()
		p, ok := b.ledger().Explain(v.TSID)
		if !ok {
			t.Fatal("the playback is forgotten")
		}
		return f.named(p.Server)
	}
	at().kill()
	if err := v.Segment(t.Context(), 1); err != nil {
		t.Error(err)
	}
	hangs := at()
	hangs.stop()
	if err := v.Segment(t.Context(), 2); err != nil {
		t.Error(err)
	}
	hangs.cont()
	p, _ := b.ledger().Explain(v.TSID)
	var causes []string
	for _, m := range p.History {
		causes = append(causes, m.Cause.String())
	}
	if want := []string{"server_lost", "hung"}; !slices.Equal(causes, want) {
		t.Errorf("it moved because of %v, want %v: %+v", causes, want, p.History)
	}
}

// watches lets the command watch print twice, as text and as JSON.
func (m *managed) watches(id string) {
	m.t.Helper()
	for _, args := range [][]string{nil, {"--json"}} {
		dir, _ := programs()
		cmd := exec.Command(filepath.Join(dir, "caddy"), m.at(append([]string{"plexlb", "watch", "--interval", "200ms"}, args...))...)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			m.t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			m.t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			m.t.Fatal(err)
		}
		seen := 0
		for lines := bufio.NewScanner(stdout); seen < 2 && lines.Scan(); {
			line := lines.Text()
			if strings.Contains(line, id) {
				seen++
			}
			if strings.ContainsAny(line, "\x1b\u009b") || args != nil && !json.Valid([]byte(line)) {
				m.t.Errorf("watch %v prints %q", args, line)
			}
		}
		if seen < 2 {
			m.t.Errorf("watch %v does not show the session", args)
		}
		_ = stdin.Close()
		_ = cmd.Wait()
	}
}
