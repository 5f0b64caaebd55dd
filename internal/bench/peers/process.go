package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/plexlb/caddy-plexlb/internal/child"
)

// threads is how many each proxy may use: Caddy takes as many by itself.
func threads() string { return strconv.Itoa(runtime.GOMAXPROCS(0)) }

// proxy is a peer that runs.
type proxy struct {
	peer
	*child.Process
	url, admin string
}

// start runs a peer in front of servers until it answers. Its files are in dir.
func start(ctx context.Context, p peer, dir string, servers []string) (*proxy, error) {
	dir, err := os.MkdirTemp(dir, "peer-")
	if err != nil {
		return nil, err
	}
	const host = "127.0.0.1"
	port, err := child.FreePort(host)
	if err != nil {
		return nil, err
	}
	adminPort, err := child.FreePort(host)
	if err != nil {
		return nil, err
	}
	listen, admin := net.JoinHostPort(host, port), net.JoinHostPort(host, adminPort)
	args, err := p.setting(dir, listen, admin, servers)
	if err != nil {
		return nil, fmt.Errorf("writing the configuration of %s: %w", p.name, err)
	}
	x := &proxy{peer: p, url: "http://" + listen, admin: "http://" + admin}
	cmd := exec.Command(p.program, args...)
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	output := filepath.Join(dir, "output")
	if x.Process, err = child.Start(ctx, cmd, output, x.url+"/identity"); err != nil {
		said, _ := os.ReadFile(output)
		return nil, fmt.Errorf("starting %s: %w; it said:\n%s", p.name, err, said)
	}
	return x, nil
}

// server is a stand-in that runs as a process of its own.
type server struct {
	address string
	cmd     *exec.Cmd
	stdin   io.Closer
}

// serve starts a stand-in.
func serve(args ...string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{cmd: exec.Command(self, append([]string{standInCommand}, args...)...)}
	s.cmd.Stderr = os.Stderr
	child.Detach(s.cmd)
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting a stand-in: %w", err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		s.kill()
		return nil, fmt.Errorf("starting a stand-in: %w", err)
	}
	s.address = strings.TrimSpace(line)
	return s, nil
}

// kill ends the process; it may be stopped.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.stdin.Close()
	_ = s.cmd.Wait()
}

// hang stops the process: its connections stay, and the kernel takes new ones.
func (s *server) hang() error { return pause(s.cmd) }

// house is some servers.
type house []*server

// serveThree starts three copies of one server.
func serveThree(args ...string) (house, error) {
	var h house
	for i := range 3 {
		s, err := serve(append([]string{"-name", "plex" + strconv.Itoa(i+1)}, args...)...)
		if err != nil {
			h.kill()
			return nil, err
		}
		h = append(h, s)
	}
	return h, nil
}

func (h house) kill() {
	for _, s := range h {
		s.kill()
	}
}

func (h house) addresses() (list []string) {
	for _, s := range h {
		list = append(list, s.address)
	}
	return list
}
