package plexlb

import (
	"net/http"
	"sync"

	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// tooSmall is a piece that may stay behind with the header, in bytes.
const tooSmall = 4 << 10

// early lets a player know that its server has answered with a segment or file,
// though the body is yet to come: some wait less long for a header than for the
// body. It costs next to nothing, other than an interval for reverse_proxy to
// flush or a timer for each answer.
type early struct {
	armed bool // by the request

	mu     sync.Mutex
	writer http.ResponseWriter // that may keep what it has got, else nil
	seen   bool                // by the clock
}

// headerWritten has the header flushed, and what little came after it, unless
// more follows until the clock has ticked twice.
func (l *Lease) headerWritten() {
	if l.request.Kind != plex.Segment && l.request.Kind != plex.Part || l.early == nil {
		return
	}
	e := l.early
	e.armed = true
	e.mu.Lock()
	e.writer, e.seen = l.ResponseWriter, false
	e.mu.Unlock()
}

// bodyFollows is to be called before anything more is written, and at the end. It
// reports whether the header may not have been sent yet.
func (e *early) bodyFollows() bool {
	if e == nil || !e.armed {
		return false
	}
	e.armed = false
	e.mu.Lock()
	e.writer = nil
	e.mu.Unlock()
	return true
}

// tick is the clock's. Nobody waits in it for a client.
func (e *early) tick() {
	if e == nil || !e.mu.TryLock() {
		return
	}
	defer e.mu.Unlock()
	switch {
	case e.writer == nil:
	case e.seen:
		go e.flush()
	default:
		e.seen = true
	}
}

func (e *early) flush() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.writer != nil && e.seen { // and not the next one's
		_ = http.NewResponseController(e.writer).Flush() // the next write tells
		e.writer = nil
	}
}
