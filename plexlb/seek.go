package plexlb

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plex"
)

const (
	// askTimeout bounds how long the servers are asked for one transcode.
	askTimeout = time.Second

	// startTimeout bounds the wait for the app to start.
	startTimeout = 3 * time.Second

	// An id that no server knows is not asked for again for this long.
	unknownLife = 5 * time.Second

	// While a server cannot be asked, an id that the others do not know may
	// be its; after this long it is taken for unknown.
	unsureLife = 10 * time.Second

	// maxUnknown bounds the ids that are remembered as unknown.
	maxUnknown = 10_000

	// Ids that nobody knows are asked for this often a second, after a burst.
	// Those that play are in the readings anyway; this is for the time until
	// the first, and junk shall not make the servers work.
	asksPerSecond = 20
	asksBurst     = 100
)

// found is a server's word that it has a transcode.
type found struct {
	server *cluster.Server // nil: none has it
	work   cluster.Work
	unsure bool // some could not be asked
}

// seeker finds the servers of transcodes that are not in the ledger: after a
// restart, or when another balancer has started them.
type seeker struct {
	mu      sync.Mutex
	flights map[string]*flight
	unknown map[string]unknown
	limit   *rate.Limiter
}

type unknown struct{ since, until time.Time }

func newSeeker() *seeker {
	return &seeker{
		flights: make(map[string]*flight),
		unknown: make(map[string]unknown),
		limit:   rate.NewLimiter(asksPerSecond, asksBurst),
	}
}

// seek makes the ledger know where a transcode is, if a server says so. It
// returns errUnsure if that cannot be told now.
func (a *App) seek(ctx context.Context, id string) error {
	s := a.state.seeker
	if !credible(id) || a.state.ledger.Reported(id) || !a.anyToken() {
		return nil
	}
	select {
	case <-a.ready:
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(startTimeout): // requests may come before the app runs
		return errUnsure
	}
	now := time.Now()
	s.mu.Lock()
	old := s.unknown[id]
	if now.Before(old.until) {
		s.mu.Unlock()
		return nil
	}
	fl := s.flights[id]
	if fl == nil {
		if !s.limit.Allow() {
			s.mu.Unlock()
			return errUnsure
		}
		fl = &flight{done: make(chan struct{})}
		s.flights[id] = fl
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
			defer cancel()
			err := errUnsure
			defer func() { s.land(id, fl, err) }()
			f := a.ask(ctx, id, nil)
			switch {
			case f.server != nil:
				a.state.ledger.Seen(f.server, cluster.Report{ID: id, Work: f.work}, time.Now())
				err = nil
			case f.unsure && (old.since.IsZero() || now.Sub(old.since) < unsureLife):
				s.forget(id, 0)
			default:
				s.forget(id, unknownLife)
				err = nil
			}
		}()
	}
	s.mu.Unlock()
	return fl.wait(ctx, nil)
}

// land ends the asking for an id.
func (s *seeker) land(id string, fl *flight, err error) {
	s.mu.Lock()
	delete(s.flights, id)
	s.mu.Unlock()
	fl.err = err
	close(fl.done)
}

// forget remembers that nobody knows an id.
func (s *seeker) forget(id string, life time.Duration) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unknown) >= maxUnknown {
		clear(s.unknown)
	}
	u := s.unknown[id]
	if u.since.IsZero() || now.Sub(u.since) > time.Minute {
		u.since = now
	}
	u.until = now.Add(life)
	s.unknown[id] = u
}

// credible reports whether an id looks like one that clients and PMS make.
func credible(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-', c == '_', c == '.', c == ':':
		default:
			return false
		}
	}
	return true
}

// ask asks the servers, all at once, which of them has a transcode. Those that
// could not be read of late are not waited for.
func (a *App) ask(ctx context.Context, id string, except []*cluster.Server) (f found) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	type answer struct {
		server *cluster.Server
		work   cluster.Work
		err    error
	}
	answers := make(chan answer)
	asked := 0
	for _, s := range a.state.ledger.Servers().List() {
		p := a.reader(s)
		if p == nil || slices.Contains(except, s) {
			continue
		}
		if a.state.ledger.Unreadable(s) {
			f.unsure = true
			continue
		}
		asked++
		go func() {
			t, err := p.client.Transcode(ctx, id)
			select {
			case answers <- answer{s, cluster.Work(t.Work()), err}:
			case <-ctx.Done():
			}
		}()
	}
	f.unsure = f.unsure || asked == 0
	for range asked {
		select {
		case got := <-answers:
			switch {
			case got.err == nil:
				f.server, f.work = got.server, got.work
				return f
			case !errors.Is(got.err, plex.ErrNotFound):
				f.unsure = true
			}
		case <-ctx.Done():
			f.unsure = true
			return f
		}
	}
	return f
}
