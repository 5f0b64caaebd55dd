package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// tally is what came of the evening so far.
type tally struct {
	viewers   int // present
	playbacks int
	starts    map[string]int // by server
	judged    int            // starts of which the witness can tell
	misplaced int
	excess    float64 // the greatest of a misplaced start
	segments  int
	slowest   time.Duration // wait for a segment
	errors    int           // requests that failed
	moved     int           // playbacks that changed server
	problems  []string
}

// guest is what has been read of a viewer's observations.
type guest struct {
	name   string
	seen   int
	moved  bool
	failed bool
}

func (t *tally) place(p placement) {
	t.playbacks++
	t.starts[p.server]++
	if p.scores != nil {
		t.judged++
	}
	if p.misplaced() {
		t.misplaced++
		t.excess = max(t.excess, p.excess())
	}
}

// read adds what a viewer saw since the last time.
func (t *tally) read(v *plextest.Viewer, g *guest) {
	all := v.Observed()
	for _, o := range all[g.seen:] {
		if err := failure(o); err != nil {
			t.errors++
			g.failed = true
			t.complain(fmt.Sprintf("%s: %v", g.name, err))
		}
		if o.What != "segment" && o.What != "part" {
			continue
		}
		if o.Err == nil {
			t.segments++
		}
		if o.Body.Rep != "stream" { // which comes at its own pace
			t.slowest = max(t.slowest, o.Duration)
		}
	}
	g.seen = len(all)
	if servers := v.Servers(); len(servers) > 1 && !g.moved {
		g.moved = true
		t.moved++
		t.complain(fmt.Sprintf("%s: changed server: %v", g.name, servers))
	}
}

// failure says what is wrong with an answer.
func failure(o plextest.Observation) error {
	switch {
	case errors.Is(o.Err, context.Canceled), errors.Is(o.Err, context.DeadlineExceeded):
		return nil // the viewer left
	case o.What == "stop" && o.Status == http.StatusNotFound:
		return nil // the last timeline came first
	case o.Err != nil:
		return o.Err
	case o.Balancer != o.Server:
		return fmt.Errorf("%s: answered by %q, and labelled %q", o.What, o.Server, o.Balancer)
	}
	return nil
}

func (t *tally) complain(problem string) {
	if len(t.problems) < 100 {
		t.problems = append(t.problems, problem)
	}
}

// clone returns a copy that does not change.
func (t *tally) clone() tally {
	c := *t
	c.starts = maps.Clone(t.starts)
	c.problems = slices.Clone(t.problems)
	return c
}
