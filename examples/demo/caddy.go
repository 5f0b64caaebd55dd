package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

//go:embed Caddyfile
var caddyfile []byte

// caddy is a Caddy that runs as a process of its own.
type caddy struct {
	url  string
	log  string        // file
	done chan struct{} // closed when it has ended

	cmd  *exec.Cmd
	once sync.Once
}

// startCaddy runs the Caddyfile in front of the servers and waits until it
// answers. All files it makes are in dir.
func startCaddy(ctx context.Context, program, dir string, servers []*server) (*caddy, error) {
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, caddyfile, 0o600); err != nil {
		return nil, fmt.Errorf("writing the Caddyfile: %w", err)
	}
	port, err := freePort()
	if err != nil {
		return nil, fmt.Errorf("looking for a free port: %w", err)
	}
	c := &caddy{
		url:  "http://127.0.0.1:" + port,
		log:  logIn(dir),
		done: make(chan struct{}),
		cmd:  exec.Command(program, "run", "--adapter", "caddyfile", "--config", config),
	}
	c.cmd.Env = append(os.Environ(),
		"PORT="+port, "PLEX_TOKEN="+token,
		"XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir,
	)
	for _, s := range servers {
		c.cmd.Env = append(c.cmd.Env, strings.ToUpper(s.name)+"="+s.Addr())
	}
	log, err := os.Create(c.log)
	if err != nil {
		return nil, fmt.Errorf("making a log for Caddy: %w", err)
	}
	defer log.Close() // Caddy has it open by itself
	c.cmd.Stdout, c.cmd.Stderr = log, log
	detach(c.cmd)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting Caddy (./xcaddy.sh build makes one): %w", err)
	}
	go func() {
		defer close(c.done)
		_ = c.cmd.Wait()
	}()
	if err := c.answers(ctx); err != nil {
		c.stop()
		return nil, fmt.Errorf("starting Caddy: %w; %s", err, c.lastWords())
	}
	return c, nil
}

// answers waits for the first answer that has come through Caddy.
func (c *caddy) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/identity", nil); err != nil {
			return err
		} else if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-c.done:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return errors.New("no answer for half a minute")
		}
	}
}

// stop ends Caddy and waits for it, if need be without its consent.
func (c *caddy) stop() {
	c.once.Do(func() {
		if c.cmd.Process.Signal(syscall.SIGTERM) != nil {
			_ = c.cmd.Process.Kill()
		}
		select {
		case <-c.done:
		case <-time.After(5 * time.Second):
			_ = c.cmd.Process.Kill()
			<-c.done
		}
	})
}

func logIn(dir string) string { return filepath.Join(dir, "caddy.log") }

// hasLog reports whether Caddy has written anything.
func hasLog(dir string) bool {
	info, err := os.Stat(logIn(dir))
	return err == nil && info.Size() > 0
}

// lastWords are the end of Caddy's log, for people to read.
func (c *caddy) lastWords() string {
	const lines = 10
	text, _ := os.ReadFile(c.log)
	if len(text) == 0 {
		return "its log is empty"
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Sprintf("the last lines of its log, %s:\n  %s", c.log, strings.Join(all[max(0, len(all)-lines):], "\n  "))
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
