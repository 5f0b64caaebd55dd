package plexlb

import (
	"slices"
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
	copies   *copies

	mu   sync.Mutex
	apps []*App // started and not stopped; the first one's settings are in force

	flights flights
	waiting waiting
	seeker  *seeker
	chains  chains

	metrics  *metrics
	troubles troubles
	events   chan event
	live     live

	examining chan struct{} // holds one while a doctor is at work
}

// clockStep is how far the ledger's time may be behind for a segment, and how
// often it is looked for headers that wait for their body.
const clockStep = 250 * time.Millisecond

var states = caddy.NewUsagePool()

const stateKey = "plexlb"

func loadState() (*state, error) {
	v, _, err := states.LoadOrNew(stateKey, func() (caddy.Destructor, error) {
		return &state{
			ledger: cluster.NewLedger(time.Now()), seeker: newSeeker(), copies: newCopies(),
			metrics: newMetrics(), events: make(chan event, maxEvents),
			examining: make(chan struct{}, 1),
		}, nil
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

// Destruct has nothing to do: the state owns no connection, its copies end by
// themselves, and late requests may still use it.
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

// enter puts an app's settings in force, if there is no other. One that is to
// take over may yet fail with the rest of its config: its turn comes when the
// old one has left.
func (s *state) enter(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps = append(s.apps, a)
	if len(s.apps) == 1 {
		s.configure(a)
	}
}

// leave puts the settings of the app that remains in force.
func (s *state) leave(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.apps, a)
	if i < 0 {
		return
	}
	s.apps = slices.Delete(s.apps, i, i+1)
	if i == 0 && len(s.apps) > 0 {
		s.configure(s.apps[0])
	}
}

// leads reports whether an app's settings are in force.
func (s *state) leads(a *App) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.apps) > 0 && s.apps[0] == a
}

func (s *state) configure(a *App) {
	set, servers := a.settings()
	s.ledger.Configure(set, servers, time.Now())
	s.metrics.keep(servers)
	primary := ""
	if p := a.server(a.Primary); p != nil {
		primary = p.dial
	}
	s.copies.keep(primary)
}

// Interface guard
var _ caddy.Destructor = (*state)(nil)
