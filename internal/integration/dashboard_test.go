package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// dashboard is a Caddyfile whose site has the status page below /lb/.
func (m *managed) dashboard(block, more string, weights ...float64) string {
	return m.with(option(m.servers, more, weights...), "\tplexlb_dashboard /lb* "+block+"\n"+labels+"\tplexlb\n", "")
}

// pageState is what a page knows after the messages so far.
type pageState struct {
	Control  bool
	Mode     string
	Servers  map[string]map[string]any
	Sessions map[string]map[string]any
	Moves    []map[string]any
}

// apply does with a message what the page does with it.
func (p *pageState) apply(t *testing.T, event string, data []byte) {
	t.Helper()
	var m struct {
		Control      bool
		Mode         string
		Servers      []map[string]any
		GoneServers  []string `json:"gone_servers"`
		Sessions     []map[string]any
		GoneSessions []string `json:"gone_sessions"`
		Moves        []map[string]any
		Points       map[string]float64
	}
	if err := json.Unmarshal(data, &m); err != nil {
		t.Errorf("%s: %v: %s", event, err, data)
	}
	switch event {
	case "state":
		*p = pageState{m.Control, m.Mode, make(map[string]map[string]any), make(map[string]map[string]any), nil}
	case "change", "beat":
	default:
		t.Errorf("a page knows no event %q", event)
	}
	for _, s := range m.Servers {
		name := s["name"].(string)
		if old := p.Servers[name]; old != nil {
			s["history"] = old["history"]
		}
		p.Servers[name] = s
	}
	for name, load := range m.Points {
		if s := p.Servers[name]; s != nil {
			s["history"] = append(s["history"].([]any), load)
		}
	}
	for _, name := range m.GoneServers {
		delete(p.Servers, name)
	}
	for _, s := range m.Sessions {
		p.Sessions[s["id"].(string)] = s
	}
	for _, id := range m.GoneSessions {
		delete(p.Sessions, id)
	}
	p.Moves = append(m.Moves, p.Moves...)
}

// stream is a page's connection.
type stream struct {
	t    *testing.T
	body io.Closer
	in   *bufio.Reader
	page pageState
	all  strings.Builder // that was received
	sent []string        // the events
}

// connect opens the page's events.
func (m *managed) connect() *stream {
	m.t.Helper()
	res, err := http.Get(m.URL + "/lb/events")
	for tries := 0; err != nil && tries < 3; tries++ {
		// A reload of Caddy breaks connections that wait at its old listener; a
		// page opens another one.
		time.Sleep(50 * time.Millisecond)
		res, err = http.Get(m.URL + "/lb/events")
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { res.Body.Close() })
	if kind := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || kind != "text/event-stream" {
		m.t.Fatalf("events: status %d, type %q", res.StatusCode, kind)
	}
	s := &stream{t: m.t, body: res.Body, in: bufio.NewReaderSize(res.Body, 1<<20)}
	s.next()
	return s
}

// next takes in one message; it reports false if the connection has ended.
func (s *stream) next() bool {
	s.t.Helper()
	event := ""
	for {
		line, err := s.in.ReadString('\n')
		s.all.WriteString(line)
		if err != nil {
			return false
		}
		word, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch word {
		case "event":
			event = value
		case "data":
			s.page.apply(s.t, event, []byte(value))
			s.sent = append(s.sent, event)
		case "":
			return true
		}
	}
}

// until reads on until the page shows something.
func (s *stream) until(what string, ok func(*pageState) bool) {
	s.t.Helper()
	late := time.AfterFunc(15*time.Second, func() { s.body.Close() })
	defer late.Stop()
	for !ok(&s.page) {
		if !s.next() {
			s.t.Fatalf("the page never shows: %s; it shows %v", what, s.page)
		}
	}
}

// What the page adds up from changes must be what it would be shown anew.
func TestStatusPageFollows(t *testing.T) {
	m := &managed{admin: freeAddr(t), servers: stand(t, 3, func(_ int, cfg *plextest.Config) {
		cfg.MachineIdentifier, cfg.Database = "clone", "clone"
		cfg.Items = []plextest.Item{{Title: hostile}, {Title: "Small Film"}}
	})}
	m.balancer = load(t, m.dashboard("{\ncontrol\n}", replicated, 4, 2, 1))
	s := m.connect()
	if p := &s.page; !p.Control || p.Mode != "replicated" || len(p.Servers) != 3 || len(p.Sessions) != 0 {
		t.Errorf("at first it shows %v", p)
	}
	v := m.watch(plextest.Plezy, "1", 1)
	w := m.watch(plextest.PlexWeb, "2", 2)
	session := func(p *pageState, id string) map[string]any {
		for _, one := range p.Sessions {
			if one["id"] == id {
				return one
			}
		}
		return map[string]any{}
	}
	s.until("both playbacks, with title and client", func(p *pageState) bool {
		one, two := session(p, v.XSI), session(p, w.XSI)
		return one["title"] == hostile && one["client"] == "Pixel (Plezy)" && one["server"] == "plex1" && one["reason"] == "least_load" &&
			one["kind"] == "gpu" && two["title"] == "Small Film"
	})
	from := session(&s.page, v.XSI)["server"]
	if status, answer := m.control(`{"do": "move", "session": "`+v.XSI+`", "server": "plex3"}`, "application/json"); status != http.StatusOK {
		t.Fatalf("moving: %d %s", status, answer)
	}
	s.until("the move", func(p *pageState) bool {
		return session(p, v.XSI)["server"] == "plex3" && len(p.Moves) == 1 &&
			p.Moves[0]["from"] == from && p.Moves[0]["to"] == "plex3" && p.Moves[0]["cause"] == "operator" &&
			p.Moves[0]["outcome"] == "moved" && p.Moves[0]["session"] == v.XSI && p.Moves[0]["title"] == hostile
	})
	for _, o := range []string{`{"do": "drain", "server": "plex3", "move_after": "10m"}`, `{"do": "drain", "server": "plex2", "move": true}`} {
		if status, answer := m.control(o, "application/json"); status != http.StatusOK {
			t.Fatalf("%s: %d %s", o, status, answer)
		}
	}
	s.until("the drain", func(p *pageState) bool {
		return p.Servers["plex3"]["state"] == "draining" && p.Servers["plex3"]["move_at"] != nil && p.Servers["plex2"]["state"] == "drained"
	})
	if status, answer := m.control(`{"do": "undrain", "server": "plex3"}`, "application/json"); status != http.StatusOK {
		t.Fatalf("undraining: %d %s", status, answer)
	}
	m.servers[0].SetPoll(plextest.Poll401)
	s.until("what is quietly wrong", func(p *pageState) bool {
		wrong, _ := p.Servers["plex1"]["degraded"].([]any)
		return len(wrong) == 1 && at(t, wrong, 0, "reason") == "token_rejected" && p.Servers["plex3"]["state"] == "up"
	})
	m.servers[0].SetPoll(plextest.PollGood)
	if err := w.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.until("the end of a playback", func(p *pageState) bool { return len(p.Sessions) == 1 })

	// A reading may come between; then it was read by one of them only.
	steady := func(p pageState) pageState {
		for _, one := range p.Servers {
			delete(one, "poll")
			delete(one, "history")
		}
		return p
	}
	eventually(t, "a new page shows the same", 5*time.Second, func() bool {
		s.until("anything", func(p *pageState) bool { return s.next() })
		return reflect.DeepEqual(steady(m.connect().page), steady(s.page))
	})

	status, _, text := m.get("/lb/session?id=" + v.TSID)
	var why map[string]any
	if err := json.Unmarshal([]byte(text), &why); status != http.StatusOK || err != nil || at(t, why, "why", "reason") != "resumed" || at(t, why, "moves", 0, "to") != "plex3" ||
		at(t, why, "first_why", "reason") != "least_load" || at(t, why, "first_why", "server") != from || len(at(t, why, "first_why", "table").([]any)) != 3 {
		t.Errorf("the explanation: %d %s", status, text)
	}
	if status, _, text := m.get("/lb/session?id=nobody"); status != http.StatusNotFound || !strings.Contains(text, `"error"`) {
		t.Errorf("the explanation of nothing: %d %s", status, text)
	}
	if strings.Contains(s.all.String()+text, token) {
		t.Error("a page is told a token")
	}
}

// control asks for something as a page does.
func (m *managed) control(body, kind string, header ...string) (int, string) {
	m.t.Helper()
	r, err := http.NewRequest(http.MethodPost, m.URL+"/lb/control", strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	r.Close = true // the server is another after a reload
	r.Header.Set("Content-Type", kind)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		m.t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	if !strings.HasPrefix(string(text), "{") || res.Header.Get("Content-Type") != "application/json" {
		m.t.Errorf("%s: not answered in JSON: %s", body, text)
	}
	return res.StatusCode, string(text)
}

func TestStatusPageControl(t *testing.T) {
	m := manage(t, 2, replicated)
	if err := m.reload(m.dashboard("", replicated)); err != nil {
		t.Fatal(err)
	}
	drain := `{"do": "drain", "server": "plex2"}`
	if status, text := m.control(drain, "application/json"); status != http.StatusForbidden || !strings.Contains(text, "only shows") {
		t.Errorf("a page that may only look: %d %s", status, text)
	}
	if err := m.reload(m.dashboard("{\ncontrol\n}", replicated)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		body, kind string
		header     []string
		want       int
	}{
		"another site":              {drain, "application/json", []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		"another name of the site":  {drain, "application/json", []string{"Sec-Fetch-Site", "same-site"}, http.StatusForbidden},
		"an older browser":          {drain, "application/json", []string{"Origin", "https://evil.example"}, http.StatusForbidden},
		"a sandboxed frame":         {drain, "application/json", []string{"Origin", "null"}, http.StatusForbidden},
		"a form of another site":    {drain, "text/plain", nil, http.StatusForbidden},
		"a form":                    {"do=drain", "application/x-www-form-urlencoded", nil, http.StatusForbidden},
		"the page itself":           {`{"do": "undrain", "server": "plex1"}`, "application/json", []string{"Sec-Fetch-Site", "same-origin", "Origin", m.URL}, http.StatusOK},
		"an older browser, at home": {`{"do": "undrain", "server": "plex1"}`, "application/json; charset=utf-8", []string{"Origin", m.URL}, http.StatusOK},
		"no such server":            {`{"do": "drain", "server": "plex9"}`, "application/json", nil, http.StatusNotFound},
		"no such playback":          {`{"do": "move", "session": "nobody", "server": "plex2"}`, "application/json", nil, http.StatusNotFound},
		"no such thing":             {`{"do": "explode"}`, "application/json", nil, http.StatusBadRequest},
		"no time":                   {`{"do": "drain", "server": "plex1", "move_after": "soon"}`, "application/json", nil, http.StatusBadRequest},
		"half a body":               {`{"do": "drain`, "application/json", nil, http.StatusBadRequest},
		"a long body":               {`{"do": "` + strings.Repeat("x", 5000) + `"}`, "application/json", nil, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			if status, text := m.control(c.body, c.kind, c.header...); status != c.want {
				t.Errorf("status %d, want %d: %s", status, c.want, text)
			}
			if got := m.state("plex2"); got != "up" {
				t.Errorf("plex2 is %v now", got)
			}
		})
	}
	if status, head, _ := m.get("/lb/control"); status != http.StatusMethodNotAllowed || head.Get("Allow") != http.MethodPost {
		t.Errorf("GET control: %d %v", status, head)
	}
	v := m.watch(plextest.Plezy, "1", 1)
	if status, text := m.control(drain, "application/json"); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
	if status, text := m.control(`{"do": "move", "session": "`+v.XSI+`", "server": "plex2"}`, "application/json"); status != http.StatusConflict || !strings.Contains(text, "draining") {
		t.Errorf("moving to a draining server: %d %s", status, text)
	}
}

func TestStatusPageFiles(t *testing.T) {
	m := manage(t, 1, "")
	if err := m.reload(m.dashboard("", "")); err != nil {
		t.Fatal(err)
	}
	for path, kind := range map[string]string{
		"/lb/":          "text/html; charset=utf-8",
		"/lb/app.js":    "text/javascript; charset=utf-8",
		"/lb/style.css": "text/css; charset=utf-8",
		"/lb/icon.svg":  "image/svg+xml",
	} {
		status, head, text := m.get(path)
		if status != http.StatusOK || head.Get("Content-Type") != kind || text == "" {
			t.Errorf("%s: %d %s, %d bytes", path, status, head.Get("Content-Type"), len(text))
		}
		for _, word := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} {
			if !strings.Contains(head.Get("Content-Security-Policy"), word) {
				t.Errorf("%s: the policy lacks %s", path, word)
			}
		}
		if head.Get("X-Content-Type-Options") != "nosniff" || head.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, head)
		}
		// Nothing of elsewhere, not even a font.
		for _, word := range []string{"http://", "https://", "@import", "url("} {
			if strings.Contains(strings.ReplaceAll(text, "http://www.w3.org/2000/svg", ""), word) {
				t.Errorf("%s has %q in it", path, word)
			}
		}
		if status, _, text := m.get(path, "If-None-Match", head.Get("Etag")); status != http.StatusNotModified || text != "" {
			t.Errorf("%s once more: %d", path, status)
		}
	}
	for path, want := range map[string]int{"/lb/passwd.txt": 404, "/lb/index.html": 404} {
		if status, _, _ := m.get(path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	if status, head, _ := do(t, http.MethodPost, m.URL+"/lb/"); status != http.StatusMethodNotAllowed || head.Get("Allow") == "" {
		t.Errorf("POST: %d %v", status, head)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Get(m.URL + "/lb")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if to, err := res.Location(); err != nil || to.String() != m.URL+"/lb/" {
		t.Errorf("without its slash it leads to %v (%v)", to, err)
	}

	// Wherever it is.
	for _, place := range []string{"handle_path /x/y/* {\nplexlb_dashboard\n}", "handle /x/y/* {\nplexlb_dashboard\n}", "redir /x/y /x/y/\nplexlb_dashboard /x/y/*"} {
		if err := m.reload(m.with(option(m.servers, ""), place+"\nplexlb\n", "")); err != nil {
			t.Fatal(err)
		}
		if status, head, _ := m.get("/x/y/"); status != http.StatusOK || !strings.HasPrefix(head.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %d", place, status)
		}
		if status, _, _ := m.get("/x/y/app.js"); status != http.StatusOK {
			t.Errorf("%s: app.js: %d", place, status)
		}
	}
}

// Pages that are open must not hold up a reload, which waits for requests under
// way for as long as they take.
func TestStatusPageAndReloads(t *testing.T) {
	m := manage(t, 2, replicated)
	config := strings.Replace(m.dashboard("", replicated), "grace_period 1s", "", 1)
	if err := m.reload(config); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		s := m.connect()
		began := time.Now()
		if err := m.reload(strings.Replace(config, "poll_interval 300ms", "poll_interval "+[]string{"310ms", "320ms", "330ms"}[i], 1)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Fatalf("the reload took %v", took)
		}
		for s.next() {
			if time.Since(began) > 10*time.Second {
				t.Fatal("the page was not told to leave")
			}
		}
	}
	if err := m.reload(strings.Replace(config, "poll_interval 300ms", "poll_interval nonsense", 1)); err == nil {
		t.Fatal("a wrong config was taken")
	}
	m.connect().until("both servers", func(p *pageState) bool { return len(p.Servers) == 2 })
}

func TestStatusPagesAreBounded(t *testing.T) {
	m := manage(t, 1, "")
	if err := m.reload(m.dashboard("", "")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open := func() (int, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, m.URL+"/lb/events", nil)
		if err != nil {
			return 0, err
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, err
		}
		t.Cleanup(func() { res.Body.Close() })
		return res.StatusCode, nil
	}
	var got []int
	for range 70 {
		status, err := open()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, status)
	}
	if n := len(got) - len(slices.DeleteFunc(slices.Clone(got), func(s int) bool { return s == http.StatusOK })); n != 64 {
		t.Errorf("%d of 70 pages were let in: %v", n, got)
	}
	cancel()
	ctx = t.Context()
	eventually(t, "there is room again", 5*time.Second, func() bool {
		status, err := open()
		return err == nil && status == http.StatusOK
	})
}

// The page is for those whom the site lets in.
func TestStatusPageBehindAuth(t *testing.T) {
	m := manage(t, 1, "")
	// The hash is that of "secret".
	auth := "basic_auth /lb* {\nbob $2a$04$NVgfOLGv7hlZ7TfD1pRJaeK6p7RUKmG7bQVYjVsPVVhNIuaC3jkkO\n}\nplexlb_dashboard /lb* {\ncontrol\n}\nplexlb\n"
	if err := m.reload(m.with(option(m.servers, ""), auth, "")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/lb/", "/lb/app.js", "/lb/events", "/lb/session?id=x"} {
		if status, _, _ := m.get(path); status != http.StatusUnauthorized {
			t.Errorf("%s is open to all: %d", path, status)
		}
	}
	res, err := http.Post(m.URL+"/lb/control", "application/json", strings.NewReader(`{"do": "drain", "server": "plex1"}`))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized || m.state("plex1") != "up" {
		t.Errorf("everybody can drain: %d", res.StatusCode)
	}
}
