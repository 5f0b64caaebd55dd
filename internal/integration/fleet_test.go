//go:build unix

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// programs builds what tests run as processes, once, and returns the folder.
// It lies in the folder that TestMain removes.
var programs = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(os.Getenv("XDG_DATA_HOME"), "programs")
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	if raceEnabled {
		args = append(args, "-race") // all is compiled already, and races in processes show as well
	}
	cmd := exec.Command("go", append(args, "./caddy", "../plextest/pms")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v\n%s", err, out)
	}
	return dir, nil
})

// process is a program that can be killed and started again in its place.
type process struct {
	t       testing.TB
	program string
	args    []string
	env     []string // beyond what this process has
	addr    string   // on which it answers

	cmd   *exec.Cmd
	stdin io.Closer // whose end ends the process, also if this test is killed
	said  bytes.Buffer
	spent time.Duration // processor time of those that have ended
}

// start runs the process and waits until it takes connections.
func (p *process) start() {
	p.t.Helper()
	dir, err := programs()
	if err != nil {
		p.t.Fatalf("building the programs: %v", err)
	}
	p.said.Reset()
	p.cmd = exec.Command(filepath.Join(dir, p.program), p.args...)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stderr = &p.said
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", p.addr)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(end) {
			p.kill()
			p.t.Fatalf("%s did not start: %v\n%s", p.program, err, &p.said)
		}
	}
}

// kill ends the process at once, stopped or not.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.spent += p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	_ = p.stdin.Close()
	p.cmd = nil
	for _, word := range []string{"DATA RACE", "panic: "} {
		if strings.Contains(p.said.String(), word) {
			p.t.Errorf("%s said:\n%s", p.program, &p.said)
		}
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// standIn is a stand-in that is a process, so that all can happen to it that
// happens to a PMS.
type standIn struct {
	process
	name    string
	control string
}

func (s *standIn) stop()   { s.t.Helper(); s.signal(syscall.SIGSTOP) }
func (s *standIn) cont()   { s.t.Helper(); s.signal(syscall.SIGCONT) }
func (s *standIn) forget() { s.t.Helper(); s.signal(syscall.SIGUSR1) }

// jobs returns the encoders that run there, none if there is no process.
func (s *standIn) jobs() (jobs []plextest.Job) {
	s.t.Helper()
	s.tell("/jobs", &jobs)
	return jobs
}

// log returns the requests that the process has received.
func (s *standIn) log() (entries []plextest.Entry) {
	s.t.Helper()
	s.tell("/log", &entries)
	return entries
}

func (s *standIn) tell(path string, v any) {
	s.t.Helper()
	if s.cmd == nil {
		return
	}
	client := http.Client{Timeout: 10 * time.Second}
	res, err := client.Get("http://" + s.control + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(v); err != nil {
		s.t.Fatal(err)
	}
}

// fleet is the stand-ins behind a balancer.
type fleet []*standIn

// clones are servers with one identity and one database.
var clones = []string{"-machine", "clone", "-database", "clone"}

// startFleet starts stand-ins called plex1, plex2, …; NAME in their arguments
// is that of each.
func startFleet(t *testing.T, n int, args ...string) fleet {
	t.Helper()
	f := make(fleet, n)
	for i := range f {
		s := &standIn{name: fmt.Sprintf("plex%d", i+1), control: freeAddr(t)}
		s.process = process{t: t, program: "pms", addr: freeAddr(t)}
		s.args = []string{"-attached", "-listen", s.addr, "-control", s.control, "-name", s.name, "-token", token, "-segment-size", "2048"}
		for _, a := range args {
			s.args = append(s.args, strings.ReplaceAll(a, "NAME", s.name))
		}
		t.Cleanup(s.kill)
		s.start()
		f[i] = s
	}
	return f
}

// named returns one of the fleet.
func (f fleet) named(name string) *standIn {
	i := slices.IndexFunc(f, func(s *standIn) bool { return s.name == name })
	if i < 0 {
		panic("no server " + name)
	}
	return f[i]
}

// site is a Caddyfile with the one-line directive, and health checks as they
// come.
func (f fleet) site(more string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "{\nGLOBAL\nplexlb {\n\ttoken %s\n\tpoll_interval 300ms\n%s\n", token, more)
	for _, s := range f {
		fmt.Fprintf(&b, "\tserver %s %s\n", s.name, s.addr)
	}
	b.WriteString("}\n}\nHERE {\n" + labels + "\tplexlb\n}\n")
	return b.String()
}

// jobs returns the encoders that run on any of the servers.
func (f fleet) jobs() (jobs []plextest.Job) {
	f[0].t.Helper()
	for _, s := range f {
		jobs = append(jobs, s.jobs()...)
	}
	return jobs
}

// starts counts for each transcode how often the servers were asked to start
// it, those that were killed since left out.
func (f fleet) starts() map[string]int {
	f[0].t.Helper()
	n := make(map[string]int)
	for _, s := range f {
		for _, e := range s.log() {
			if strings.Contains(e.Path, "/universal/start") {
				n[e.TSID]++
			}
		}
	}
	return n
}

// caddy runs a Caddyfile, written as for load, in a process of its own.
func (f fleet) caddy(config string) *process {
	t := f[0].t
	t.Helper()
	p := &process{t: t, program: "caddy", addr: freeAddr(t)}
	file := filepath.Join(t.TempDir(), "Caddyfile")
	config = strings.NewReplacer("HERE", "http://"+p.addr, "GLOBAL", global).Replace(config)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p.args = []string{"run", "--adapter", "caddyfile", "--config", file}
	t.Cleanup(p.kill)
	p.start()
	eventually(t, "Caddy answers", 10*time.Second, func() bool {
		status, _, _ := do(t, http.MethodGet, "http://"+p.addr+"/identity")
		return status == http.StatusOK
	})
	return p
}
