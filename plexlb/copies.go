package plexlb

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/plexlb/caddy-plexlb/internal/plex"
)

const (
	// copyInterval is how far apart copies are that say nothing new but the time.
	// Players send a timeline every ten seconds; those that seek, and those that
	// mean harm, send many.
	copyInterval = time.Second

	// copyLanes is how many copies are under way at once.
	copyLanes = 4

	// maxPending bounds the copies of one client that wait, and maxPendingSize
	// those of all, in bytes.
	maxPending, maxPendingSize = 8, 8 << 20

	// copyTimeout bounds one copy, whose answer nobody waits for.
	copyTimeout = 5 * time.Second

	// maxCopiedBody bounds its body; timelines and choices have none or a
	// small one.
	maxCopiedBody = 64 << 10
)

// requestCopy is a request that a server gets beside the one that answers it.
type requestCopy struct {
	method string
	url    url.URL // path and query, to the letter
	header http.Header
	body   []byte
}

// notCopied are headers that belong to a connection, or to a client that waits.
var notCopied = []string{"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Connection", "Content-Length", "Expect"}

// copyOf makes a copy of a request that can be sent when it is over.
func copyOf(r *http.Request, body []byte) requestCopy {
	h := make(http.Header, len(r.Header)+2)
	for name, values := range r.Header {
		h[name] = values
	}
	for _, name := range notCopied {
		delete(h, name)
	}
	if h["User-Agent"] == nil {
		h["User-Agent"] = nil // or it would be that of Go
	}
	// Not our own address, which the server may trust more than the viewer's.
	h["X-Forwarded-For"] = []string{clientIP(r)}
	return requestCopy{method: r.Method, url: *r.URL, header: h, body: body}
}

// size is about how many bytes the copy takes.
func (c *requestCopy) size() int {
	n := 512 + len(c.url.Path) + len(c.url.RawQuery) + len(c.body)
	for name, values := range c.header {
		n += 64 + len(name)
		for _, v := range values {
			n += 16 + len(v)
		}
	}
	return n
}

// send sends the copy, if need be once and not again by Go's client, and
// reports whether the server accepted it.
func (c *requestCopy) send(ctx context.Context, s *Server, once bool) bool {
	ctx, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, c.method, s.url, bytes.NewReader(c.body))
	if err != nil {
		return false
	}
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = c.url.Path, c.url.RawPath, c.url.RawQuery
	r.Header = c.header
	if once {
		r.GetBody = nil
		r = sentOnce(r)
	}
	res, err := s.client.Transport.RoundTrip(r) // follows no redirect, with the token
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxHeld))
	res.Body.Close()
	return res.StatusCode < 300
}

// copies brings the primary the timelines of other servers' playbacks, a client's
// in their order, and also over a reload of the configuration. Of an item only
// the newest waits: if it is new but in its time, until an interval is over; else
// until there is a lane, and what came before it is there. So the primary is told
// soon how things stand even if it is slow, and timelines of one client do not
// keep those of others from it. What ends a playback is not replaced by what comes
// after. What the primary does not take, or not in time, is lost.
type copies struct {
	mu      sync.Mutex
	primary string // the address of the one in force; empty for none
	by      map[uint64]*teller
	size    int // of what waits
	lanes   chan struct{}
}

// teller is a client with what the primary is yet to hear from it.
type teller struct {
	waiting []pending
	sent    subject       // of the last copy
	hurry   chan struct{} // holds one if something else waits
}

// pending is a timeline to be copied to a server.
type pending struct {
	subject
	request requestCopy
	size    int
	to      *Server
	logger  *zap.Logger
}

// subject is what a timeline says but the time.
type subject struct {
	item            uint64
	paused, stopped bool
}

// subjectOf tells viewers without ids apart by their address, and takes another
// body for another item: it may say what the query does not.
func subjectOf(q *plex.Request, r *http.Request, body []byte) subject {
	query := r.URL.RawQuery
	item := hash(q.Session, q.Playback, plex.Query(query, "ratingKey"), plex.Query(query, "key"), clientIP(r), string(body))
	return subject{item, q.Paused, q.Stopped}
}

func newCopies() *copies {
	return &copies{by: make(map[uint64]*teller), lanes: make(chan struct{}, copyLanes)}
}

// keep leaves out what is for another server than the primary, by its address.
func (c *copies) keep(primary string) {
	c.mu.Lock()
	c.primary = primary
	c.mu.Unlock()
}

// add has a timeline copied to a server, without anybody waiting, and reports
// whether none was left out for it.
func (c *copies) add(q *plex.Request, r *http.Request, body []byte, to *Server, logger *zap.Logger) bool {
	latest := pending{subject: subjectOf(q, r, body), request: copyOf(r, body), to: to, logger: logger}
	latest.size = latest.request.size()
	who := chooser(q)
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.by[who]
	if t != nil {
		c.forget(t, func(p *pending) bool { return p.item == latest.item && (latest.stopped || !p.stopped) })
	}
	if to.dial != c.primary || c.size+latest.size > maxPendingSize {
		return false
	}
	if t == nil {
		t = &teller{sent: latest.subject, hurry: make(chan struct{}, 1)}
		c.by[who] = t
		go c.bring(who, t)
	}
	room := len(t.waiting) < maxPending
	if !room {
		i := slices.IndexFunc(t.waiting, func(p pending) bool { return !p.stopped })
		if i < 0 && !latest.stopped {
			return false
		}
		c.take(t, max(0, i))
	}
	t.waiting = append(t.waiting, latest)
	c.size += latest.size
	if latest.subject != t.sent {
		t.hurryUp()
	}
	return room
}

// drop forgets what waits of an item of which the primary has heard something
// newer itself.
func (c *copies) drop(q *plex.Request, r *http.Request, body []byte) {
	item := subjectOf(q, r, body).item
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.by[chooser(q)]; t != nil {
		c.forget(t, func(p *pending) bool { return p.item == item })
	}
}

func (c *copies) forget(t *teller, which func(*pending) bool) {
	t.waiting = slices.DeleteFunc(t.waiting, func(p pending) bool {
		if !which(&p) {
			return false
		}
		c.size -= p.size
		return true
	})
}

func (c *copies) take(t *teller, i int) pending {
	p := t.waiting[i]
	t.waiting = slices.Delete(t.waiting, i, i+1)
	c.size -= p.size
	return p
}

func (t *teller) hurryUp() {
	select {
	case t.hurry <- struct{}{}:
	default:
	}
}

// bring sends what there is of a teller until nothing is new for an interval.
func (c *copies) bring(who uint64, t *teller) {
	for {
		c.lanes <- struct{}{} // before the newest is chosen
		p, ok := c.next(who, t)
		if ok && !p.request.send(context.Background(), p.to, p.stopped) {
			p.logger.Debug("the primary did not take the copy of a timeline", zap.String("server", p.to.Name))
		}
		<-c.lanes
		if !ok {
			return
		}
		select {
		case <-t.hurry:
		case <-time.After(copyInterval):
		}
	}
}

// next takes what a teller has to say next; one that has nothing is forgotten.
func (c *copies) next(who uint64, t *teller) (p pending, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(t, func(p *pending) bool { return p.to.dial != c.primary })
	if len(t.waiting) == 0 {
		delete(c.by, who)
		return pending{}, false
	}
	p = c.take(t, 0)
	t.sent = p.subject
	select {
	case <-t.hurry:
	default:
	}
	if len(t.waiting) > 0 { // of something else
		t.hurryUp()
	}
	return p, true
}
