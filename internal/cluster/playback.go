package cluster

import (
	"cmp"
	"strings"
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
func (ids *IDs) any() bool {
	return ids.Transcode != "" || ids.Session != "" || ids.Playback != "" || ids.Client != ""
}

// Name is the id by which to speak of the playback; empty if there is none.
func (ids *IDs) Name() string {
	return cmp.Or(ids.Session, ids.Playback, ids.Transcode)
}

// key is what two balancers hash alike for the same playback.
func (ids *IDs) key() uint64 {
	switch {
	case ids.Session != "":
		return hashString(ids.Session)
	case ids.Playback != "":
		return hashString(ids.Playback)
	case ids.Transcode != "":
		return hashString(ids.Transcode)
	}
	return hashString(ids.Client)
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
	job     job
	why     *Placement
	placed  time.Duration
	endedAt time.Duration // 0 while it lasts
	moves   int
	gone    bool // struck out of the ledger
}

// playbackLinger is how long an ended playback's late requests still find
// their server.
const playbackLinger = time.Minute

func (p *Playback) expired(idle, now time.Duration) bool {
	if p.endedAt != 0 {
		idle = min(idle, playbackLinger)
	}
	return p.idle(idle, now)
}

// live reports whether the playback still goes on.
func (p *Playback) live(idle, now time.Duration) bool {
	return !p.gone && p.endedAt == 0 && !p.expired(idle, now)
}

// constantID reports whether the client uses its own name as transcode id for
// all it ever plays (Kodi and Roku do).
func (p *Playback) constantID() bool {
	return p.ids.Transcode != "" && p.ids.Transcode == p.ids.Client
}

// Client is a device as one site sees it.
type Client struct {
	entry

	// Guarded by the ledger's mutex.
	id       string
	alias    atomic.Uint64
	site     *site
	server   *Server   // where it stays in separate mode, else nil
	playback *Playback // its latest confirmed one
	pending  *Playback // one that no server answered yet
	counted  bool      // in the server's tally as idle
	gone     bool
}

// clientLife is how much longer than a playback a client is remembered.
const clientLife = 10

// recount keeps the server's number of idle clients right.
func (c *Client) recount() {
	plays := func(p *Playback) bool { return p != nil && p.job.counts() }
	idle := c.server != nil && !c.gone && !plays(c.playback) && !plays(c.pending)
	if idle == c.counted {
		return
	}
	c.counted = idle
	if idle {
		c.server.tally.idle++
	} else {
		c.server.tally.idle--
	}
}

// stayOn pins the client to s.
func (c *Client) stayOn(s *Server) {
	if c.server == s {
		return
	}
	if c.counted {
		c.server.tally.idle--
		c.counted = false
	}
	c.server = s
	c.recount()
}

// clone copies the ids out of the request that brought them, whose whole URL
// they would otherwise keep in memory.
func (ids IDs) clone() IDs {
	return IDs{
		Transcode: strings.Clone(ids.Transcode),
		Session:   strings.Clone(ids.Session),
		Playback:  strings.Clone(ids.Playback),
		Client:    strings.Clone(ids.Client),
	}
}
