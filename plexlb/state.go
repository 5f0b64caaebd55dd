package plexlb

import (
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
)

// state is what lives through config reloads: a new config takes over what the
// old one is still holding. It stays usable for requests that outlive both.
type state struct {
	ledger *cluster.Ledger

	sessions sessionNames
	choices  choices

	mu   sync.Mutex
	apps []*App // started and not stopped; the last one's settings are in force
}

// clockStep is how far the ledger's time may be behind for a segment.
const clockStep = 100 * time.Millisecond

var states = caddy.NewUsagePool()

const stateKey = "plexlb"

func loadState() (*state, error) {
	v, _, err := states.LoadOrNew(stateKey, func() (caddy.Destructor, error) {
		return &state{ledger: cluster.NewLedger(time.Now())}, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*state), nil
}

func releaseState() error {
	_, err := states.Delete(stateKey)
	return err
}

// Destruct has nothing to do: the state owns no goroutine and no connection,
// and late requests may still use it.
func (s *state) Destruct() error { return nil }

// prepare applies the settings of an app that has not started, unless another
// one is running.
func (s *state) prepare(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.apps) == 0 {
		s.configure(a)
	}
}

// enter puts an app's settings in force.
func (s *state) enter(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps = append(s.apps, a)
	s.configure(a)
}

// leave puts the settings of the app before in force again, if one that failed
// to take over goes and not the old one.
func (s *state) leave(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, b := range s.apps {
		if a != b {
			continue
		}
		last := i == len(s.apps)-1
		s.apps = append(s.apps[:i], s.apps[i+1:]...)
		if last && len(s.apps) > 0 {
			s.configure(s.apps[len(s.apps)-1])
		}
		return
	}
}

func (s *state) configure(a *App) {
	set, servers := a.settings()
	s.ledger.Configure(set, servers, time.Now())
}

// Interface guard
var _ caddy.Destructor = (*state)(nil)
