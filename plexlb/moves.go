package plexlb

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
)

// What operators can do with playbacks that run: each is carried by being
// resumed elsewhere while its present server still works, so that its viewer
// notices nothing, and stopped there.

// Errors of the operations below, wrapped with what they are about.
var (
	// ErrUnknown says that there is no server or playback of that name.
	ErrUnknown = errors.New("not found")

	// ErrImpossible says that the operation cannot be done as things are.
	ErrImpossible = errors.New("not possible")
)

// Moved is one playback that was carried to another server, or would be.
type Moved struct {
	Session  string // one of the playback's ids
	From, To string // names of servers
	Err      error  // why it was not carried
}

// Drain makes a server take no new playbacks. Those that it has play on, or,
// with move, are carried to other servers when after has passed, at once if
// that is 0.
func (a *App) Drain(server string, move bool, after time.Duration) error {
	s := a.state.ledger.Servers().Named(server)
	switch {
	case s == nil:
		return fmt.Errorf("server %q: %w", server, ErrUnknown)
	case move && a.Mode != ModeReplicated:
		return fmt.Errorf("playbacks cannot be carried away from server %q in mode separate, as ids differ between servers; drain without moving: %w", server, ErrImpossible)
	case move:
		a.state.ledger.Empty(s, time.Now().Add(after))
	default:
		a.state.ledger.Drain(s, true)
	}
	return nil
}

// Undrain makes a server take new playbacks again.
func (a *App) Undrain(server string) error {
	s := a.state.ledger.Servers().Named(server)
	if s == nil {
		return fmt.Errorf("server %q: %w", server, ErrUnknown)
	}
	a.state.ledger.Drain(s, false)
	return nil
}

// Move carries one playback, by any id that its client uses, to a server, and
// returns when that is done.
func (a *App) Move(ctx context.Context, id, server string) error {
	led := a.state.ledger
	to := led.Servers().Named(server)
	if to == nil {
		return fmt.Errorf("server %q: %w", server, ErrUnknown)
	}
	m, ok := led.Mover(id, to)
	if !ok {
		return fmt.Errorf("session %q: %w", id, ErrUnknown)
	}
	if led.Draining(to) {
		return fmt.Errorf("server %q is draining: %w", server, ErrImpossible)
	}
	return a.carry(ctx, m)
}

// Rebalance carries playbacks until no move would lower the highest load, and
// returns what it did; with dry it only says what it would do.
func (a *App) Rebalance(ctx context.Context, dry bool) ([]Moved, error) {
	if a.Mode != ModeReplicated {
		return nil, fmt.Errorf("playbacks cannot be carried in mode separate, as ids differ between servers: %w", ErrImpossible)
	}
	plan := a.state.ledger.Rebalance(time.Now())
	moved := make([]Moved, 0, len(plan))
	for _, m := range plan {
		if err := ctx.Err(); err != nil {
			return moved, err
		}
		one := Moved{Session: m.ID, From: m.From.Name(), To: m.To.Name()}
		if !dry {
			one.Err = a.carry(ctx, m)
		}
		moved = append(moved, one)
	}
	return moved, nil
}

// carry has a playback resumed elsewhere while it goes on where it is.
func (a *App) carry(ctx context.Context, m cluster.Mover) error {
	if m.From == m.To {
		return nil
	}
	if !a.state.ledger.Movable(m.Playback()) {
		return fmt.Errorf("session %q cannot be carried, as its start is not known here or ids differ between servers: %w", m.ID, ErrImpossible)
	}
	way, ok := a.state.chains.of(a.siteOf(m.Playback()))
	if !ok {
		return fmt.Errorf("session %q: its site has had no request since the config was loaded: %w", m.ID, ErrImpossible)
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	err := way.handler.resume(ctx, journey{chain: way, playback: m.Playback(), mover: &m}, late.C)
	if err != nil {
		return fmt.Errorf("session %q: %w", m.ID, err)
	}
	if at, _ := a.state.ledger.ServerOf(m.Playback()); at == m.From || m.To != nil && at != m.To {
		return fmt.Errorf("session %q is on server %q, as it had to be resumed just now: %w", m.ID, at.Name(), ErrImpossible)
	}
	return nil
}

// siteOf returns the site through which a playback was started.
func (a *App) siteOf(p *cluster.Playback) string {
	if res := a.state.ledger.Resume(p, ""); res != nil {
		for _, r := range []cluster.Request{res.Start, res.Decision} {
			if rec, ok := r.(*recording); ok {
				return rec.site
			}
		}
	}
	return ""
}

const (
	// movesAtOnce is how many playbacks leave draining servers at a time.
	movesAtOnce = 4

	// A playback that could not leave is tried again after this.
	movePause = 10 * time.Second

	// It is looked this often for what has to leave a server that is being
	// emptied, and this often whether there is such a server.
	emptyingStep = 100 * time.Millisecond
	drainingStep = time.Second
)

// emptyDraining carries playbacks away from draining servers when their time
// has come.
func (a *App) emptyDraining(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	slots := make(chan struct{}, movesAtOnce)
	failed := make(map[*cluster.Playback]time.Time)
	var mu sync.Mutex
	for step := drainingStep; sleep(ctx, step); {
		due := a.state.ledger.Due(time.Now())
		mu.Lock()
		for p, at := range failed {
			if time.Since(at) > movePause {
				delete(failed, p)
			}
		}
		mu.Unlock()
		for _, m := range due {
			mu.Lock()
			_, wait := failed[m.Playback()]
			if !wait {
				failed[m.Playback()] = time.Now() // until we know better
			}
			mu.Unlock()
			if wait {
				continue
			}
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			work.Go(func() {
				defer func() { <-slots }()
				if err := a.carry(ctx, m); err != nil && ctx.Err() == nil {
					a.logger.Warn("playback stays on a draining server", zap.String("server", m.From.Name()), zap.Error(err))
				}
			})
		}
		step = drainingStep
		if len(due) > 0 {
			step = emptyingStep
		}
	}
}

// chains are the ways to the servers, by site, as the latest requests went.
type chains struct {
	mu sync.Mutex
	by map[string]chain
}

// register makes the site's chain known.
func (h *Handler) register(r *http.Request, next caddyhttp.Handler) {
	if h.registered.Load() {
		return
	}
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	c := &h.app.state.chains
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = make(map[string]chain)
	}
	c.by[h.site] = chain{h, next, server}
	h.registered.Store(true)
}

// Cleanup makes the site's chain unknown, unless another config has taken its
// place.
func (h *Handler) Cleanup() error {
	if h.app == nil {
		return nil
	}
	h.registered.Store(true) // late requests do not bring it back
	c := &h.app.state.chains
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by[h.site].handler == h {
		delete(c.by, h.site)
	}
	return nil
}

// of returns the way of a site.
func (c *chains) of(site string) (way chain, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	way, ok = c.by[site]
	return way, ok
}
