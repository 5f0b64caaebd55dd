// Package plexlb holds the Caddy app that knows the servers and playbacks, and
// the HTTP handler and matcher that sit in front of the proxy. They are thin:
// what is decided and remembered is in internal/cluster, what Plex says is in
// internal/plex.
package plexlb

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App balances Plex playbacks over several Plex Media Servers (PMS). It knows
// the servers, reads what each is playing, and remembers on which one every
// playback is, across config reloads.
type App struct {
	// The X-Plex-Token of the servers' owner, for reading what the servers
	// play. Placeholders are allowed. A server may have its own. Without a
	// token nothing is read, and only playbacks that pass through here are
	// counted.
	Token string `json:"token,omitempty"`

	// The servers. Upstreams of a proxy that are not named here become
	// servers with weight 1.
	Servers []*Server `json:"servers,omitempty"`

	// How the servers relate. In mode `separate` each has a library of its
	// own, and a client stays on one server while it is in use. In mode
	// `replicated` the servers are clones with the same identity and ids: a
	// playback goes to any of them, artwork is shared out by its URL, and
	// all else goes to the primary. Default: `separate`.
	Mode string `json:"mode,omitempty"`

	// The name of the server that answers what is not a playback, in mode
	// `replicated`.
	Primary string `json:"primary,omitempty"`

	// How often each server's sessions are read; every interval is varied
	// by a tenth, so that the servers are not asked in step. Default: 5s.
	PollInterval caddy.Duration `json:"poll_interval,omitempty"`

	// How long one reading may take. Default: 3s.
	PollTimeout caddy.Duration `json:"poll_timeout,omitempty"`

	// Whether to listen to the servers' event streams, which makes the next
	// reading come early when something starts or ends. Default: true.
	Notifications *bool `json:"notifications,omitempty"`

	// What a playback of each kind costs, in units of a hardware transcode.
	Cost *Cost `json:"cost,omitempty"`

	// A playback is forgotten when this long without a segment, ping or
	// timeline; a client after ten times this. Default: 4m. PMS itself drops
	// a transcode after 3 minutes.
	Idle caddy.Duration `json:"idle,omitempty"`

	// A server that comes back gets its weight in steps over this time.
	// Default: 30s. A negative value gives it back at once.
	SlowStart caddy.Duration `json:"slow_start,omitempty"`

	// What happens to a new playback when every server is at its
	// `max_transcodes`: `least` starts it on the least loaded one anyway,
	// `reject` answers 503 with Retry-After. Default: `least`.
	Overflow string `json:"overflow,omitempty"`

	state  *state
	logger *zap.Logger
	ctx    caddy.Context
	stop   context.CancelFunc
	work   sync.WaitGroup
	events *caddyevents.App

	readers  sync.Map      // *cluster.Server → *poller
	ready    chan struct{} // closed when there are readers
	replaced atomic.Bool   // by another config, or stopped

	borrowed sync.Once // warned of a policy without a handler

	proxy atomic.Pointer[netip.Addr] // see noteProxy

	tokenMu     sync.Mutex
	policyToken string // of a policy that brings its own
}

// Cost is what a playback of each kind adds to its server's load.
type Cost struct {
	// A hardware video transcode. Default: 1.
	GPU *float64 `json:"gpu,omitempty"`

	// A software video transcode. Default: 2.
	CPU *float64 `json:"cpu,omitempty"`

	// A remux, or a transcode of audio only. Default: 0.1.
	Copy *float64 `json:"copy,omitempty"`

	// A client that is connected but makes the server transcode nothing.
	// Default: 0.05.
	Client *float64 `json:"client,omitempty"`
}

// The values of Mode and Overflow.
const (
	ModeSeparate   = "separate"
	ModeReplicated = "replicated"
	OverflowLeast  = "least"
	OverflowReject = "reject"
)

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "plexlb",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision sets up the app.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	a.logger = ctx.Logger()
	if a.Mode == "" {
		a.Mode = ModeSeparate
	}
	if a.PollInterval == 0 {
		a.PollInterval = caddy.Duration(5 * time.Second)
	}
	if a.PollTimeout == 0 {
		a.PollTimeout = caddy.Duration(3 * time.Second)
	}
	if a.Idle == 0 {
		a.Idle = caddy.Duration(4 * time.Minute)
	}
	if a.SlowStart == 0 {
		a.SlowStart = caddy.Duration(30 * time.Second)
	}
	if a.Overflow == "" {
		a.Overflow = OverflowLeast
	}
	a.ready = make(chan struct{})

	a.Token = a.resolve(a.Token, "the token of option plexlb")
	for _, s := range a.Servers {
		if err := s.provision(ctx, a); err != nil {
			return fmt.Errorf("server %q: %v", s.Name, err)
		}
	}
	// Last, as two addresses may turn out to be the same.
	if err := a.check(); err != nil {
		return err
	}

	st, err := loadState()
	if err != nil {
		return err
	}
	a.state = st
	if err := a.watchHealth(ctx); err != nil {
		return err
	}
	// A request may come before Start, as apps start in any order; but a
	// running config's settings are not replaced by one that may yet fail.
	st.prepare(a)
	return registerMetrics(ctx)
}

// resolve replaces placeholders in a token, and warns of one that is empty
// because its environment variable is not set.
func (a *App) resolve(token, what string) string {
	if token == "" {
		return ""
	}
	resolved := caddy.NewReplacer().ReplaceAll(token, "")
	if strings.HasPrefix(resolved, "$") {
		a.logger.Warn(what + " begins with $ and is taken literally; write {env.NAME} for an environment variable")
	}
	if resolved == "" {
		a.logger.Warn(what + " is empty; is its environment variable set? Sessions are not read without it")
	}
	return resolved
}

// check reports what is wrong with the configuration as a whole.
func (a *App) check() error {
	if err := CheckServers(a.Servers); err != nil {
		return err
	}
	switch a.Mode {
	case "", ModeSeparate:
		if a.Primary != "" {
			return fmt.Errorf("primary %q: only mode replicated has a primary; set the mode or remove it", a.Primary)
		}
	case ModeReplicated:
		if a.Primary == "" {
			return errors.New("mode replicated needs a primary: name the server that keeps the library and watch state")
		}
		if a.server(a.Primary) == nil {
			return fmt.Errorf("primary %q is not a server: use one of %s", a.Primary, a.names())
		}
	default:
		return fmt.Errorf("unknown mode %q: use separate or replicated", a.Mode)
	}
	if a.Overflow != "" && a.Overflow != OverflowLeast && a.Overflow != OverflowReject {
		return fmt.Errorf("unknown overflow %q: use least or reject", a.Overflow)
	}
	for _, d := range []struct {
		what  string
		value caddy.Duration
	}{{"poll_interval", a.PollInterval}, {"poll_timeout", a.PollTimeout}, {"idle", a.Idle}} {
		if d.value < 0 {
			return fmt.Errorf("%s must be greater than 0", d.what)
		}
	}
	if c := a.Cost; c != nil {
		for _, c := range []struct {
			what  string
			value *float64
		}{{"gpu", c.GPU}, {"cpu", c.CPU}, {"copy", c.Copy}, {"client", c.Client}} {
			if c.value != nil && *c.value < 0 {
				return fmt.Errorf("cost %s is %v: a cost cannot be less than 0", c.what, *c.value)
			}
		}
	}
	return nil
}

// Start begins to read the servers.
func (a *App) Start() error {
	ctx, cancel := context.WithCancel(a.ctx)
	a.stop = cancel
	a.state.enter(a)
	if !a.anyToken() {
		a.logger.Warn("no token: the servers' sessions are not read, and only playbacks that pass through here are counted")
	}
	a.work.Go(func() { a.keep(ctx) })
	a.work.Go(func() { a.stopOrphans(ctx) })
	a.work.Go(func() { a.emptyDraining(ctx) })
	go a.announce(ctx) // nobody waits for other people's event handlers
	return nil
}

// Stop ends all that Start began. Requests under way go on.
func (a *App) Stop() error {
	a.replaced.Store(true)
	a.stop()
	a.work.Wait()
	a.state.leave(a)
	return nil
}

// Cleanup gives the shared state back.
func (a *App) Cleanup() error {
	if a.state == nil {
		return nil
	}
	return releaseState()
}

// keep ticks for the ledger and keeps one poller for every server it knows.
func (a *App) keep(ctx context.Context) {
	tick := time.NewTicker(clockStep)
	defer tick.Stop()
	pollers := make(map[*cluster.Server]context.CancelFunc)
	defer a.readers.Clear()
	var ready sync.Once
	var tended time.Time
	for {
		now := time.Now()
		a.state.ledger.Now(now)
		a.state.waiting.tick()
		if now.Sub(tended) >= time.Second {
			tended = now
			a.state.ledger.Tick(now)
			a.tend(ctx, pollers)
			ready.Do(func() { close(a.ready) })
			a.lookAtServers(now)
		}
		select {
		case <-ctx.Done():
			if a.state.leads(a) {
				a.tellMoves() // nobody may come after
			}
			return
		case <-tick.C:
		}
	}
}

// tend starts a poller for every server that has none, and ends those of
// servers that are gone.
func (a *App) tend(ctx context.Context, pollers map[*cluster.Server]context.CancelFunc) {
	known := make(map[*cluster.Server]bool)
	for _, s := range a.state.ledger.Servers().List() {
		known[s] = true
		if pollers[s] != nil {
			continue
		}
		p := a.poller(s)
		if p == nil {
			continue
		}
		one, cancel := context.WithCancel(ctx)
		pollers[s] = cancel
		a.readers.Store(s, p)
		a.work.Go(func() { p.run(one) })
		if a.Notifications == nil || *a.Notifications {
			a.work.Go(func() { p.listen(one) })
		}
	}
	for s, cancel := range pollers {
		if !known[s] {
			cancel()
			delete(pollers, s)
			a.readers.Delete(s)
		}
	}
}

// settings are the ledger's terms for the configuration.
func (a *App) settings() (cluster.Settings, []cluster.ServerSettings) {
	set := cluster.Settings{
		Costs:      cluster.DefaultCosts,
		Replicated: a.Mode == ModeReplicated,
		Primary:    a.Primary,
		Idle:       time.Duration(a.Idle),
		SlowStart:  max(0, time.Duration(a.SlowStart)),
		Reject:     a.Overflow == OverflowReject,
	}
	if c := a.Cost; c != nil {
		set.Costs.GPU = or(c.GPU, set.Costs.GPU)
		set.Costs.CPU = or(c.CPU, set.Costs.CPU)
		set.Costs.Copy = or(c.Copy, set.Costs.Copy)
		set.Costs.Client = or(c.Client, set.Costs.Client)
	}
	servers := make([]cluster.ServerSettings, 0, len(a.Servers))
	for _, s := range a.Servers {
		servers = append(servers, cluster.ServerSettings{
			Name: s.Name, Address: s.dial, Weight: *s.Weight, MaxTranscodes: s.MaxTranscodes,
		})
	}
	return set, servers
}

func or(x *float64, otherwise float64) float64 {
	if x == nil {
		return otherwise
	}
	return *x
}

// Ledger is what the selection policy asks.
func (a *App) Ledger() *cluster.Ledger { return a.state.ledger }

// UseToken has the servers that no configuration names read with a token of
// the policy that brought them.
func (a *App) UseToken(token string) {
	a.tokenMu.Lock()
	defer a.tokenMu.Unlock()
	if t := a.resolve(token, "the token of policy least_transcodes"); t != "" {
		a.policyToken = t
	}
}

// reader returns what reads a server, nil if nothing does.
func (a *App) reader(s *cluster.Server) *poller {
	p, _ := a.readers.Load(s)
	r, _ := p.(*poller)
	return r
}

func (a *App) strangersToken() string {
	a.tokenMu.Lock()
	defer a.tokenMu.Unlock()
	if a.policyToken != "" {
		return a.policyToken
	}
	return a.Token
}

func (a *App) anyToken() bool {
	for _, s := range a.Servers {
		if s.Token != "" {
			return true
		}
	}
	return a.strangersToken() != ""
}

func (a *App) server(name string) *Server {
	for _, s := range a.Servers {
		if s.Name == name {
			return s
		}
	}
	return nil
}

func (a *App) names() string {
	names := make([]string, len(a.Servers))
	for i, s := range a.Servers {
		names[i] = s.Name
	}
	return list(names)
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
