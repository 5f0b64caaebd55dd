package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// buffer is what a player has in hand when it asks for a segment: one that
// takes longer is noticed.
const buffer = 5 * time.Second

// tally is what came of the evening so far, as the viewers saw it. The balancer
// is not asked.
type tally struct {
	begin     time.Time
	viewers   int // present
	playbacks int
	starts    map[string]int // by server
	judged    int            // starts of which the witness can tell
	misplaced int
	excess    float64 // the greatest of a misplaced start

	segments int
	lost     int           // segments that somebody did not get, or not at once
	longest  time.Duration // from asking for a segment to having it
	outages  []*outage
	strayed  int // changes of server without an outage
	cut      int // connections that broke with their server, and were tried again
	unheard  int // timelines and the like that a dead server did not take
	errors   int // other requests that failed
	problems []string

	fresh []placement // moves not shown yet
}

// guest is what has been read of a viewer's observations.
type guest struct {
	client, title string
	stream        bool // one long answer

	seen    int
	failed  bool // and that is said
	excused bool // something failed because a server had died

	// Where the playback is: the server of its last answer, when that was asked
	// for, and the outage the playback has not got over yet.
	server string
	asked  time.Time
	hit    *outage

	// Segments that it asked for in vain so far, by Observation.Asked.
	missing map[string]*missing
}

// missing is a segment that a viewer asked for and does not have yet.
type missing struct {
	since time.Time
	lost  bool // and counted so
}

func (g *guest) name() string { return g.client + ", " + g.title }

// since is when the viewer asked for what it waits for, now or since then.
func (g *guest) since(now time.Time) time.Time {
	for _, m := range g.missing {
		if m.since.Before(now) {
			now = m.since
		}
	}
	return now
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
		t.note(g, o)
	}
	g.seen = len(all)
}

// note adds one thing a viewer saw.
func (t *tally) note(g *guest, o plextest.Observation) {
	died := t.death(g.server, g.asked, ended(o)) != nil
	t.follow(g, o)
	if o.Asked != "" && t.segment(g, o) {
		return // lost, and said so
	}
	err := failure(o)
	switch {
	case err == nil:
	case died && report(o) && o.Err == nil: // answered by the balancer in place of the dead server
	case died && report(o):
		t.unheard++
		g.excused = true
	case died && broken(o.Err):
		if !g.stream { // of which that is said in other words
			t.cut++
		}
		g.excused = true
	default:
		t.errors++
		g.failed = true
		t.complain(g, err)
	}
}

// segment counts an answer to a request for a segment, and reports whether the
// segment is lost. The viewer waits from its first attempt to the one that
// succeeds. What counts as lost was answered, but not with the segment: it
// stays lost if it comes at another try.
func (t *tally) segment(g *guest, o plextest.Observation) (lost bool) {
	m := g.missing[o.Asked]
	if m == nil {
		m = &missing{since: o.At}
		if g.stream {
			m.since = ended(o) // it comes at its own pace; what counts is what follows a break
		}
	}
	t.longest = max(t.longest, ended(o).Sub(m.since))
	if o.Err == nil {
		delete(g.missing, o.Asked)
		if o.What != "header" {
			t.segments++
		}
		return false
	}
	if g.missing == nil {
		g.missing = make(map[string]*missing)
	}
	g.missing[o.Asked] = m
	if !gone(o.Err) && !broken(o.Err) {
		t.lose(g, m, o.Asked, o.Err)
	}
	return m.lost
}

// lose counts a segment as lost, once.
func (t *tally) lose(g *guest, m *missing, asked string, err error) {
	if m.lost {
		return
	}
	m.lost, g.failed = true, true
	t.lost++
	t.complain(g, fmt.Errorf("%s, asked for at %s: %w", asked, clock(m.since.Sub(t.begin)), err))
}

// follow notes which server a playback is on.
func (t *tally) follow(g *guest, o plextest.Observation) {
	switch o.What {
	case "playqueue", "metadata", "photo", "streams":
		return // of no playback
	}
	if o.Err != nil || o.Server == "" {
		return
	}
	if g.stream && o.What == "segment" && o.Server == g.server {
		return // of one answer, of which there may be more on its way when its server dies
	}
	// An answer that was asked for before its server died is no return to it.
	if o.Server == g.server && (g.hit == nil || !o.At.After(g.hit.closed)) {
		g.asked = o.At
		return
	}
	out := t.death(g.server, g.asked, ended(o))
	switch {
	case g.server == "":
	case out == nil:
		t.strayed++
		if back := t.returned(o.Server); back != nil {
			back.jumped++
		}
		g.failed = true
		t.complain(g, fmt.Errorf("%s: from %s to %s without need", o.What, g.server, o.Server))
	case report(o):
		return // it has moved when its film goes on
	default:
		t.move(g, out, o)
	}
	g.server, g.asked = o.Server, o.At
}

// move counts a playback that goes on after its server died.
func (t *tally) move(g *guest, out *outage, o plextest.Observation) {
	if g.hit == nil {
		out.had++ // the answer that showed it there came late
	}
	g.hit = nil
	out.moved[o.Server]++
	p := placement{
		at: ended(o).Sub(t.begin), client: g.client, title: g.title, work: "moved",
		server: o.Server, from: out.server, wait: ended(o).Sub(g.since(o.At)), reason: out.server + " died",
	}
	if g.stream {
		out.streams++
		p.work = "anew"
	}
	t.fresh = append(t.fresh, p)
}

// leave closes the book on a viewer who left or, with an error, gave up.
func (t *tally) leave(g *guest, at time.Time, err error) {
	lost := false
	for asked, m := range g.missing {
		waited := at.Sub(m.since)
		t.longest = max(t.longest, waited)
		switch {
		case err != nil:
			t.lose(g, m, asked, err)
		case waited > buffer:
			t.lose(g, m, asked, fmt.Errorf("still not there after %s", wait(waited)))
		}
		lost = lost || m.lost
	}
	if err != nil && !g.failed && !g.excused {
		t.errors++
		t.complain(g, err)
	}
	if g.hit != nil && !lost {
		g.hit.left++
	}
}

// failure says what is wrong with an answer.
func failure(o plextest.Observation) error {
	switch {
	case gone(o.Err):
		return nil
	case o.What == "stop" && o.Status == http.StatusNotFound:
		return nil // the last timeline came first
	case o.Err != nil:
		return o.Err
	case o.Balancer != o.Server:
		return fmt.Errorf("%s: answered by %q, and labelled %q", o.What, o.Server, o.Balancer)
	}
	return nil
}

// gone reports whether a request ended because its viewer left.
func gone(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// broken reports whether there was no answer, or half of one. Players try
// again.
func broken(err error) bool {
	var request *url.Error
	var network *net.OpError
	return errors.As(err, &request) || errors.As(err, &network) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// report reports whether a request only tells the server something.
func report(o plextest.Observation) bool {
	return o.What == "timeline" || o.What == "ping" || o.What == "stop"
}

func ended(o plextest.Observation) time.Time { return o.At.Add(o.Duration) }

func (t *tally) complain(g *guest, err error) {
	if len(t.problems) < 100 {
		t.problems = append(t.problems, g.name()+": "+err.Error())
	}
}

// clone returns a copy that does not change.
func (t *tally) clone() tally {
	c := *t
	c.starts = maps.Clone(t.starts)
	c.problems = slices.Clone(t.problems)
	c.outages = make([]*outage, len(t.outages))
	for i, o := range t.outages {
		c.outages[i] = o.clone()
	}
	return c
}
