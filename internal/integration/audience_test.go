package integration

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// The kinds of clients that fetch segments.
var (
	hlsKinds = []plextest.ViewerKind{plextest.PlexForKodi, plextest.OpenPHT, plextest.PlexKodi, plextest.PlexConnect,
		plextest.MPVShim, plextest.Plezy, plextest.PythonPlexAPI, plextest.Mobile}
	dashKinds    = []plextest.ViewerKind{plextest.PlexWeb, plextest.PlexAPIRust, plextest.PlexWebMusic}
	segmentKinds = slices.Concat(hlsKinds, dashKinds)
)

// audience is viewers who watch at the same time.
type audience struct {
	t       *testing.T
	viewers []*plextest.Viewer
	errs    []error // of each, when it has left
	reloads bool    // Caddy is given other configs meanwhile
	begin   time.Time
	wg      sync.WaitGroup
}

// invite makes n viewers, of each kind in turn, each with a device and mostly
// with a film of its own. They all talk a lot besides fetching segments.
func invite(t *testing.T, base string, n int, kinds ...plextest.ViewerKind) *audience {
	t.Helper()
	a := &audience{t: t, errs: make([]error, n), begin: time.Now()}
	for i := range n {
		kind := kinds[i%len(kinds)]
		item := kind.Item()
		switch item {
		case plextest.HEVC:
			item = strconv.Itoa(1 + (i+i/len(kinds))%12) // films, some of which are copied only
			if kind == plextest.Mobile {
				item = plextest.Track // music over HLS
			}
		}
		v := plextest.NewViewer(kind, base, token, item, uint64(i))
		v.TimelineEvery = 2 * time.Second
		t.Cleanup(v.Close)
		a.viewers = append(a.viewers, v)
	}
	return a
}

// play lets all of them begin, and play for d. It returns when each has had
// its first segments.
func (a *audience) play(d time.Duration) {
	a.t.Helper()
	a.begin = time.Now()
	for i, v := range a.viewers {
		a.wg.Go(func() { a.errs[i] = v.Play(a.t.Context(), d) })
	}
	a.t.Cleanup(a.wg.Wait)
	for end := time.Now().Add(10 * time.Second); slices.Contains(a.at(), ""); time.Sleep(20 * time.Millisecond) {
		if time.Now().Before(end) {
			continue
		}
		for i, name := range a.at() {
			if all := a.viewers[i].Observed(); name == "" && len(all) > 0 {
				o := all[len(all)-1]
				a.t.Errorf("%s does not play; last of %d answers: %s from %q: status %d, %v", a.who(i), len(all), o.What, o.Server, o.Status, o.Err)
			}
		}
		a.t.FailNow()
	}
}

// at returns for each viewer the server that sent its last segment.
func (a *audience) at() []string {
	names := make([]string, len(a.viewers))
	for i, v := range a.viewers {
		if servers := v.Account().Servers(); len(servers) > 0 {
			names[i] = servers[len(servers)-1]
		}
	}
	return names
}

func (a *audience) who(i int) string {
	return fmt.Sprintf("viewer %d (%s)", i, a.viewers[i].Kind)
}

// unharmed waits until all have left, and checks that none of them noticed
// more than a wait.
func (a *audience) unharmed(longest time.Duration) {
	a.t.Helper()
	a.wg.Wait()
	most := plextest.Wait{}
	for i, v := range a.viewers {
		if a.errs[i] != nil && !(a.reloads && brokenConnection(a.errs[i])) {
			a.t.Errorf("%s: %v", a.who(i), a.errs[i])
		}
		account := v.Account()
		for n, o := range slices.Concat(account.Refused, account.Wrong) {
			if n < 3 { // the rest is the same
				a.t.Errorf("%s: at %v, %s from %q: status %d, %v", a.who(i), a.since(o.At), o.Asked, o.Server, o.Status, o.Err)
			}
		}
		if len(account.Missing) > 0 {
			a.t.Errorf("%s never got %q", a.who(i), account.Missing)
		}
		w := account.Longest()
		if w.Took > longest {
			a.t.Errorf("%s: at %v, waited %v for %s in %d tries, want %v at most", a.who(i), a.since(w.At), w.Took.Round(time.Millisecond), w.Asked, w.Tries, longest)
		}
		if w.Took > most.Took {
			most = w
		}
	}
	a.t.Logf("longest wait: %v, in %d tries", most.Took.Round(time.Millisecond), most.Tries)
}

// brokenConnection reports whether a request got no answer because its connection
// ended. One may reach Caddy just as it exchanges its listeners; players ask again
// for what they need.
func brokenConnection(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
}

func (a *audience) since(at time.Time) time.Duration { return at.Sub(a.begin).Round(time.Millisecond) }

// movedFrom waits until all have left, and checks that those who were at a
// server that was lost changed to another one and stayed there, and that nobody
// else moved. Without a name nobody may.
func (a *audience) movedFrom(lost string, before []string) {
	a.t.Helper()
	a.wg.Wait()
	for i, v := range a.viewers {
		servers := v.Account().Servers()
		if want := map[bool]int{true: 2, false: 1}[before[i] == lost]; len(servers) != want {
			a.t.Errorf("%s was on %v, want %d of them", a.who(i), servers, want)
		}
	}
}

// count tells how many of the names are this one.
func count(names []string, name string) (n int) {
	for _, s := range names {
		if s == name {
			n++
		}
	}
	return n
}
