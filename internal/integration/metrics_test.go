package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
	"github.com/plexlb/caddy-plexlb/plexlb"
)

// scraped is what Caddy tells Prometheus of this module.
type scraped struct {
	types  map[string]string             // of metrics, by name
	values map[string]map[string]float64 // by name and labels as they are written
	help   map[string]string
}

// scrape reads the metrics at an admin endpoint. What is no good exposition
// fails the test: a metric twice, or one without type and help.
func scrape(t *testing.T, admin string) scraped {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true // the endpoint is another after a reload
	var res *http.Response
	eventually(t, "the admin endpoint answers", 5*time.Second, func() bool {
		res, err = http.DefaultClient.Do(r)
		return err == nil
	})
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(res.Body)
		t.Fatalf("/metrics: status %d: %s", res.StatusCode, body)
	}
	s := scraped{make(map[string]string), make(map[string]map[string]float64), make(map[string]string)}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		line := lines.Text()
		if strings.Contains(line, token) {
			t.Errorf("a token: %s", line)
		}
		rest, ok := strings.CutPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "caddy_plexlb_")
		if !ok {
			continue
		}
		name, text, _ := strings.Cut(rest, " ")
		switch {
		case strings.HasPrefix(line, "# HELP"):
			s.help[name] = text
		case strings.HasPrefix(line, "# TYPE"):
			s.types[name] = text
		default:
			name, labels, _ := strings.Cut(rest[:strings.LastIndexByte(rest, ' ')], "{")
			value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
			if err != nil {
				t.Errorf("%s: %v", line, err)
			}
			labels = strings.TrimSuffix(labels, "}")
			if s.values[name] == nil {
				s.values[name] = make(map[string]float64)
			}
			if _, twice := s.values[name][labels]; twice {
				t.Errorf("twice: %s", line)
			}
			s.values[name][labels] = value
		}
	}
	return s
}

// sum adds up the values of a metric whose labels hold all of some.
func (s scraped) sum(name string, labels ...string) (x float64) {
	for l, v := range s.values[name] {
		if !slices.ContainsFunc(labels, func(want string) bool { return !strings.Contains(l, want) }) {
			x += v
		}
	}
	return x
}

// wantTypes are the metrics that there are.
var wantTypes = map[string]string{
	"server_up": "gauge", "server_transcodes": "gauge", "server_sessions": "gauge", "server_load": "gauge",
	"server_weight": "gauge", "server_max_transcodes": "gauge", "server_draining": "gauge", "server_degraded": "gauge",
	"poll_age_seconds": "gauge", "poll_duration_seconds": "histogram", "poll_failures_total": "counter",
	"placements_total": "counter", "moves_total": "counter", "sessions": "gauge", "resume_duration_seconds": "histogram",
	"events_dropped_total": "counter",
}

// Prometheus is told the truth, through reloads and configs that fail.
func TestMetrics(t *testing.T) {
	m := manage(t, 2, replicated, 2)
	extra := stand(t, 1, func(_ int, cfg *plextest.Config) {
		cfg.Name, cfg.MachineIdentifier, cfg.Database = "plex3", "clone", "clone"
	})[0]
	side := freeAddr(t)
	// One server has a limit; and one, behind a site of its own, no name.
	config := func(n int) string {
		c := m.config(replicated, fmt.Sprintf("http://%s {\n\tplexlb plex1 {\n\t\tto %s\n\t}\n\trespond /%d 204\n}\n", side, extra.Addr(), n), 2)
		return strings.Replace(c, "weight 2", "weight 2\n\t\tmax_transcodes 50", 1)
	}
	if err := m.reload(config(0)); err != nil {
		t.Fatal(err)
	}
	a := invite(t, m.URL, 6, plextest.MPVShim, plextest.PlexWeb, plextest.DirectPlay)
	a.play(25 * time.Second)
	b := invite(t, "http://"+side, 4, plextest.Plezy)
	b.play(25 * time.Second)
	for i, v := range a.viewers { // what all are on is a move
		if err := m.app().Move(t.Context(), v.TSID, "plex1"); err != nil && v.TSID != "" {
			t.Errorf("%s: %v", a.who(i), err)
		}
	}
	eventually(t, "all are read", 5*time.Second, func() bool { return len(scrape(t, m.admin).values["poll_age_seconds"]) == 3 })
	extra.SetPoll(plextest.Poll401)
	m.servers[1].SetPoll(plextest.PollHTML)
	eventually(t, "a refused token degrades", 5*time.Second, func() bool {
		return scrape(t, m.admin).sum("server_degraded", `server="other"`, `reason="token_rejected"`) == 1
	})
	time.Sleep(time.Second)

	first := scrape(t, m.admin)
	if !maps.Equal(first.types, wantTypes) {
		t.Errorf("there are %v, want %v", first.types, wantTypes)
	}
	for name := range wantTypes {
		if first.help[name] == "" {
			t.Errorf("%s has no help", name)
		}
	}
	views := make(map[string]float64)
	for _, v := range m.ledger().View(time.Now()) {
		views[v.Name] = v.Load
	}
	playing := float64(len(a.viewers) + len(b.viewers))
	for what, tc := range map[string]struct{ got, want float64 }{
		"up":                       {first.sum("server_up"), 3},
		"weight of plex1":          {first.sum("server_weight", `server="plex1"`), 2},
		"limit of plex1":           {first.sum("server_max_transcodes"), 50},
		"load of plex1":            {first.sum("server_load", `server="plex1"`), views["plex1"]},
		"load of the nameless":     {first.sum("server_load", `server="other"`), views[extra.Addr()]},
		"playbacks":                {first.sum("sessions"), playing},
		"sessions of all":          {min(first.sum("server_sessions"), playing), playing}, // a moved one is listed a while longer
		"placements":               {min(first.sum("placements_total"), playing), playing},
		"placements, least loaded": {first.sum("placements_total", `reason="least_load"`), playing},
		"moves":                    {first.sum("moves_total"), float64(m.ledger().Totals().Moved)},
		"moves by the operator":    {first.sum("moves_total", `reason="operator"`, `outcome="moved"`), float64(m.ledger().Totals().Moved)},
		"resumptions":              {first.sum("resume_duration_seconds_count"), float64(m.ledger().Totals().Moved)},
		"of the limit":             {float64(len(first.values["server_max_transcodes"])), 1},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %v, want %v", what, tc.got, tc.want)
		}
	}
	if n := first.sum("moves_total"); n == 0 {
		t.Error("nothing was moved: the test tests less than it should")
	}
	if n := first.sum("poll_failures_total", `server="other"`, `reason="unauthorized"`); n < 1 {
		t.Errorf("failed readings of the nameless server: %v", first.values["poll_failures_total"])
	}
	if n := first.sum("poll_failures_total", `server="plex2"`, `reason="not_pms"`); n < 1 {
		t.Errorf("failed readings of plex2: %v", first.values["poll_failures_total"])
	}
	if age := first.sum("poll_age_seconds", `server="plex2"`); age < 1 || age > 10 {
		t.Errorf("the last good reading is said to be %v seconds old", age)
	}
	if n := first.sum("server_degraded"); n != 1 {
		t.Errorf("degraded: %v", first.values["server_degraded"])
	}
	labelsFromConfig(t, first)

	for i := range 10 {
		if err := m.reload(config(i + 1)); err != nil {
			t.Fatal(err)
		}
	}
	// A config that fails when all is provisioned but one site.
	broken := config(11) + "\nhttps://localhost:0 {\n\ttls /nowhere.pem /nowhere.key\n}\n"
	if err := m.reload(broken); err == nil {
		t.Fatal("a config without certificate was taken")
	}
	last := scrape(t, m.admin)
	if !maps.Equal(last.types, wantTypes) {
		t.Errorf("after the reloads there are %v", last.types)
	}
	labelsFromConfig(t, last)
	for name, kind := range wantTypes {
		names := []string{name}
		if kind == "histogram" {
			names = []string{name + "_count", name + "_sum", name + "_bucket"}
		} else if kind != "counter" {
			continue
		}
		for _, name := range names {
			for l, before := range first.values[name] {
				if now := last.values[name][l]; now < before {
					t.Errorf("%s{%s} went from %v to %v", name, l, before, now)
				}
			}
		}
	}
	if got := last.sum("placements_total", `reason="least_load"`); got != playing {
		t.Errorf("%v placements after the reloads, want %v", got, playing)
	}
	if down := last.sum("server_up"); down != 3 {
		t.Errorf("%v servers are up after the reloads", down)
	}

	// A server that no config names any more has no series of its own.
	if err := m.reload(strings.ReplaceAll(m.with("plexlb {\n\ttoken "+token+"\n\tserver plex1 "+m.servers[0].Addr()+"\n}\n", "\tplexlb\n", ""), replicated, "")); err != nil {
		t.Fatal(err)
	}
	for name, series := range scrape(t, m.admin).values {
		for l := range series {
			if strings.Contains(l, "plex2") {
				t.Errorf("%s{%s}", name, l)
			}
		}
	}
}

// labelsFromConfig checks that all labels are of the sets that they may be of.
func labelsFromConfig(t *testing.T, s scraped) {
	t.Helper()
	words := map[string]string{
		"server": `plex1|plex2|other`, "kind": `gpu|cpu|copy`, "le": `[0-9.]+|\+Inf`, "outcome": `moved|resumed|failed|lost`,
		"reason": `[a-z_]+`,
	}
	label := regexp.MustCompile(`(\w+)="([^"]*)"`)
	for name, series := range s.values {
		if name == "server_degraded" && len(series) != 21 || name == "placements_total" && len(series) != 27 || name == "moves_total" && len(series) != 28 {
			t.Errorf("%s has %d series", name, len(series))
		}
		for l := range series {
			for _, m := range label.FindAllStringSubmatch(l, -1) {
				if want, ok := words[m[1]]; !ok || !regexp.MustCompile(`^(`+want+`)$`).MatchString(m[2]) {
					t.Errorf("%s{%s}", name, l)
				}
			}
		}
	}
}

// inbox takes in the events that the webhook sends.
type inbox struct {
	mu     sync.Mutex
	events []told
}

type told struct {
	Type string         `json:"type"`
	Data map[string]any `json:"data"`
}

func (in *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var e told
	body, _ := io.ReadAll(r.Body)
	if err := json.Unmarshal(body, &e); err != nil || strings.Contains(string(body), token) {
		e.Type = "bad: " + string(body)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.events = append(in.events, e)
}

// of returns what was told by an event of a type and with some data.
func (in *inbox) of(event string, data ...string) (list []told) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, e := range in.events {
		fits := e.Type == "plexlb."+event
		for i := 0; i+1 < len(data); i += 2 {
			fits = fits && fmt.Sprint(e.Data[data[i]]) == data[i+1]
		}
		if fits {
			list = append(list, e)
		}
	}
	return list
}

// Somebody is told of everything that matters, once, as in examples/events.
func TestEvents(t *testing.T) {
	var in inbox
	hook := httptest.NewServer(&in)
	t.Cleanup(hook.Close)
	servers := stand(t, 2, func(_ int, cfg *plextest.Config) {
		cfg.MachineIdentifier, cfg.Database, cfg.NoHardware = "clone", "clone", false
	})
	b := &balancer{t: t, addr: freeAddr(t)}
	b.URL = "http://" + b.addr
	for key, value := range map[string]string{
		"WEBHOOK": hook.URL, "PLEX1": servers[0].Addr(), "PLEX2": servers[1].Addr(), "PLEX_TOKEN": token, "SITE": b.URL,
	} {
		t.Setenv(key, value)
	}
	config, err := os.ReadFile(filepath.Join("..", "..", "examples", "events", "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	run := func() {
		t.Helper()
		c := strings.Replace(string(config), "\n{\n", "\n{\n"+global, 1)
		if err := loadCaddyfile(strings.Replace(c, "\tplexlb {\n", "\tplexlb {\n\t\tpoll_interval 300ms\n", 1)); err != nil {
			t.Fatal(err)
		}
	}
	run()
	t.Cleanup(func() { _ = caddy.Stop() })
	a := invite(t, b.URL, 6, plextest.MPVShim, plextest.Plezy, plextest.MusicHTTP)
	a.play(20 * time.Second)
	time.Sleep(time.Second)
	onTwo := count(a.at(), "plex2")
	if onTwo == 0 {
		t.Fatal("nobody is on plex2: the test tests nothing")
	}

	servers[0].SetPoll(plextest.Poll401)
	eventually(t, "the refused token is told", 5*time.Second, func() bool {
		return len(in.of("server_degraded", "server", "plex1", "reason", plexlb.TokenRejected, "degraded", "true")) == 1
	})
	if d := b.app().Degraded()["plex1"]; len(d) != 1 || d[0].Reason != plexlb.TokenRejected || d[0].Detail == "" || time.Since(d[0].Since) > time.Minute {
		t.Errorf("plex1 is degraded: %+v", d)
	}
	run() // and not told anew
	addr := servers[1].Addr()
	servers[1].Close()
	eventually(t, "the dead server is told", 10*time.Second, func() bool { return len(in.of("server_down", "server", "plex2")) == 1 })
	eventually(t, "its playbacks have moved, or are lost", 10*time.Second, func() bool {
		return len(in.of("session_moved", "from", "plex2", "to", "plex1"))+len(in.of("session_lost", "server", "plex2")) >= onTwo
	})
	if n := len(in.of("session_moved", "cause", "server_lost")); n == 0 {
		t.Errorf("moves: %v", in.of("session_moved"))
	}
	servers[0].SetPoll(plextest.PollGood)
	if err := servers[1].StartOn(addr); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server is told to be back", 25*time.Second, func() bool { return len(in.of("server_up", "server", "plex2")) == 1 })
	eventually(t, "the token is good again", 20*time.Second, func() bool {
		return len(in.of("server_degraded", "server", "plex1", "reason", plexlb.TokenRejected, "degraded", "false")) == 1
	})
	if err := b.app().Drain("plex2", true, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "plex2 is told to be drained", 20*time.Second, func() bool { return len(in.of("server_drained", "server", "plex2")) == 1 })
	if all := b.app().Degraded(); len(all) != 0 {
		t.Errorf("still degraded: %+v", all)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	downs := 0
	for _, e := range in.events {
		if strings.HasPrefix(e.Type, "bad") {
			t.Errorf("%s", e.Type)
		}
		if e.Type == "plexlb.server_down" || e.Type == "plexlb.server_degraded" && e.Data["reason"] == plexlb.TokenRejected && e.Data["degraded"] == true {
			downs++
		}
	}
	if downs != 2 {
		t.Errorf("what was told once only is told %d times: %v", downs, in.events)
	}
}

// What quietly goes wrong on real servers is seen in what they report, whoever
// plays there.
func TestDegraded(t *testing.T) {
	servers := stand(t, 2, func(i int, cfg *plextest.Config) {
		if i == 0 {
			cfg.GPULimit = 1
		} else {
			cfg.NoHardware, cfg.Speed, cfg.SegmentDuration = true, 2, 100*time.Millisecond // half of real time in software
		}
	})
	config := fmt.Sprintf("{\nGLOBAL\nplexlb {\n\ttoken %s\n\tpoll_interval 300ms\n\tserver plex1 %s {\n\t\tmax_transcodes 2\n\t}\n\tserver plex2 %s {\n\t\tmax_transcodes 1\n\t}\n}\n}\nHERE {\n\tplexlb\n}\n",
		token, servers[0].Addr(), servers[1].Addr())
	b := load(t, config)
	for i, n := range []int{2, 1} {
		for k := range n {
			v := plextest.NewViewer(plextest.MPVShim, servers[i].URL(), token, plextest.HEVC, uint64(10*i+k))
			t.Cleanup(v.Close)
			if err := v.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	reasons := func(server string) (list []string) {
		for _, d := range b.app().Degraded()[server] {
			list = append(list, d.Reason)
		}
		return list
	}
	eventually(t, "software where there is a GPU, and no room anywhere", 8*time.Second, func() bool {
		return slices.Equal(reasons("plex1"), []string{plexlb.GPUFallback, plexlb.AllFull}) && slices.Equal(reasons("plex2"), []string{plexlb.AllFull})
	})
	eventually(t, "slower than real time", 15*time.Second, func() bool { return slices.Contains(reasons("plex2"), plexlb.SlowTranscode) })
	if slices.Contains(reasons("plex2"), plexlb.GPUFallback) {
		t.Error("a server without a GPU is said to miss one")
	}
	servers[0].SetIdentity("somebody-else")
	servers[0].SetPoll(plextest.PollHTML) // as it was away meanwhile
	time.Sleep(time.Second)
	servers[0].SetPoll(plextest.PollGood)
	eventually(t, "another identity", 10*time.Second, func() bool { return slices.Contains(reasons("plex1"), plexlb.IdentityChanged) })
	if err := b.reload(strings.ReplaceAll(config, "max_transcodes 2", "max_transcodes 9")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the operator has taken note, and made room", 25*time.Second, func() bool { return slices.Equal(reasons("plex1"), []string{plexlb.GPUFallback}) })
}
