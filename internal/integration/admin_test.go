package integration

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// managed is a Caddy whose admin endpoint is on.
type managed struct {
	*balancer
	admin   string // its address
	servers []*plextest.Server
}

// manage runs Caddy with an admin endpoint in front of clones.
func manage(t *testing.T, n int, more string, weights ...float64) *managed {
	t.Helper()
	m := &managed{admin: freeAddr(t), servers: stand(t, n, func(_ int, cfg *plextest.Config) {
		cfg.MachineIdentifier, cfg.Database = "clone", "clone"
	})}
	m.balancer = load(t, m.config(more, "", weights...))
	return m
}

// config is a Caddyfile with the one-line directive; sites holds further sites.
func (m *managed) config(more, sites string, weights ...float64) string {
	return m.with(option(m.servers, more, weights...), labels+"\tplexlb\n", sites)
}

func (m *managed) with(option, handlers, sites string) string {
	settings := strings.Replace(global, "admin off", "admin "+m.admin, 1)
	return "{\n" + settings + option + "}\nHERE {\n" + handlers + "}\n" + sites
}

// call does one call of the admin API and returns its answer, in which there
// is no token.
func (m *managed) call(method, path, body string) (int, http.Header, map[string]any) {
	m.t.Helper()
	r, err := http.NewRequest(method, "http://"+m.admin+path, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	r.Close = true // the endpoint is another after a reload
	res, err := http.DefaultClient.Do(r)
	if err != nil && method == http.MethodGet {
		// The old one resets what it has accepted and not begun to serve.
		time.Sleep(100 * time.Millisecond)
		res, err = http.DefaultClient.Do(r)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, _ := io.ReadAll(res.Body)
	if strings.Contains(string(raw), token) {
		m.t.Errorf("%s %s tells a token: %s", method, path, raw)
	}
	if kind := res.Header.Get("Content-Type"); kind != "application/json" {
		m.t.Errorf("%s %s answers with %q: %s", method, path, kind, raw)
	}
	answer := make(map[string]any)
	if err := json.Unmarshal(raw, &answer); err != nil {
		m.t.Fatalf("%s %s: %v: %s", method, path, err, raw)
	}
	return res.StatusCode, res.Header, answer
}

// ok is call where it has to work.
func (m *managed) ok(method, path, body string) map[string]any {
	m.t.Helper()
	status, _, answer := m.call(method, path, body)
	if status != http.StatusOK {
		m.t.Fatalf("%s %s: status %d: %v", method, path, status, answer)
	}
	return answer
}

// at finds what is at a path of names and numbers in an answer.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok || m[step] == nil {
				t.Fatalf("there is no %v in %v", path, v)
			}
			v = m[step]
		case int:
			list, ok := v.([]any)
			if !ok || len(list) <= step {
				t.Fatalf("there is no %v in %v", path, v)
			}
			v = list[step]
		}
	}
	return v
}

// state is the state of a server.
func (m *managed) state(server string) any {
	m.t.Helper()
	return at(m.t, m.ok(http.MethodGet, "/plexlb/servers/"+server, ""), "state")
}

// watch lets a viewer begin, and waits until its server reports that.
func (m *managed) watch(kind plextest.ViewerKind, item string, seed uint64) *plextest.Viewer {
	m.t.Helper()
	v := plextest.NewViewer(kind, m.URL, token, item, seed)
	m.t.Cleanup(v.Close)
	if err := errors.Join(v.Start(m.t.Context()), v.Segment(m.t.Context(), 0), v.Timeline(m.t.Context(), "playing")); err != nil {
		m.t.Fatal(err)
	}
	eventually(m.t, "its server reports it", 5*time.Second, func() bool {
		s := m.ok(http.MethodGet, "/plexlb/sessions/"+v.TSID, "")
		return s["state"] == "confirmed" && s["title"] != ""
	})
	return v
}

func TestAdminShowsWhatGoesOn(t *testing.T) {
	m := manage(t, 3, replicated, 4, 1, 1)
	v := m.watch(plextest.Plezy, plextest.HEVC, 1)

	list := m.ok(http.MethodGet, "/plexlb/servers", "")
	if n := len(at(t, list, "servers").([]any)); n != 3 {
		t.Errorf("there are %d servers: %v", n, list)
	}
	s := m.ok(http.MethodGet, "/plexlb/servers/plex1", "")
	for name, want := range map[string]any{
		"name": "plex1", "address": m.servers[0].Addr(), "weight": 4.0, "state": "up", "draining": false,
		"load": 1.0, "playbacks": 1.0, "others": 0.0, "reserved": 0.0, "placements": 1.0,
	} {
		if got := at(t, s, name); got != want {
			t.Errorf("%s of plex1 is %v, want %v", name, got, want)
		}
	}
	if got := at(t, s, "jobs", "gpu"); got != 1.0 {
		t.Errorf("it has %v hardware transcodes", got)
	}
	if age := at(t, s, "poll", "age_seconds").(float64); age > 5 {
		t.Errorf("it was read %v s ago", age)
	}
	if _, err := time.Parse(time.RFC3339, at(t, s, "poll", "last_good").(string)); err != nil {
		t.Error(err)
	}

	p := m.ok(http.MethodGet, "/plexlb/sessions/"+v.TSID, "")
	for name, want := range map[string]any{
		"title": "Big Film 1", "item": "/library/metadata/1", "server": "plex1", "kind": "gpu", "state": "confirmed",
		"confirmed": true, "lost": false, "movable": true,
	} {
		if got := at(t, p, name); got != want {
			t.Errorf("%s of the session is %v, want %v", name, got, want)
		}
	}
	if got := at(t, p, "ids", "client"); got != v.CID {
		t.Errorf("its client is %v, want %s", got, v.CID)
	}
	if got := at(t, p, "why", "reason"); got != "least_load" {
		t.Errorf("it is there because of %v", got)
	}
	if got := at(t, p, "why", "table", 0, "server"); got != "plex1" {
		t.Errorf("the first candidate is %v", got)
	}
	if n := len(at(t, p, "why", "table").([]any)); n != 3 {
		t.Errorf("there were %d candidates", n)
	}
	// By any id that its client uses.
	for _, id := range []string{v.TSID, v.XSI, v.CID, at(t, p, "id").(string)} {
		if id != "" && at(t, m.ok(http.MethodGet, "/plexlb/sessions/"+id, ""), "id") != p["id"] {
			t.Errorf("id %q is another session", id)
		}
	}
	all := m.ok(http.MethodGet, "/plexlb/sessions", "")
	if got := at(t, all, "sessions", 0, "id"); got != p["id"] || len(all["sessions"].([]any)) != 1 {
		t.Errorf("the sessions are %v", all)
	}
}

func TestAdminMovesAndDrains(t *testing.T) {
	m := manage(t, 3, replicated, 4, 1, 1)
	v := m.watch(plextest.Plezy, plextest.HEVC, 1)
	session := "/plexlb/sessions/" + v.TSID

	// It is moved by hand.
	p := m.ok(http.MethodPost, session+"/move", `{"server":"plex2"}`)
	for _, want := range []struct {
		path []any
		want string
	}{
		{[]any{"server"}, "plex2"}, {[]any{"why", "reason"}, "resumed"},
		{[]any{"moves", 0, "from"}, "plex1"}, {[]any{"moves", 0, "to"}, "plex2"}, {[]any{"moves", 0, "cause"}, "operator"},
	} {
		if got := at(t, p, want.path...); got != want.want {
			t.Errorf("after the move %v is %v, want %s", want.path, got, want.want)
		}
	}

	// Its server is drained, first without and then with moving it.
	s := m.ok(http.MethodPost, "/plexlb/servers/plex2/drain", "")
	if s["state"] != "draining" || s["draining"] != true || s["move_at"] != nil {
		t.Errorf("a drained server is %v", s)
	}
	s = m.ok(http.MethodPost, "/plexlb/servers/plex2/drain", `{"move_after":"30m"}`)
	if when, err := time.Parse(time.RFC3339, at(t, s, "move_at").(string)); err != nil || time.Until(when) < 29*time.Minute {
		t.Errorf("it is to be emptied at %v, %v", when, err)
	}
	if got := at(t, m.ok(http.MethodGet, session, ""), "server"); got != "plex2" {
		t.Errorf("long before that, the session is on %v", got)
	}
	m.ok(http.MethodPost, "/plexlb/servers/plex2/drain", `{"move":true}`)
	eventually(t, "the session has left, and nothing is there", 8*time.Second, func() bool {
		return at(t, m.ok(http.MethodGet, session, ""), "server") != "plex2" && m.state("plex2") == "drained"
	})
	if got := at(t, m.ok(http.MethodGet, session, ""), "moves", 1, "cause"); got != "drained" {
		t.Errorf("it has left because of %v", got)
	}
	if status, _, answer := m.call(http.MethodPost, session+"/move", `{"server":"plex2"}`); status != http.StatusConflict {
		t.Errorf("moving it to a drained server: status %d: %v", status, answer)
	}
	if s := m.ok(http.MethodPost, "/plexlb/servers/plex2/undrain", ""); s["state"] != "up" || s["draining"] != false || s["move_at"] != nil {
		t.Errorf("after undrain it is %v", s)
	}

	// It is forgotten.
	if gone := m.ok(http.MethodDelete, session, ""); gone["id"] != p["id"] {
		t.Errorf("what was forgotten is %v", gone)
	}
	if status, _, _ := m.call(http.MethodDelete, session, ""); status != http.StatusNotFound {
		t.Errorf("forgetting it again: status %d", status)
	}
}

// All came while one server took nobody.
func TestAdminRebalances(t *testing.T) {
	m := manage(t, 2, replicated)
	m.ok(http.MethodPost, "/plexlb/servers/plex2/drain", "{}")
	for i := range uint64(3) {
		m.watch(plextest.MPVShim, plextest.HEVC, 10+i)
	}
	m.ok(http.MethodPost, "/plexlb/servers/plex2/undrain", "{}")
	moved := func() (list []any) {
		for _, s := range m.ok(http.MethodGet, "/plexlb/sessions", "")["sessions"].([]any) {
			list = append(list, at(t, s, "moves").([]any)...)
		}
		return list
	}
	plan := m.ok(http.MethodPost, "/plexlb/rebalance", `{"dry_run":true}`)
	if moves := at(t, plan, "moves").([]any); len(moves) != 1 || plan["dry_run"] != true || at(t, moves, 0, "from") != "plex1" || at(t, moves, 0, "to") != "plex2" {
		t.Errorf("the plan is %v", plan)
	}
	if list := moved(); len(list) > 0 {
		t.Errorf("a plan has moved sessions: %v", list)
	}
	done := m.ok(http.MethodPost, "/plexlb/rebalance", "")
	if moves := at(t, done, "moves").([]any); len(moves) != 1 || done["dry_run"] != false || moves[0].(map[string]any)["error"] != nil {
		t.Errorf("it did %v", done)
	}
	if list := moved(); len(list) != 1 || at(t, list, 0, "cause") != "rebalanced" {
		t.Errorf("it has moved %v", list)
	}
}

func TestAdminRefuses(t *testing.T) {
	m := manage(t, 2, replicated, 4, 1)
	v := m.watch(plextest.Plezy, plextest.HEVC, 1)
	session := "/plexlb/sessions/" + v.TSID
	for what, tc := range map[string]struct {
		method, path, body string
		status             int
		says               string
	}{
		"unknown server":             {"GET", "/plexlb/servers/plex9", "", 404, `server "plex9": not found`},
		"unknown session":            {"GET", "/plexlb/sessions/nobody", "", 404, `session "nobody": not found`},
		"drain unknown":              {"POST", "/plexlb/servers/plex9/drain", "", 404, "not found"},
		"undrain unknown":            {"POST", "/plexlb/servers/plex9/undrain", "", 404, "not found"},
		"forget unknown":             {"DELETE", "/plexlb/sessions/nobody", "", 404, "not found"},
		"move unknown":               {"POST", "/plexlb/sessions/nobody/move", `{"server":"plex1"}`, 404, "not found"},
		"move to unknown":            {"POST", session + "/move", `{"server":"plex9"}`, 404, "not found"},
		"no call":                    {"GET", "/plexlb/", "", 404, "/plexlb/servers"},
		"another call":               {"GET", "/plexlb/server", "", 404, "no such call"},
		"a call too deep":            {"GET", "/plexlb/servers/plex1/drain/now", "", 404, "no such call"},
		"server without a name":      {"GET", "/plexlb/servers/", "", 404, "no such call"},
		"star is no name":            {"GET", "/plexlb/servers/*", "", 404, `"*": not found`},
		"list with POST":             {"POST", "/plexlb/servers", "", 405, "GET"},
		"drain with GET":             {"GET", "/plexlb/servers/plex1/drain", "", 405, "POST"},
		"session with PUT":           {"PUT", session, "", 405, "DELETE, GET"},
		"rebalance with GET":         {"GET", "/plexlb/rebalance", "", 405, "POST"},
		"half a body":                {"POST", "/plexlb/servers/plex1/drain", `{"move":`, 400, "malformed"},
		"no object":                  {"POST", "/plexlb/servers/plex1/drain", `null`, 400, "not a JSON object"},
		"text":                       {"POST", "/plexlb/servers/plex1/drain", `move`, 400, "malformed"},
		"unknown field":              {"POST", "/plexlb/servers/plex1/drain", `{"mov":true}`, 400, `unknown field "mov"`},
		"field of the wrong type":    {"POST", "/plexlb/servers/plex1/drain", `{"move":"yes"}`, 400, "malformed"},
		"more than one object":       {"POST", "/plexlb/servers/plex1/drain", `{"move":true}{}`, 400, "more after"},
		"no duration":                {"POST", "/plexlb/servers/plex1/drain", `{"move_after":"soon"}`, 400, "move_after"},
		"duration without a unit":    {"POST", "/plexlb/servers/plex1/drain", `{"move_after":30}`, 400, "malformed"},
		"duration less than 0":       {"POST", "/plexlb/servers/plex1/drain", `{"move_after":"-1m"}`, 400, "less than 0"},
		"a contradiction":            {"POST", "/plexlb/servers/plex1/drain", `{"move":false,"move_after":"1m"}`, 400, "contradicts"},
		"undrain with a field":       {"POST", "/plexlb/servers/plex1/undrain", `{"move":true}`, 400, "unknown field"},
		"move without a body":        {"POST", session + "/move", "", 400, "where to"},
		"move without a server":      {"POST", session + "/move", "{}", 400, "where to"},
		"a long body":                {"POST", session + "/move", `{"server":"` + strings.Repeat("x", 5000) + `"}`, 400, "longer than"},
		"rebalance with a bad field": {"POST", "/plexlb/rebalance", `{"dry":true}`, 400, "unknown field"},
		"a bad escape":               {"GET", "/plexlb/sessions/%2520", "", 404, "not found"},
	} {
		t.Run(what, func(t *testing.T) {
			m := &managed{balancer: &balancer{t: t}, admin: m.admin}
			status, header, answer := m.call(tc.method, tc.path, tc.body)
			says, _ := answer["error"].(string)
			if status != tc.status || !strings.Contains(says, tc.says) {
				t.Errorf("status %d, %q; want %d and %q", status, says, tc.status, tc.says)
			}
			if allow := header.Get("Allow"); (status == 405) != (allow != "") || status == 405 && allow != tc.says {
				t.Errorf("allowed is %q", allow)
			}
		})
	}
	if s := m.ok(http.MethodGet, "/plexlb/servers/plex1", ""); s["draining"] != false {
		t.Errorf("what was refused was done: %v", s)
	}
	if p := m.ok(http.MethodGet, session, ""); p["server"] != "plex1" || len(p["moves"].([]any)) > 0 {
		t.Errorf("what was refused was done: %v", p)
	}
}

// A server that is gone is said to be, also when nobody asks for anything.
func TestAdminShowsThatAServerIsGone(t *testing.T) {
	m := manage(t, 2, replicated)
	eventually(t, "both are up", 5*time.Second, func() bool {
		s := m.ok(http.MethodGet, "/plexlb/servers/plex2", "")
		return m.state("plex1") == "up" && s["state"] == "up" && at(t, s, "poll").(map[string]any)["last_good"] != nil
	})
	m.servers[1].Close()
	eventually(t, "one cannot be read", 5*time.Second, func() bool { return m.state("plex2") == "unreachable" })
	if s := m.ok(http.MethodGet, "/plexlb/servers/plex2", ""); at(t, s, "poll", "failure") != "refused" || at(t, s, "poll", "last_good") == nil {
		t.Errorf("its readings are %v", s["poll"])
	}
	v := m.watch(plextest.Plezy, plextest.HEVC, 1)
	eventually(t, "it is down", 10*time.Second, func() bool {
		_ = v.Decide(t.Context()) // a choice in which it takes no part
		next := v.Next(plextest.HEVC)
		defer next.Close()
		return next.Start(t.Context()) == nil && m.state("plex2") == "down"
	})
}

// What clients say shows up as they said it, but for their tokens.
func TestAdminShowsStrangeIDs(t *testing.T) {
	m := manage(t, 2, replicated)
	const id = "a/b c?d%2F\u00e9#"
	q := url.Values{
		"path":                      {"/library/metadata/1"},
		"protocol":                  {"hls"},
		"session":                   {"tsid-1"},
		"X-Plex-Session-Identifier": {id},
		"X-Plex-Client-Identifier":  {"cid-1"},
		"X-Plex-Token":              {token},
	}
	if status, _, body := m.get("/video/:/transcode/universal/start.m3u8?" + q.Encode()); status != http.StatusOK {
		t.Fatalf("start: status %d: %s", status, body)
	}
	p := m.ok(http.MethodGet, "/plexlb/sessions/"+url.PathEscape(id), "")
	if p["id"] != id || p["item"] != "/library/metadata/1" {
		t.Errorf("the session is %v", p)
	}
	m.ok(http.MethodGet, "/plexlb/sessions", "")

	// What it plays is remembered in part, if that is long.
	long := "/library/metadata/2/" + strings.Repeat("\u00e9", 2000)
	q.Set("path", long)
	q.Set("session", "tsid-2")
	q.Set("X-Plex-Session-Identifier", "xsi-2")
	if status, _, body := m.get("/video/:/transcode/universal/start.m3u8?" + q.Encode()); status != http.StatusOK {
		t.Fatalf("start: status %d: %s", status, body)
	}
	item := m.ok(http.MethodGet, "/plexlb/sessions/xsi-2", "")["item"].(string)
	if !strings.HasPrefix(long, item) || len(item) < 500 || len(item) > 2000 {
		t.Errorf("an item of %d bytes is remembered as %d: %.40s", len(long), len(item), item)
	}
}

// What goes through no reload is lost by none, and a config that fails changes
// nothing.
func TestAdminAfterReloads(t *testing.T) {
	m := manage(t, 2, replicated, 4, 1)
	v := m.watch(plextest.Plezy, plextest.HEVC, 1)
	session := "/plexlb/sessions/" + v.TSID
	m.ok(http.MethodPost, "/plexlb/servers/plex2/drain", "")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()

	check := func(when string, weight float64) {
		t.Helper()
		if s := m.ok(http.MethodGet, "/plexlb/servers/plex2", ""); s["draining"] != true {
			t.Errorf("%s: plex2 is %v", when, s)
		}
		if s := m.ok(http.MethodGet, "/plexlb/servers/plex1", ""); s["weight"] != weight || s["playbacks"] != 1.0 {
			t.Errorf("%s: plex1 is %v", when, s)
		}
		if p := m.ok(http.MethodGet, session, ""); p["server"] != "plex1" || p["movable"] != true {
			t.Errorf("%s: the session is %v", when, p)
		}
		if status, _, answer := m.call(http.MethodPost, "/plexlb/rebalance", `{"dry_run":true}`); status != http.StatusOK {
			t.Errorf("%s: rebalance: status %d: %v", when, status, answer)
		}
	}
	check("at first", 4)
	if err := m.reload(m.config(replicated, "", 3, 1)); err != nil {
		t.Fatal(err)
	}
	check("after a reload", 3)
	// It fails when its apps start, ours among them: another process has a
	// site's address.
	for range 3 {
		if err := m.reload(m.config("mode separate", "http://"+taken.Addr().String()+" {\n}\n", 2, 1)); err == nil {
			t.Fatal("the config was to fail")
		}
		check("after a failed start", 3)
	}
	// It fails before that.
	if err := m.reload(m.with(option(m.servers, "mode separate"), "\tplexlb {\n\t\tlb_policy least_transcodes\n\t\thealth_status wrong\n\t}\n", "")); err == nil {
		t.Fatal("the config was to fail")
	}
	check("after a failed config", 3)
	if err := m.reload(m.config(replicated, "", 5, 1)); err != nil {
		t.Fatal(err)
	}
	check("after another reload", 5)
	if err := v.Segment(t.Context(), 1); err != nil { // its site is known again
		t.Error(err)
	}

	if err := m.reload(m.config("", "", 5, 1)); err != nil {
		t.Fatal(err)
	}
	if status, _, answer := m.call(http.MethodPost, "/plexlb/rebalance", ""); status != http.StatusConflict || !strings.Contains(answer["error"].(string), "separate") {
		t.Errorf("rebalance in mode separate: status %d: %v", status, answer)
	}
	if status, _, answer := m.call(http.MethodPost, "/plexlb/servers/plex1/drain", `{"move":true}`); status != http.StatusConflict {
		t.Errorf("drain with move in mode separate: status %d: %v", status, answer)
	}
	if err := m.reload(m.with("", "\trespond ok\n", "")); err != nil {
		t.Fatal(err)
	}
	status, _, answer := m.call(http.MethodGet, "/plexlb/servers", "")
	if says, _ := answer["error"].(string); status != http.StatusServiceUnavailable || !strings.Contains(says, "not configured") {
		t.Errorf("without plexlb: status %d: %v", status, answer)
	}
}
