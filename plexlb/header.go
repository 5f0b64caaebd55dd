package plexlb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// What an encoder makes in fMP4 can only be decoded with its header, which says
// how it encodes. A player fetches that once, when it begins. After a
// playback was begun anew, its segments may be those of an encoder with another
// header [P §4.5]: then they are sent with that in front. A header may come
// anywhere in a stream, and holds for what follows.

const (
	// maxHeader bounds a header, in bytes. They have about a thousand.
	maxHeader = 64 << 10

	// maxRepresentations bounds of how many representations of a playback the
	// headers are known. There are two: video and audio.
	maxRepresentations = 8
)

// headers are those of one start's representations, by the folder that their
// segments are in.
type headers struct {
	mu sync.Mutex
	of map[string]header
}

// header is what a player decodes a representation with.
type header struct {
	given [sha256.Size]byte // what the player has fetched; zero if that is not known
	at    uint64            // the resumption for which it was compared
	front []byte            // what goes in front of segments since, nil if nothing has to
	mixed bool              // the player was sent another one in front of a segment
}

// give notes what the player has fetched.
func (hs *headers) give(folder string, sum [sha256.Size]byte) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if _, known := hs.of[folder]; !known && len(hs.of) >= maxRepresentations {
		return
	}
	if hs.of == nil {
		hs.of = make(map[string]header)
	}
	hs.of[strings.Clone(folder)] = header{given: sum}
}

// front returns what goes in front of a segment after a resumption, and whether
// that is known.
func (hs *headers) front(folder string, resumption uint64) (front []byte, known bool) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hd, ok := hs.of[folder]
	return hd.front, ok && hd.at == resumption
}

// compare takes the header of the server on which the playback goes on since a
// resumption, and returns what front will from now on.
func (hs *headers) compare(folder string, resumption uint64, body []byte) []byte {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hd, known := hs.of[folder]
	if !known && len(hs.of) >= maxRepresentations {
		return nil
	}
	hd.at, hd.front = resumption, nil
	// Who was sent another has to be sent its own again.
	if hd.mixed || sha256.Sum256(body) != hd.given {
		hd.front, hd.mixed = bytes.Clone(body), true
	}
	if hs.of == nil {
		hs.of = make(map[string]header)
	}
	hs.of[strings.Clone(folder)] = hd
	return hd.front
}

// headerOf returns the folder of a segment of fMP4 and the path of its header;
// nothing for other segments.
func headerOf(path string) (folder, header string) {
	if !strings.HasSuffix(path, ".m4s") {
		return "", ""
	}
	folder = path[:strings.LastIndexByte(path, '/')+1]
	if strings.Contains(folder, "/universal/dash/") { // [P §3.1]
		return folder, folder + "initial.mp4"
	}
	return folder, folder + "header"
}

// folderOfHeader returns the folder of a header; nothing for segments.
func folderOfHeader(path string) string {
	i := strings.LastIndexByte(path, '/') + 1
	if name := path[i:]; name == "header" || name == "initial.mp4" {
		return path[:i]
	}
	return ""
}

// noteHeader remembers the header that the player was just given.
func (l *Lease) noteHeader() {
	if l.status != http.StatusOK || l.given.Len() > maxHeader {
		return
	}
	start, _, _ := l.app.state.ledger.StartOf(l.query.Transcode)
	if rec, ok := start.(*recording); ok {
		rec.headers.give(folderOfHeader(l.path), sha256.Sum256(l.given.Bytes()))
	}
}

// prepend finds out whether something has to go in front of the segment that is
// asked for.
func (h *Handler) prepend(l *Lease, r *http.Request, next caddyhttp.Handler) {
	l.front, l.frontOf = nil, nil
	if l.app.state.ledger.Resumptions() == 0 {
		return
	}
	folder, path := headerOf(l.path)
	if folder == "" {
		return
	}
	start, at, resumption := l.app.state.ledger.StartOf(l.query.Transcode)
	rec, ok := start.(*recording)
	if !ok || resumption == 0 {
		return
	}
	l.hold.Server = at // it may have been carried since it was looked up
	front, known := rec.headers.front(folder, resumption)
	if !known {
		body := h.fetchHeader(l, r, next, path)
		if body == nil {
			return // the segment is tried without, and the next one with it
		}
		front = rec.headers.compare(folder, resumption, body)
		if front != nil {
			if c := h.logger.Check(zapcore.DebugLevel, "segments come from another encoder and get its header in front"); c != nil {
				c.Write(zap.String("session", l.query.Transcode), zap.Int("bytes", len(front)))
			}
		}
	}
	l.front, l.frontOf = front, at
}

// fetchHeader asks the server that the segment will come from for the header of
// its representation; nil if that cannot be had.
func (h *Handler) fetchHeader(l *Lease, r *http.Request, next caddyhttp.Handler, path string) (body []byte) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	ask := r.Clone(ctx)
	ask.URL.Path = path
	if raw := ask.URL.RawPath; raw != "" {
		ask.URL.RawPath = raw[:strings.LastIndexByte(raw, '/')] + path[strings.LastIndexByte(path, '/'):]
	}
	ask.RequestURI = ask.URL.RequestURI()
	for _, name := range []string{"Range", "If-Range", "If-None-Match", "If-Modified-Since", "Accept-Encoding"} {
		ask.Header.Del(name)
	}

	sub := takeLease(h.app, &probe{header: make(http.Header)})
	defer sub.end()
	defer func() {
		// The proxy panics when an answer breaks off in the middle.
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				panic(p)
			}
			body = nil
		}
	}()
	sub.ctx, sub.path, sub.probing = ctx, path, true
	sub.beginSegment(l.query.Transcode)
	if err := sub.attempt(ask, next); err != nil || sub.server != l.hold.Server || sub.interrupted || sub.takenBack || sub.status != http.StatusOK ||
		sub.Header().Get("Content-Encoding") != "" || sub.body.Len() == 0 || sub.body.Len() > maxHeader {
		return nil
	}
	sub.held = false // it is dealt with
	return bytes.Clone(sub.body.Bytes())
}

// fronted reports whether an answer gets something in front, and makes room for
// that.
func (l *Lease) fronted() bool {
	if l.front == nil || l.status != http.StatusOK || l.server != l.frontOf {
		return false
	}
	h := l.Header()
	if h.Get("Content-Encoding") != "" {
		return false
	}
	if length := h.Get("Content-Length"); length != "" {
		n, err := strconv.ParseInt(length, 10, 64)
		if err != nil || n == 0 {
			return false // a seek has overtaken the request [P §4.1]
		}
		h.Set("Content-Length", strconv.FormatInt(n+int64(len(l.front)), 10))
	}
	// They speak of the segment alone.
	for _, name := range []string{"Accept-Ranges", "Content-Md5", "Etag"} {
		h.Del(name)
	}
	return true
}
