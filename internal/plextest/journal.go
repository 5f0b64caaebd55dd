package plextest

import (
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Entry is a request the server received. Ids stand as they were sent; tokens
// do not appear.
type Entry struct {
	At     time.Time
	Method string
	Path   string // as sent, still encoded
	Query  string // as sent, tokens masked
	Host   string
	From   string // where the client seems to be [P §6.4]
	Via    string // X-Forwarded-For, as sent
	TSID   string // transcode session, from the path or the member session
	XSI    string // X-Plex-Session-Identifier
	CID    string // X-Plex-Client-Identifier
	Access string // what the token allows: owner, user or nothing
	Status int    // zero until the server answered
}

// maxEntries bounds the journal; the older half goes when it is full.
const maxEntries = 100_000

// journal keeps the requests of a server, in order of arrival.
type journal struct {
	mu      sync.Mutex
	entries []*Entry
}

var tokens = regexp.MustCompile(`(?i)(X-Plex-Token(?:=|%3D))[^&%]*`)

// record notes a request and returns a writer that notes its status.
func (j *journal) record(w http.ResponseWriter, a *ask) http.ResponseWriter {
	e := &Entry{
		At:     time.Now(),
		Method: a.r.Method,
		Path:   a.r.URL.EscapedPath(),
		Query:  tokens.ReplaceAllString(a.r.URL.RawQuery, "${1}REDACTED"),
		Host:   a.r.Host,
		From:   a.address(),
		Via:    strings.Join(a.r.Header.Values("X-Forwarded-For"), "|"),
		TSID:   a.tsid(),
		XSI:    a.xsi,
		CID:    a.cid,
		Access: [...]string{nobody: "", user: "user", owner: "owner"}[a.who],
	}
	j.mu.Lock()
	if len(j.entries) >= maxEntries {
		j.entries = append(j.entries[:0:0], j.entries[maxEntries/2:]...)
	}
	j.entries = append(j.entries, e)
	j.mu.Unlock()
	return &recorder{ResponseWriter: w, journal: j, entry: e}
}

// Log returns the requests received since the last ResetLog, the newest 50,000
// to 100,000 of them, in order of arrival.
func (s *Server) Log() []Entry {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	out := make([]Entry, len(s.log.entries))
	for i, e := range s.log.entries {
		out[i] = *e
	}
	return out
}

// ResetLog forgets the requests received so far.
func (s *Server) ResetLog() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.entries = nil
}

// recorder notes the status of an answer.
type recorder struct {
	http.ResponseWriter
	journal *journal
	entry   *Entry
}

func (r *recorder) WriteHeader(status int) {
	r.note(status)
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.note(http.StatusOK)
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController flush and hijack.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) note(status int) {
	r.journal.mu.Lock()
	defer r.journal.mu.Unlock()
	if r.entry.Status == 0 {
		r.entry.Status = status
	}
}
