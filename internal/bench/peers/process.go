package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// threads is how many each proxy may use: Caddy takes as many by itself.
func threads() string { return strconv.Itoa(runtime.GOMAXPROCS(0)) }

// proxy is a peer that runs.
type proxy struct {
	peer
	url, admin string

	cmd  *exec.Cmd
	done chan struct{}
}

// start runs a peer in front of servers until it answers. Its files are in dir.
func start(ctx context.Context, p peer, dir string, servers []string) (*proxy, error) {
	dir, err := os.MkdirTemp(dir, "peer-")
	if err != nil {
		return nil, err
	}
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	admin, err := freeAddress()
	if err != nil {
		return nil, err
	}
	args, err := p.setting(dir, listen, admin, servers)
	if err != nil {
		return nil, fmt.Errorf("writing the configuration of %s: %w", p.name, err)
	}
	out, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		return nil, err
	}
	defer out.Close() // the process has it open by itself
	x := &proxy{peer: p, url: "http://" + listen, admin: "http://" + admin, cmd: exec.Command(p.program, args...), done: make(chan struct{})}
	x.cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	x.cmd.Stdout, x.cmd.Stderr = out, out
	detach(x.cmd)
	if err := x.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	go func() {
		defer close(x.done)
		_ = x.cmd.Wait()
	}()
	if err := x.answers(ctx); err != nil {
		x.stop()
		said, _ := os.ReadFile(out.Name())
		return nil, fmt.Errorf("starting %s: %w; it said:\n%s", p.name, err, said)
	}
	return x, nil
}

// answers waits until requests come through.
func (x *proxy) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if req, err := http.NewRequestWithContext(ctx, http.MethodGet, x.url+"/identity", nil); err != nil {
			return err
		} else if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-x.done:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return errors.New("no answer for half a minute")
		}
	}
}

// stop ends the proxy, if need be without its consent.
func (x *proxy) stop() {
	_ = x.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-x.done:
	case <-time.After(3 * time.Second):
		killFamily(x.cmd)
		<-x.done
	}
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
	detach(s.cmd)
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
