package integration

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// hostileHouse is clones of which some also let friends in.
func hostileHouse(t *testing.T, n int) *managed {
	t.Helper()
	m := &managed{admin: freeAddr(t), servers: stand(t, n, func(_ int, cfg *plextest.Config) {
		cfg.MachineIdentifier, cfg.Database, cfg.UserTokens = "clone", "clone", []string{"friend"}
	})}
	m.balancer = load(t, m.config(replicated, ""))
	return m
}

// steal is a request of an attacker who knows another's ids.
type steal struct {
	what, method, path string
	query              url.Values
	header             http.Header
}

// steals are the requests that name a victim, in one way each: all that starts,
// ends or keeps a playback, by each of the ids, in query and header. Those that
// the attacker has are its own.
func steals(v *plextest.Viewer, token string) (list []steal) {
	type id struct{ name, own, victim string }
	ids := []id{
		{"session", "attacker-tsid", v.TSID},
		{"X-Plex-Session-Identifier", "attacker-xsi", v.XSI},
		{"X-Plex-Playback-Session-Id", "attacker-playback", v.PlaybackID},
		{"X-Plex-Client-Identifier", "attacker-cid", v.CID},
	}
	for _, request := range []string{
		"GET /video/:/transcode/universal/decision", "GET /video/:/transcode/universal/start.m3u8", "GET /video/:/transcode/universal/start.mpd",
		"POST /video/:/transcode/universal/start.m3u8", "HEAD /video/:/transcode/universal/start.m3u8", "OPTIONS /video/:/transcode/universal/start.m3u8",
		"GET /video/:/transcode/universal/stop", "DELETE /video/:/transcode/universal/stop", "GET /video/:/transcode/universal/ping",
		"GET /:/timeline", "POST /:/timeline", "GET /status/sessions/terminate", "DELETE /transcode/sessions/" + v.TSID,
		"GET /video/:/transcode/universal/session/" + v.TSID + "/base/../stop",
	} {
		method, path, _ := strings.Cut(request, " ")
		for taken := range len(ids) + 1 { // the last takes all of them
			for _, where := range []string{"query", "header", "both, the header being the victim's", "both, the query being the victim's", "twice"} {
				s := steal{what: fmt.Sprintf("%s with %s in %s", request, append(names(ids, func(i id) string { return i.name }), "all ids")[taken], where),
					method: method, path: path, header: make(http.Header), query: url.Values{
						"path": {"/library/metadata/5"}, "protocol": {"hls"}, "state": {"stopped"}, "ratingKey": {"5"}, "key": {"/library/metadata/5"}, "time": {"1"}}}
				if token != "" {
					s.query.Set("X-Plex-Token", token)
				}
				for i, id := range ids {
					mine, other := id.own, id.own
					if i == taken || taken == len(ids) {
						other = id.victim
					}
					switch {
					case where == "header" && id.name != "session":
						s.header.Set(id.name, other)
					case strings.HasPrefix(where, "both, the header"):
						s.query.Set(id.name, mine)
						s.header.Set(id.name, other)
					case strings.HasPrefix(where, "both"):
						s.query.Set(id.name, other)
						s.header.Set(id.name, mine)
					case where == "twice":
						s.query[id.name] = []string{mine, other}
					default:
						s.query.Set(id.name, other)
					}
				}
				list = append(list, s)
			}
		}
	}
	return list
}

func names[T any](list []T, name func(T) string) (all []string) {
	for _, x := range list {
		all = append(all, name(x))
	}
	return all
}

// send sends it and returns the status.
func (s steal) send(t *testing.T, base string) int {
	t.Helper()
	r, err := http.NewRequest(s.method, base+s.path+"?"+s.query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = s.header
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// Who knows another's ids but is not let in can do nothing with them: no
// playback ends, moves, or becomes another one, now or when its server has lost
// it.
func TestIdsAloneMoveNobody(t *testing.T) {
	for _, kind := range []plextest.ViewerKind{plextest.Mobile, plextest.PlexWeb, plextest.PlexForKodi} {
		t.Run(string(kind), func(t *testing.T) {
			m := hostileHouse(t, 3)
			v := plextest.NewViewer(kind, m.URL, token, plextest.HEVC, 1)
			t.Cleanup(v.Close)
			if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
				t.Fatal(err)
			}
			before := m.ok(http.MethodGet, "/plexlb/sessions/"+v.TSID, "")
			n := 0
			for _, secret := range []string{"", "wrong"} {
				for _, s := range steals(v, secret) {
					if status := s.send(t, m.URL); status >= http.StatusInternalServerError {
						t.Errorf("%s: status %d", s.what, status)
					}
					n++
					if n%25 != 0 {
						continue
					}
					if err := v.Segment(t.Context(), n/25); err != nil {
						t.Fatalf("after %s: %v", s.what, err)
					}
				}
			}
			if playbacks, _ := m.ledger().Len(); playbacks != 1 {
				t.Errorf("%d playbacks are known, want the victim's alone", playbacks)
			}
			after := m.ok(http.MethodGet, "/plexlb/sessions/"+v.TSID, "")
			for _, field := range []string{"id", "server", "item", "kind", "state"} {
				if fmt.Sprint(before[field]) != fmt.Sprint(after[field]) {
					t.Errorf("%s was %v and is %v", field, before[field], after[field])
				}
			}
			time.Sleep(1200 * time.Millisecond) // a 404 by which the server stands is believed for a second
			for _, s := range m.servers {
				s.Forget()
			}
			if err := errors.Join(v.Segment(t.Context(), 90), v.Timeline(t.Context(), "playing"), v.Segment(t.Context(), 91)); err != nil {
				t.Errorf("after its server has lost it: %v", err)
			}
			if got := v.Account().Servers(); len(got) != 1 {
				t.Errorf("it was on %v", got)
			}
			for _, s := range m.servers {
				for _, e := range s.Log() {
					if e.TSID == v.TSID && e.Status == http.StatusOK && e.Access != "owner" && e.Access != "" {
						t.Errorf("%s %s was done as %q", e.Method, e.Path, e.Access)
					}
				}
			}
		})
	}
}

// While a playback's server is away nobody is there to say who is let in. What
// it was begun with says it.
func TestIdsAloneEndNothingWhileAServerIsAway(t *testing.T) {
	m := hostileHouse(t, 2)
	v := plextest.NewViewer(plextest.Mobile, m.URL, token, plextest.HEVC, 1)
	t.Cleanup(v.Close)
	if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
		t.Fatal(err)
	}
	called(m.servers, v.Account().Servers()[0]).Close()
	ids := url.Values{"session": {v.TSID}, "X-Plex-Session-Identifier": {v.XSI}, "X-Plex-Client-Identifier": {v.CID}, "state": {"stopped"}, "time": {"1"}, "ratingKey": {"1"}}
	for _, secret := range []string{"", "wrong"} {
		ids.Set("X-Plex-Token", secret)
		for _, what := range []string{"/video/:/transcode/universal/stop", "/:/timeline"} {
			if status, _, _ := m.get(what + "?" + ids.Encode()); status == http.StatusOK {
				t.Errorf("%s with the token %q is answered 200", what, secret)
			}
		}
	}
	if err := v.Segment(t.Context(), 1); err != nil {
		t.Errorf("the playback is over: %v", err)
	}
	// The one who began it may end it.
	called(m.servers, v.Account().Servers()[1]).Close()
	ids.Set("X-Plex-Token", token)
	eventually(t, "its own stop is taken", 10*time.Second, func() bool {
		status, _, _ := m.get("/video/:/transcode/universal/stop?" + ids.Encode())
		return status == http.StatusOK
	})
}

// A friend who is let in, and claims another's playback beside ids of its own,
// gets nothing of it, and leaves it as it was.
func TestFriendsDoNotCross(t *testing.T) {
	for _, where := range []string{"query", "header"} {
		for _, claimed := range []string{"X-Plex-Session-Identifier", "X-Plex-Playback-Session-Id"} {
			t.Run(claimed+" in the "+where, func(t *testing.T) {
				m := hostileHouse(t, 3)
				v := plextest.NewViewer(plextest.Mobile, m.URL, token, plextest.HEVC, 1)
				t.Cleanup(v.Close)
				if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
					t.Fatal(err)
				}
				q := url.Values{"path": {"/library/metadata/5"}, "protocol": {"hls"}, "session": {"friends-own"}, "X-Plex-Client-Identifier": {"friends-device"}, "X-Plex-Token": {"friend"}}
				h := make([]string, 0, 2)
				value := map[string]string{"X-Plex-Session-Identifier": v.XSI, "X-Plex-Playback-Session-Id": v.PlaybackID}[claimed]
				if where == "query" {
					q.Set(claimed, value)
				} else {
					h = append(h, claimed, value)
				}
				for _, what := range []string{"decision", "start.m3u8"} {
					if status, _, body := m.get("/video/:/transcode/universal/"+what+"?"+q.Encode(), h...); status != http.StatusOK {
						t.Fatalf("%s of the friend: status %d: %s", what, status, body)
					}
				}
				client := &http.Client{Timeout: 2 * time.Second}
				own := func(n int) (status int, err error) {
					res, err := client.Get(m.URL + segment("friends-own", n))
					if err != nil {
						return 0, nil // it waits
					}
					defer res.Body.Close()
					body, _ := io.ReadAll(res.Body)
					if b, e := plextest.ReadBody(body); e == nil && (b.Item != "5" || b.Session != "friends-own" || b.Number != n) {
						err = fmt.Errorf("the friend got %v", b)
					}
					return res.StatusCode, err
				}
				status, err := own(1)
				if err = errors.Join(err, v.Segment(t.Context(), 1)); err != nil || status != http.StatusOK {
					t.Errorf("side by side: status %d for the friend, %v", status, err)
				}
				for _, s := range m.servers {
					s.Forget()
				}
				// Nothing is kept of a start under another's name, so the friend may
				// have spoilt its own playback.
				_, err = own(2)
				if err = errors.Join(err, v.Segment(t.Context(), 2), v.Timeline(t.Context(), "playing")); err != nil {
					t.Errorf("after their sessions were lost: %v", err)
				}
				for _, s := range m.servers {
					for _, e := range s.Log() {
						if want := map[string]string{v.TSID: "owner", "friends-own": "user"}[e.TSID]; want != "" && e.Access != "" && e.Access != want {
							t.Errorf("%s %s of %s was done as %s", e.Method, e.Path, e.TSID, e.Access)
						}
					}
				}
			})
		}
	}
}

// raw sends one line of a request as it stands, and returns the status and the
// rest of the answer.
func (b *balancer) raw(target string, lines ...string) (status int, answer string) {
	b.t.Helper()
	conn, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	text := "GET " + target + " HTTP/1.1\r\nHost: " + b.addr + "\r\nConnection: close\r\n" + strings.Join(lines, "")
	_, _ = io.WriteString(conn, text+"\r\n")
	all, _ := io.ReadAll(conn)
	_, _ = fmt.Sscanf(string(all), "HTTP/1.1 %d", &status)
	return status, string(all)
}

// tricks are ways to write the path of a segment of somebody's session.
func tricks(id string) []string {
	tail := "/base/00007.ts"
	return []string{
		"/video/:/transcode/universal/session/" + id + "/../" + id + tail,
		"/video/:/transcode/universal/session/x/../../session/" + id + tail,
		"/video/:/../:/transcode/universal/session/" + id + tail,
		"/:/../video/:/transcode/universal/session/" + id + tail,
		"/video/%3A/transcode/universal/session/" + id + tail,
		"/video/:/transcode/universal/session%2F" + id + tail,
		"/video/:/transcode/universal/session/" + id + "%2Fbase%2F00007.ts",
		"/video/:/transcode/universal/session/x%2F..%2F" + id + tail,
		"/video/:/transcode/universal/session/" + id + "%00" + tail,
		"/video/:/transcode/universal/session/" + id + "%0d%0aX-Evil:%201" + tail,
		"/video/:/transcode/universal/session/%1b[31m" + id + tail,
		"/video/:/transcode/universal/session/" + id + "/./base/00007.ts",
		"/video/:/transcode/universal/session/" + id + "//base/00007.ts",
		"//video/:/transcode/universal/session/" + id + tail,
		"/video//:/transcode/universal/session/" + id + tail,
		"/VIDEO/:/TRANSCODE/universal/session/" + id + tail,
		"/video/:/transcode/universal/session/" + strings.ToUpper(id) + tail,
		"/video/:/transcode/universal/session/" + id + ";a=b" + tail,
		"/video/:/transcode/universal/session/" + id + "%" + "32" + tail,
		"/video/:/transcode/universal/session/%ff%fe" + tail,
		"/video/:/transcode/universal/session/" + strings.Repeat("a", 5000) + tail,
		"/video/:/transcode/universal/session/" + strings.Repeat("../", 500) + id + tail,
		"/video/:/transcode/universal/session//" + tail,
		"/video/:/transcode/universal/dash/" + id + "/../0/7.m4s",
		"/video/:/transcode/universal/session/" + id + tail + "?session=other&X-Plex-Session-Identifier=other",
		"http://elsewhere.example/video/:/transcode/universal/session/" + id + tail,
	}
}

// Paths reach the servers as they were written, and lead to no other segment
// than the one that they name there. None is answered by 500.
func TestPathTricks(t *testing.T) {
	m := hostileHouse(t, 3)
	v := plextest.NewViewer(plextest.Mobile, m.URL, token, plextest.HEVC, 1)
	t.Cleanup(v.Close)
	if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
		t.Fatal(err)
	}
	for i, target := range tricks(v.TSID) {
		for _, s := range m.servers {
			s.ResetLog()
		}
		status, answer := m.raw(target, "X-Plex-Token: "+token+"\r\n")
		if status == 0 || status >= 500 && status != http.StatusServiceUnavailable {
			t.Errorf("%.120s: status %d: %.200s", target, status, answer)
		}
		if head, _, _ := strings.Cut(answer, "\r\n\r\n"); strings.Contains(head, "X-Evil") {
			t.Errorf("%.120s: a header was added: %s", target, head)
		}
		if _, body, _ := strings.Cut(answer, "\r\n\r\n"); status == http.StatusOK {
			if b, err := plextest.ReadBody([]byte(body)); err == nil && (b.Session != v.TSID || b.Item != v.Item || b.Number != 7) {
				t.Errorf("%.120s: it is %v", target, b)
			}
		}
		path, _, _ := strings.Cut(strings.TrimPrefix(target, "http://elsewhere.example"), "?")
		for _, s := range m.servers {
			for _, e := range s.Log() {
				if strings.Contains(e.Path, "universal") && e.Path != path {
					t.Errorf("%.120s arrived as %.120s", target, e.Path)
				}
			}
		}
		if err := v.Segment(t.Context(), 1+i); err != nil {
			t.Fatalf("after %.120s: %v", target, err)
		}
	}
	if got := v.Account().Servers(); len(got) != 1 {
		t.Errorf("it was on %v", got)
	}
	if playbacks, _ := m.ledger().Len(); playbacks != 1 {
		t.Errorf("%d playbacks are known, want one", playbacks)
	}
}

// oddities are ids that mean something to who shows them.
var oddities = []string{
	"<script>alert(1)</script>", `"onerror="alert(1)`, `"} 1` + "\n" + `evil_metric{a="b`, "\x1b[2J\x1b]0;owned\x07", "line\r\nX-Evil: 1",
	"\u202egnp.exe", "\u2028{\"event\":\"forged\"}", "\x00\x01\x7f", "\xff\xfe\xfd", "{http.request.header.X-Plex-Token}", "{env.HOME}", "%s%n%d", "../../etc/passwd", "';drop table--",
}

// colours are those of Caddy's own console format.
var colours = regexp.MustCompile("\x1b\\[[0-9]+m")

// Whatever a client calls itself shows up nowhere unescaped.
func TestOdditiesAreShownEscaped(t *testing.T) {
	var in inbox
	hook := httptest.NewServer(&in)
	t.Cleanup(hook.Close)
	files := map[string]string{"json": filepath.Join(t.TempDir(), "json.log"), "console": filepath.Join(t.TempDir(), "console.log")}
	m := &managed{admin: freeAddr(t), servers: stand(t, 2, func(_ int, cfg *plextest.Config) {
		cfg.MachineIdentifier, cfg.Database = "clone", "clone"
	})}
	config := m.dashboard("", replicated)
	for format, file := range files {
		config = strings.Replace(config, "\tlog {\n\t\toutput discard", "\tlog "+format+" {\n\t\tlevel DEBUG\n\t\toutput file "+file+"\n\t\tformat "+format+"\n\t}\n\tlog {\n\t\toutput discard", 1)
	}
	config = strings.Replace(config, "plexlb {\n", "events {\n\ton plexlb.session_lost plexlb_webhook "+hook.URL+"\n\ton plexlb.session_moved plexlb_webhook "+hook.URL+"\n}\nplexlb {\n", 1)
	config = strings.Replace(config, "HERE {\n", "HERE {\nlog\nlog_append plex {http.plexlb.session}\nheader >X-Session {http.plexlb.session}\n", 1)
	m.balancer = load(t, config)
	page := m.connect()

	seen := make([]string, 0, 100)
	for i, odd := range oddities {
		for _, name := range []string{"session", "X-Plex-Session-Identifier", "X-Plex-Client-Identifier", "X-Plex-Device-Name", "X-Plex-Product", "X-Plex-Playback-Session-Id"} {
			q := url.Values{"path": {"/library/metadata/1"}, "protocol": {"hls"}, "session": {fmt.Sprintf("tsid-%d-%s", i, name)}, "X-Plex-Client-Identifier": {fmt.Sprintf("cid-%d-%s", i, name)}, "X-Plex-Token": {token}}
			q.Set(name, odd)
			for _, what := range []string{"decision", "start.m3u8"} {
				status, answer := m.raw("/video/:/transcode/universal/" + what + "?" + q.Encode())
				if status != http.StatusOK {
					t.Errorf("%s with %s %q: status %d", what, name, odd, status)
				}
				head, _, _ := strings.Cut(answer, "\r\n\r\n")
				seen = append(seen, head)
			}
		}
	}
	for _, s := range m.servers {
		s.Forget()
	}
	for i, odd := range oddities {
		_, answer := m.raw("/video/:/transcode/universal/session/" + url.PathEscape(odd) + "/base/00002.ts")
		head, _, _ := strings.Cut(answer, "\r\n\r\n")
		seen = append(seen, head)
		m.raw(fmt.Sprintf("/video/:/transcode/universal/session/tsid-%d-X-Plex-Client-Identifier/base/00002.ts", i))
	}
	for _, head := range seen {
		for line := range strings.SplitSeq(head, "\r\n") {
			if strings.HasPrefix(line, "X-Evil") || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				t.Errorf("a header: %q", line)
			}
			if home := os.Getenv("HOME"); strings.HasPrefix(line, "X-Session: ") && (strings.Contains(line, home) || strings.Contains(line, token)) {
				t.Errorf("a placeholder was filled in: %q", line)
			}
		}
	}

	metrics := scrape(t, m.admin) // which fails on what is no exposition
	for name, series := range metrics.values {
		for labels := range series {
			if strings.ContainsAny(labels, "<\x1b;$%") || strings.Contains(labels, "evil") {
				t.Errorf("%s{%s}: a label from a client", name, labels)
			}
		}
	}
	for _, path := range []string{"/plexlb/sessions", "/plexlb/servers"} {
		m.ok(http.MethodGet, path, "")
	}
	listed := at(t, m.ok(http.MethodGet, "/plexlb/sessions", ""), "sessions").([]any)
	if len(listed) < len(oddities) {
		t.Errorf("%d sessions are listed: the test tests little", len(listed))
	}
	page.until("the page has them", func(p *pageState) bool { return len(p.Sessions) >= len(oddities) })

	for _, line := range readLog(t, files["json"]) { // which fails on what is no JSON
		if line["level"] == nil || line["msg"] == nil || line["event"] == "forged" {
			t.Errorf("a forged line: %v", line)
		}
	}
	for format, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		raw = colours.ReplaceAll(raw, nil)
		for i, b := range raw {
			if b < ' ' && b != '\n' && b != '\t' {
				t.Errorf("the %s log holds %q", format, raw[max(0, i-120):min(len(raw), i+60)])
				break
			}
		}
		for lines := bufio.NewScanner(strings.NewReader(string(raw))); format == "console" && lines.Scan(); {
			if line := lines.Text(); !strings.HasPrefix(line, "20") { // a year
				t.Errorf("a forged line: %q", line)
			}
		}
	}
	for _, e := range in.of("session_lost") {
		if _, err := json.Marshal(e); err != nil {
			t.Error(err)
		}
	}
}

// Who sends slowly, half or far too much holds up nobody and leaves nothing.
func TestSlowAndLargeRequestsHoldUpNobody(t *testing.T) {
	m := hostileHouse(t, 2)
	v := plextest.NewViewer(plextest.PlexWeb, m.URL, token, plextest.HEVC, 1)
	t.Cleanup(v.Close)
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Two hundred that never end: in the line, in the header, in the body.
	var conns []net.Conn
	begin := "GET /video/:/transcode/universal/start.m3u8?path=%2Flibrary%2Fmetadata%2F1&session=slow&X-Plex-Token=" + token + " HTTP/1.1\r\nHost: " + m.addr + "\r\n"
	for i := range 200 {
		conn, err := net.Dial("tcp", m.addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		_, _ = io.WriteString(conn, []string{begin[:40], begin + "X-Plex-Client-Identifier: slow", "POST /playQueues?X-Plex-Token=" + token + " HTTP/1.1\r\nHost: " + m.addr + "\r\nContent-Length: 100\r\n\r\nabc"}[i%3])
	}
	for n := range 3 {
		if err := v.Segment(t.Context(), n); err != nil {
			t.Error(err)
		}
	}
	for what, c := range map[string]struct {
		target string
		lines  []string
		want   []int
	}{
		"a header of 2 MB":    {"/library/sections", []string{"X-Plex-Session-Identifier: " + strings.Repeat("x", 2<<20) + "\r\n"}, []int{0, 431}},
		"ten thousand fields": {"/library/sections", slices.Repeat([]string{"X-Plex-Client-Identifier: y\r\nX-A: 1\r\n"}, 10_000), []int{200, 401, 431}},
		"a query of 900 KB": {"/video/:/transcode/universal/decision?path=%2Flibrary%2Fmetadata%2F1&X-Plex-Token=wrong&session=" +
			strings.Repeat("z", 900<<10), nil, []int{0, 401, 414, 431, 502}},
		"a hundred thousand members": {"/video/:/transcode/universal/decision?X-Plex-Token=wrong" + strings.Repeat("&session=", 60_000), nil, []int{0, 401, 414, 431, 502}},
		"a start of 12 KB":           {"/video/:/transcode/universal/start.m3u8?path=%2Flibrary%2Fmetadata%2F1&session=big&X-Plex-Client-Identifier=big&X-Plex-Token=" + token + "&x=" + strings.Repeat("q", 12<<10), nil, []int{200}},
	} {
		if status, answer := m.raw(c.target, c.lines...); !slices.Contains(c.want, status) {
			t.Errorf("%s: status %d: %.200s", what, status, answer)
		}
	}
	for n := 3; n < 6; n++ {
		if err := v.Segment(t.Context(), n); err != nil {
			t.Error(err)
		}
	}
	a := v.Account()
	if w := a.Longest(); w.Took > 2*time.Second {
		t.Errorf("it waited %v for %s", w.Took, w.Asked)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	// What is too large to be kept is a playback all the same.
	eventually(t, "the two that were started are known", 5*time.Second, func() bool {
		playbacks, _ := m.ledger().Len()
		return playbacks == 2
	})
}
