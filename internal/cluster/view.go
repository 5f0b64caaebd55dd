package cluster

import (
	"slices"
	"time"
)

// ServerView is a server as it stood at one moment.
type ServerView struct {
	ServerSettings
	Named       bool // by a configuration
	Draining    bool
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
	Server       string
	Work         Work
	State        State // of its job; 0 if it has none
	Confirmed    bool  // a server accepted it
	Placed, Seen time.Time
	Ended        bool
	Moves        int
	Why          Placement
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
			Maintenance: s.maintenance, Shunned: s.shunned(at), Down: s.down,
			Load: s.tally.load(&costs), Jobs: s.tally.work, Idle: s.tally.idle,
			Placements: s.placements, Picture: s.picture,
		}
		for _, j := range s.jobs {
			if j.state == Reserved {
				v.Reserved++
			}
		}
		views = append(views, v)
	}
	return views
}

// Playbacks returns the playbacks, the latest first.
func (l *Ledger) Playbacks() []PlaybackView {
	l.mu.RLock()
	defer l.mu.RUnlock()
	views := make([]PlaybackView, 0, l.playbacks.n)
	for e := l.playbacks.head; e != nil; e = e.next {
		views = append(views, l.view(e.owner.(*Playback)))
	}
	slices.SortStableFunc(views, func(a, b PlaybackView) int { return b.Placed.Compare(a.Placed) })
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
	v := PlaybackView{
		IDs: p.ids, Item: p.item, Title: p.job.title, Server: p.server.Name(),
		Work: p.job.work, State: p.job.state, Confirmed: p.confirmed.Load(),
		Placed: l.time(p.placed), Seen: l.time(time.Duration(p.seen.Load())),
		Ended: p.endedAt != 0, Moves: p.moves,
	}
	if p.why != nil {
		v.Why = *p.why
	}
	return v
}

// Len returns how many playbacks and clients are remembered.
func (l *Ledger) Len() (playbacks, clients int) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.playbacks.n, l.clients.n
}
