// Command peers measures what reverse proxies cost, and what playbacks meet
// behind them: plexlb, stock Caddy with the policies that people use for Plex,
// HAProxy and nginx, in front of the same stand-ins for Plex Media Servers, on
// 127.0.0.1, each as processes of its own. It prints a table in Markdown and
// puts it into BENCHMARKS.md. HAProxy and nginx are left out where they are not
// in the PATH.
//
// Costs are the processor time of the proxy's processes, in spans that take
// turns within one run, so that what disturbs one disturbs all; ratios are taken
// within a turn. Behaviour is watched at all proxies at once, each with servers
// of its own.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/bench/section"
)

type options struct {
	caddy    string        // program
	file     string        // whose section is replaced; empty for none
	rounds   int           // of costs
	span     time.Duration // of load
	repeats  int           // of behaviour
	only     string        // costs or behaviour; empty for both
	profiles string        // folder for CPU profiles of the Caddys; empty for none
	servers  int           // in front of which costs are measured
	match    *regexp.Regexp
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == standInCommand {
		if err := standIn(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var o options
	long := flag.Bool("long", false, "four times as many rounds")
	flag.StringVar(&o.caddy, "caddy", "bin/caddy", "a Caddy with plexlb")
	flag.StringVar(&o.file, "o", "", "Markdown file whose section is replaced (default none)")
	flag.IntVar(&o.rounds, "rounds", 80, "spans of each kind of load at each proxy")
	flag.DurationVar(&o.span, "span", 120*time.Millisecond, "how long each is")
	flag.IntVar(&o.repeats, "repeats", 3, "how often behaviour is watched")
	flag.StringVar(&o.only, "only", "", "measure costs or behaviour alone")
	flag.StringVar(&o.profiles, "profiles", "", "profile Caddy and put the files there; the costs are higher then")
	flag.IntVar(&o.servers, "servers", 3, "servers behind each proxy where costs are measured; with 1, no peer gains by asking fewer")
	match := flag.String("match", "", "measure only peers whose name matches this, and the first two")
	flag.Parse()
	o.match = regexp.MustCompile(*match)
	if *long {
		o.rounds, o.repeats = 4*o.rounds, 4*o.repeats
	}
	if flag.NArg() > 0 || o.rounds < 1 || o.servers < 1 || o.servers > 3 || o.repeats < 1 || o.only != "" && o.only != "costs" && o.only != "behaviour" {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, o); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// run measures, and writes what it found.
func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "plexlb-peers-")
	if err != nil {
		return fmt.Errorf("making a folder for configurations: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	peers, missing, err := present(o.caddy)
	if err != nil {
		return err
	}
	for _, m := range missing {
		fmt.Fprintf(os.Stderr, "%s is not in the PATH (apt-get install %s) and is left out\n", m.program, m.packet)
	}

	n := 0
	peers = slices.DeleteFunc(peers, func(p peer) bool {
		n++
		return n > baseline+1 && !o.match.MatchString(p.name)
	})

	began := time.Now()
	var c costs
	var b behaviour
	if o.only != "behaviour" {
		if c, err = measureCosts(ctx, o, dir, peers); err != nil {
			return fmt.Errorf("measuring costs: %w", err)
		}
	}
	if o.only != "costs" {
		if b, err = watchBehaviour(ctx, o, dir, watched(peers)); err != nil {
			return fmt.Errorf("watching behaviour: %w", err)
		}
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	text := written(o, peers, c, b, time.Since(began))
	fmt.Println(text)
	if o.file == "" {
		return nil
	}
	return section.Replace(o.file, "peers", text)
}

// command is how to repeat it.
func command() string {
	return cmp.Or(os.Getenv("BENCH_COMMAND"), "go run ./internal/bench/peers "+strings.Join(os.Args[1:], " "))
}
