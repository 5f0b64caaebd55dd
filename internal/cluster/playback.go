package cluster

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// IDs are the names by which a client's requests know a playback. No single
// one is on all of them.
type IDs struct {
	Transcode string // the transcode session: in segment paths and as query member session
	Session   string // the playback, where the client has a name for it
	Playback  string // another name for the playback, of newer clients
	Client    string // the device
}

// any reports whether there is an id to know something by.
func (ids *IDs) any() bool { return ids.named() || ids.Client != "" }

// named reports whether the ids name a playback, rather than only a device.
func (ids *IDs) named() bool { return ids.Transcode != "" || ids.Session != "" || ids.Playback != "" }

// Name is the id by which to speak of the playback; empty if there is none.
func (ids *IDs) Name() string { return cmp.Or(ids.name(), ids.Transcode) }

// Called is the id by which to speak of the playback in any case: that of the
// client if it has none itself.
func (ids *IDs) Called() string { return cmp.Or(ids.Name(), ids.Client) }

// name is what the client calls its playback, if it does.
func (ids *IDs) name() string { return cmp.Or(ids.Session, ids.Playback) }

// key is what two balancers hash alike for the same playback.
func (ids *IDs) key() uint64 { return hashString(ids.Called()) }

// clone copies the ids out of the request that brought them, whose whole URL
// they would otherwise keep in memory.
func (ids IDs) clone() IDs {
	all := ids.Transcode + ids.Session + ids.Playback + ids.Client
	cut := func(n int) (id string) {
		id, all = all[:n], all[n:]
		return id
	}
	return IDs{cut(len(ids.Transcode)), cut(len(ids.Session)), cut(len(ids.Playback)), cut(len(ids.Client))}
}

// Playback is one viewer watching one item on one server.
type Playback struct {
	entry

	// Guarded by the ledger's mutex.
	ids     IDs
	older   []string // transcode ids it had before
	item    string
	client  *Client
	server  *Server
	pins    *pins
	job     job
	why     why  // of the latest choice
	first   *why // of the one before any other, nil as long as there was one only
	placed  time.Duration
	begun   time.Duration // when the request came that last made PMS play; 0: none yet
	endedAt time.Duration // 0 while it lasts
	moves   int32
	decided bool // job.work is what the server decided
	gone    bool // struck out of the ledger
	lost    bool // ended because it could not be carried
	kept    *kept
	history []move // where it was; nil until it moves

	resumed   uint64 // the ledger's count when it last was resumed
	resumedAt time.Duration
	presentAt time.Duration // when its server last said that it has the session
	budgetAt  time.Duration
	budget    uint8 // resumptions that are left of the minute since budgetAt
}

func (p *Playback) base() *entry { return &p.entry }

// refresh takes over the stamps that segments left in the pins.
func (p *Playback) refresh() {
	if id := p.ids.Transcode; id != "" {
		p.latest(p.pins.seen(id))
	}
	for _, id := range p.older {
		p.latest(p.pins.seen(id))
	}
}

func (p *Playback) latest(seen time.Duration) {
	if int64(seen) > p.seen.Load() {
		p.seen.Store(int64(seen))
	}
}

// playbackLinger is how long an ended playback's late requests still find
// their server.
const playbackLinger = time.Minute

func (p *Playback) expired(idle, now time.Duration) bool {
	if p.endedAt != 0 {
		idle = min(idle, playbackLinger)
	}
	if !p.idle(idle, now) {
		return false
	}
	p.refresh()
	return p.idle(idle, now)
}

// live reports whether the playback still goes on.
func (p *Playback) live(idle, now time.Duration) bool {
	return p != nil && !p.gone && p.endedAt == 0 && !p.expired(idle, now)
}

// constantID reports whether the client uses its own name as transcode id for
// all it ever plays (Kodi and Roku do).
func (p *Playback) constantID() bool {
	return p.ids.Transcode != "" && p.ids.Transcode == p.ids.Client
}

// named reports whether the request carries one of the playback's own names,
// rather than only its device's.
func (p *Playback) named(q *Query) bool {
	if q.Transcode != "" && (p.ids.Transcode == q.Transcode || slices.Contains(p.older, q.Transcode)) {
		return true
	}
	return q.Session != "" && (q.Session == p.ids.Session || q.Session == p.ids.Playback) ||
		q.Playback != "" && (q.Playback == p.ids.Playback || q.Playback == p.ids.Session)
}

// foreign reports whether somebody else than the playback's device may be
// asking: that can follow it, but neither change nor end it. Who knows an id
// and does not say who asks is believed, except for a start.
func (p *Playback) foreign(q *Query) bool {
	return p.client != nil && q.Client != p.client.id && (q.Client != "" || q.Role == Start)
}

// Client is a device as one site sees it.
type Client struct {
	entry

	// Guarded by the ledger's mutex.
	id       string
	alias    atomic.Uint64
	site     *site
	server   *Server   // where it stays in separate mode, else nil
	playback *Playback // the latest that began
	pending  *Playback // one that was asked for and did not begin yet
	latest   [6]uint16 // hashes of the transcode ids that it used last
	uses     uint8     // of these, the next to be replaced
	counted  bool      // in the server's tally as idle
	gone     bool
}

func (c *Client) base() *entry { return &c.entry }
func (c *Client) refresh()     {}

// clientLife is how much longer than a playback a client is remembered.
const clientLife = 10

// expired reports whether the client was away so long that it is as good as
// forgotten.
func (c *Client) expired(idle, now time.Duration) bool {
	return c.playback == nil && c.pending == nil && c.idle(clientLife*idle, now)
}

// current is the client's playback that still goes on, or is about to.
func (c *Client) current(idle, now time.Duration) *Playback {
	switch {
	case c.playback.live(idle, now):
		return c.playback
	case c.pending.live(idle, now):
		return c.pending
	}
	return nil
}

// use remembers a transcode id of the client.
func (c *Client) use(id string) {
	if h := uint16(hashString(id)); id != "" && !slices.Contains(c.latest[:], h) {
		c.latest[c.uses%uint8(len(c.latest))] = h
		c.uses++
	}
}

// used reports whether the client used a transcode id here of late.
func (c *Client) used(id string) bool {
	return slices.Contains(c.latest[:], uint16(hashString(id)))
}

// playing is the client's playback that a request means which names none.
func (c *Client) playing(role Role, idle, now time.Duration) *Playback {
	if role == Stream && c.pending.live(idle, now) {
		return c.pending // the file that was just decided on
	}
	if p := c.current(idle, now); p != nil {
		return p
	}
	if c.playback != nil && !c.playback.expired(idle, now) {
		return c.playback // late requests of an ended one
	}
	return nil
}

// leaves reports whether a request can take the client away from a server that
// an operator wants empty: when it plays nothing, and looks around.
func (c *Client) leaves(q *Query, idle, now time.Duration) bool {
	return c.server.draining && q.Role == Visit && !q.Writes && c.current(idle, now) == nil
}

// recount keeps the server's number of idle clients right.
func (c *Client) recount() {
	plays := func(p *Playback) bool { return p != nil && p.job.counts() }
	idle := c.server != nil && !c.gone && !plays(c.playback) && !plays(c.pending)
	if idle == c.counted {
		return
	}
	c.counted = idle
	if idle {
		c.server.idle(+1)
	} else {
		c.server.idle(-1)
	}
}

// stayOn pins the client to s.
func (c *Client) stayOn(s *Server) {
	if c.server == s {
		return
	}
	if c.counted {
		c.server.idle(-1)
		c.counted = false
	}
	c.server = s
	c.recount()
}
