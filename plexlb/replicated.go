package plexlb

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// What mode replicated does beyond choosing a server: the primary keeps the
// watch state, so it gets copies of timelines that go to other servers (see
// copies); and a choice of audio or subtitles, which the primary stores, must be
// known to the server that transcodes [P §3.2].

// choices remembers the choices of audio and subtitles that clients made.
type choices struct {
	mu sync.Mutex
	by map[uint64][]*choice // by client
}

// choice is one client's choice for one part.
type choice struct {
	part    string
	request requestCopy
	at      time.Time
	known   map[string]bool // addresses of the servers that have it
}

const (
	choiceLife = 12 * time.Hour
	maxChosen  = 10_000 // clients with choices
	maxParts   = 4      // of one client
)

// remember keeps a choice that the primary has accepted.
func (c *choices) remember(client uint64, part string, r requestCopy, primary *Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = make(map[uint64][]*choice)
	}
	list := c.by[client]
	for i, old := range list {
		if old.part == part {
			list = append(list[:i], list[i+1:]...)
			break
		}
	}
	if len(list) == maxParts {
		list = append(list[:0], list[1:]...)
	}
	if len(list) == 0 && len(c.by) >= maxChosen {
		for any := range c.by {
			delete(c.by, any)
			break
		}
	}
	c.by[client] = append(list, &choice{part, r, time.Now(), map[string]bool{primary.dial: true}})
}

// unknown returns the client's choices that a server has not been told.
func (c *choices) unknown(client uint64, s *Server) []*choice {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*choice
	for _, ch := range c.by[client] {
		if !ch.known[s.dial] && time.Since(ch.at) < choiceLife {
			list = append(list, ch)
		}
	}
	return list
}

func (c *choices) told(ch *choice, s *Server) {
	c.mu.Lock()
	ch.known[s.dial] = true
	c.mu.Unlock()
}

// has reports whether the client made any choice.
func (c *choices) has(client uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.by[client]) > 0
}

// chooser is who made a choice or sent a timeline: the device of a user.
func chooser(q *plex.Request) uint64 { return hash(q.Client, q.Token) }

// carryTimeout bounds how long a playback waits until its server knows what its
// client has chosen; without that it plays, if with another language.
const carryTimeout = time.Second

// carry tells the server of a request what its client has chosen before, and
// reports whether that was news to it.
func (h *Handler) carry(ctx context.Context, l *Lease) (news bool) {
	s := h.app.byAddress(l.server)
	if s == nil || h.app.Mode != ModeReplicated {
		return false
	}
	all := &h.app.state.choices
	ctx, cancel := context.WithTimeout(ctx, carryTimeout)
	defer cancel()
	for _, ch := range all.unknown(chooser(&l.request), s) {
		if !ch.request.send(ctx, s, true) {
			break
		}
		all.told(ch, s)
		news = true
	}
	return news
}

// prepare carries the choices of a client that starts without a decision, or
// decided elsewhere. Its server is found by asking for a decision, whose answer
// is dropped; the start follows it there.
func (h *Handler) prepare(l *Lease, r *http.Request, next caddyhttp.Handler) {
	all, who := &h.app.state.choices, chooser(&l.request)
	if h.app.Mode != ModeReplicated || l.query.Writes || !all.has(who) {
		return
	}
	if s := h.app.byAddress(l.hold.Server); s != nil && len(all.unknown(who, s)) == 0 {
		return
	}
	i := strings.LastIndex(r.URL.Path, "/start")
	if i < 0 {
		return
	}
	ask := r.Clone(r.Context())
	ask.URL.Path, ask.URL.RawPath = r.URL.Path[:i]+"/decision", ""
	client := l.ResponseWriter
	l.ResponseWriter, l.probing = &probe{header: make(http.Header)}, true
	if err := l.attempt(ask, next); err == nil {
		h.carry(r.Context(), l)
	}
	l.ResponseWriter, l.probing = client, false
	l.answer = answer{}
	l.server, l.tried = nil, l.tried[:0] // what follows is the first attempt
}

func (a *App) byAddress(s *cluster.Server) *Server {
	if s == nil {
		return nil
	}
	for _, cfg := range a.Servers {
		if cfg.dial == s.Address() {
			return cfg
		}
	}
	return nil
}

// probe is a response writer for an answer that nobody wants.
type probe struct{ header http.Header }

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) WriteHeader(int)             {}
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }

// keepBody reads a small body of a request that may be sent again, and returns
// it with a request that can still be read. Of a larger one it keeps nothing.
func keepBody(r *http.Request) ([]byte, *http.Request, bool) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil, r, true
	}
	if r.ContentLength > maxCopiedBody || r.ContentLength < 0 {
		return nil, r, false
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxCopiedBody))
	r2 := new(http.Request)
	*r2 = *r
	r2.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), r.Body), r.Body}
	return body, r2, err == nil && int64(len(body)) == r.ContentLength
}

// share lets other servers have what only one was told: the primary a
// timeline, and, when their time comes, the playbacks' servers a choice.
func (h *Handler) share(l *Lease, r *http.Request, body []byte) {
	primary := h.app.server(h.app.Primary)
	if l.outcome() != cluster.Accepted || primary == nil || l.server == nil {
		return
	}
	switch {
	case l.request.Kind == plex.StreamChoice:
		part, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/library/parts/"), "/")
		h.app.state.choices.remember(chooser(&l.request), part, copyOf(r, body), primary)
	case l.server.Address() == primary.dial:
		h.app.state.copies.drop(&l.request, r, body)
	default:
		if !h.app.state.copies.add(&l.request, r, body, primary, h.logger) {
			h.logger.Debug("the primary is too slow: a timeline was not copied to it", zap.String("server", primary.Name))
		}
	}
}
