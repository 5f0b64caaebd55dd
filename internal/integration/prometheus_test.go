//go:build unix

package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// observability is where the examples for Prometheus and Grafana are.
var observability = filepath.Join("..", "..", "examples", "observability")

// tool finds a program of Debian's package prometheus. Without it the test is
// skipped, but where everything has to pass.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		t.Fatalf("%s is missing: install the package prometheus", name)
	default:
		t.Skipf("%s is missing: install the package prometheus to run this", name)
	}
	return ""
}

// The rules are valid, and each fires when it shall and only then.
func TestAlertRules(t *testing.T) {
	promtool := tool(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "rules.yml"}, {"check", "config", "prometheus.yml"}, {"test", "rules", "rules_test.yml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = observability
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// promAPI asks Prometheus.
type promAPI struct {
	t    *testing.T
	addr string
}

func (p promAPI) get(path string, query url.Values, v any) error {
	res, err := http.Get("http://" + p.addr + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", answer.Status, answer.Error)
	}
	return json.Unmarshal(answer.Data, v)
}

// points counts what an expression gave since a time, NaN left out.
func (p promAPI) points(expr string, since time.Time) (n int) {
	p.t.Helper()
	var data struct {
		Result []struct{ Values [][2]any }
	}
	err := p.get("/api/v1/query_range", url.Values{
		"query": {expr}, "step": {"1s"},
		"start": {fmt.Sprint(since.Unix())}, "end": {fmt.Sprint(time.Now().Unix())},
	}, &data)
	if err != nil {
		p.t.Errorf("%s: %v", expr, err)
	}
	for _, series := range data.Result {
		for _, v := range series.Values {
			if v[1] != "NaN" {
				n++
			}
		}
	}
	return n
}

// limits are the comparisons by which an expression is empty when all is well.
var limits = regexp.MustCompile(` (==|>) [0-9.]+`)

// dashboard reads the expressions of the dashboard, for Prometheus to
// understand, and checks what an import needs.
func dashboard(t *testing.T) (exprs []string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(observability, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	type source struct{ UID string }
	var d struct {
		Inputs []struct{ Name string } `json:"__inputs"`
		Panels []struct {
			Title      string
			Datasource source
			Targets    []struct {
				Expr       string
				Datasource source
			}
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Inputs) != 1 || d.Inputs[0].Name != "DS_PROMETHEUS" || len(d.Templating.List) != 2 || len(d.Panels) < 10 {
		t.Errorf("the dashboard has inputs %v, variables %v and %d panels", d.Inputs, d.Templating.List, len(d.Panels))
	}
	fill := strings.NewReplacer("$instance", ".+", "$server", ".+", "$__rate_interval", "10s")
	for _, v := range d.Templating.List {
		m := regexp.MustCompile(`^label_values\((.*), (instance|server)\)$`).FindStringSubmatch(v.Definition)
		if m == nil || m[2] != v.Name {
			t.Errorf("variable %s is %s", v.Name, v.Definition)
			continue
		}
		exprs = append(exprs, fill.Replace(fmt.Sprintf("count by (%s) (%s)", m[2], m[1])))
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			if p.Datasource.UID != "${DS_PROMETHEUS}" || target.Datasource.UID != "${DS_PROMETHEUS}" {
				t.Errorf("%s: another data source", p.Title)
			}
			exprs = append(exprs, fill.Replace(target.Expr))
		}
	}
	return exprs
}

// A real Prometheus scrapes a real Caddy while people play and a server dies:
// every expression of the dashboard and of the rules has something to show.
func TestDashboardAndRulesHaveData(t *testing.T) {
	program := tool(t, "prometheus")
	f := startFleet(t, 3, clones...)
	admin := freeAddr(t)
	config := strings.Replace(f.site(replicated), f[0].addr, f[0].addr+" {\n\t\tmax_transcodes 30\n\t}", 1)
	b := load(t, strings.Replace(config, "GLOBAL", strings.Replace(global, "admin off", "admin "+admin, 1), 1))

	p := promAPI{t, freeAddr(t)}
	dir := t.TempDir()
	rules, err := filepath.Abs(filepath.Join(observability, "rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	settings := fmt.Sprintf("global:\n  scrape_interval: 500ms\n  scrape_timeout: 400ms\n  evaluation_interval: 1s\nrule_files: [%q]\n"+
		"scrape_configs:\n  - job_name: plexlb\n    static_configs:\n      - targets: [%q]\n", rules, admin)
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+p.addr, "--log.level=warn")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	begin := time.Now()
	eventually(t, "Prometheus scrapes Caddy", 20*time.Second, func() bool {
		var data struct{ Result []any }
		err := p.get("/api/v1/query", url.Values{"query": {"caddy_plexlb_sessions"}}, &data)
		return err == nil && len(data.Result) == 1
	})

	a := invite(t, b.URL, 12, plextest.MusicHTTP, plextest.MPVShim, plextest.MusicHTTP, plextest.PlexWeb)
	a.play(14 * time.Second)
	time.Sleep(2 * time.Second)
	// The one that dies takes a stream with it.
	dies, drains := "plex2", "plex3"
	for i, name := range a.at() {
		if a.viewers[i].Kind == plextest.MusicHTTP && name == "plex3" {
			dies, drains = drains, dies
			break
		}
	}
	if err := b.app().Drain(drains, false, 0); err != nil {
		t.Fatal(err)
	}
	f.named(dies).kill()
	time.Sleep(10 * time.Second)
	if n := b.ledger().Totals(); n.Moved == 0 || n.Lost == 0 {
		t.Errorf("%+v: the test tests less than it should", n)
	}

	var data struct {
		Groups []struct {
			Rules []struct{ Name, Query, Health, LastError string }
		}
	}
	if err := p.get("/api/v1/rules", nil, &data); err != nil {
		t.Fatal(err)
	}
	exprs := dashboard(t)
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" {
				t.Errorf("%s: %s", r.Name, r.LastError)
			}
			exprs = append(exprs, r.Query)
		}
	}
	if len(exprs) < 30 {
		t.Errorf("there are only %d expressions", len(exprs))
	}
	for _, expr := range exprs {
		if p.points(limits.ReplaceAllString(expr, ""), begin) == 0 {
			t.Errorf("no data: %s", expr)
		}
	}
	// And with their limits, what has happened.
	for _, expr := range []string{
		"caddy_plexlb_server_up == 0",
		`sum by (instance) (increase(caddy_plexlb_moves_total{outcome="lost"}[10m])) > 0`,
		`increase(caddy_plexlb_moves_total{reason="server_lost",outcome="moved"}[10m]) > 0`,
	} {
		if p.points(expr, begin) == 0 {
			t.Errorf("no data: %s", expr)
		}
	}
}
