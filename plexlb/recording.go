package plexlb

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// recording is a decision or start as its client sent it, for sending it again.
// It holds the user's token: it stays in memory and is never shown.
type recording struct {
	path, rawPath, query string
	header               http.Header
	host, remote         string
	secure               bool
	site                 string
	token                string
	headers              *headers // that its player was given
}

// maxRecording bounds one recording, in bytes. Clients' queries have two or
// three thousand.
const maxRecording = 8 << 10

// Size returns about how much memory the recording takes, in bytes.
func (rec *recording) Size() int {
	n := 300 + len(rec.path) + len(rec.rawPath) + len(rec.query) + len(rec.host) + len(rec.remote) + len(rec.token)
	for name, values := range rec.header {
		n += 50 + len(name)
		for _, v := range values {
			n += 16 + len(v)
		}
	}
	return n
}

// record takes down a request; nil if it is none that can be sent again.
func record(r *http.Request, site, token string) *recording {
	if r.Method != http.MethodGet {
		return nil
	}
	rec := &recording{
		path: strings.Clone(r.URL.Path), rawPath: strings.Clone(r.URL.RawPath), query: strings.Clone(r.URL.RawQuery),
		host: strings.Clone(r.Host), remote: r.RemoteAddr, secure: r.TLS != nil, site: site, token: strings.Clone(token),
		header: make(http.Header), headers: new(headers),
	}
	var viewer []string // headers in which proxies say who it is
	if server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		viewer = server.ClientIPHeaders
	}
	for name, values := range r.Header {
		if !recorded(name) && !slices.ContainsFunc(viewer, func(s string) bool { return strings.EqualFold(s, name) }) {
			continue
		}
		list := make([]string, len(values))
		for i, v := range values {
			list[i] = strings.Clone(v)
		}
		rec.header[strings.Clone(name)] = list
	}
	if rec.Size() > maxRecording {
		return nil
	}
	return rec
}

// recorded reports whether a header says something of the client or its wishes,
// rather than of the one request.
func recorded(name string) bool {
	switch name {
	case "Accept", "Accept-Language", "User-Agent", "Cookie", "Authorization", "Forwarded", "X-Real-Ip":
		return true
	}
	return strings.HasPrefix(name, "X-Plex-") || strings.HasPrefix(name, "X-Forwarded-")
}

// Endless reports whether what was asked for has no segments, so that the
// connection is the playback and ends with it [P §3.4], or is live TV, whose
// tuner is one server's [P §10.39].
func (rec *recording) Endless() bool {
	item := plex.Query(rec.query, "path")
	if strings.Contains(item, "/livetv/") {
		return true
	}
	switch {
	case strings.HasSuffix(rec.path, ".m3u8"), strings.HasSuffix(rec.path, ".mpd"):
		return false
	case strings.HasSuffix(rec.path, "/start"), strings.HasSuffix(rec.path, "/decision"):
		switch strings.ToLower(plex.Query(rec.query, "protocol")) {
		case "hls", "dash":
			return false
		}
	}
	return true
}

// offset reports whether the playback was begun in the middle.
func (rec *recording) offset() bool {
	offset := plex.Query(rec.query, "offset")
	return strings.Trim(offset, "0.") != ""
}

// as returns the recording as a request for another thing of the transcoder,
// and under another transcode id. Decision and start of a playback have the
// same query [P §3.1].
func (rec *recording) as(last, transcode string) *recording {
	r := *rec
	if i := strings.LastIndexByte(r.path, '/'); i >= 0 && last != "" {
		r.path, r.rawPath = r.path[:i+1]+last, ""
	}
	if transcode != "" {
		r.query = plex.WithSession(r.query, transcode)
	}
	return &r
}

// start returns the start that follows a decision.
func (rec *recording) start() *recording {
	if strings.EqualFold(plex.Query(rec.query, "protocol"), "dash") {
		return rec.as("start.mpd", "")
	}
	return rec.as("start.m3u8", "")
}

// request makes the recording a request again, to be sent through the rest of a
// site's handlers.
func (rec *recording) request(ctx context.Context, server *caddyhttp.Server) *http.Request {
	r := &http.Request{
		Method: http.MethodGet,
		URL:    &url.URL{Path: rec.path, RawPath: rec.rawPath, RawQuery: rec.query},
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: rec.header.Clone(), Body: http.NoBody,
		Host: rec.host, RemoteAddr: rec.remote,
	}
	r.RequestURI = r.URL.RequestURI()
	if rec.secure {
		r.TLS = &tls.ConnectionState{HandshakeComplete: true}
	}
	return caddyhttp.PrepareRequest(r.WithContext(ctx), caddy.NewReplacer(), &probe{header: make(http.Header)}, server)
}
