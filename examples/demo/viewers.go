package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

const (
	seats     = 30              // viewers at any time
	burst     = 2 * time.Second // in which the first ones come
	strangers = 3               // transcodes that start past the balancer
	extra     = 6               // viewers who come after them
)

// library is what there is to watch, on every server: the numbers are those
// of plextest.HEVC, Remux, Direct and Track.
var library = func() []plextest.Item {
	var items []plextest.Item
	add := func(it plextest.Item, titles ...string) {
		for _, t := range titles {
			it.Title, it.Duration = t, 3*time.Hour
			items = append(items, it)
		}
	}
	add(plextest.Item{}, "Night Ferry", "Glass Garden", "Low Tide", "Salt Roads",
		"Paper Moons", "Ninth Floor", "Amber Line", "Cold Harbour")
	add(plextest.Item{Codec: "h264"}, "Dust & Denim", "Two Hats", "Lodger's Cat", "Mill Lane")
	add(plextest.Item{Codec: "h264", DirectPlay: true}, "Blue Kettle", "Sundays", "Left Luggage", "Tin Whistle")
	add(plextest.Item{Type: "track", DirectPlay: true}, "Train Waltz", "Harbour Song", "Rain in May", "Lantern Rag")
	return items
}()

// pick chooses what a viewer of this kind plays: mostly films that need a
// transcode.
func pick(kind plextest.ViewerKind, n int) (item string) {
	first := 1
	count := 8
	switch kind {
	case plextest.DirectPlay:
		first, count = 13, 4
	case plextest.PlexWebMusic, plextest.MusicHTTP:
		first, count = 17, 4
	default:
		if n%7 == 3 {
			first, count = 9, 4
		}
	}
	return strconv.Itoa(first + n%count)
}

// audience is everybody who watches.
type audience struct {
	url     string
	witness *witness
	begin   time.Time
	all     sync.WaitGroup

	mu    sync.Mutex
	count int // viewers so far
	here  map[*plextest.Viewer]*guest
	fresh []placement // not shown yet
	tally tally
}

func newAudience(url string, servers []*server) *audience {
	begin := time.Now()
	return &audience{
		url:     url,
		witness: &witness{servers: servers},
		begin:   begin,
		here:    make(map[*plextest.Viewer]*guest),
		tally:   tally{begin: begin, starts: make(map[string]int)},
	}
}

func (a *audience) elapsed() time.Duration { return time.Since(a.begin) }

// wait returns when all have left.
func (a *audience) wait() { a.all.Wait() }

// scaled is a part of the evening, which is stretched or squeezed from a minute
// to its length.
func (o options) scaled(seconds float64) time.Duration {
	return time.Duration(seconds / 60 * float64(o.length))
}

// come lets the viewers arrive. They leave and others follow until ctx ends.
func (a *audience) come(ctx context.Context, o options) {
	scaled := o.scaled
	for i := range seats {
		a.all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			pause := burst * time.Duration(i) / seats
			for first := true; sleep(ctx, pause); first = false {
				a.watch(ctx, first, scaled(5+65*r.Float64()))
				pause = scaled(1 + 2*r.Float64())
			}
		})
	}
	a.all.Go(func() {
		for round := time.Duration(0); sleep(ctx, time.Until(a.begin.Add(round+scaled(10)))); round += o.length {
			a.bypass(ctx, a.witness.servers[2], scaled)
		}
	})
	if o.kill {
		a.all.Go(func() { a.outages(ctx, o, a.witness.servers[1]) })
	}
}

// bypass has people watch on one server directly for a while, and more viewers
// come to us while they do.
func (a *audience) bypass(ctx context.Context, s *server, scaled func(float64) time.Duration) {
	a.witness.disturb(settling)
	ids := s.AddBypass(strangers)
	a.tell(fmt.Sprintf("%d transcodes start on %s past the balancer", strangers, s.name), false)
	if !sleep(ctx, settling) {
		return
	}
	for range extra {
		a.all.Go(func() { a.watch(ctx, false, scaled(15)) })
		if !sleep(ctx, scaled(0.5)) {
			return
		}
	}
	if !sleep(ctx, scaled(12)) {
		return
	}
	a.witness.disturb(settling)
	s.EndBypass(ids...)
	a.tell(fmt.Sprintf("the %d transcodes past the balancer end", strangers), false)
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// watch is one viewer, from the choice of a film to the end of the evening.
func (a *audience) watch(ctx context.Context, first bool, d time.Duration) {
	a.mu.Lock()
	n := a.count
	a.count++
	a.mu.Unlock()
	kinds := plextest.Kinds()
	kind := kinds[n*5%len(kinds)]
	if kind == plextest.PythonPlexAPI {
		// It never says that it stops: its transcodes would pile up.
		d = 24 * time.Hour
		if !first {
			kind = plextest.PlexWeb
		}
	}
	v := plextest.NewViewer(kind, a.url, token, pick(kind, n), uint64(n))
	g := &guest{client: clients[kind], title: titleOf(v.Item), stream: kind == plextest.MusicHTTP}
	a.mu.Lock()
	a.here[v] = g
	a.mu.Unlock()
	err := a.sit(ctx, v, d)
	left := time.Now()
	v.Close()
	if ctx.Err() != nil {
		err = nil // all leave
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	a.tally.read(v, g)
	a.tally.leave(g, left, err)
	delete(a.here, v)
}

// sit starts, watches for d and stops. The end of ctx makes the viewer vanish.
func (a *audience) sit(ctx context.Context, v *plextest.Viewer, d time.Duration) error {
	cost := float64(gpuCost) // a film may always need a transcode
	if v.Kind == plextest.PlexWebMusic || v.Kind == plextest.MusicHTTP {
		cost = copyCost
	}
	l := a.witness.before()
	err, seen := v.Start(ctx), 0
	if broken(err) { // play is pressed again
		seen = len(v.Observed())
		err = v.Start(ctx)
	}
	p := a.placement(v, seen)
	p.scores = a.witness.after(l, p.server, cost)
	if err != nil {
		return err
	}
	a.placed(p)

	enough, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	err = v.Play(enough, 2*d)
	if enough.Err() == nil || ctx.Err() != nil {
		return err
	}
	l = a.witness.before()
	_ = v.Stop(ctx) // what became of that it has observed; nobody waits for it
	a.witness.after(l, "", 0)
	return nil
}

// placement is what the answers from the given one on tell a viewer.
func (a *audience) placement(v *plextest.Viewer, from int) placement {
	p := placement{at: a.elapsed(), client: clients[v.Kind], title: titleOf(v.Item), work: "direct"}
	for _, o := range v.Observed()[from:] {
		if o.What == "decision" || o.What == "start" {
			p.server, p.reason = o.Balancer, because(o.Reason)
			break
		}
	}
	p.chosen = a.witness.index(p.server)
	if p.chosen < 0 {
		return p
	}
	for _, j := range a.witness.servers[p.chosen].Jobs() {
		if j.TSID == v.TSID {
			p.work = works[j.Kind]
		}
	}
	return p
}

var works = map[string]string{"gpu": "GPU", "cpu": "CPU", "copy": "copy"}

func titleOf(item string) string {
	n, _ := strconv.Atoi(item)
	return library[n-1].Title
}

// placed notes that a playback has begun.
func (a *audience) placed(p placement) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fresh = append(a.fresh, p)
	a.tally.place(p)
}

func (a *audience) tell(note string, alarm bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fresh = append(a.fresh, placement{at: a.elapsed(), note: note, alarm: alarm})
}

// news returns what happened since the last call.
func (a *audience) news() []placement {
	a.mu.Lock()
	defer a.mu.Unlock()
	fresh := append(a.fresh, a.tally.fresh...)
	a.fresh, a.tally.fresh = nil, nil
	slices.SortStableFunc(fresh, func(p, q placement) int { return cmp.Compare(p.at, q.at) })
	return fresh
}

// collect returns what all viewers saw so far.
func (a *audience) collect() tally {
	a.mu.Lock()
	defer a.mu.Unlock()
	for v, g := range a.here {
		a.tally.read(v, g)
	}
	a.tally.viewers = len(a.here)
	return a.tally.clone()
}
