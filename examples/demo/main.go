// Command demo shows plexlb at work: three stand-ins for Plex Media Servers in
// this process, clones of each other, a real Caddy with the Caddyfile beside
// this file, and some thirty viewers, for a minute. Halfway one of the servers
// dies. It exits with 0 if every viewer got every segment all the same, and
// changed server for no other reason, also if Ctrl-C ended it early; else
// with 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

func main() {
	var o options
	flag.StringVar(&o.caddy, "caddy", "bin/caddy", "a Caddy with plexlb")
	flag.DurationVar(&o.length, "for", time.Minute, "how long to go on")
	flag.BoolVar(&o.stay, "stay", false, "go on until Ctrl-C; the server that died comes back")
	flag.BoolVar(&o.kill, "kill", true, "kill a server halfway")
	flag.Parse()
	if flag.NArg() > 0 || o.length < time.Second {
		flag.Usage()
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// A reader who goes away ends the demo by an error of its output, so that
	// Caddy does not outlive it.
	signal.Ignore(syscall.SIGPIPE)
	if err := run(ctx, o, newShow(os.Stdout)); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

type options struct {
	caddy  string // program to run
	length time.Duration
	stay   bool
	kill   bool // a server, halfway
}

// token is the owner's, at all stand-ins.
const token = "owner-token"

// run is one demo, from the first server to the summary.
func run(ctx context.Context, o options, s show) (err error) {
	dir, err := os.MkdirTemp("", "plexlb-demo-")
	if err != nil {
		return fmt.Errorf("making a folder for Caddy's files: %w", err)
	}
	defer func() {
		if err == nil || !hasLog(dir) {
			_ = os.RemoveAll(dir)
		}
	}()
	servers, err := stand()
	if err != nil {
		return err
	}
	defer func() {
		for _, s := range servers {
			s.Close()
		}
	}()
	c, err := startCaddy(ctx, o.caddy, dir, servers)
	if err != nil {
		if ctx.Err() != nil {
			return nil // somebody changed their mind
		}
		return err
	}
	defer c.Stop()

	defer s.close() // also in a panic: the cursor comes back
	sum, err := play(ctx, o, s, servers, c)
	s.close()
	if err != nil {
		return err
	}
	c.Stop()
	s.print(sum.lines())
	if len(sum.tally.problems) > 0 {
		return errors.New("not everything worked:\n  " + strings.Join(sum.problems(), "\n  ") + "\nCaddy's log: " + c.log)
	}
	return nil
}

// stand starts the stand-ins, with the names and weights of the Caddyfile.
func stand() ([]*server, error) {
	servers := []*server{
		{name: "plex1", weight: 4},
		{name: "plex2", weight: 2},
		{name: "plex3", weight: 1},
	}
	for i, s := range servers {
		s.Server = plextest.New(plextest.Config{
			Name: s.name, Token: token, Items: library, SegmentSize: 4 << 10,
			MachineIdentifier: "clone", Database: "clone", // mode replicated is for copies only
		})
		if err := s.startSomewhere(); err != nil {
			for _, started := range servers[:i] {
				started.Close()
			}
			return nil, fmt.Errorf("starting %s: %w", s.name, err)
		}
	}
	return servers, nil
}

// play lets viewers come and go until it is time, and shows what happens. It
// fails if Caddy ends meanwhile.
func play(ctx context.Context, o options, s show, servers []*server, c *caddy) (summary, error) {
	ctx, cancel := context.WithCancel(ctx)
	a := newAudience(c.url, servers)
	defer a.wait()
	defer cancel()

	f := frame{length: o.length, stay: o.stay, kill: o.kill, url: c.url}
	for _, s := range servers {
		f.servers = append(f.servers, row{name: s.name, weight: s.weight})
	}
	if s.draw(f) != nil {
		return summary{f}, nil // nobody looks
	}
	a.come(ctx, o)
	var died error
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for n, on := 0, true; on; n++ {
		for i, s := range servers {
			f.servers[i].look(s.count(), s.down.Load())
		}
		f.elapsed = a.elapsed()
		if n%5 == 0 {
			f.tally = a.collect()
		}
		shown := s.tell(a.news())
		if n%5 == 0 {
			shown = errors.Join(shown, s.draw(f))
		}
		select {
		case <-ticks.C:
			on = shown == nil && (o.stay || f.elapsed < o.length)
		case <-ctx.Done():
			on = false
		case <-c.Done:
			on = false
			if ctx.Err() == nil {
				died = fmt.Errorf("lost Caddy, which ended by itself; %s", c.lastWords())
			}
		}
	}
	cancel()
	a.wait()
	f.elapsed, f.tally = a.elapsed(), a.collect()
	return summary{f}, died
}
