package cluster

import (
	"cmp"
	"slices"
	"time"
)

// ServerView is a server as it stood at one moment.
type ServerView struct {
	ServerSettings
	Named       bool // by a configuration
	Draining    bool
	MoveAt      time.Time // when its playbacks are to leave; zero: they stay
	Maintenance bool
	Shunned     bool
	Down        bool // when last part of a choice

	// Load is in units of one hardware transcode; Jobs counts what it is made
	// of, by Work.
	Load float64
	Jobs [4]int

	// Reserved counts what was placed and is not reported yet; Idle the
	// connected clients that play nothing.
	Reserved, Idle int

	Placements uint64
	Picture    Picture
}

// PlaybackView is a playback as it stood at one moment.
type PlaybackView struct {
	IDs
	Item, Title  string
	Device       string // the player's name, as its server reports it
	Server       string
	Work         Work
	State        State // of its job; 0 if it has none
	Confirmed    bool  // a server accepted it
	Placed, Seen time.Time
	Ended        bool
	Lost         bool   // ended because it could not be carried
	Moves        int    // made here
	History      []Move // the last ones, with those that another balancer made
	Movable      bool   // it can be carried, as far as is known
	Why          Placement
	First        *Placement // the first choice, if there were others since
}

// View returns the servers as they stand.
func (l *Ledger) View(now time.Time) []ServerView {
	at := l.since(now)
	costs := l.settings.Load().Costs
	l.mu.RLock()
	defer l.mu.RUnlock()
	list := l.servers.Load().list
	views := make([]ServerView, 0, len(list))
	for _, s := range list {
		v := ServerView{
			ServerSettings: s.settings, Named: s.Named(), Draining: s.draining,
			Maintenance: s.inMaintenance(at), Shunned: s.shunned(at), Down: s.down,
			Load: s.tally.load(&costs), Idle: int(s.tally.idle),
			Reserved: int(s.tally.reserved), Placements: s.placements, Picture: s.picture,
		}
		for w, n := range s.tally.work {
			v.Jobs[w] = int(n)
		}
		if s.empty != 0 {
			v.MoveAt = l.time(s.empty)
		}
		views = append(views, v)
	}
	return views
}

// Census counts what goes on on a server.
type Census struct {
	Playbacks int       // that passed through here
	Oldest    time.Time // when the first of them was placed
	Others    int       // what else the server plays, as far as is known
}

// Census counts what goes on on each server, by address.
func (l *Ledger) Census() map[string]Census {
	l.mu.RLock()
	defer l.mu.RUnlock()
	by := make(map[string]Census)
	for _, m := range l.playbacks.members {
		p := m.owner
		if p.endedAt != 0 {
			continue
		}
		c := by[p.server.addr]
		c.Playbacks++
		if at := l.time(p.placed); c.Oldest.IsZero() || at.Before(c.Oldest) {
			c.Oldest = at
		}
		by[p.server.addr] = c
	}
	for _, s := range l.servers.Load().list {
		c := by[s.addr]
		for _, j := range s.jobs {
			if j.playback == nil && j.counts() && !l.leftBehind(j) {
				c.Others++
			}
		}
		by[s.addr] = c
	}
	return by
}

// leftBehind reports whether a job is what a playback left on its way to
// another server: nobody watches it there.
func (l *Ledger) leftBehind(j *job) bool {
	if j.about == nil {
		return false
	}
	p := l.bySession[j.about.session]
	if p == nil {
		p = l.transcodes.get(j.id)
	}
	return p != nil && p.server != j.server && p.endedAt == 0
}

// Playbacks returns the playbacks, the latest first.
func (l *Ledger) Playbacks() []PlaybackView {
	l.mu.RLock()
	defer l.mu.RUnlock()
	views := make([]PlaybackView, 0, len(l.playbacks.members))
	for _, m := range l.playbacks.members {
		views = append(views, l.view(m.owner))
	}
	slices.SortFunc(views, func(a, b PlaybackView) int {
		return cmp.Or(b.Placed.Compare(a.Placed), cmp.Compare(a.key(), b.key()))
	})
	return views
}

// Outline returns the playbacks in no order, without what takes room: the
// moves, and the table of why each is where it is.
func (l *Ledger) Outline() []PlaybackView {
	l.mu.RLock()
	defer l.mu.RUnlock()
	views := make([]PlaybackView, 0, len(l.playbacks.members))
	for _, m := range l.playbacks.members {
		views = append(views, l.outline(m.owner))
	}
	return views
}

// Explain returns the playback that goes by any of its client's ids, and why
// it is where it is.
func (l *Ledger) Explain(id string) (PlaybackView, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	p := l.named(id)
	if p == nil {
		return PlaybackView{}, false
	}
	return l.view(p), true
}

func (l *Ledger) view(p *Playback) PlaybackView {
	v := l.outline(p)
	v.History, v.Why = p.movesSoFar(l), p.why.view(l)
	if p.first != nil {
		first := p.first.view(l)
		v.First = &first
	}
	return v
}

func (l *Ledger) outline(p *Playback) PlaybackView {
	p.refresh()
	told := p.job.told()
	return PlaybackView{
		IDs: p.ids, Item: p.item, Title: told.title, Device: told.device, Server: p.server.Name(),
		Work: p.job.work, State: p.job.state, Confirmed: p.confirmed.Load(),
		Placed: l.time(p.placed), Seen: l.time(time.Duration(p.seen.Load())),
		Ended: p.endedAt != 0, Lost: p.lost, Moves: int(p.moves),
		Movable: l.settings.Load().Replicated && !p.gone && p.movable(), Why: Placement{Reason: p.why.reason},
	}
}

// Len returns how many playbacks and clients are remembered.
func (l *Ledger) Len() (playbacks, clients int) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.playbacks.members), len(l.clients.members)
}
