//go:build unix

package integration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// soakKinds is everybody.
var soakKinds = plextest.Kinds()

// tally is how all who sat there fared.
type tally struct {
	mu       sync.Mutex
	visits   int
	devices  map[string]bool
	vanished int                            // of these, without a word
	answers  int                            // requests that were answered well
	segments int                            // of these, those that were checked
	failed   map[string]int                 // others, by what was asked and what came
	waiting  map[time.Duration]int          // for segments, in whole seconds
	longest  []wait                         // the longest of them first
	ids      map[string]plextest.ViewerKind // of all playbacks
	wrong    []string                       // what must not be
	streams  map[string]string              // what viewers of streams saw, by session
	suspects map[string]int                 // ids of playbacks to which it happened → number in wrong
	strange  map[string]int                 // answers to junk, by what it was and what came
}

// wait is one for a segment.
type wait struct {
	plextest.Wait
	kind plextest.ViewerKind
}

func newTally() *tally {
	return &tally{devices: make(map[string]bool), failed: make(map[string]int), waiting: make(map[time.Duration]int),
		ids: make(map[string]plextest.ViewerKind), strange: make(map[string]int), suspects: make(map[string]int), streams: make(map[string]string)}
}

// wrongf notes what must not be.
func (t *tally) wrongf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wrong = append(t.wrong, fmt.Sprintf(format, args...))
}

// mostStories bounds for how many playbacks it is told how they came to what
// must not be.
const mostStories = 12

// blame notes what must not be of a viewer's playback at some time, with all
// that may explain it. Caddy's log is searched for the playback.
func (s *soak) blame(v *plextest.Viewer, at time.Time, format string, args ...any) {
	t := s.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	told := len(t.suspects)
	for _, id := range []string{v.TSID, v.XSI} {
		if id != "" {
			t.suspects[id] = len(t.wrong)
		}
	}
	what := fmt.Sprintf("%s of device %s, playback %s (%s), at %s: ", v.Kind, v.CID, v.TSID, v.XSI, at.Format(time.StampMilli)) + fmt.Sprintf(format, args...) +
		"; there were " + s.faults.between(at.Add(-time.Minute), at) + s.strain.slowness(at.Add(-30*time.Second), at)
	if told < 2*mostStories {
		what += "\n" + story(v, at)
	}
	t.wrong = append(t.wrong, what)
}

// story tells what a viewer saw before some time and shortly after.
func story(v *plextest.Viewer, at time.Time) string {
	var lines []string
	for _, o := range v.Observed() {
		if o.At.After(at.Add(2*time.Second)) || o.At.Before(at.Add(-time.Minute)) {
			continue
		}
		line := fmt.Sprintf("\t%s %s %s: %d in %v from %q by way of %q (%s)", o.At.Format("15:04:05.000"), o.What, o.Asked, o.Status,
			o.Duration.Round(time.Millisecond), o.Server, o.Balancer, o.Reason)
		if o.Err != nil {
			line += ": " + o.Err.Error()
		}
		lines = append(lines, line)
	}
	return strings.Join(lines[max(0, len(lines)-25):], "\n")
}

// seat is taken by one viewer after the other until the context ends, mostly by
// one with the same device.
func (s *soak) seat(ctx context.Context, n uint64) {
	rng := rand.New(rand.NewPCG(s.seed, n))
	if !passes(ctx, time.Duration(rng.Int64N(int64(4*time.Second)))) {
		return
	}
	var v *plextest.Viewer
	for visit := 0; ctx.Err() == nil; visit++ {
		if v == nil || rng.IntN(4) == 0 {
			if v != nil {
				v.Close()
			}
			kind := soakKinds[(int(n)+visit)%len(soakKinds)]
			v = plextest.NewViewer(kind, s.base, token, "", s.seed+n<<20+uint64(visit))
			v.SegmentDuration = s.segment // nothing tells those who read files and streams
		} else {
			v = v.Next("")
		}
		v.Item = v.Kind.Item()
		if v.Item == plextest.HEVC {
			v.Item = strconv.Itoa(1 + rng.IntN(12)) // films, some of which are copied only
		}
		s.visit(ctx, v, rng)
	}
	v.Close()
}

// visit lets one playback come and go, with all that viewers do. One in five
// vanishes in the middle of it.
func (s *soak) visit(enough context.Context, v *plextest.Viewer, rng *rand.Rand) {
	ctx := s.t.Context()
	vanishes := rng.IntN(5) == 0
	if vanishes {
		var vanish context.CancelFunc
		ctx, vanish = context.WithTimeout(ctx, time.Duration(rng.Int64N(int64(30*time.Second))))
		defer vanish()
	}
	did := "started"
	err := patiently(ctx, v, func() error { return v.Start(ctx) })
	from := len(v.Observed())
	for phase := 0; err == nil && enough.Err() == nil; phase++ {
		if d := time.Duration(3+rng.IntN(15)) * time.Second; err == nil {
			did += ", watched"
			err = watchUntil(ctx, enough, v, d)
		}
		from = s.quality(v, from)
		if err != nil || enough.Err() != nil {
			break
		}
		switch what := rng.IntN(10); {
		case what < 2:
			did += ", sought"
			to := 1 + rng.IntN(99)
			err = patiently(ctx, v, func() error { return v.Seek(ctx, to) })
		case what < 4 && v.Kind != plextest.MusicHTTP: // whose reader does not wait
			did += ", paused"
			_ = v.Timeline(ctx, "paused")
			passes(ctx, time.Duration(1+rng.IntN(10))*time.Second)
		case what < 5 && v.Kind != plextest.DirectPlay:
			did += ", changed quality"
			kbps := 1000 + 500*rng.IntN(4)
			err = patiently(ctx, v, func() error { return v.ChangeQuality(ctx, kbps) })
			from = len(v.Observed())
		case what < 6:
			did += ", chose"
			_ = v.ChooseStreams(ctx, strconv.Itoa(1+rng.IntN(9)), "0")
		case what < 8:
			did += ", left"
			err = plextest.ErrEnd
		}
	}
	left := ctx.Err() != nil // it must not count as a loss, whatever became of the last request
	if !left {
		_ = v.Stop(ctx) // a player does not care
	}
	if err != nil && !left && !errors.Is(err, plextest.ErrEnd) {
		s.blame(v, time.Now(), "it %s, and failed: %v", did, err)
	}
	// The end of a stream is found by asking for what comes after it.
	missing := slices.DeleteFunc(v.Account().Missing, func(asked string) bool {
		return slices.ContainsFunc(v.Observed(), func(o plextest.Observation) bool { return o.Asked == asked && endsStream(o) })
	})
	if (err == nil || errors.Is(err, plextest.ErrEnd)) && !left && len(missing) > 0 {
		s.blame(v, time.Now(), "it %s, and never got %q", did, missing)
	}
	s.account(v, vanishes)
}

// watchUntil watches for d, or until it is enough.
func watchUntil(ctx, enough context.Context, v *plextest.Viewer, d time.Duration) error {
	if deadline, ok := enough.Deadline(); ok {
		d = min(d, time.Until(deadline))
	}
	return v.Watch(ctx, max(d, 0))
}

// quality checks that segments since an observation are of the quality that
// was asked for last, whoever made them. It returns where to go on.
func (s *soak) quality(v *plextest.Viewer, from int) int {
	all := v.Observed()
	for _, o := range all[from:] {
		if o.What == "segment" && o.Err == nil && o.Body.Quality != v.Quality {
			s.blame(v, o.At, "%s from %q is of quality %d, want %d", o.Asked, o.Server, o.Body.Quality, v.Quality)
			break
		}
	}
	return len(all)
}

// startsWithin is how long a viewer tries to start: play queues are made by the
// primary alone, which may be away for twenty seconds and has to be found again.
const startsWithin = 20*time.Second + aftermath

// patiently does what a viewer does again when it did not work: 5xx and broken
// connections are no answer.
func patiently(ctx context.Context, v *plextest.Viewer, do func() error) error {
	for end := time.Now().Add(startsWithin); ; {
		err := do()
		if err == nil || ctx.Err() != nil || errors.Is(err, plextest.ErrEnd) || errors.Is(err, plextest.ErrWrong) || time.Now().After(end) {
			return err
		}
		if status := (*plextest.StatusError)(nil); errors.As(err, &status) && status.Status < http.StatusInternalServerError {
			return err
		}
		if refused := (*plextest.RefusedError)(nil); errors.As(err, &refused) {
			return err
		}
		passes(ctx, 500*time.Millisecond)
	}
}

// overtime is how much longer than its viewer's patience a wait may be: one
// whose last try was begun in time.
const overtime = 2 * time.Second

// account adds up the requests of a viewer who has left.
func (s *soak) account(v *plextest.Viewer, vanished bool) {
	account, observed := v.Account(), v.Observed()
	s.tally.add(v, account, vanished)
	if len(account.Wrong) > 0 { // the rest is the same
		o := account.Wrong[0]
		s.blame(v, o.At, "%s from %q, %d times: %v", o.Asked, o.Server, len(account.Wrong), o.Err)
	}
	for _, w := range account.Waits {
		pace := time.Duration(0)
		if v.Kind == plextest.MusicHTTP {
			pace = s.segment // its stream comes no faster than it plays
		}
		if lost := s.strain.lost(w.At, w.At.Add(w.Took)); w.Took > v.Patience+overtime+pace+lost {
			s.blame(v, w.At.Add(w.Took), "it waited %v for %s in %d tries, longer than the %v that players bear", w.Took.Round(time.Millisecond), w.Asked, w.Tries, v.Patience)
		}
	}
	for i, o := range observed {
		what := ""
		switch {
		case o.Err == nil:
			what = "answered"
		case errors.Is(o.Err, context.Canceled) || errors.Is(o.Err, context.DeadlineExceeded):
			what = "hung up"
		case errors.Is(o.Err, plextest.ErrWrong):
			what = "wrong segment"
		case endsStream(o):
			what = "end of a stream"
		case (o.What == "stop" || o.What == "ping") && o.Status == http.StatusNotFound:
			what = o.What + " of what is over" // [P §10.34]
		default:
			came := strconv.Itoa(o.Status)
			if o.Status < http.StatusBadRequest {
				came = "broken off"
			}
			what = o.What + " " + came
			if !s.explained(observed[:i], o) {
				s.blame(v, o.At, "without a fault to explain it: %s %s from %q: status %d after %v, %v", o.What, o.Asked, o.Server, o.Status, o.Duration.Round(time.Millisecond), o.Err)
			}
		}
		s.tally.count(what)
	}
}

// endsStream reports whether a stream came to its end, rather than broke off.
func endsStream(o plextest.Observation) bool {
	return o.What == "segment" && strings.HasPrefix(o.Asked, "stream/") && errors.Is(o.Err, io.EOF)
}

// explained reports whether a failure is one that a fault may lead to, of a
// server that had to do with it. What is wrong with a request, or over, is no
// consequence of a fault.
func (s *soak) explained(before []plextest.Observation, o plextest.Observation) bool {
	if o.Status >= http.StatusBadRequest && o.Status < http.StatusInternalServerError {
		return false
	}
	// A connection may reach Caddy just as it exchanges its listeners, or be
	// closed as idle just as it is used again. One that outlived a reload is
	// closed when its answer ends, without a word of it: see
	// TestConnectionsThatOutliveAReload.
	since := o.At
	if n := len(before); n > 0 && endsStream(before[n-1]) && o.At.Sub(before[n-1].At.Add(before[n-1].Duration)) < 10*time.Millisecond {
		since = streamBegan(before, o.At)
	}
	if o.Status == 0 && s.reloads.within(since, o.At.Add(o.Duration)) {
		return true
	}
	// What one server fails to start is tried at another, once.
	if o.Status == http.StatusInternalServerError {
		return (o.What == "decision" || o.What == "start") &&
			s.faults.suffering(o.At.Add(-aftermath), o.At.Add(o.Duration), "failing", "in maintenance", "killed", "restarted", "hung") >= 2
	}
	servers := []string{o.Server, o.Balancer}
	switch o.What {
	case "photo": // any may have it
		return s.faults.during(o.At, o.At.Add(o.Duration))
	case "playqueue", "metadata", "streams", "timeline":
		servers = append(servers, s.fleet[0].name) // the primary's
	}
	if o.Server == "" { // nobody says who it was: who answered last, or where it plays, or some of those that were to take it over
		servers = append(servers, lastServer(before), lastServer(before, "decision", "start", "segment", "part"))
	}
	from := o.At
	if strings.HasPrefix(o.Asked, "stream/") {
		// That it has broken off is noticed when all is read that came before.
		from = streamBegan(before, o.At)
	}
	return s.faults.during(from, o.At.Add(o.Duration), servers...)
}

// streamBegan is when the viewer's last start was, or else a given time.
func streamBegan(before []plextest.Observation, or time.Time) time.Time {
	for _, b := range slices.Backward(before) {
		if b.What == "start" {
			return b.At
		}
	}
	return or
}

// lastServer is who answered last, of what was asked for if that matters.
func lastServer(before []plextest.Observation, what ...string) string {
	for _, b := range slices.Backward(before) {
		if b.Server != "" && (len(what) == 0 || slices.Contains(what, b.What)) {
			return b.Server
		}
	}
	return ""
}

// add counts a viewer who has left.
func (t *tally) add(v *plextest.Viewer, account plextest.Account, vanished bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.visits++
	t.devices[v.CID] = true
	if vanished {
		t.vanished++
	}
	for _, id := range []string{v.TSID, v.XSI, v.CID, v.PlaybackID} {
		t.ids[id] = v.Kind
	}
	if all := v.Observed(); v.Kind == plextest.MusicHTTP && len(all) > 0 {
		t.streams[v.XSI] = story(v, all[len(all)-1].At)
	}
	for _, w := range account.Waits {
		t.segments++
		t.waiting[w.Took.Truncate(time.Second)]++
		if w.Took > 3*time.Second {
			t.longest = append(t.longest, wait{w, v.Kind})
		}
	}
}

// count counts a request by what came of it.
func (t *tally) count(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if what == "answered" {
		t.answers++
	} else {
		t.failed[what]++
	}
}

// report says how it was, and fails the test if it was not good.
func (t *tally) report(test *testing.T, f *faults) {
	test.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	test.Logf("%v", f)
	test.Logf("%d devices, %d playbacks, %d of which vanished; %d requests answered, %d segments right", len(t.devices), t.visits, t.vanished, t.answers, t.segments)
	for _, what := range slices.Sorted(maps.Keys(t.failed)) {
		test.Logf("  %6d × %s", t.failed[what], what)
	}
	for _, took := range slices.Sorted(maps.Keys(t.waiting)) {
		test.Logf("  %6d segments took %v to %v", t.waiting[took], took, took+time.Second)
	}
	slices.SortFunc(t.longest, func(a, b wait) int { return cmp.Compare(b.Took, a.Took) })
	for _, streams := range []bool{false, true} {
		if i := slices.IndexFunc(t.longest, func(w wait) bool { return w.kind == plextest.MusicHTTP == streams }); i >= 0 {
			w := t.longest[i]
			test.Logf("the longest wait for a %s was %v", map[bool]string{false: "segment", true: "block of a stream"}[streams], w.Took.Round(time.Millisecond))
		}
	}
	for _, w := range t.longest[:min(len(t.longest), 20)] {
		test.Logf("  %s waited %v for %s in %d tries, and got it from %s; then were %s", w.kind, w.Took.Round(time.Millisecond), w.Asked, w.Tries, w.Server,
			f.between(w.At, w.At.Add(w.Took)))
	}
	for _, what := range slices.Sorted(maps.Keys(t.strange)) {
		test.Logf("  %6d × junk: %s", t.strange[what], what)
	}
	for i, what := range t.wrong {
		if i == 50 {
			test.Errorf("… and %d more", len(t.wrong)-i)
			break
		}
		test.Error(what)
	}
	if t.segments == 0 {
		test.Error("nobody played")
	}
}
