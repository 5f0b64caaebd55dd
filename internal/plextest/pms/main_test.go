package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// build makes the program.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "pms")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// process is a running one.
type process struct {
	*exec.Cmd
	stdin io.Closer
	lines []string // that it printed
}

// start runs the program and reads n lines. The process is attached to the
// test.
func start(t *testing.T, program string, n int, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(program, append([]string{"-attached"}, args...)...)}
	stdin, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill() })
	out := bufio.NewReader(stdout)
	for range n {
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		p.lines = append(p.lines, strings.TrimSpace(line))
	}
	return p
}

func get(t *testing.T, url string) (string, http.Header) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body), resp.Header
}

func TestProcess(t *testing.T) {
	p := start(t, build(t), 1, "-name", "plex9", "-machine", "nine", "-token", "secret", "-transcode-limit", "3")
	body, header := get(t, "http://"+p.lines[0]+"/:/prefs?X-Plex-Token=secret")
	if header.Get("X-Plextest-Server") != "plex9" || !strings.Contains(body, `id="TranscodeCountLimit" type="int" default="0" value="3"`) {
		t.Errorf("%v %s", header, body)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("exit after SIGTERM: %v", err)
	}
}

// jobs asks a process for its transcodes.
func jobs(t *testing.T, p *process) (ids []string) {
	t.Helper()
	body, _ := get(t, "http://"+p.lines[1]+"/jobs")
	var all []plextest.Job
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	for _, j := range all {
		ids = append(ids, j.TSID)
	}
	return ids
}

// What a test that cannot look into the process wants to know.
func TestControl(t *testing.T) {
	p := start(t, build(t), 2, "-control", "127.0.0.1:0")
	if got := jobs(t, p); len(got) != 0 {
		t.Errorf("jobs of a new process: %q", got)
	}
	get(t, "http://"+p.lines[0]+"/video/:/transcode/universal/start.mpd?path=/library/metadata/1&protocol=dash&session=mine&X-Plex-Token=owner-token")
	if got := jobs(t, p); !slices.Equal(got, []string{"mine"}) {
		t.Errorf("jobs = %q", got)
	}
	body, _ := get(t, "http://"+p.lines[1]+"/log")
	var log []plextest.Entry
	if err := json.Unmarshal([]byte(body), &log); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if len(log) != 1 || log[0].TSID != "mine" || log[0].Status != http.StatusOK {
		t.Errorf("log = %+v, want the start alone", log)
	}
	behave := func(text string) {
		t.Helper()
		r, err := http.NewRequest(http.MethodPut, "http://"+p.lines[1]+"/behaviour", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d", text, resp.StatusCode)
		}
	}
	behave(`{"Maintenance":true}`)
	if body, _ := get(t, "http://"+p.lines[0]+"/library/sections?X-Plex-Token=owner-token"); !strings.Contains(body, "Maintenance") {
		t.Errorf("in maintenance it says %s", body)
	}
	behave("{}")
	if body, _ := get(t, "http://"+p.lines[0]+"/library/sections?X-Plex-Token=owner-token"); strings.Contains(body, "Maintenance") {
		t.Errorf("after maintenance it says %s", body)
	}
}

// Who started the process may be killed, and nobody is left to end it.
func TestAttachedProcessEndsWithItsInput(t *testing.T) {
	p := start(t, build(t), 1)
	if err := p.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// A killed process comes back in the same place and remembers nothing.
func TestRestart(t *testing.T) {
	program := build(t)
	p := start(t, program, 2, "-control", "127.0.0.1:0")
	begin := fmt.Sprintf("http://%s/video/:/transcode/universal/start.mpd?path=/library/metadata/1&protocol=dash&session=mine&X-Plex-Token=owner-token", p.lines[0])
	get(t, begin)
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait()
	again := start(t, program, 2, "-listen", p.lines[0], "-control", p.lines[1])
	if !slices.Equal(again.lines, p.lines) {
		t.Errorf("came back at %q, was at %q", again.lines, p.lines)
	}
	if got := jobs(t, again); len(got) != 0 {
		t.Errorf("remembers %q", got)
	}
	get(t, begin)
	if got := jobs(t, again); len(got) != 1 {
		t.Errorf("jobs = %q", got)
	}
}
