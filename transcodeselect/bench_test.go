package transcodeselect_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/plexlb"
	"github.com/plexlb/caddy-plexlb/transcodeselect"
)

// The three requests of a playback that come over and over.
const (
	segmentURL  = "/video/:/transcode/universal/session/transcode0f0playback01ab/1/20.m4s"
	timelineURL = "/:/timeline?ratingKey=1&key=%2Flibrary%2Fmetadata%2F1&playbackTime=29007&playQueueItemID=9&state=playing&hasMDE=1&time=29000&duration=634000" +
		"&X-Plex-Session-Identifier=playback0of0that0film0ef" + clientQuery
	startURL = "/video/:/transcode/universal/start.mpd?hasMDE=1&path=%2Flibrary%2Fmetadata%2F1&mediaIndex=0&partIndex=0&protocol=dash" +
		"&session=transcode0f0playback01ab&X-Plex-Session-Identifier=playback0of0that0film0ef" + clientQuery
	clientQuery = "&X-Plex-Product=Plex%20Web&X-Plex-Version=4.116.1&X-Plex-Client-Identifier=device0in0living0room0cd&X-Plex-Platform=Chrome" +
		"&X-Plex-Platform-Version=120.0&X-Plex-Features=external-media%2Cindirect-media%2Chub-style-list&X-Plex-Model=bundled&X-Plex-Device=Linux" +
		"&X-Plex-Device-Name=Chrome&X-Plex-Device-Screen-Resolution=1868x897%2C1920x1080&X-Plex-Token=secret&X-Plex-Language=es" +
		"&X-Plex-Session-Id=00000000-1111-4222-8333-444444444444"
)

// rig is a handler and a policy over n servers, with one playback under way.
type rig struct {
	handler *plexlb.Handler
	policy  *transcodeselect.LeastTranscodes
	pool    reverseproxy.UpstreamPool
	app     *plexlb.App
	ctx     context.Context
}

func newRig(tb testing.TB, n int, app string) *rig {
	tb.Helper()
	servers := ""
	g := new(rig)
	for i := range n {
		dial := fmt.Sprintf("127.0.%d.%d:32400", i/250, i%250+1)
		if i > 0 {
			servers += ","
		}
		servers += fmt.Sprintf(`{"name":"plex%d","address":%q}`, i, dial)
		g.pool = append(g.pool, &reverseproxy.Upstream{Host: new(reverseproxy.Host), Dial: dial})
	}
	cfg := &caddy.Config{AppsRaw: caddy.ModuleMap{"plexlb": []byte(`{"servers":[` + servers + `]` + app + `}`)}}
	ctx, err := caddy.ProvisionContext(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	load := func(id string, v any) any {
		m, err := ctx.LoadModuleByID(id, caddyconfig.JSON(v, nil))
		if err != nil {
			tb.Fatal(err)
		}
		return m
	}
	g.handler = load("http.handlers.plexlb", struct{}{}).(*plexlb.Handler)
	g.policy = load("http.reverse_proxy.selection_policies.least_transcodes", struct{}{}).(*transcodeselect.LeastTranscodes)
	loaded, err := ctx.App("plexlb")
	if err != nil {
		tb.Fatal(err)
	}
	g.app = loaded.(*plexlb.App)
	tb.Cleanup(func() { _ = g.app.Cleanup() }) // the next rig starts from nothing
	g.ctx = serverContext()
	if u := g.ask(httptest.NewRecorder(), g.request(startURL)); u == nil {
		tb.Fatal("the playback got no server")
	}
	return g
}

// serverContext is what a request has in its context in a running server, but
// for the replacer: setting placeholders is not part of finding a server, and
// is measured by itself.
func serverContext() context.Context {
	ctx := context.WithValue(context.Background(), caddyhttp.ServerCtxKey, new(caddyhttp.Server))
	ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{caddyhttp.ClientIPVarKey: "192.168.1.20"})
	return context.WithValue(ctx, caddyhttp.OriginalRequestCtxKey, http.Request{})
}

func (g *rig) request(url string) *http.Request {
	return httptest.NewRequest(http.MethodGet, url, nil).WithContext(g.ctx)
}

// ask sends a request through the handler, and answers 200 in the place of the
// proxy that asks the policy.
func (g *rig) ask(w http.ResponseWriter, r *http.Request) (u *reverseproxy.Upstream) {
	_ = g.handler.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		u = g.policy.Select(g.pool, r, w)
		w.WriteHeader(http.StatusOK)
		return nil
	}))
	return u
}

// choose is ask for the address alone.
func (g *rig) choose(url string) string {
	u := g.ask(httptest.NewRecorder(), g.request(url))
	if u == nil {
		return ""
	}
	return u.Dial
}

func (g *rig) ledger() *cluster.Ledger { return g.app.Ledger() }

// discard is a response writer without a client.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) WriteHeader(int)             {}
func (d discard) Write(b []byte) (int, error) { return len(b), nil }

// What it costs to find a request's server: identify, find and select, beside
// the stock policy that hashes the query member of the transcode id. The policy
// alone does all three; with the handler in front the request can be taken back
// and carried elsewhere as well, which is all of the allocations and most of the
// time (BenchmarkAttempt in package plexlb shows it by itself).
func BenchmarkPinned(b *testing.B) {
	for name, url := range map[string]string{"segment": segmentURL, "timeline": timelineURL} {
		g := newRig(b, 3, "")
		r := g.request(url)
		b.Run(name+"/plexlb", func(b *testing.B) {
			b.ReportAllocs()
			w := discard{make(http.Header)}
			next := &selecting{g: g}
			for b.Loop() {
				_ = g.handler.ServeHTTP(w, r, next)
			}
			if next.last == nil {
				b.Fatal("no server")
			}
		})
		b.Run(name+"/plexlb-alone", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				g.policy.Select(g.pool, r, nil)
			}
		})
		b.Run(name+"/stock-query", func(b *testing.B) {
			stock := queryPolicy(b)
			b.ReportAllocs()
			for b.Loop() {
				stock.Select(g.pool, r, nil)
			}
		})
	}
}

// What the placeholders add to a request: a replacer is made for each anyway.
func BenchmarkPlaceholders(b *testing.B) {
	g := newRig(b, 3, "")
	w := discard{make(http.Header)}
	next := &selecting{g: g}
	bare := g.request(segmentURL)
	http := func(string) (any, bool) { return nil, false }
	for name, key := range map[string]caddy.CtxKey{"with": caddy.ReplacerCtxKey, "without": "unused"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				repl := caddy.NewReplacer()
				repl.Map(http)
				r := bare.WithContext(context.WithValue(g.ctx, key, repl))
				_ = g.handler.ServeHTTP(w, r, next)
			}
		})
	}
}

// selecting is a proxy that only selects.
type selecting struct {
	g     *rig
	timed bool
	took  time.Duration
	n     int
	last  *reverseproxy.Upstream
}

func (s *selecting) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	if !s.timed {
		s.last = s.g.policy.Select(s.g.pool, r, w)
		return nil
	}
	began := time.Now()
	s.last = s.g.policy.Select(s.g.pool, r, w)
	s.took += time.Since(began)
	s.n++
	return nil
}

func queryPolicy(b *testing.B) reverseproxy.Selector {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	b.Cleanup(cancel)
	p := &reverseproxy.QueryHashSelection{Key: "session"}
	if err := p.Provision(ctx); err != nil {
		b.Fatal(err)
	}
	return p
}

// Select among a thousand servers, for a playback that has one and for a
// visitor that has none, beside stock least_conn.
func BenchmarkThousandServers(b *testing.B) {
	g := newRig(b, 1000, "")
	b.Run("pinned", func(b *testing.B) {
		r := g.request(segmentURL)
		b.ReportAllocs()
		w := discard{make(http.Header)}
		next := &selecting{g: g}
		for b.Loop() {
			_ = g.handler.ServeHTTP(w, r, next)
		}
	})
	// A new playback in every round, for both, as a request is cheap to make.
	fresh := func(r *http.Request, i int) {
		r.URL.RawQuery = "path=x&session=s" + strconv.Itoa(i)
	}
	b.Run("placed", func(b *testing.B) {
		g := newRig(b, 1000, `,"mode":"replicated","primary":"plex0"`)
		w := discard{make(http.Header)}
		next := &selecting{g: g, timed: true}
		r := g.request(startURL)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			fresh(r, i)
			_ = g.handler.ServeHTTP(w, r, next)
		}
		b.ReportMetric(float64(next.took.Nanoseconds())/float64(next.n), "ns/select")
	})
	b.Run("stock-least_conn", func(b *testing.B) {
		r := g.request(startURL)
		var stock reverseproxy.LeastConnSelection
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			fresh(r, i)
			stock.Select(g.pool, r, nil)
		}
	})
}
