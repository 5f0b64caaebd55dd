package plexlb

import (
	"context"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// waiting are the requests that wait for a server to answer. When Caddy finds
// that the server hangs they are taken back, to be served by another.
type waiting struct {
	shards [waitingShards]struct {
		mu   sync.Mutex
		head *Lease
		_    [48]byte // a cache line each
	}
}

const waitingShards = 16

// leaseCount spreads leases over the shards.
var leaseCount atomic.Uint32

// wait is a lease's part of it. Guarded by its shard's mutex.
type wait struct {
	shard      uint32
	upstream   *reverseproxy.Upstream // nil: it does not wait
	prev, next *Lease
	cancel     context.CancelFunc
	takenBack  bool          // by the watch
	answered   bool          // in part
	written    atomic.Uint32 // counts the pieces that were passed on
	seen       uint32        // of them when the server was found down
}

// add has a request wait for an upstream, or for another than before.
func (w *waiting) add(l *Lease, u *reverseproxy.Upstream) {
	s := &w.shards[l.wait.shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.wait.upstream == nil {
		if l.wait.next = s.head; s.head != nil {
			s.head.wait.prev = l
		}
		s.head = l
	}
	l.wait.upstream = u
}

// remove ends the wait. It reports whether the request was taken back.
func (w *waiting) remove(l *Lease) (takenBack bool) {
	s := &w.shards[l.wait.shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.wait.upstream != nil {
		if l.wait.prev != nil {
			l.wait.prev.wait.next = l.wait.next
		} else {
			s.head = l.wait.next
		}
		if l.wait.next != nil {
			l.wait.next.wait.prev = l.wait.prev
		}
		l.wait.upstream, l.wait.prev, l.wait.next = nil, nil, nil
	}
	return l.wait.takenBack
}

// stuckAfter is how long nothing may come of a segment whose server was found
// down.
const stuckAfter = 2 * time.Second

// takeBack takes the requests back that wait for an upstream that is not
// healthy. A config that was replaced gets no more word of its own upstreams:
// there the address that was found down counts.
func (w *waiting) takeBack(address string) {
	stuck := false
	w.each(address, func(l *Lease) bool {
		l.wait.seen = l.wait.written.Load()
		stuck = stuck || l.wait.answered && l.request.Kind == plex.Segment
		return !l.wait.answered
	})
	if stuck {
		time.AfterFunc(stuckAfter, func() {
			w.each(address, func(l *Lease) bool {
				return l.wait.answered && l.request.Kind == plex.Segment && l.wait.seen == l.wait.written.Load()
			})
		})
	}
}

// each takes back those of an upstream that is down of which is says so.
func (w *waiting) each(address string, is func(*Lease) bool) {
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		for l := s.head; l != nil; l = l.wait.next {
			u := l.wait.upstream
			if (!u.Healthy() || u.Dial == address && l.app.replaced.Load()) && is(l) {
				l.wait.takenBack = true
				l.wait.cancel()
			}
		}
		s.mu.Unlock()
	}
}

// tick has headers flushed that nothing follows.
func (w *waiting) tick() {
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		for l := s.head; l != nil; l = l.wait.next {
			l.early.tick()
		}
		s.mu.Unlock()
	}
}

// attempt sends the request on, so that it can be taken back.
func (l *Lease) attempt(r *http.Request, next caddyhttp.Handler) error {
	ctx := r.Context()
	if l.attempted || l.probing {
		// The connection that an attempt asked for may still be dialled when it
		// is over, which reads the variables; the proxy sets some as it begins
		// the next. A probe is on behalf of a request that comes after it.
		if vars, ok := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any); ok {
			ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, maps.Clone(vars))
		}
	}
	l.attempted = l.attempted || !l.probing
	ctx, cancel := context.WithCancel(ctx)
	l.wait.cancel, l.wait.takenBack, l.wait.answered, l.interrupted = cancel, false, false, false
	r = r.WithContext(ctx)
	forwardOneAddress(r)
	err := next.ServeHTTP(l, r)
	l.stopWaiting()
	return err
}

// stopWaiting ends an attempt.
func (l *Lease) stopWaiting() {
	if l.wait.cancel == nil {
		return
	}
	l.takenBack = l.app.state.waiting.remove(l)
	l.wait.cancel()
	l.wait.cancel = nil
}

// answered notes that the server has begun to answer. Only a segment can be
// taken back after that: it is short, and one that is stuck is broken off for
// the player to ask again. The header of a file may have to be flushed.
func (l *Lease) answered() {
	switch {
	case l.wait.cancel == nil:
	case l.request.Kind == plex.Segment, l.request.Kind == plex.Part:
		s := &l.app.state.waiting.shards[l.wait.shard]
		s.mu.Lock()
		l.wait.answered = true
		s.mu.Unlock()
	default:
		l.app.state.waiting.remove(l)
	}
}

// watchHealth listens to Caddy's active health checks.
func (a *App) watchHealth(ctx caddy.Context) error {
	app, err := ctx.App("events")
	if err != nil {
		return err
	}
	a.events = app.(*caddyevents.App)
	return a.events.Subscribe(&caddyevents.Subscription{
		Events: []string{"unhealthy", "healthy"}, Handlers: []caddyevents.Handler{healthWatch{a}},
	})
}

// healthWatch hears of upstreams that became unhealthy, or healthy again.
type healthWatch struct{ app *App }

// Handle remembers it, and takes the requests back that wait for an upstream
// that is not healthy.
func (w healthWatch) Handle(_ context.Context, e caddy.Event) error {
	if w.app.state == nil {
		return nil
	}
	address, _ := e.Data["host"].(string)
	healthy := e.Name() == "healthy"
	w.app.state.troubles.heard(w.app, address, healthy)
	if !healthy {
		w.app.state.waiting.takeBack(address)
	}
	return nil
}

// Interface guard
var _ caddyevents.Handler = healthWatch{}
