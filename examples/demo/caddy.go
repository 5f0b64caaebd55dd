package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/plexlb/caddy-plexlb/internal/child"
)

//go:embed Caddyfile
var caddyfile []byte

// caddy is a Caddy that runs as a process of its own.
type caddy struct {
	*child.Process
	url string
	log string // file
}

// startCaddy runs the Caddyfile in front of the servers and waits until it
// answers. All files it makes are in dir.
func startCaddy(ctx context.Context, program, dir string, servers []*server) (*caddy, error) {
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, caddyfile, 0o600); err != nil {
		return nil, fmt.Errorf("writing the Caddyfile: %w", err)
	}
	port, err := child.FreePort("127.0.0.1")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "run", "--adapter", "caddyfile", "--config", config)
	cmd.Env = append(os.Environ(),
		"PORT="+port, "PLEX_TOKEN="+token,
		"XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir,
	)
	for _, s := range servers {
		cmd.Env = append(cmd.Env, strings.ToUpper(s.name)+"="+s.Addr())
	}
	c := &caddy{url: "http://127.0.0.1:" + port, log: logIn(dir)}
	if c.Process, err = child.Start(ctx, cmd, c.log, c.url+"/identity"); errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("starting Caddy (./xcaddy.sh build makes one): %w", err)
	} else if err != nil {
		return nil, fmt.Errorf("starting Caddy: %w; %s", err, c.lastWords())
	}
	return c, nil
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
