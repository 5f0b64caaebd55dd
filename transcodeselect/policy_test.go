package transcodeselect_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func TestSelect(t *testing.T) {
	t.Run("without a handler and a response writer", func(t *testing.T) {
		g := newRig(t, 3, "")
		for _, url := range []string{segmentURL, timelineURL, startURL, "/", "/library/parts/1/2/file.mkv"} {
			if u := g.policy.Select(g.pool, g.request(url), nil); u == nil {
				t.Errorf("%.40s got no server", url)
			}
		}
	})
	t.Run("without a context of Caddy's", func(t *testing.T) {
		g := newRig(t, 3, "")
		if u := g.policy.Select(g.pool, httptest.NewRequest(http.MethodGet, startURL, nil), nil); u == nil {
			t.Error("got no server")
		}
	})
	t.Run("from an empty pool", func(t *testing.T) {
		g := newRig(t, 3, "")
		g.pool = reverseproxy.UpstreamPool{}
		if u := g.ask(httptest.NewRecorder(), g.request("/")); u != nil {
			t.Errorf("got %s out of nothing", u)
		}
	})
	t.Run("always a member of the pool it was handed", func(t *testing.T) {
		g := newRig(t, 3, "")
		all := g.pool
		home := g.ask(httptest.NewRecorder(), g.request(segmentURL))
		for n := range 3 {
			// Other values for the same addresses, as dynamic upstreams are.
			g.pool = nil
			for _, u := range all[n:] {
				g.pool = append(g.pool, &reverseproxy.Upstream{Host: new(reverseproxy.Host), Dial: u.Dial})
			}
			for _, url := range []string{segmentURL, timelineURL, "/library/sections"} {
				u := g.ask(httptest.NewRecorder(), g.request(url))
				member := false
				for _, v := range g.pool {
					member = member || u == v
				}
				switch {
				case u == nil:
				case !member:
					t.Errorf("%.30s got an upstream that is not in the pool", url)
				case url != "/library/sections" && u.Dial != home.Dial:
					t.Errorf("%.30s went to %s, its playback is on %s", url, u.Dial, home.Dial)
				}
			}
		}
	})
	t.Run("in another order and with strangers", func(t *testing.T) {
		g := newRig(t, 3, "")
		home := g.ask(httptest.NewRecorder(), g.request(segmentURL)).Dial
		g.pool = append(reverseproxy.UpstreamPool{{Host: new(reverseproxy.Host), Dial: "10.9.9.9:1"}}, g.pool[2], g.pool[1], g.pool[0])
		if u := g.ask(httptest.NewRecorder(), g.request(segmentURL)); u == nil || u.Dial != home {
			t.Errorf("went to %v, its playback is on %s", u, home)
		}
		for i := range 8 {
			if u := g.ask(httptest.NewRecorder(), g.request(fmt.Sprintf("/library/sections?X-Plex-Client-Identifier=c%d", i))); u == nil {
				t.Error("got no server")
			}
		}
		if s := g.ledger().Servers(); len(s.List()) != 4 || !s.Strangers() {
			t.Errorf("%d servers are known", len(s.List()))
		}
	})
	t.Run("by many requests at once", func(t *testing.T) {
		g := newRig(t, 5, `,"mode":"replicated","primary":"plex0"`)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for n := range 200 {
					id := fmt.Sprintf("%d-%d", i, n)
					start := "/video/:/transcode/universal/start.mpd?path=x&session=" + id + "&X-Plex-Client-Identifier=c" + id
					home := g.choose(start)
					if again := g.choose("/video/:/transcode/universal/session/" + id + "/0/1.m4s"); again != home || home == "" {
						t.Errorf("%s: %s, then %s", id, home, again)
					}
				}
			})
		}
		wg.Wait()
	})
}
