package plexlb

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plex"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler recognises Plex playbacks in front of a `reverse_proxy` whose
// selection policy is `least_transcodes`. It finds out which playback or
// client each request belongs to, so that the policy can send it there, and
// learns from the answers. What comes by way of a trusted proxy it passes on as
// if it came from the viewer, whose address is the only one that servers are told.
//
// It sets these placeholders:
//
// Placeholder | Description
// ------------|-------------
// `{http.plexlb.server}` | The name of the server that the request went to
// `{http.plexlb.reason}` | Why it went there: `pinned`, `least_load`, `client_server`, `live_playback`, `adopted`, `server_lost`, `overflow`, `primary`, `fallback`, `hashed` or `resumed`; or why nowhere: `no_server`, `all_full` or `server_unavailable`
// `{http.plexlb.session}` | The id by which the playback is known, if the request has one; without characters that cannot be printed
// `{http.plexlb.kind}` | What the request is: `start`, `segment`, `part`, `timeline`, `control`, `browse` or `write`
type Handler struct {
	// The names of the servers behind this site. Default: all. A client that
	// also uses another site may be on another server there.
	Servers []string `json:"servers,omitempty"`

	app    *App
	site   string
	logger *zap.Logger

	registered atomic.Bool // its chain is known
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.plexlb",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets up the handler.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	app, err := ctx.App("plexlb")
	if err != nil {
		return fmt.Errorf("getting app plexlb: %v", err)
	}
	h.app = app.(*App)
	for _, name := range h.Servers {
		if h.app.server(name) == nil {
			return fmt.Errorf("unknown server %q: use one of %s, or add it to option plexlb", name, h.app.names())
		}
	}
	h.site = strings.Join(slices.Sorted(slices.Values(h.Servers)), " ")
	return nil
}

// ServeHTTP sends the request on with what is known about its playback.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	h.register(r, next)
	if id := plex.SegmentID(r); id != "" {
		return h.serveSegment(w, r, next, id)
	}
	h.app.noteProxy(r)
	l := takeLease(h.app, w)
	defer l.end() // runs even when the proxy panics because a player hung up
	r = l.begin(h.site, r)
	if p := l.hold.Playback(); p != nil && (l.ends() || l.ending) {
		l.over = h.app.state.flights.end(p)
	}
	if r.Method == http.MethodConnect {
		defer forbear(r.Context())()
	}

	replicated := h.app.Mode == ModeReplicated
	shared := replicated && (l.request.Kind == plex.Timeline || l.request.Kind == plex.StreamChoice)
	var body []byte
	if shared {
		body, r, shared = keepBody(r)
	}
	if l.query.Writes && !l.tells() {
		r = sentOnce(r)
	}
	var err error
	if l.query.Role == cluster.Start {
		err = h.serveStart(l, r, next)
	} else {
		err = h.send(l, r, next)
	}
	l.returned = true
	if err == nil {
		err = l.release()
	}
	l.failed = err != nil
	if shared {
		h.share(l, r, body)
	}
	h.report(l, err)
	return l.later(err)
}

// tells reports whether the request says how a playback stands: said twice, it
// says the same. That is let go on a new connection where the server has just
// closed the old one, and spared what sentOnce costs: 32 KiB, which Go's client
// takes to copy nothing.
func (l *Lease) tells() bool { return l.request.Kind == plex.Timeline && !l.request.Stopped }

// sentOnce returns the request so that Go's HTTP client does not repeat it by
// itself: it would repeat any GET whose connection breaks, and many of PMS's
// writes are GETs [P §10.21]. A body whose length is not known beforehand keeps
// it from that, and as there is nothing in it, none is sent. Under the encoding
// identity it is not read beforehand to find that out, in a goroutine of its own
// that is given up after 200 ms: on a busy machine that one and the connection's
// would use the body, and Caddy's map of its trailers, at the same time.
func sentOnce(r *http.Request) *http.Request {
	if r.Method != http.MethodGet || r.ContentLength != 0 || r.Header.Get("Upgrade") != "" {
		return r
	}
	r2 := new(http.Request)
	*r2 = *r
	r2.Body, r2.ContentLength, r2.TransferEncoding = empty{}, -1, identity
	return r2
}

var identity = []string{"identity"}

// empty is a body without anything in it. That of package http would be known
// to be empty beforehand.
type empty struct{}

func (empty) Read([]byte) (int, error) { return 0, io.EOF }
func (empty) Close() error             { return nil }

// serveStart sends a decision or start on: once more to another server if the
// first has no room for it, and once more to the same if that did not know what
// the client has chosen.
func (h *Handler) serveStart(l *Lease, r *http.Request, next caddyhttp.Handler) error {
	if l.request.Kind == plex.Start {
		if p := l.hold.Playback(); p != nil {
			// Who is not known to be let in keeps nobody waiting.
			if is, _ := l.owner(p); is {
				var waited bool
				l.begun, waited = h.app.state.flights.begin(r.Context(), p)
				defer l.tellBegun(false)
				if waited {
					l.findAgain()
				}
			}
		}
		h.prepare(l, r, next)
	}
	err := h.send(l, r, next)
	if l.again(err) {
		if err = h.send(l, r, next); err != nil && l.status == 0 {
			l.fallBack()
			return nil
		}
	}
	if err == nil && l.request.Kind == plex.Decision && l.held && l.status == http.StatusOK && h.carry(r.Context(), l) {
		l.setAside()
		l.server = nil // the next attempt is no retry
		if err = h.send(l, r, next); err != nil && l.status == 0 {
			l.fallBack()
			return nil
		}
	}
	return err
}

// serveSegment is ServeHTTP for the requests that are nearly all there are. They
// carry nothing but a transcode id, so nothing is held for them or learnt from
// them, unless their playback has yet to be found.
func (h *Handler) serveSegment(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, id string) error {
	l := takeLease(h.app, w)
	defer l.endSegment()
	l.ctx, l.path = r.Context(), r.URL.Path
	l.beginSegment(id)
	if folderOfHeader(l.path) != "" {
		l.given = new(bytes.Buffer)
	}
	l.labels = describe(r, l)
	if l.hold.Server == nil {
		if err := h.app.seek(r.Context(), id); err != nil {
			return h.giveUp(l, err)
		}
	}
	err := h.send(l, r, next)
	if err == nil && l.held {
		err = l.release()
	}
	if err == nil && l.given != nil {
		l.noteHeader()
	}
	h.report(l, err)
	if err != nil {
		l.failed = true
		err = l.later(err)
	}
	return err
}

// later tells the client of a request that could not be served when to come
// back.
func (l *Lease) later(err error) error {
	if err != nil && (l.reason == cluster.AllFull || l.reason == cluster.ServerGone) {
		l.Header().Set("Retry-After", "5")
	}
	return err
}

// report says why a request went nowhere. What was placed is told by its lease.
func (h *Handler) report(l *Lease, err error) {
	if err == nil || l.reason != cluster.Nowhere && l.reason != cluster.AllFull && l.reason != cluster.ServerGone {
		return
	}
	if c := h.logger.Check(zapcore.DebugLevel, "no server can take the request"); c != nil {
		c.Write(zap.String("session", l.query.Called()), zap.Stringer("reason", l.reason), zap.Stringer("kind", l.request.Kind))
	}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
