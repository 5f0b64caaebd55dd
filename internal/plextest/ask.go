package plextest

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// access is what a token allows.
type access int

const (
	nobody access = iota
	user
	owner
)

// ask is one request, read the way a PMS reads it.
type ask struct {
	w     http.ResponseWriter
	r     *http.Request
	parts []string // of the path, decoded one by one
	args  url.Values

	xsi, cid string
	token    string
	who      access
}

func (s *Server) newAsk(w http.ResponseWriter, r *http.Request) *ask {
	a := &ask{r: r, args: r.URL.Query()}
	for part := range strings.SplitSeq(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/") {
		if p, err := url.PathUnescape(part); err == nil {
			part = p
		}
		a.parts = append(a.parts, part)
	}
	a.xsi = a.plex("X-Plex-Session-Identifier")
	a.cid = a.plex("X-Plex-Client-Identifier")
	a.token = a.plex("X-Plex-Token")
	a.who = s.access(a.token)
	a.w = s.log.record(w, a)
	return a
}

// access tells what a token is worth here. A shared user's token is good for
// the server it was issued for and no other [P §6.3].
func (s *Server) access(token string) access {
	switch {
	case token == "":
		return nobody
	case token == s.cfg.Token:
		return owner
	case slices.Contains(s.cfg.UserTokens, token):
		return user
	case strings.HasPrefix(token, "transient-"):
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.transient[token]
	}
	return nobody
}

// query returns a query member, its name in any letter case [P §3.3].
func (a *ask) query(name string) string {
	if v := a.args.Get(name); v != "" {
		return v
	}
	for k, v := range a.args {
		if strings.EqualFold(k, name) && len(v) > 0 && v[0] != "" {
			return v[0]
		}
	}
	return ""
}

// plex returns an X-Plex value, from the query or else the header [P §1.1].
func (a *ask) plex(name string) string {
	return cmp.Or(a.query(name), a.r.Header.Get(name))
}

// number returns a query member that is a number.
func (a *ask) number(name string) (float64, bool) {
	v, err := strconv.ParseFloat(a.query(name), 64)
	return v, err == nil
}

// tsid names the transcode: in the path, or else as the member session. The
// name transcodeSessionId alone does not work [P §3.1].
func (a *ask) tsid() string {
	if a.under("*", ":", "transcode", "universal", "session", "*") || a.under("*", ":", "transcode", "universal", "dash", "*") {
		return a.parts[5]
	}
	return a.query("session")
}

// address is where the client seems to be. What a proxy says counts only if
// the proxy is near and the client is not [P §6.4].
func (a *ask) address() string {
	host, _, err := net.SplitHostPort(a.r.RemoteAddr)
	if err != nil {
		return ""
	}
	peer, err := netip.ParseAddr(host)
	if err != nil || !peer.Is4() || !peer.IsLoopback() && !peer.IsPrivate() {
		return host
	}
	first, _, _ := strings.Cut(a.r.Header.Get("X-Forwarded-For"), ",")
	if client, err := netip.ParseAddr(strings.TrimSpace(first)); err == nil && client.IsGlobalUnicast() && !client.IsPrivate() {
		return client.String()
	}
	return host
}

// is reports whether the path has exactly these parts; * is any.
func (a *ask) is(parts ...string) bool {
	return len(a.parts) == len(parts) && a.under(parts...)
}

// under reports whether the path begins with these parts; * is any.
func (a *ask) under(parts ...string) bool {
	if len(a.parts) < len(parts) {
		return false
	}
	for i, p := range parts {
		if p != "*" && p != a.parts[i] {
			return false
		}
	}
	return true
}

// wantsJSON reports whether the client asked for JSON by name; XML is what a
// PMS gives to everybody else [P §1.1].
func (a *ask) wantsJSON() bool {
	for part := range strings.SplitSeq(a.r.Header.Get("Accept"), ",") {
		if t, _, err := mime.ParseMediaType(part); err == nil && t == "application/json" {
			return true
		}
	}
	return false
}

// answer writes a document as JSON or XML, compressed if the client can read
// that [P §6.4].
func (a *ask) answer(doc *element) {
	contentType, body := a.render(doc)
	h := a.w.Header()
	h.Set("Content-Type", contentType)
	if strings.Contains(a.r.Header.Get("Accept-Encoding"), "gzip") {
		var buf bytes.Buffer
		zw, _ := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
		_, _ = zw.Write(body)
		_ = zw.Close()
		h.Set("Content-Encoding", "gzip")
		h.Set("X-Plex-Content-Original-Length", strconv.Itoa(len(body)))
		h.Set("X-Plex-Content-Compressed-Length", strconv.Itoa(buf.Len()))
		body = buf.Bytes()
	}
	a.send(http.StatusOK, body)
}

func (a *ask) render(doc *element) (contentType string, body []byte) {
	if a.wantsJSON() {
		return "application/json", doc.json()
	}
	return "text/xml;charset=utf-8", doc.xml()
}

// text writes a small body of any type.
func (a *ask) text(status int, contentType string, body []byte) {
	a.w.Header().Set("Content-Type", contentType)
	a.send(status, body)
}

func (a *ask) send(status int, body []byte) {
	a.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	a.w.WriteHeader(status)
	if a.r.Method != http.MethodHead {
		_, _ = a.w.Write(body)
	}
}

// page writes one of the small HTML pages a PMS has for everything that is not
// a document.
func (a *ask) page(status int, title string) {
	a.html(status, "", fmt.Sprintf("%d %s", status, title), title)
}

func (a *ask) html(status int, head, heading, title string) {
	a.text(status, "text/html", fmt.Appendf(nil,
		"<html><head>%s<title>%s</title></head><body><h1>%s</h1></body></html>", head, title, heading))
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
