//go:build unix

package integration

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// A balancer without memory finds what is playing: its servers know.
func TestKilledCaddy(t *testing.T) {
	f := startFleet(t, 3, clones...)
	caddy := f.caddy(f.site(replicated))
	a := invite(t, "http://"+caddy.addr, 12, segmentKinds...)
	a.play(14 * time.Second)
	time.Sleep(2 * time.Second)
	before := a.at()
	killed := time.Now()
	caddy.kill()
	time.Sleep(500 * time.Millisecond)
	caddy.start()
	back := time.Now()
	t.Logf("Caddy was away for %v", back.Sub(killed).Round(time.Millisecond))
	time.Sleep(4 * time.Second)
	a.oneEncoderEach(f)
	// The wait of who asked just before includes the time without a balancer.
	a.unharmed(back.Sub(killed) + 3*time.Second)
	a.movedFrom("", before)
	for i, v := range a.viewers {
		account := v.Account()
		first := slices.IndexFunc(account.Waits, func(w plextest.Wait) bool { return w.At.Add(w.Took).After(back) })
		if first < 0 {
			t.Errorf("%s has got nothing since", a.who(i))
			continue
		}
		w := account.Waits[first]
		asked := w.At
		if asked.Before(back) {
			asked = back
		}
		if took := w.At.Add(w.Took).Sub(asked); took > 3*time.Second {
			t.Errorf("%s was found again after %v", a.who(i), took)
		}
	}
}

// alternating sends each request to another balancer than the last.
type alternating struct {
	hosts []string
	n     atomic.Uint32
	http.RoundTripper
}

func (a *alternating) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = a.hosts[int(a.n.Add(1))%len(a.hosts)]
	return a.RoundTripper.RoundTrip(r)
}

// Two balancers in front of the same servers, which know nothing of each other:
// a decision at one, the start at the other, segments at either.
func TestTwoCaddies(t *testing.T) {
	for name, reading := range map[string]string{
		"that read often":         "poll_interval 300ms",
		"that read hardly at all": "poll_interval 1h\nnotifications off",
	} {
		t.Run(name, func(t *testing.T) {
			f := startFleet(t, 3, clones...)
			config := strings.ReplaceAll(f.site(replicated), "poll_interval 300ms", reading)
			hosts := []string{f.caddy(config).addr, f.caddy(config).addr}
			a := invite(t, "http://"+hosts[0], 12, segmentKinds...)
			for _, v := range a.viewers {
				transport := &http.Transport{MaxIdleConnsPerHost: 4}
				t.Cleanup(transport.CloseIdleConnections)
				v.HTTP = &http.Client{Transport: &alternating{hosts: hosts, RoundTripper: transport}}
			}
			a.play(8 * time.Second)
			before := a.at()
			time.Sleep(2 * time.Second)
			a.oneEncoderEach(f)
			starts := f.starts()
			a.unharmed(3 * time.Second)
			a.movedFrom("", before)
			for i, v := range a.viewers {
				if n := starts[v.TSID]; n != 1 {
					t.Errorf("%s was started %d times", a.who(i), n)
				}
				for _, o := range v.Observed() {
					if o.Status >= 400 && o.What != "stop" { // which comes after the last timeline
						t.Errorf("%s: %s from %q: status %d", a.who(i), o.What, o.Server, o.Status)
					}
				}
			}
		})
	}
}
