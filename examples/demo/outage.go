package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// outage is the death of a server, and what became of what played there.
type outage struct {
	server     string
	at, closed time.Time // it died between these
	back       time.Time // zero while it is down

	had     int            // playbacks that were on it
	moved   map[string]int // of these, on by another server
	streams int            // of the moved: begun anew by their players
	left    int            // their viewers left first
	jumped  int            // playbacks that came without need when it was back
}

func (o *outage) clone() *outage {
	c := *o
	c.moved = maps.Clone(o.moved)
	return &c
}

func (o *outage) movedAway() int {
	n := 0
	for _, m := range o.moved {
		n += m
	}
	return n
}

// String tells of it in the row of the server that is down.
func (o *outage) String() string {
	s := fmt.Sprintf("with %s", number(o.had, "playback"))
	joint := ": "
	part := func(format string, args ...any) {
		s += joint + fmt.Sprintf(format, args...)
		joint = ", "
	}
	if n := o.had - o.movedAway() - o.left; n > 0 {
		part("%d to move", n)
	}
	for _, name := range slices.Sorted(maps.Keys(o.moved)) {
		part("%d on %s", o.moved[name], name)
	}
	if o.left > 0 {
		part("%d left", o.left)
	}
	return s
}

func number(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}

// death is the outage of a server between one answer that was asked for and
// another that came.
func (t *tally) death(server string, asked, came time.Time) *outage {
	for _, o := range t.outages {
		if o.server == server && !asked.After(o.closed) && !came.Before(o.at) {
			return o
		}
	}
	return nil
}

// down is the outage that a server is in, or nil.
func (t *tally) down(server string) *outage {
	for _, o := range t.outages {
		if o.server == server && o.back.IsZero() {
			return o
		}
	}
	return nil
}

// returned is the last outage that a server has behind it, or nil.
func (t *tally) returned(server string) (last *outage) {
	for _, o := range t.outages {
		if o.server == server && !o.back.IsZero() {
			last = o
		}
	}
	return last
}

// movedTo is how many playbacks came to a server because theirs died.
func (t *tally) movedTo(server string) int {
	n := 0
	for _, o := range t.outages {
		n += o.moved[server]
	}
	return n
}

// outages kills a server halfway. If the demo stays, the server is back a
// while later, and dies again halfway through the next round.
func (a *audience) outages(ctx context.Context, o options, s *server) {
	scaled := o.scaled
	if !sleep(ctx, scaled(30)) {
		return
	}
	for {
		a.kill(s)
		if !o.stay || !sleep(ctx, scaled(20)) {
			return
		}
		if err := a.restart(s); err != nil {
			a.mu.Lock()
			a.tally.errors++
			a.tally.problems = append(a.tally.problems, err.Error())
			a.mu.Unlock()
			return
		}
		began := a.collect().starts[s.name]
		if !sleep(ctx, scaled(25)) { // it starts slowly
			return
		}
		t := a.collect()
		jumped := "nobody"
		if n := t.returned(s.name).jumped; n > 0 {
			jumped = number(n, "playback")
		}
		a.tell(fmt.Sprintf("since %s is back: %s jumped back, %s began there",
			s.name, jumped, number(t.starts[s.name]-began, "new playback")), jumped != "nobody")
		if !sleep(ctx, scaled(15)) {
			return
		}
	}
}

// kill ends a server as SIGKILL ends a process.
func (a *audience) kill(s *server) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.witness.disturb(recovery)
	o := &outage{server: s.name, at: time.Now(), moved: make(map[string]int)}
	s.down.Store(true)
	s.Close()
	o.closed = time.Now()
	a.tally.outages = append(a.tally.outages, o)
	for v, g := range a.here {
		a.tally.read(v, g)
		if g.server == s.name {
			g.hit = o
			o.had++
		}
	}
	a.fresh = append(a.fresh, placement{at: o.at.Sub(a.begin), alarm: true,
		note: fmt.Sprintf("%s is killed, with %s on it", s.name, number(o.had, "playback"))})
}

// restart brings it back where it was, with nothing in its memory.
func (a *audience) restart(s *server) error {
	if err := s.StartOn(s.Addr()); err != nil {
		return fmt.Errorf("bringing %s back: %w", s.name, err)
	}
	a.witness.disturb(slowStart)
	s.down.Store(false)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tally.down(s.name).back = time.Now()
	a.fresh = append(a.fresh, placement{at: a.elapsed(), note: s.name + " is back, with no playbacks"})
	return nil
}

// wait writes how long somebody waited.
func wait(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	return strings.TrimSuffix(fmt.Sprintf("%.2f", d.Seconds()), ".00") + "s"
}
