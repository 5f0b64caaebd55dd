package plexlb

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// answer is what the handler keeps of a server's answer. Those to a decision,
// and failures to start, are held back until it is clear that they are what
// the client shall have.
type answer struct {
	status  int
	held    bool
	body    bytes.Buffer
	verdict *plex.Verdict
	refused bool
	header  http.Header // of an answer that was set aside
	first   *answer     // that was set aside
}

// maxHeld bounds an answer that is held back; decisions have some 30 KiB. A
// longer one passes through unread.
const maxHeld = 1 << 20

// WriteHeader notes the status, and holds the answer back if it may not be the
// last word.
func (l *Lease) WriteHeader(status int) {
	if status < 200 { // informational; the answer is yet to come
		if status == http.StatusSwitchingProtocols {
			l.answered()
		}
		l.ResponseWriter.WriteHeader(status)
		return
	}
	if l.status != 0 {
		return
	}
	l.status = status
	l.answered()
	if l.holds(status) {
		l.held = true
		return
	}
	if status < 300 {
		l.patient()
	}
	if l.query.Begins && status < 400 {
		l.accepted()
	}
	if !l.fronted() {
		l.ResponseWriter.WriteHeader(status)
		l.headerWritten()
		return
	}
	l.ResponseWriter.WriteHeader(status)
	if _, err := l.ResponseWriter.Write(l.front); err != nil {
		l.clientGone = true
	}
	l.headerWritten()
}

// accepted confirms what begins with this answer, which may take hours to its
// end, and goes on holding it.
func (l *Lease) accepted() {
	l.tellNews()
	l.settle()
	l.tellBegun(true)
	l.hold = l.app.state.ledger.Find(&l.query, time.Now())
}

func (l *Lease) holds(status int) bool {
	switch {
	case l.probing, l.interrupted, status == statusClientClosed && l.ctx.Err() == nil:
		return true // it was taken back, not closed by the client
	}
	switch l.request.Kind {
	case plex.Segment:
		return status == http.StatusNotFound ||
			status == http.StatusServiceUnavailable && l.server != nil && l.app.state.ledger.Unreadable(l.server)
	case plex.Timeline:
		return status == http.StatusOK && !l.request.Stopped && !l.borrowed // it may say that the playback was ended
	case plex.Decision:
		return status != statusClientClosed
	case plex.Start:
		return status == http.StatusInternalServerError || status == http.StatusServiceUnavailable
	}
	return false
}

// Write passes on a part of the body, or keeps it with an answer that is held.
func (l *Lease) Write(p []byte) (int, error) {
	if l.status == 0 {
		l.WriteHeader(http.StatusOK)
	}
	if l.held {
		if l.body.Len()+len(p) <= maxHeld {
			return l.body.Write(p)
		}
		if err := l.release(); err != nil {
			return 0, err
		}
	}
	first := l.early.bodyFollows()
	l.wait.written.Add(1)
	n, err := l.ResponseWriter.Write(p)
	l.pause.written()
	if first && n < tooSmall {
		l.headerWritten() // from now on the writer may be another's
	}
	if err != nil {
		l.clientGone = true
	}
	if l.given != nil && l.given.Len() <= maxHeader {
		l.given.Write(p[:n])
	}
	return n, err
}

// ReadFrom does what Write does, for those who copy.
func (l *Lease) ReadFrom(r io.Reader) (int64, error) {
	if l.status == 0 {
		l.WriteHeader(http.StatusOK)
	}
	if l.held || l.given != nil {
		return io.Copy(struct{ io.Writer }{l}, r)
	}
	l.early.bodyFollows()
	return l.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError does not flush an answer that is held.
func (l *Lease) FlushError() error {
	if l.held {
		return nil
	}
	l.early.bodyFollows()
	err := http.NewResponseController(l.ResponseWriter).Flush()
	l.clientGone = l.clientGone || err != nil
	return err
}

// release lets the client have the answer that was held back.
func (l *Lease) release() error {
	if !l.held {
		return nil
	}
	l.held = false
	l.read()
	l.ResponseWriter.WriteHeader(l.status)
	_, err := l.body.WriteTo(l.ResponseWriter)
	return err
}

// read takes in an answer that is held.
func (l *Lease) read() {
	if l.request.Kind == plex.Timeline && l.status == http.StatusOK {
		h := l.Header()
		l.terminated = plex.Terminated(h.Get("Content-Type"), h.Get("Content-Encoding"), l.body.Bytes())
	}
	if l.request.Kind != plex.Decision || l.status != http.StatusOK || l.verdict != nil {
		return
	}
	h := l.Header()
	v, err := plex.ReadDecision(h.Get("Content-Type"), h.Get("Content-Encoding"), l.body.Bytes())
	if err != nil {
		return // passed on as it is; what it costs is told by the next reading
	}
	l.verdict = &v
	l.refused = v.Refused()
}

// again reports whether the request should be sent on once more: a start that
// was refused for want of room, or failed, may succeed elsewhere [P §8.4]. The
// answer it got is kept for the case that no other comes.
func (l *Lease) again(err error) bool {
	if err != nil || !l.held || !l.elsewhere || l.query.Writes || l.app.Mode != ModeReplicated {
		return false
	}
	l.read()
	full := l.verdict != nil && l.verdict.RefusedForCapacity()
	if !full && l.status != http.StatusInternalServerError && l.status != http.StatusServiceUnavailable {
		return false
	}
	l.shun()
	l.setAside()
	return true
}

// setAside makes room for another answer.
func (l *Lease) setAside() {
	first := l.answer
	first.header = l.Header().Clone()
	l.answer = answer{first: &first}
	l.putBack(l.before)
}

// fallBack takes the answer that was set aside for the one to give.
func (l *Lease) fallBack() {
	h := l.Header()
	clear(h)
	maps.Copy(h, l.first.header)
	l.answer = *l.first
}

// field is one of a header.
type field struct {
	name   string
	values []string
}

// keepHeader remembers the header before any answer: middlewares before us have
// set some of it.
func (l *Lease) keepHeader() {
	l.before = l.before[:0]
	for name, values := range l.Header() {
		l.before = append(l.before, field{name, values})
	}
}

// putBack makes the header what it was.
func (l *Lease) putBack(fields []field) {
	h := l.Header()
	clear(h)
	for _, f := range fields {
		h[f.name] = slices.Clip(f.values)
	}
}
