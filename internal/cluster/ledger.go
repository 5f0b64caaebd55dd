package cluster

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Settings are an operator's choices for all servers.
type Settings struct {
	// Costs of the kinds of work. Default: DefaultCosts.
	Costs Costs

	// Replicated says that the servers are clones, so that any can play
	// anything; otherwise each has its own library and a client stays on one.
	Replicated bool

	// Primary is the server of all that is not a playback when Replicated.
	Primary string

	// Idle is how long a playback is remembered after its last request; a
	// client is for ten times as long. Default: 4m.
	Idle time.Duration

	// SlowStart is the time over which a server that comes back gets its
	// weight. 0: at once.
	SlowStart time.Duration

	// Reject refuses new playbacks when all servers are at their limits,
	// where otherwise the least loaded takes one more.
	Reject bool

	// MaxPlaybacks bounds the table of playbacks, and that of clients.
	// Default: 100,000.
	MaxPlaybacks int
}

func (s Settings) withDefaults() Settings {
	if s.Costs == (Costs{}) {
		s.Costs = DefaultCosts
	}
	if s.Idle <= 0 {
		s.Idle = 4 * time.Minute
	}
	if s.MaxPlaybacks <= 0 {
		s.MaxPlaybacks = 100_000
	}
	return s
}

// Ledger knows the servers, what each carries, and where every playback is.
// It is safe for concurrent use.
type Ledger struct {
	epoch    time.Time
	settings atomic.Pointer[Settings]
	servers  atomic.Pointer[Directory]
	told     atomic.Uint32 // the time in seconds, as last told by Now

	resumptions atomic.Uint64

	transcodes *pins // changed with the mutex held, read also without

	mu        sync.RWMutex
	bySession map[string]*Playback // by either name of a playback
	sites     map[string]*site
	playbacks queue[*Playback]
	clients   queue[*Client]
	strangers strangers
	watch     map[*job]struct{} // those that time alone can end
	options   []Option          // scratch of Place
	others    others
	orphans   map[Orphan]*orphan
	keeps     int // bytes of requests kept
	totals    Totals
	counts    counts
}

// site keeps the clients of one front door apart from those of another: a
// device that knows two doors may be on different servers behind them.
type site struct {
	byID    map[string]*Client
	byAlias map[uint64]*Client
}

// NewLedger returns an empty ledger with default settings. Times are reckoned
// from now, by its monotonic reading if it has one, so that a clock that is
// set does not make playbacks expire.
func NewLedger(now time.Time) *Ledger {
	l := &Ledger{
		epoch:      now.Add(-1), // so that no stamp is zero
		transcodes: newPins(),
		bySession:  make(map[string]*Playback),
		sites:      make(map[string]*site),
		strangers:  newStrangers(),
		watch:      make(map[*job]struct{}),
		orphans:    make(map[Orphan]*orphan),
	}
	set := Settings{}.withDefaults()
	l.settings.Store(&set)
	l.servers.Store(newDirectory(nil))
	return l
}

// Now tells the ledger the time, for the requests that are too many to bring
// it. To be called at least once a second.
func (l *Ledger) Now(now time.Time) { l.told.Store(uint32(l.since(now) / time.Second)) }

func (l *Ledger) since(now time.Time) time.Duration { return now.Sub(l.epoch) }

func (l *Ledger) time(at time.Duration) time.Time { return l.epoch.Add(at) }

// Configure applies an operator's settings. Servers are known by address:
// those that stay keep their load and playbacks, those no longer named go when
// unseen for ten minutes, or for one if nothing plays there.
func (l *Ledger) Configure(set Settings, servers []ServerSettings, now time.Time) {
	set = set.withDefaults()
	l.mu.Lock()
	defer l.mu.Unlock()

	if set.Replicated {
		for _, m := range l.clients.members {
			m.owner.stayOn(nil) // they are at home everywhere now
		}
	}
	l.settings.Store(&set)
	old := l.servers.Load()
	list := make([]*Server, 0, len(servers))
	named := make(map[string]bool, len(servers))
	for _, cfg := range servers {
		if named[cfg.Address] {
			continue
		}
		s := old.byAddr[cfg.Address]
		if s == nil {
			s = newServer(cfg.Address)
		}
		s.configure(cfg, true)
		list = append(list, s)
		named[cfg.Address] = true
	}
	for _, s := range old.list {
		if named[s.addr] {
			continue
		}
		if s.Named() {
			s.seen.Store(int64(l.since(now)))
			s.configure(ServerSettings{Address: s.addr}, false)
		}
		s.changed()
		list = append(list, s)
	}
	l.servers.Store(newDirectory(list))
}

// Directory is an unchanging list of the servers known at one moment.
type Directory struct {
	list      []*Server
	byAddr    map[string]*Server
	strangers bool
}

func newDirectory(list []*Server) *Directory {
	d := &Directory{list: list, byAddr: make(map[string]*Server, len(list))}
	for _, s := range list {
		d.byAddr[s.addr] = s
		d.strangers = d.strangers || !s.Named()
	}
	return d
}

// Strangers reports whether there are servers that no configuration names, and
// that therefore go when no pool has them any more.
func (d *Directory) Strangers() bool { return d.strangers }

// Servers returns the servers known now, those of the configuration first.
func (l *Ledger) Servers() *Directory { return l.servers.Load() }

// List returns the servers.
func (d *Directory) List() []*Server { return d.list }

// Named returns the server that a configuration calls name, nil if none.
func (d *Directory) Named(name string) *Server {
	for _, s := range d.list {
		if s.Name() == name {
			return s
		}
	}
	return nil
}

// Admit returns the server with an address, making one of weight 1 if no
// configuration names it.
func (l *Ledger) Admit(addr string, now time.Time) *Server {
	if s := l.servers.Load().byAddr[addr]; s != nil {
		return s
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.servers.Load()
	if s := d.byAddr[addr]; s != nil {
		return s
	}
	s := newServer(addr)
	s.seen.Store(int64(l.since(now)))
	list := append(append(make([]*Server, 0, len(d.list)+1), d.list...), s)
	l.servers.Store(newDirectory(list))
	return s
}

// Tick forgets what is over: idle playbacks and clients, lapsed reservations,
// and servers that no configuration names and no pool holds any more. To be
// called about once a second.
func (l *Ledger) Tick(now time.Time) {
	at := l.since(now)
	idle := l.settings.Load().Idle
	// A piece at a time, so that nobody waits long for the lock.
	for range 20 {
		if !l.sweep(idle, at) {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for j := range l.watch {
		l.lapse(j, at)
		if j.playback != nil && j.hold == 0 {
			delete(l.watch, j)
		}
	}
	d := l.servers.Load()
	lost := func(s *Server) bool {
		unseen := at - time.Duration(s.seen.Load())
		return !s.Named() && (unseen > strangerLife || s.Dropped() && unseen > droppedLife && !s.carries())
	}
	if slices.ContainsFunc(d.list, lost) {
		stay := make([]*Server, 0, len(d.list))
		for _, s := range d.list {
			if !lost(s) {
				stay = append(stay, s)
				continue
			}
			for _, j := range s.jobs {
				l.strike(j)
			}
			s.gone = true
		}
		l.servers.Store(newDirectory(stay))
	}
}

// sweep forgets some of the idle playbacks and clients. It reports whether
// there may be more.
func (l *Ledger) sweep(idle, now time.Duration) (more bool) {
	const most = 500 // of each
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for ; n < most && len(l.playbacks.members) > 0 && now-l.playbacks.members[0].stamp > idle; n++ {
		p, settled := l.playbacks.front()
		switch {
		case !settled:
		case p.holds.Load() > 0:
			p.touch(now)
		default:
			l.forgetPlayback(p, now)
		}
	}
	more = n == most
	life := clientLife * idle
	for n = 0; n < most && len(l.clients.members) > 0 && now-l.clients.members[0].stamp > life; n++ {
		c, settled := l.clients.front()
		switch {
		case !settled:
		case !c.expired(idle, now):
			c.touch(now) // a request needs it, or what it plays does
		default:
			l.forgetClient(c)
		}
	}
	return more || n == most
}

// forgetPlayback strikes a playback out of the ledger. What the server still
// reports of it goes on counting, as something that nobody here asked for.
func (l *Ledger) forgetPlayback(p *Playback, now time.Duration) {
	if p.gone {
		return
	}
	p.gone = true
	l.playbacks.remove(p)
	l.drop(p)
	for _, id := range append(p.older, p.ids.Transcode) {
		l.transcodes.remove(id, p)
	}
	unmap(l.bySession, p.ids.Session, p)
	unmap(l.bySession, p.ids.Playback, p)
	switch j := &p.job; {
	case j.state == Confirmed && j.work != None && now-l.good(j.server) < time.Minute:
		l.leave(j, Confirmed, 0, now)
	case j.state == Reserved && j.hold > now:
		l.leave(j, Reserved, j.hold, now)
	case j.state == Ended && now-j.at <= endedMemory && j.work != None:
		l.leave(j, Ended, 0, now)
	default:
		l.strike(j)
	}
	if c := p.client; c != nil {
		if c.playback == p {
			c.playback = nil
		}
		if c.pending == p {
			c.pending = nil
		}
		c.recount()
		l.dropClient(c)
	}
}

func (l *Ledger) forgetClient(c *Client) {
	if c.gone {
		return
	}
	c.gone = true
	l.clients.remove(c)
	unmap(c.site.byID, c.id, c)
	unmap(c.site.byAlias, c.alias.Load(), c)
	c.recount()
}
