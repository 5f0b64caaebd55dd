package plextest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func newHTTPServer(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// send asks a stand-in without a network, so that it can be done in a
// synctest bubble. Headers come in pairs.
func send(s http.Handler, method, target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func get(s http.Handler, target string, headers ...string) *httptest.ResponseRecorder {
	return send(s, http.MethodGet, target, headers...)
}

// asOwner is a JSON request with the owner's token.
func asOwner(s http.Handler, target string) *httptest.ResponseRecorder {
	return get(s, target, "X-Plex-Token", "owner-token", "Accept", "application/json")
}

// tree reads a JSON answer.
func tree(t *testing.T, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	var doc map[string]map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatalf("%v in %q", err, w.Body)
	}
	return doc["MediaContainer"]
}

// list returns a member of a JSON container that is an array of objects.
func list(c map[string]any, member string) []map[string]any {
	var out []map[string]any
	items, _ := c[member].([]any)
	for _, i := range items {
		out = append(out, i.(map[string]any))
	}
	return out
}

const transcoder = "/video/:/transcode/universal/"

// startQuery is a start of HLS or DASH by a client that names its playback.
func startQuery(ext, item, tsid, xsi, cid string) string {
	return fmt.Sprintf("%sstart.%s?path=/library/metadata/%s&session=%s&X-Plex-Session-Identifier=%s&X-Plex-Client-Identifier=%s&X-Plex-Token=owner-token&protocol=%s",
		transcoder, ext, item, tsid, xsi, cid, map[string]string{"m3u8": "hls", "mpd": "dash"}[ext])
}

func segmentPath(tsid string, n int) string {
	return fmt.Sprintf("%ssession/%s/base/%05d.ts", transcoder, tsid, n)
}

func TestWhoMaySeeWhat(t *testing.T) {
	s := New(Config{UserTokens: []string{"guest"}})
	const none, bad = "", "bad"
	for name, tc := range map[string]struct {
		method, path, token string
		want                int
	}{
		"identity is public":                 {"GET", "/identity", none, 200},
		"web client is public":               {"GET", "/web/index.html", none, 200},
		"root is not":                        {"GET", "/", none, 401},
		"root with a token":                  {"GET", "/", "guest", 200},
		"a foreign token is no token":        {"GET", "/", bad, 401},
		"even unknown paths need a token":    {"GET", "/nothing/here", none, 401},
		"with one they are not found":        {"GET", "/nothing/here", "guest", 404},
		"providers":                          {"GET", "/media/providers", "guest", 200},
		"metadata":                           {"GET", "/library/metadata/1", "guest", 200},
		"metadata of nothing":                {"GET", "/library/metadata/999", "guest", 404},
		"sections":                           {"GET", "/library/sections", "guest", 200},
		"sessions without a token":           {"GET", "/status/sessions", none, 401},
		"sessions with a bad one":            {"GET", "/status/sessions", bad, 401},
		"sessions for a guest":               {"GET", "/status/sessions", "guest", 403},
		"sessions for the owner":             {"GET", "/status/sessions", "owner-token", 200},
		"transcodes for a guest":             {"GET", "/transcode/sessions", "guest", 403},
		"transcodes for the owner":           {"GET", "/transcode/sessions", "owner-token", 200},
		"an unknown transcode":               {"GET", "/transcode/sessions/none", "owner-token", 404},
		"ending an unknown transcode":        {"DELETE", "/transcode/sessions/none", "owner-token", 404},
		"background jobs for a guest":        {"GET", "/status/sessions/background", "guest", 403},
		"background jobs for the owner":      {"GET", "/status/sessions/background", "owner-token", 200},
		"preferences for a guest":            {"GET", "/:/prefs", "guest", 403},
		"preferences for the owner":          {"GET", "/:/prefs", "owner-token", 200},
		"decision without a token":           {"GET", transcoder + "decision?path=/library/metadata/1", none, 401},
		"start without a token":              {"GET", transcoder + "start.m3u8?path=/library/metadata/1", none, 401},
		"timeline without a token":           {"GET", "/:/timeline?ratingKey=1&state=playing&time=0", none, 401},
		"a part without a token":             {"GET", New(Config{}).items[0].partKey(), none, 401},
		"unknown part":                       {"GET", "/library/parts/1/1/file.mkv", "guest", 404},
		"unknown segment needs no token":     {"GET", segmentPath("none", 0), none, 404},
		"pre-flight needs no token":          {"OPTIONS", "/:/timeline", none, 200},
		"notifications without a token":      {"GET", "/:/eventsource/notifications", none, 401},
		"play queue without a token":         {"POST", "/playQueues?uri=server://x/com.plexapp.plugins.library/library/metadata/1", none, 401},
		"unknown play queue":                 {"GET", "/playQueues/1", "guest", 404},
		"a websocket that is none":           {"GET", "/:/websockets/notifications", "guest", 400},
		"slashes are not merged":             {"GET", "//identity", "guest", 404},
		"terminating without an id":          {"GET", "/status/sessions/terminate", "owner-token", 403},
		"terminating an unknown session":     {"GET", "/status/sessions/terminate?sessionId=x", "owner-token", 404},
		"only the owner terminates sessions": {"GET", "/status/sessions/terminate?sessionId=x", "guest", 403},
	} {
		t.Run(name, func(t *testing.T) {
			if got := send(s, tc.method, tc.path, "X-Plex-Token", tc.token).Code; got != tc.want {
				t.Errorf("status %d, want %d", got, tc.want)
			}
		})
	}
}

func TestTokenPlaces(t *testing.T) {
	s := New(Config{})
	for name, w := range map[string]*httptest.ResponseRecorder{
		"header":                      get(s, "/", "x-plex-token", "owner-token"),
		"query":                       get(s, "/?X-Plex-Token=owner-token"),
		"query, another letter case":  get(s, "/?x-plex-token=owner-token"),
		"picture, token in its query": get(s, "/photo/:/transcode?url=/library/metadata/1/thumb/1&X-Plex-Token=owner-token"),
	} {
		if w.Code != http.StatusOK {
			t.Errorf("%s: status %d", name, w.Code)
		}
	}
	if got := get(s, "/photo/:/transcode?url=/x", "X-Plex-Token", "owner-token").Code; got != http.StatusUnauthorized {
		t.Errorf("picture, token in a header: status %d", got)
	}
}

func TestUnauthorizedLooksLikeAPMS(t *testing.T) {
	s := New(Config{})
	w := get(s, "/")
	if !strings.Contains(w.Body.String(), "<script>") || !strings.Contains(w.Body.String(), "401 Unauthorized") {
		t.Errorf("body of / is %q", w.Body)
	}
	h := w.Header()
	if h.Get("X-Plex-Protocol") != "1.0" || h.Get("Content-Type") != "text/html" || h.Get("Connection") != "close" {
		t.Errorf("header %v", h)
	}
	if w := get(s, "/status/sessions"); strings.Contains(w.Body.String(), "script") {
		t.Errorf("body elsewhere is %q", w.Body)
	}
}

func TestEveryAnswerNamesItsServer(t *testing.T) {
	s := New(Config{Name: "plex2"})
	for _, path := range []string{"/identity", "/", segmentPath("x", 0)} {
		h := get(s, path).Header()
		if h.Get("X-Plextest-Server") != "plex2" || h.Get("X-Plex-Protocol") != "1.0" || h.Get("Access-Control-Allow-Origin") == "" ||
			h.Get("Keep-Alive") != "timeout=20" {
			t.Errorf("%s: header %v", path, h)
		}
	}
}

func TestIdentity(t *testing.T) {
	s := New(Config{Name: "a"})
	c := tree(t, get(s, "/identity", "Accept", "application/json"))
	id := c["machineIdentifier"]
	if id == "" || c["size"] != 0.0 || c["claimed"] != true || c["version"] == "" {
		t.Errorf("identity %v", c)
	}
	if New(Config{Name: "b"}).machineIdentifier() == id {
		t.Error("two servers share an identity")
	}
	root := tree(t, asOwner(s, "/"))
	if root["machineIdentifier"] != id || root["friendlyName"] != "a" || root["transcoderActiveVideoSessions"] != 0.0 {
		t.Errorf("root %v", root)
	}
	if tree(t, asOwner(s, "/media/providers"))["machineIdentifier"] != id {
		t.Error("providers tell another identity")
	}
	s.SetIdentity("somebody-else")
	if got := tree(t, asOwner(s, "/identity"))["machineIdentifier"]; got != "somebody-else" {
		t.Errorf("identity %v after SetIdentity", got)
	}
}

func TestWebLeadsToItsIndex(t *testing.T) {
	w := get(New(Config{}), "http://plex.example.org/web")
	if w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != "http://plex.example.org/web/index.html" {
		t.Errorf("status %d to %q", w.Code, w.Header().Get("Location"))
	}
}

func TestFormByAccept(t *testing.T) {
	s := New(Config{})
	for accept, want := range map[string]string{
		"":                                  "text/xml;charset=utf-8",
		"*/*":                               "text/xml;charset=utf-8",
		"text/plain, */*; q=0.01":           "text/xml;charset=utf-8",
		"application/json":                  "application/json",
		"application/json, text/plain, */*": "application/json",
	} {
		w := get(s, "/status/sessions", "Accept", accept, "X-Plex-Token", "owner-token")
		if got := w.Header().Get("Content-Type"); got != want {
			t.Errorf("Accept %q gets %q, want %q", accept, got, want)
		}
	}
}

func TestXMLIsWellFormed(t *testing.T) {
	s := New(Config{Items: []Item{{Title: `Tom & "Jerry" <1>`}}})
	w := get(s, "/library/metadata/1", "X-Plex-Token", "owner-token")
	var doc struct {
		Size  int `xml:"size,attr"`
		Video []struct {
			Title string `xml:"title,attr"`
			Media struct {
				Part struct {
					Optimized string `xml:"optimizedForStreaming,attr"`
				}
			}
		}
	}
	if err := xml.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Size != 1 || doc.Video[0].Title != `Tom & "Jerry" <1>` || doc.Video[0].Media.Part.Optimized != "1" {
		t.Errorf("document %+v", doc)
	}
}

func TestCompression(t *testing.T) {
	s := New(Config{})
	plain := asOwner(s, "/library/metadata/1").Body.Bytes()
	w := get(s, "/library/metadata/1", "X-Plex-Token", "owner-token", "Accept", "application/json", "Accept-Encoding", "gzip, deflate")
	h := w.Header()
	if h.Get("Content-Encoding") != "gzip" || h.Get("X-Plex-Content-Original-Length") != fmt.Sprint(len(plain)) ||
		h.Get("X-Plex-Content-Compressed-Length") != fmt.Sprint(w.Body.Len()) {
		t.Errorf("header %v", h)
	}
	zr, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(zr); !bytes.Equal(got, plain) {
		t.Errorf("unpacked %q", got)
	}
}

func TestPreferences(t *testing.T) {
	s := New(Config{TranscodeLimit: 4})
	read := func() map[string]any {
		values := map[string]any{}
		for _, p := range list(tree(t, asOwner(s, "/:/prefs")), "Setting") {
			values[p["id"].(string)] = p["value"]
		}
		return values
	}
	if v := read(); v["TranscodeCountLimit"] != 4.0 || v["HardwareAcceleratedCodecs"] != true {
		t.Errorf("preferences %v", v)
	}
	send(s, http.MethodPut, "/:/prefs?TranscodeCountLimit=2&HardwareAcceleratedCodecs=0", "X-Plex-Token", "owner-token")
	if v := read(); v["TranscodeCountLimit"] != 2.0 || v["HardwareAcceleratedCodecs"] != false {
		t.Errorf("preferences %v after a change", v)
	}
	s.SetPreference("HardwareAcceleratedCodecs", true)
	s.SetPreference("TranscodeCountLimit", 3)
	s.SetPreference("RelayEnabled", true)
	s.SetPreference("PlexOnlineToken", "x")
	s.HidePreference("customConnections")
	v := read()
	if v["HardwareAcceleratedCodecs"] != true || v["TranscodeCountLimit"] != 3.0 || v["RelayEnabled"] != true || v["PlexOnlineToken"] != "x" {
		t.Errorf("preferences %v after they were set", v)
	}
	if url, ok := v["customConnections"]; ok {
		t.Errorf("the hidden preference is told: %v", url)
	}
	s.SetPreference("customConnections", "")
	if url, ok := read()["customConnections"]; !ok || url != "" {
		t.Errorf("the preference is %v, want it empty and told", url)
	}
}

func TestVersionAndClock(t *testing.T) {
	s := New(Config{})
	if date := get(s, "/identity").Header().Get("Date"); date != "" {
		t.Errorf("the stand-in has a clock of its own: %s", date)
	}
	s.SetVersion("1.2.3")
	s.SetClock(-time.Hour)
	for _, path := range []string{"/identity", "/"} {
		w := asOwner(s, path)
		if v := tree(t, w)["version"]; v != "1.2.3" {
			t.Errorf("%s tells version %v", path, v)
		}
		date, err := http.ParseTime(w.Header().Get("Date"))
		if behind := time.Since(date); err != nil || behind < 59*time.Minute || behind > 61*time.Minute {
			t.Errorf("%s is dated %v, error %v", path, date, err)
		}
	}
}

func TestPlayQueuesStayOnTheirServer(t *testing.T) {
	a, b := New(Config{Name: "a"}), New(Config{Name: "b"})
	make := func(s *Server) string {
		w := send(s, http.MethodPost, "/playQueues?type=video&uri=server%3A%2F%2Fx%2Fcom.plexapp.plugins.library%2Flibrary%2Fmetadata%2F2",
			"X-Plex-Token", "owner-token", "Accept", "application/json")
		c := tree(t, w)
		if list(c, "Metadata")[0]["ratingKey"] != "2" {
			t.Errorf("queue of %v", c)
		}
		return fmt.Sprintf("/playQueues/%.0f", c["playQueueID"])
	}
	first, second := make(a), make(a)
	if first == second {
		t.Errorf("two queues have the id %s", first)
	}
	if got := asOwner(a, first).Code; got != 200 {
		t.Errorf("own queue: status %d", got)
	}
	if make(b) == first {
		t.Error("two servers made the same queue")
	}
	if got := asOwner(b, first).Code; got != 404 {
		t.Errorf("another server's queue: status %d", got)
	}
}

func TestTransientTokenDiesWithItsProcess(t *testing.T) {
	a, b := New(Config{}), New(Config{})
	token := tree(t, asOwner(a, "/security/token?type=delegation&scope=all"))["token"].(string)
	if got := get(a, "/", "X-Plex-Token", token).Code; got != 200 {
		t.Errorf("status %d", got)
	}
	if got := get(b, "/", "X-Plex-Token", token).Code; got != 401 {
		t.Errorf("on another server: status %d", got)
	}
	a.Restart()
	if got := get(a, "/", "X-Plex-Token", token).Code; got != 401 {
		t.Errorf("after a restart: status %d", got)
	}
}

func TestPicture(t *testing.T) {
	s := New(Config{})
	w := get(s, "/photo/:/transcode?width=10&url=%2Flibrary%2Fmetadata%2F1%2Fthumb%2F1&X-Plex-Token=owner-token")
	if w.Header().Get("Content-Type") != "image/png" || !bytes.HasPrefix(w.Body.Bytes(), []byte("\x89PNG")) {
		t.Errorf("picture %q of type %q", w.Body, w.Header().Get("Content-Type"))
	}
}

func TestLibraryIsFoundByGuid(t *testing.T) {
	a, b := New(Config{Database: "one"}), New(Config{Database: "two"})
	guid := list(tree(t, asOwner(a, "/library/metadata/3")), "Metadata")[0]["guid"].(string)
	found := list(tree(t, asOwner(b, "/library/all?guid="+guid)), "Metadata")
	if len(found) != 1 || found[0]["title"] != "Big Film 3" {
		t.Errorf("found %v", found)
	}
	partOf := func(s *Server) any {
		m := list(tree(t, asOwner(s, "/library/metadata/3")), "Metadata")[0]
		return list(list(m, "Media")[0], "Part")[0]["id"]
	}
	if partOf(a) == partOf(b) {
		t.Error("two databases agree on part ids")
	}
	if partOf(a) != partOf(New(Config{Database: "one", Name: "clone"})) {
		t.Error("clones disagree on part ids")
	}
}

func TestLog(t *testing.T) {
	s := New(Config{UserTokens: []string{"guest"}})
	get(s, transcoder+"decision?session=T&path=%2Flibrary%2Fmetadata%2F1&X-Plex-Session-Identifier=X&X-Plex-Client-Identifier=C&X-Plex-Token=guest&url=a%3FX-Plex-Token%3Dguest%26b")
	get(s, segmentPath("T2", 4))
	log := s.Log()
	if len(log) != 2 {
		t.Fatalf("%d entries", len(log))
	}
	d := log[0]
	if d.Method != "GET" || d.TSID != "T" || d.XSI != "X" || d.CID != "C" || d.Access != "user" || d.Status != 200 || d.Path != transcoder+"decision" {
		t.Errorf("decision %+v", d)
	}
	if strings.Contains(d.Query, "guest") || !strings.Contains(d.Query, "path=%2Flibrary%2Fmetadata%2F1") {
		t.Errorf("query %q", d.Query)
	}
	if g := log[1]; g.TSID != "T2" || g.Status != 404 || g.Access != "" {
		t.Errorf("segment %+v", g)
	}
	s.ResetLog()
	if len(s.Log()) != 0 {
		t.Error("log survives its reset")
	}
}

func TestLogIsBounded(t *testing.T) {
	s := New(Config{})
	s.log.entries = make([]*Entry, maxEntries)
	for i := range s.log.entries {
		s.log.entries[i] = &Entry{}
	}
	get(s, "/identity")
	log := s.Log()
	if len(log) > maxEntries || log[len(log)-1].Path != "/identity" {
		t.Errorf("%d entries, the last %+v", len(log), log[len(log)-1])
	}
}

func TestForwardedAddress(t *testing.T) {
	for name, tc := range map[string]struct{ peer, forwarded, want string }{
		"a near proxy tells of a far client":       {"127.0.0.1:9", "203.0.113.7", "203.0.113.7"},
		"a near client of a near proxy is unseen":  {"127.0.0.1:9", "192.168.1.5", "127.0.0.1"},
		"a far proxy is not believed":              {"198.51.100.1:9", "203.0.113.7", "198.51.100.1"},
		"nor is one over IPv6":                     {"[::1]:9", "203.0.113.7", "::1"},
		"the first of several addresses is taken":  {"10.0.0.1:9", "203.0.113.7, 10.0.0.2", "203.0.113.7"},
		"without a word it is the peer that plays": {"10.0.0.1:9", "", "10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = tc.peer
			r.Header.Set("X-Forwarded-For", tc.forwarded)
			if got := (&ask{r: r}).address(); got != tc.want {
				t.Errorf("address %q, want %q", got, tc.want)
			}
		})
	}
}

func TestStartAndClose(t *testing.T) {
	s := New(Config{})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	addr := s.Addr()
	if err := s.Start(); err == nil {
		t.Error("started twice")
	}
	s.AddBypass(1)
	s.Close()
	s.Close()
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("listens after Close")
	}
	if s.Addr() != addr {
		t.Error("forgot its address")
	}
	if err := s.StartOn(addr); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if len(s.Jobs()) != 0 {
		t.Error("sessions survive the process")
	}
	resp, err := http.Get(s.URL() + "/identity")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// TestCloseLeavesNothing keeps every kind of lasting answer open over Close.
func TestCloseLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	s := New(Config{})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	client := &http.Client{Transport: tr}
	var wg sync.WaitGroup
	open := func(path string) {
		wg.Go(func() {
			if resp, err := client.Get(s.URL() + path); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	open("/:/eventsource/notifications?X-Plex-Token=owner-token")
	open("/music/:/transcode/universal/start.mp3?path=/library/metadata/17&session=m&X-Plex-Token=owner-token")
	ws := dialWebSocket(t, s)
	s.SetPoll(PollHang)
	open("/status/sessions?X-Plex-Token=owner-token")
	time.Sleep(100 * time.Millisecond)
	s.Hang(true)
	open("/identity")
	time.Sleep(100 * time.Millisecond)
	s.Close()
	wg.Wait()
	_ = ws.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.Copy(io.Discard, ws); errors.Is(err, os.ErrDeadlineExceeded) { // after what it was told
		t.Error("a websocket outlives the server")
	}
	_ = ws.Close()
	tr.CloseIdleConnections()
	for deadline := time.Now().Add(5 * time.Second); ; {
		if runtime.NumGoroutine() <= before {
			return
		}
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func dialWebSocket(t *testing.T, s *Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /:/websockets/notifications?X-Plex-Token=owner-token HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("handshake %d %v", resp.StatusCode, resp.Header)
	}
	return conn
}

func TestRestartBreaksConnections(t *testing.T) {
	s := pms(t, Config{})
	ws := dialWebSocket(t, s)
	defer ws.Close()
	s.AddBypass(2)
	s.Restart()
	_ = ws.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.Copy(io.Discard, ws); errors.Is(err, os.ErrDeadlineExceeded) { // after what it was told
		t.Error("connection survives")
	}
	if len(s.Jobs()) != 0 || len(s.Playbacks()) != 0 {
		t.Error("sessions survive")
	}
	resp, err := http.Get(s.URL() + "/identity")
	if err != nil {
		t.Fatalf("does not serve after a restart: %v", err)
	}
	_ = resp.Body.Close()
}
