package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// segmentDuration is that of the stand-ins' segments. Players fetch five at
// once and then one in that time.
const segmentDuration = 500 * time.Millisecond

// How many come at once, and how long they watch. A server is killed, or hangs,
// when all play, and what becomes of it is watched for a while.
const (
	audience   = 30
	quietTime  = 5 * time.Second
	settled    = 3 * time.Second
	afterDeath = 8 * time.Second
	afterHang  = 16 * time.Second
)

// householdKinds are the clients that come: HLS and DASH, ids in queries and
// in headers, a session for each playback and one for ever.
var householdKinds = []plextest.ViewerKind{
	plextest.PlexWeb, plextest.Mobile, plextest.PlexForKodi, plextest.MPVShim, plextest.PlexAPIRust, plextest.Plezy,
}

// behaviour is what was seen at each peer, in each repeat.
type behaviour [][]seen

// seen is what was seen at one peer.
type seen struct {
	misplaced float64 // share of starts in a burst that are on a fuller server than need be
	switches  float64 // per playback
	whole     float64 // share of playbacks without a lost segment
	busy      int     // answers 503
	killed    failover
	hung      failover
}

// failover is what the loss of a server was like.
type failover struct {
	hit     int             // playbacks that the server had
	carried int             // of them, that went on
	waits   []time.Duration // of those, the longest for one segment
	busy    int             // answers 503 to the viewers

	// Of requests that any server can answer.
	longest time.Duration // that one took
	cut     bool          // it had no answer in the end
	failed  float64       // share
	trouble time.Duration // how long after the loss the last one was made that failed or took long
	lasting bool          // it had not ended
}

// watchBehaviour watches all proxies at once: they have little to do.
func watchBehaviour(ctx context.Context, o options, dir string, peers []peer) (behaviour, error) {
	all := make(behaviour, len(peers))
	for repeat := range o.repeats {
		results := make([]seen, len(peers))
		errs := make([]error, len(peers))
		var wg sync.WaitGroup
		for i, p := range peers {
			wg.Go(func() {
				if err := results[i].see(ctx, dir, p, uint64(1+repeat)); err != nil {
					errs[i] = fmt.Errorf("%s: %w", p.name, err)
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		for i := range peers {
			all[i] = append(all[i], results[i])
		}
	}
	return all, ctx.Err()
}

// see watches one proxy, each time with new servers.
func (s *seen) see(ctx context.Context, dir string, p peer, seed uint64) error {
	for scene, play := range []func(context.Context, *proxy, house, uint64) error{s.watchQuiet, s.watchKilled, s.watchHung} {
		h, err := serveThree()
		if err != nil {
			return err
		}
		x, err := start(ctx, p, dir, h.addresses())
		if err != nil {
			h.kill()
			return err
		}
		err = play(ctx, x, h, seed*10+uint64(scene))
		x.Stop()
		h.kill()
		if err != nil {
			return err
		}
	}
	return nil
}

// home gives everybody an address of their own, as people in different places
// have.
func home(n int) *http.Client {
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 1+byte(n/200), 1+byte(n%200))}
	d := &net.Dialer{LocalAddr: from, Timeout: 10 * time.Second}
	return &http.Client{Transport: &http.Transport{DialContext: d.DialContext, MaxIdleConnsPerHost: 4, IdleConnTimeout: 15 * time.Second}}
}

func viewer(n int, base string, seed uint64) *plextest.Viewer {
	kind := householdKinds[n%len(householdKinds)]
	v := plextest.NewViewer(kind, base, token, kind.Item(), seed*1000+uint64(n))
	v.HTTP = home(n)
	v.TimelineEvery = 2 * time.Second
	return v
}

// patient plays, and begins again if it does not work at once, as people do.
func patient(ctx context.Context, v *plextest.Viewer, d time.Duration) error {
	var err error
	for range 3 {
		if err = v.Start(ctx); err == nil {
			return v.Play(ctx, d)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(300 * time.Millisecond):
		}
	}
	return err
}

// watchQuiet lets everybody come at once, and nothing happen.
func (s *seen) watchQuiet(ctx context.Context, x *proxy, h house, seed uint64) error {
	viewers := make([]*plextest.Viewer, audience)
	failed := make([]bool, audience)
	var wg sync.WaitGroup
	for i := range viewers {
		viewers[i] = viewer(i, x.url, seed)
		wg.Go(func() { failed[i] = patient(ctx, viewers[i], quietTime) != nil })
	}
	wg.Wait()
	starts := make(map[string]int)
	whole := 0
	for i, v := range viewers {
		v.Close()
		s.switches += float64(switches(v)) / audience
		s.busy += answers(v, http.StatusServiceUnavailable)
		if !failed[i] {
			whole++
		}
		for _, o := range v.Observed() {
			if o.What == "start" && o.Server != "" {
				starts[o.Server]++
				break
			}
		}
	}
	s.whole = float64(whole) / audience
	total, most := 0, 0
	for _, n := range starts {
		total += n
	}
	share := (total + len(h) - 1) / len(h)
	for _, n := range starts {
		most += max(0, n-share)
	}
	if total == 0 {
		return errors.New("nobody could start anything")
	}
	s.misplaced = float64(most) / float64(total)
	return ctx.Err()
}

// switches counts how often one request of a playback was answered by another
// server than the one before.
func switches(v *plextest.Viewer) (n int) {
	last := ""
	for _, o := range v.Observed() {
		switch o.What {
		case "playqueue", "metadata", "photo", "streams":
			continue
		}
		if o.Server == "" {
			continue
		}
		if last != "" && o.Server != last {
			n++
		}
		last = o.Server
	}
	return n
}

// answers counts those of one status.
func answers(v *plextest.Viewer, status int) (n int) {
	for _, o := range v.Observed() {
		if o.Status == status {
			n++
		}
	}
	return n
}

func (s *seen) watchKilled(ctx context.Context, x *proxy, h house, seed uint64) error {
	return s.killed.watch(ctx, x, seed, afterDeath, func() error {
		h[victim].kill()
		return nil
	})
}

func (s *seen) watchHung(ctx context.Context, x *proxy, h house, seed uint64) error {
	return s.hung.watch(ctx, x, seed, afterHang, h[victim].hang)
}

// victim is the server that is lost: not the primary, on which some things
// depend.
const victim = 1

// watch lets people come, takes a server away and looks on.
func (f *failover) watch(ctx context.Context, x *proxy, seed uint64, after time.Duration, take func() error) error {
	ctx, cancel := context.WithTimeout(ctx, settled+after+time.Second)
	defer cancel()
	viewers := make([]*plextest.Viewer, audience)
	var wg sync.WaitGroup
	for i := range viewers {
		viewers[i] = viewer(i, x.url, seed)
		wg.Go(func() { _ = patient(ctx, viewers[i], settled+after) })
	}
	time.Sleep(settled)
	var visitors visits
	wg.Go(func() { visitors.come(ctx, x.url, after) })
	time.Sleep(200 * time.Millisecond)
	at := time.Now()
	if err := take(); err != nil {
		return err
	}
	wg.Wait()
	for _, v := range viewers {
		v.Close()
		f.judge(v.Observed(), at)
		f.busy += answers(v, http.StatusServiceUnavailable)
	}
	f.longest, f.cut = visitors.longest, visitors.cut > 0
	f.failed = float64(visitors.failed) / float64(max(1, visitors.asked))
	f.trouble = max(0, visitors.lastBad.Sub(at))
	f.lasting = f.trouble > after-2*tooLong
	return nil
}

// judge looks what became of a playback when its server was lost.
func (f *failover) judge(observed []plextest.Observation, at time.Time) {
	before, victim := "", fmt.Sprintf("plex%d", victim+1)
	asked := make(map[string]time.Time)    // when a segment was first asked for
	wait := make(map[string]time.Duration) // how long until it was there
	after := 0
	for _, o := range observed {
		if o.What != "segment" {
			continue
		}
		done := o.At.Add(o.Duration)
		if done.Before(at) {
			if o.Err == nil {
				before = o.Server
			}
			continue
		}
		if first, ok := asked[o.Asked]; !ok || o.At.Before(first) {
			asked[o.Asked] = o.At
		}
		if o.Err == nil && o.Server != victim {
			wait[o.Asked] = done.Sub(asked[o.Asked])
			after++
		}
	}
	if before != victim {
		return
	}
	f.hit++
	if after < 3 || len(wait) < len(asked)-2 { // its last ones may be cut off by the end of the show
		return
	}
	f.carried++
	longest := time.Duration(0)
	for _, w := range wait {
		longest = max(longest, w)
	}
	f.waits = append(f.waits, longest)
}

// visits are requests that any server can answer.
type visits struct {
	mu      sync.Mutex
	asked   int
	failed  int
	cut     int           // were waiting when the show ended
	longest time.Duration // any took
	lastBad time.Time     // when the last one was made that failed or took long
}

// tooLong is what people notice of a request.
const tooLong = time.Second

// come asks for pictures from sixteen places, five times a second each, whether
// or not there was an answer to the last.
func (t *visits) come(ctx context.Context, base string, d time.Duration) {
	const every = 200 * time.Millisecond
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range 16 {
		wg.Go(func() {
			client := home(100 + i)
			ticks := time.NewTicker(every)
			defer ticks.Stop()
			for n := range int(d / every) {
				select {
				case <-ticks.C:
				case <-ctx.Done():
					return
				}
				q := url.Values{
					"width": {"300"}, "height": {"450"}, "X-Plex-Client-Identifier": {fmt.Sprintf("visitor%d", i)}, "X-Plex-Token": {token},
					"url": {fmt.Sprintf("/library/metadata/%d/thumb/%d", 1+n%16, i)},
				}
				wg.Go(func() {
					began := time.Now()
					ok := visit(ctx, client, base+"/photo/:/transcode?"+q.Encode())
					t.note(began, time.Since(began), ok, ctx.Err() != nil)
				})
			}
		})
	}
}

// note takes down what became of one.
func (t *visits) note(began time.Time, took time.Duration, ok, over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked++
	t.longest = max(t.longest, took)
	switch {
	case ok:
	case over:
		t.cut++
	default:
		t.failed++
	}
	if (!ok || took > tooLong) && began.After(t.lastBad) {
		t.lastBad = began
	}
}

func visit(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err == nil && res.StatusCode == http.StatusOK
}

// waits are the longest of all playbacks in all repeats, in seconds.
func (b behaviour) waits(peer int, of func(seen) failover) (s sample) {
	for _, r := range b[peer] {
		for _, w := range of(r).waits {
			s = append(s, w.Seconds())
		}
	}
	return s
}
