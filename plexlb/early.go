package plexlb

import (
	"net/http"
	"sync"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// earlyAfter is when the header of a segment or file goes to its player though
// its body does not follow.
const earlyAfter = 100 * time.Millisecond

// early lets a player know that its server has answered: some wait less long for
// a header than for the body. An interval for reverse_proxy to flush would do
// that as well, and cost each answer several times as much.
type early struct {
	armed bool // by the request
	timer *time.Timer

	mu     sync.Mutex
	writer http.ResponseWriter // that has got the header and nothing after it, else nil
}

func newEarly() *early {
	e := new(early)
	e.timer = time.AfterFunc(time.Hour, e.flush)
	e.timer.Stop()
	return e
}

// headerWritten has the header flushed unless something follows.
func (l *Lease) headerWritten() {
	if l.request.Kind != plex.Segment && l.request.Kind != plex.Part {
		return
	}
	if l.early == nil {
		l.early = newEarly()
	}
	e := l.early
	e.armed = true
	e.mu.Lock()
	e.writer = l.ResponseWriter
	e.mu.Unlock()
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

// bodyFollows is to be called before anything more is written, and at the end.
func (e *early) bodyFollows() {
	if e == nil || !e.armed {
		return
	}
	e.armed = false
	e.timer.Stop()
	e.mu.Lock()
	e.writer = nil
	e.mu.Unlock()
}
