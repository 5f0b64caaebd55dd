package cluster

import "time"

// Role says what a request means for where it goes.
type Role uint8

const (
	// Visit is anything that is not about a playback: the client's server,
	// or the primary.
	Visit Role = iota

	// Artwork is a picture: like Visit, but any clone may answer it.
	Artwork

	// Start asks for a playback: it may make one.
	Start

	// Stream reads a file directly: it follows its playback, or is one.
	Stream

	// Follow belongs to a running playback and makes no sense elsewhere.
	Follow

	// Inquire asks a server what it is doing: the client's playback is what
	// it wants to see, or else like Visit.
	Inquire
)

// Query is what the ledger is asked about a request.
type Query struct {
	IDs
	Role Role

	// Site names the front door; the same client may be elsewhere behind
	// another one.
	Site string

	// Alias is a guess at who asks when the request does not say, and what
	// artwork is spread by. 0: no guess.
	Alias uint64

	// Near is the transcode id of a playback that a nameless start probably
	// goes on with, so that it stays on that server.
	Near string

	// Look says that a server answers such a request to anybody, so that the
	// one who asks is not remembered for it.
	Look bool

	// Writes says that only the one server will do that keeps what the
	// request changes.
	Writes bool

	// Begins says that PMS starts playing on this request, and so ends what
	// the client played there before [P §4.4]. A decision only asks.
	Begins bool

	// Work is what the playback will cost, as far as can be told before a
	// server decided.
	Work Work

	// Item is what is to be played; for judging failures.
	Item string
}

// Hold keeps what a request needs from being forgotten while it is under way.
// It is to be given back by Settle.
type Hold struct {
	// Server is where the request belongs; nil: to be placed.
	Server *Server

	at       time.Duration // when the request came
	playback *Playback     // held
	client   *Client
	held     *Client // the client, if it is held
	foreign  bool    // the playback is not the asking client's
	placed   bool    // the playback came to its server by this request
	housed   bool    // the client did, in mode separate

	decided bool // the answer said
	work    Work // that this is what it costs
}

// Settled reports whether the request belongs to a playback that a server has
// accepted before, or, if it has none, to such a client.
func (h *Hold) Settled() bool {
	if h.playback != nil {
		return h.playback.confirmed.Load()
	}
	return h.Known()
}

// Placed reports whether the request's playback was placed for it.
func (h *Hold) Placed() bool { return h.placed }

// Housed reports whether the request's client was given its server for it.
func (h *Hold) Housed() bool { return h.housed }

// Known reports whether a server has accepted something of the client before.
func (h *Hold) Known() bool { return h.client != nil && h.client.confirmed.Load() }

// FindSegment is Find for a request that carries nothing but a transcode id:
// by far the most frequent one, it takes and leaves nothing. Its playback is
// stamped with the time that the ledger was last told.
func (l *Ledger) FindSegment(transcode string) *Server {
	// An idle playback is not given up before it is forgotten: its server
	// either still has the session or answers as for any unknown one.
	if len(transcode) <= pinned {
		return l.transcodes.touch(transcode, l.told.Load())
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	p := l.transcodes.get(transcode)
	if p == nil {
		return nil
	}
	p.touch(time.Duration(l.told.Load()) * time.Second)
	return p.server
}

// Find looks up where a request belongs and holds it there.
func (l *Ledger) Find(q *Query, now time.Time) Hold {
	at := l.since(now)
	set := l.settings.Load()
	l.mu.RLock()
	defer l.mu.RUnlock()
	h := Hold{at: at}
	p, c := l.locate(q, set, at)
	switch {
	case p != nil && p.follows(q, set, at):
		h.Server = p.server
		h.hold(p, q, at)
		h.see(c, at)
	case c != nil && !set.Replicated:
		h.see(c, at)
		if c.server != nil && !l.unknown(q) && !c.leaves(q, set.Idle, at) {
			h.Server = c.server
		}
	}
	return h
}

// unknown reports whether a request that follows no playback of ours should
// make one, or may be about one that only its server knows.
func (l *Ledger) unknown(q *Query) bool {
	switch q.Role {
	case Start:
		return true
	case Stream:
		return q.any()
	case Follow, Inquire:
		j, _ := l.strangers.find(q)
		return j != nil
	}
	return false
}

// follows reports whether a request goes where the playback is.
func (p *Playback) follows(q *Query, set *Settings, now time.Duration) bool {
	switch q.Role {
	case Start:
		// A device that uses one id for ever starts something new with it
		// once the old playback is over [P §10.13]; under an id of its own
		// it is the same playback that goes on.
		return p.named(q) && (p.endedAt == 0 || !p.constantID())
	case Visit, Artwork:
		return false
	case Inquire:
		return p.live(set.Idle, now)
	}
	return true
}

// hold keeps p as long as the request is under way.
func (h *Hold) hold(p *Playback, q *Query, now time.Duration) {
	p.touch(now)
	p.holds.Add(1)
	h.playback, h.foreign = p, p.foreign(q)
}

// see notes the client as present, and holds it until it is confirmed.
func (h *Hold) see(c *Client, now time.Duration) {
	if c == nil {
		return
	}
	c.touch(now)
	h.client = c
	if h.held != nil && h.held != c {
		h.held.holds.Add(-1)
		h.held = nil
	}
	if h.held == nil && !c.confirmed.Load() {
		c.holds.Add(1)
		h.held = c
	}
}

// locate finds the playback and the client that a request's ids speak of: by
// the transcode, the playback's names, and last the device [P §3.3]. The
// caller holds the lock.
func (l *Ledger) locate(q *Query, set *Settings, now time.Duration) (*Playback, *Client) {
	var p *Playback
	if q.Transcode != "" {
		p = l.transcodes.get(q.Transcode)
	}
	if p == nil && q.Session != "" {
		p = l.bySession[q.Session]
	}
	if p == nil && q.Playback != "" {
		p = l.bySession[q.Playback]
	}
	if p == nil && q.Client != "" && !q.named() {
		// Some devices use their own name for what they play, and a playback
		// that was adopted does not know its device.
		if own := l.transcodes.get(q.Client); own != nil && own.client == nil {
			p = own
		}
	}
	if p != nil && p.expired(set.Idle, now) {
		p = nil
	}
	var c *Client
	if st := l.sites[q.Site]; st != nil {
		if q.Client != "" {
			c = st.byID[q.Client]
		} else if q.Alias != 0 {
			c = st.byAlias[q.Alias]
		}
	}
	if c != nil && c.expired(set.Idle, now) {
		c = nil
	}
	if p == nil && c != nil && q.Client != "" {
		p = c.playing(q.Role, set.Idle, now)
	}
	return p, c
}
