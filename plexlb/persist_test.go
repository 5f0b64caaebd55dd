package plexlb

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// A request is sent again where the proxy would have done so if its config had
// not been replaced and it does no harm, and nowhere else.
func TestCutShort(t *testing.T) {
	const file, timeline, listing = "/library/parts/1/2/file.mkv", "/:/timeline?state=playing&ratingKey=1", "/library/sections"
	refused := caddyhttp.Error(http.StatusBadGateway, reverseproxy.NewDialError(errors.New("refused")))
	reset := caddyhttp.Error(http.StatusBadGateway, errors.New("reset"))
	none := caddyhttp.Error(http.StatusServiceUnavailable, errors.New("no upstreams available"))
	over := make(chan struct{})
	close(over)
	usual := reverseproxy.LoadBalancing{
		TryDuration: caddy.Duration(5 * time.Second), TryInterval: caddy.Duration(100 * time.Millisecond),
		RetryMatch: caddyhttp.MatcherSets{{caddyhttp.MatchMethod{http.MethodGet}, Match{"part"}}},
	}
	set := func(edit func(*reverseproxy.LoadBalancing)) *reverseproxy.LoadBalancing {
		lb := usual
		edit(&lb)
		return &lb
	}
	for name, tc := range map[string]struct {
		method, path string
		err          error
		lease        func(*Lease)
		set          *reverseproxy.LoadBalancing
		since        time.Duration
		want         bool
	}{
		"a file":                                  {path: file, err: reset, want: true},
		"a file, in a config in force":            {path: file, err: reset, lease: func(l *Lease) { l.proxy.over = make(chan struct{}) }},
		"a file that began to come":               {path: file, err: reset, lease: func(l *Lease) { l.status = http.StatusOK }},
		"a file taken back":                       {path: file, err: reset, lease: func(l *Lease) { l.takenBack = true }},
		"a file whose playback has to be resumed": {path: file, err: reset, lease: func(l *Lease) { l.interrupted = true }},
		"a file that is gone, says a route":       {path: file, err: caddyhttp.Error(http.StatusNotFound, errors.New("gone"))},
		"a file for which there is no room":       {path: file, err: caddyhttp.Error(http.StatusInsufficientStorage, errors.New("full"))},
		"a file that failed without a status":     {path: file, err: errors.New("failed")},
		"what no proxy of ours was asked for":     {path: file, err: refused, lease: func(l *Lease) { l.proxy = nil }},
		"a file that does not come in time":       {path: file, err: caddyhttp.Error(http.StatusGatewayTimeout, errors.New("timeout")), want: true},
		"a file for as long as it takes":          {path: file, err: reset, since: 4 * time.Second, want: true},
		"a file for longer":                       {path: file, err: reset, since: 5 * time.Second},
		"a listing that is not to be repeated":    {path: listing, err: reset},
		"a listing that did not arrive":           {path: listing, err: refused, want: true},
		"a listing for which there is no server":  {path: listing, err: none, want: true},
		"a write that may have arrived":           {method: http.MethodPut, path: listing, err: reset},
		"a start that is no GET":                  {method: http.MethodPost, path: "/video/:/transcode/universal/start.m3u8?path=x", err: refused},
		"a write that may not have arrived":       {method: http.MethodPut, path: listing, err: refused},
		"a write that is a GET":                   {path: "/:/scrobble?key=1&identifier=com.plexapp.plugins.library", err: refused},
		"a write for which there is no server":    {method: http.MethodPut, path: listing, err: none},
		"a timeline":                              {path: timeline, err: refused},
		"no trying":                               {path: file, err: refused, set: set(func(lb *reverseproxy.LoadBalancing) { lb.TryDuration = 0 })},
		"no waiting":                              {path: file, err: refused, set: set(func(lb *reverseproxy.LoadBalancing) { lb.TryInterval = 0 })},
		"a second of two retries":                 {path: file, err: refused, lease: func(l *Lease) { l.asked = 2 }, set: set(func(lb *reverseproxy.LoadBalancing) { lb.Retries = 2 }), want: true},
		"a third of two retries":                  {path: file, err: refused, lease: func(l *Lease) { l.asked = 3 }, set: set(func(lb *reverseproxy.LoadBalancing) { lb.Retries = 2 })},
		"any GET":                                 {path: listing, err: reset, set: set(func(lb *reverseproxy.LoadBalancing) { lb.RetryMatch = nil }), want: true},
		"no HEAD":                                 {method: http.MethodHead, path: listing, err: reset, set: set(func(lb *reverseproxy.LoadBalancing) { lb.RetryMatch = nil })},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(cmp.Or(tc.method, http.MethodGet), tc.path, nil)
			l := &Lease{asked: 1, proxy: &Proxy{balancing: cmp.Or(tc.set, &usual), over: over}}
			if tc.lease != nil {
				tc.lease(l)
			}
			if got := l.cutShort(r, tc.err, time.Now().Add(-tc.since)); got != tc.want {
				t.Errorf("cutShort() = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestPersist(t *testing.T) {
	app := waitingApp(t)
	over := make(chan struct{})
	close(over)
	refused := caddyhttp.Error(http.StatusBadGateway, reverseproxy.NewDialError(errors.New("refused")))
	for name, tc := range map[string]struct {
		until  int  // fails so often
		leaves bool // the client, after the first time
		sent   int
		status int // 0: an error
	}{
		"at the first": {until: 0, sent: 1, status: http.StatusOK},
		"at the last":  {until: 2, sent: 3, status: http.StatusOK},
		"in vain":      {until: 9, sent: 3},
		"for nobody":   {until: 9, leaves: true, sent: 1, status: statusClientClosed},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			l := takeLease(app, httptest.NewRecorder())
			defer l.end()
			r := l.begin("", httptest.NewRequest(http.MethodGet, "/library/sections", nil).WithContext(ctx))
			l.asked = 7       // of an earlier round
			l.resumptions = 5 // when this one began: what was resumed since is not resumed again
			sent := 0
			p := &Proxy{balancing: &reverseproxy.LoadBalancing{Retries: 2, TryInterval: caddy.Duration(10 * time.Millisecond)}, over: over}
			err := (&Handler{app: app}).persist(l, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
				LeaseOf(w).AskedBy(p)
				if sent++; sent <= tc.until {
					if tc.leaves {
						leave()
					}
					return refused
				}
				w.WriteHeader(http.StatusOK)
				return nil
			}))
			if sent != tc.sent || l.status != tc.status || (err != nil) != (tc.status == 0) {
				t.Errorf("sent %d times, status %d, error %v; want %d and %d", sent, l.status, err, tc.sent, tc.status)
			}
			if l.resumptions != 5 {
				t.Errorf("resumptions are counted from %d, want 5", l.resumptions)
			}
		})
	}
}
