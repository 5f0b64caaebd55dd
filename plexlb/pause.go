package plexlb

import (
	"context"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// longestPause is how long a client may pause.
const longestPause = 24 * time.Hour

// pause lets a client pause in the middle of an answer.
type pause struct {
	writer  *caddyhttp.IdleTimeoutWriter // that limits it otherwise, nil if none does
	own     *http.ResponseController     // the writer's, while it sets no limit
	parts   uint                         // that were sent
	restore func()
}

// A limit that holds for a day is set anew after so many parts.
const limitEvery = 1 << 10

// patient takes back the limit on how long a client may pause in the middle of
// an answer: a paused player stops reading for as long as its viewer likes.
func (l *Lease) patient() {
	switch l.request.Kind {
	case plex.Segment, plex.Part, plex.Start:
		if _, writer := caddyhttp.IdleTimeoutsFromContext(l.ctx); writer != nil {
			l.pause = pause{writer: writer, restore: writer.Override(longestPause, 0, 0)}
		}
	}
}

// written notes that a part of the answer is on its way to the client, and with
// it the limit is set. As it is a day, the writer need not set it anew with each
// of the many parts of a film. Over HTTP/2 it takes it back after each.
func (p *pause) written() {
	if p.writer == nil || p.writer.ClearBetweenWrites {
		return
	}
	p.parts++
	switch {
	case p.own == nil:
		p.own, p.writer.Ctrl = p.writer.Ctrl, unlimited
	case p.parts%limitEvery == 0: // the next one sets it
		p.writer.Ctrl, p.own = p.own, nil
	}
}

// unlimited controls nothing.
var unlimited = http.NewResponseController(unlimitedWriter{})

type unlimitedWriter struct{ http.ResponseWriter }

func (unlimitedWriter) SetWriteDeadline(time.Time) error { return nil }

// end puts the limit back.
func (p *pause) end() {
	if p.own != nil {
		p.writer.Ctrl = p.own
	}
	if p.restore != nil {
		p.restore()
	}
}

// forbear does the same for a WebSocket over HTTP/2 or 3, whose client may have
// nothing to say for hours: there it is the body of a request, which Caddy cuts
// off after a minute of silence. The returned function puts the limit back.
func forbear(ctx context.Context) (restore func()) {
	if reader, _ := caddyhttp.IdleTimeoutsFromContext(ctx); reader != nil {
		return reader.Override(longestPause, 0)
	}
	return func() {}
}
