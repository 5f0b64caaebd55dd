package plexlb

import (
	"net/http"
	"sync"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plex"
)

const (
	// earlyAfter is when the header of a segment or file goes to its player
	// though its body does not follow.
	earlyAfter = 100 * time.Millisecond

	// A piece of less than this may stay behind with the header.
	tooSmall = 4 << 10
)

// early lets a player know that its server has answered: some wait less long for
// a header than for the body. An interval for reverse_proxy to flush would do
// that as well, and cost each answer several times as much.
type early struct {
	armed bool // by the request
	timer *time.Timer

	mu     sync.Mutex
	writer http.ResponseWriter // that may keep what it has got, else nil
}

// headerWritten has the header flushed, and what little came after it, unless
// more follows.
func (l *Lease) headerWritten() {
	if l.request.Kind != plex.Segment && l.request.Kind != plex.Part {
		return
	}
	if l.early == nil {
		l.early = new(early)
	}
	e := l.early
	e.armed = true
	e.mu.Lock()
	e.writer = l.ResponseWriter
	e.mu.Unlock()
	if e.timer == nil {
		e.timer = time.AfterFunc(earlyAfter, e.flush)
		return
	}
	e.timer.Reset(earlyAfter)
}

// flush does it, unless something has followed by now.
func (e *early) flush() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.writer != nil {
		_ = http.NewResponseController(e.writer).Flush() // the next write tells
		e.writer = nil
	}
}

// bodyFollows is to be called before anything more is written, and at the end. It
// reports whether the header may not have been sent yet.
func (e *early) bodyFollows() bool {
	if e == nil || !e.armed {
		return false
	}
	e.armed = false
	e.timer.Stop()
	e.mu.Lock()
	e.writer = nil
	e.mu.Unlock()
	return true
}
