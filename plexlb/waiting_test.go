package plexlb

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plex"
)

func waitingApp(tb testing.TB) *App {
	st, err := loadState()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = releaseState() })
	return &App{Mode: ModeReplicated, state: st}
}

// Those that wait for a server that hangs are taken back, whoever else waits
// or leaves at the time; segments that are stuck in the middle as well, other
// answers not.
func TestTakeBack(t *testing.T) {
	app := waitingApp(t)
	upstream := func(addr string) *reverseproxy.Upstream {
		return &reverseproxy.Upstream{Host: new(reverseproxy.Host), Dial: addr}
	}
	hangs, works := upstream("hangs:1"), upstream("works:1")
	type request struct {
		upstream *reverseproxy.Upstream
		kind     plex.Kind
		status   int  // answered with, before
		flows    bool // more comes
		back     bool
	}
	var wg sync.WaitGroup
	ready, done := make(chan struct{}), make(chan struct{})
	for _, tc := range slices.Repeat([]request{
		{hangs, plex.Segment, 0, false, true},
		{hangs, plex.Segment, 200, false, true},
		{hangs, plex.Segment, 200, true, false},
		{hangs, plex.Part, 0, false, true},
		{hangs, plex.Part, 206, false, false},
		{hangs, plex.Local, 101, false, false},
		{works, plex.Segment, 0, false, false},
		{works, plex.Part, 0, false, false},
	}, 50) {
		wg.Go(func() {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			l := takeLease(app, httptest.NewRecorder())
			defer l.end()
			l.ctx, l.request.Kind, l.returned = r.Context(), tc.kind, true
			_ = l.attempt(r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
				if !l.Go(nil, tc.upstream) {
					t.Error("it is not available")
				}
				if tc.status != 0 {
					w.WriteHeader(tc.status)
				}
				ready <- struct{}{}
				for {
					select {
					case <-r.Context().Done():
						return nil
					case <-done:
						return nil
					case <-time.After(stuckAfter / 4):
						if tc.flows {
							_, _ = w.Write([]byte("more"))
						}
					}
				}
			}))
			if l.takenBack != tc.back {
				t.Errorf("%+v: taken back %v", tc, l.takenBack)
			}
		})
	}
	for range 400 {
		<-ready
	}
	app.replaced.Store(true) // so that the address counts
	app.state.waiting.takeBack("hangs:1")
	time.Sleep(stuckAfter + 500*time.Millisecond)
	close(done)
	wg.Wait()
	for i := range app.state.waiting.shards {
		if app.state.waiting.shards[i].head != nil {
			t.Error("somebody still waits")
		}
	}
}

// Caddy's transport dials aside, and reads the request's variables as it does,
// also when the attempt is over and the proxy has begun the next one.
func TestAttemptsShareNoVariables(t *testing.T) {
	app := waitingApp(t)
	l := takeLease(app, httptest.NewRecorder())
	defer l.end()
	l.returned = true
	vars := map[string]any{"route": "plex"}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r = r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, vars))
	l.ctx = r.Context()
	stop := make(chan struct{})
	var dials sync.WaitGroup
	for n := range 3 {
		_ = l.attempt(r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
			caddyhttp.SetVar(r.Context(), "attempt", n)
			if got := caddyhttp.GetVar(r.Context(), "route"); got != "plex" {
				t.Errorf("attempt %d: the route is %v", n, got)
			}
			dials.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if got := caddyhttp.GetVar(r.Context(), "attempt"); got != n {
						t.Errorf("the variables of attempt %d are those of %v", n, got)
						return
					}
				}
			})
			return nil
		}))
	}
	close(stop)
	dials.Wait()
	if vars["attempt"] != 0 {
		t.Errorf("the first attempt's variables are not the request's: %v", vars)
	}
}

// What it costs a request that it can be taken back: all that comes on top of
// finding its server.
func BenchmarkAttempt(b *testing.B) {
	app := waitingApp(b)
	u := &reverseproxy.Upstream{Host: new(reverseproxy.Host), Dial: "a:1"}
	s := app.state.ledger.Admit("a:1", time.Now())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range 6 { // as deep as a server's
		ctx = context.WithValue(ctx, new(int), 0)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx)
	header := http.Header{"Server": {"Caddy"}, "Alt-Svc": {"h3"}}
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		LeaseOf(w).Go(s, u)
		return nil
	})
	for name, attempt := range map[string]func(l *Lease) error{
		"armed": func(l *Lease) error { return l.attempt(r, next) },
		"bare":  func(l *Lease) error { return next.ServeHTTP(l, r) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l := takeLease(app, &probe{header: header})
				l.segment, l.hold = true, cluster.Hold{Server: s}
				_ = attempt(l)
				l.endSegment()
			}
		})
	}
}

// A probe comes before the request that it is made for, which is to find its
// variables as they were.
func TestProbesShareNoVariables(t *testing.T) {
	app := waitingApp(t)
	l := takeLease(app, httptest.NewRecorder())
	defer l.end()
	l.returned, l.probing = true, true
	vars := map[string]any{"route": "plex"}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r = r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, vars))
	l.ctx = r.Context()
	set := caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
		caddyhttp.SetVar(r.Context(), "attempt", "made")
		return nil
	})
	if _ = l.attempt(r, set); vars["attempt"] != nil {
		t.Errorf("after the probe they are %v", vars)
	}
	l.probing = false
	if _ = l.attempt(r, set); vars["attempt"] != "made" {
		t.Errorf("after the request they are %v", vars)
	}
}
