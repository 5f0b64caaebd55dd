package plex

import (
	"math/bits"
	"net/http"
)

// Request is what Identify reads off an HTTP request.
type Request struct {
	Kind Kind

	// Writes says that the request changes something on the server, whatever
	// its method: many of PMS's changes are GETs [P §10.21]. Such a request
	// must never be retried or copied blindly.
	Writes bool

	Music   bool // the transcoder's {type} is music or audio
	Stopped bool // a timeline that ends its playback
	Paused  bool // a timeline of a paused playback

	IDs

	// Token is the X-Plex-Token, for asking servers on the user's behalf. It
	// must never be logged, exported or returned.
	Token string
}

// IDs are the names by which a playback can be known. Any of them may be
// missing, and some clients use a constant of the device for one [P §3.3].
type IDs struct {
	Transcode string // transcode session: from the path, else query session, else transcodeSessionId
	Session   string // X-Plex-Session-Identifier, of one playback
	Playback  string // X-Plex-Playback-Session-Id
	Client    string // X-Plex-Client-Identifier, of the app on the device
}

const (
	// maxID is the longest id we believe in. The ones clients make have 24 to
	// 36 characters; longer ones only fill tables.
	maxID = 256

	// maxToken is larger as newer tokens are signed documents.
	maxToken = 4096
)

// Identify says what a request asks for and which ids it carries. Query and
// header names count in any letter case [P §3.3]; headers are looked up by
// canonical name, which is how net/http stores them, so a Header filled by
// hand with other spellings is not understood.
//
// Where a query and a header disagree, the query wins: clients set headers
// once for all their requests, and a query for the one. What PMS does then is
// not known. The first usable value wins among several. Ids longer than 256
// bytes or with control characters are dropped. X-Plex-Session-Id is no id of
// a playback but of an app launch, and is not read [P §10.15].
//
// A segment request is known by its path, and nothing else of it is read:
// players send nothing else [P §3.2].
//
// The strings share memory with the request's URL and headers, which are a
// hundred times as large: clone those that outlive it.
func Identify(r *http.Request) (q Request) {
	if r.URL == nil {
		return q
	}
	if typ, id := segmentRequest(r); id != "" && !hasControl(id) {
		q.Kind = Segment
		q.Music = isMusic(typ)
		q.Transcode = id
		return q
	}
	p := locate(r.URL.Path)
	q.Kind, q.Writes, q.Music = p.kind, p.writes, p.music
	if r.Method != http.MethodGet {
		q.Kind, q.Writes = p.as(r.Method)
	}
	q.Transcode = ident(p.id, false)
	if q.Transcode != "" && p.kind == Segment {
		return q
	}
	q.readQuery(r.URL.RawQuery)
	q.readHeader(r.Header)
	return q
}

// SegmentID returns the transcode id of a segment request, empty for any other
// and for segment requests of an odd form, which Identify tells. Nearly all
// requests are such, and this does no more than it must: the id is for looking
// up, and unlike those of Identify may hold control characters.
func SegmentID(r *http.Request) string {
	if r.URL == nil {
		return ""
	}
	_, id := segmentRequest(r)
	return id
}

func segmentRequest(r *http.Request) (typ, id string) {
	if r.Method != http.MethodGet {
		return "", ""
	}
	typ, id, ok := segmentOf(r.URL.Path)
	if !ok || len(id) > maxID {
		return "", ""
	}
	return typ, id
}

// as returns the kind and the effect of the place under another method than
// GET.
func (p place) as(method string) (kind Kind, writes bool) {
	switch method {
	case http.MethodHead, "", http.MethodConnect: // the last opens a WebSocket in HTTP/2
		return p.kind, p.writes
	case http.MethodOptions:
		// a pre-flight: it only asks what the request to come may do
		return Browse, false
	}
	switch p.kind {
	case Browse, Artwork:
		return Write, true
	case Part:
		if p.item && (method == http.MethodPut || method == http.MethodPost) {
			return StreamChoice, true
		}
		return Write, true
	}
	return p.kind, true
}

// readQuery takes ids, token and state from a raw query. It looks for the
// members' beginnings in eight bytes at a time: the queries are long, most
// members are of no interest, and a search for each would cost more than all
// the rest.
func (q *Request) readQuery(raw string) {
	if raw == "" {
		return
	}
	var transcodeSessionID string
	q.readMember(raw, &transcodeSessionID)
	i := 0
	for ; i+8 < len(raw); i += 8 {
		for hits := equal8(word(raw[i:]), '&'); hits != 0; hits &= hits - 1 {
			at := i + bits.TrailingZeros64(hits)/8 + 1
			switch raw[at] | 0x20 {
			case 'x', 's', 't':
				q.readMember(raw[at:], &transcodeSessionID)
			}
		}
	}
	for ; i < len(raw); i++ {
		if raw[i] == '&' {
			q.readMember(raw[i+1:], &transcodeSessionID)
		}
	}
	if q.Transcode == "" {
		q.Transcode = transcodeSessionID
	}
}

// readMember takes the first member of a raw query, if it is one we read.
func (q *Request) readMember(raw string, transcodeSessionID *string) {
	if raw == "" {
		return
	}
	switch raw[0] {
	case 'X', 'x':
		switch {
		case named(raw, "X-Plex-Token"):
			if q.Token == "" {
				q.Token = clean(valueOf(raw, "X-Plex-Token"), true, maxToken)
			}
		case named(raw, "X-Plex-Client-Identifier"):
			if q.Client == "" {
				q.Client = ident(valueOf(raw, "X-Plex-Client-Identifier"), true)
			}
		case named(raw, "X-Plex-Session-Identifier"):
			if q.Session == "" {
				q.Session = ident(valueOf(raw, "X-Plex-Session-Identifier"), true)
			}
		case named(raw, "X-Plex-Playback-Session-Id"):
			if q.Playback == "" {
				q.Playback = ident(valueOf(raw, "X-Plex-Playback-Session-Id"), true)
			}
		}
	case 'S', 's':
		switch {
		case named(raw, "session"):
			if q.Transcode == "" {
				q.Transcode = ident(valueOf(raw, "session"), true)
			}
		case q.Kind == Timeline && named(raw, "state"):
			if !q.Stopped && !q.Paused {
				state := ident(valueOf(raw, "state"), true)
				q.Stopped, q.Paused = equalFold(state, "stopped"), equalFold(state, "paused")
			}
		}
	case 'T', 't':
		if *transcodeSessionID == "" && named(raw, "transcodeSessionId") {
			*transcodeSessionID = ident(valueOf(raw, "transcodeSessionId"), true)
		}
	}
}

// readHeader takes what the query left open.
func (q *Request) readHeader(h http.Header) {
	if len(h) == 0 {
		return
	}
	if q.Session == "" {
		q.Session = ident(header(h, "X-Plex-Session-Identifier"), false)
	}
	if q.Playback == "" {
		q.Playback = ident(header(h, "X-Plex-Playback-Session-Id"), false)
	}
	if q.Client == "" {
		q.Client = ident(header(h, "X-Plex-Client-Identifier"), false)
	}
	if q.Token == "" {
		q.Token = clean(header(h, "X-Plex-Token"), false, maxToken)
	}
}

// header returns the first value of a header by its canonical name.
func header(h http.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// ident returns a value that can serve as an id, or "".
func ident(s string, escaped bool) string {
	return clean(s, escaped, maxID)
}

// clean decodes a value where it is escaped, and returns "" for one that is
// too long or holds control characters.
func clean(s string, escaped bool, max int) string {
	if len(s) > 3*max {
		return ""
	}
	if escaped {
		s = unescape(s)
	}
	if len(s) > max || hasControl(s) {
		return ""
	}
	return s
}
