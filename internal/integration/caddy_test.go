// Package integration tests the balancer as its users run it: a real Caddy, a
// Caddyfile, stand-ins for Plex Media Servers, and viewers.
package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/plexlb/caddy-plexlb"
	"github.com/plexlb/caddy-plexlb/internal/child"
	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plextest"
	"github.com/plexlb/caddy-plexlb/plexlb"
)

// token is the owner's, at all stand-ins.
const token = "owner-token"

// balancer is a Caddy that runs in this process; there can be one at a time.
type balancer struct {
	t    *testing.T
	addr string // of its first site
	URL  string
}

// global is what every test's Caddyfile begins with.
const global = `
	admin off
	persist_config off
	auto_https off
	grace_period 1s
	log {
		output discard
	}
`

// load runs Caddy with a Caddyfile in which HERE stands for the address to
// listen on, and GLOBAL for the usual global options.
func load(t *testing.T, config string) *balancer {
	t.Helper()
	b := &balancer{t: t, addr: freeAddr(t)}
	b.URL = "http://" + b.addr
	if err := b.reload(config); err != nil {
		t.Fatalf("starting Caddy: %v", err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping Caddy: %v", err)
		}
	})
	return b
}

// reload runs another config in the same place.
func (b *balancer) reload(config string) error {
	config = strings.NewReplacer("HERE", "http://"+b.addr, "GLOBAL", global).Replace(config)
	return loadCaddyfile(config)
}

func loadCaddyfile(config string) error {
	json, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(config), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		if !strings.Contains(w.Message, "formatted") {
			return fmt.Errorf("warning: %s", w.Message)
		}
	}
	return caddy.Load(json, true)
}

// ledger returns the one that the running Caddy uses.
func (b *balancer) ledger() *cluster.Ledger {
	b.t.Helper()
	ctx := caddy.ActiveContext()
	app, err := ctx.AppIfConfigured("plexlb")
	if err != nil {
		b.t.Fatalf("no app: %v", err)
	}
	return app.(*plexlb.App).Ledger()
}

// server returns the view of one server.
func (b *balancer) server(name string) cluster.ServerView {
	b.t.Helper()
	for _, s := range b.ledger().View(time.Now()) {
		if s.Name == name {
			return s
		}
	}
	b.t.Fatalf("no server %q", name)
	panic("unreachable")
}

// freeAddr returns an address that is free on all of the machine's, as Caddy
// listens on all of them.
func freeAddr(t testing.TB) string {
	t.Helper()
	port, err := child.FreePort("")
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// stand starts stand-ins called plex1, plex2, …; edit may change how each is.
func stand(t testing.TB, n int, edit func(i int, cfg *plextest.Config)) []*plextest.Server {
	t.Helper()
	servers := make([]*plextest.Server, n)
	for i := range servers {
		cfg := plextest.Config{Name: fmt.Sprintf("plex%d", i+1), Token: token, SegmentSize: 2048}
		if edit != nil {
			edit(i, &cfg)
		}
		s := plextest.New(cfg)
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		servers[i] = s
	}
	return servers
}

// option writes the global option for the stand-ins; more holds further
// subdirectives, weights those of the servers.
func option(servers []*plextest.Server, more string, weights ...float64) string {
	var b strings.Builder
	b.WriteString("plexlb {\n\ttoken " + token + "\n\tpoll_interval 300ms\n\tpoll_timeout 1s\n" + more + "\n")
	for i, s := range servers {
		fmt.Fprintf(&b, "\tserver plex%d %s", i+1, s.Addr())
		if i < len(weights) {
			fmt.Fprintf(&b, " {\n\t\tweight %v\n\t}", weights[i])
		}
		b.WriteString("\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// labels makes responses say where they came from and why.
const labels = `
	header >X-Plexlb-Server {http.plexlb.server}
	header >X-Plexlb-Reason {http.plexlb.reason}
`

// site is a Caddyfile with the one-line directive.
func site(servers []*plextest.Server, more string, weights ...float64) string {
	return "{\nGLOBAL\n" + option(servers, more, weights...) + "}\nHERE {\n" + labels + "\tplexlb\n}\n"
}

// replicated is the subdirective of that mode.
const replicated = "mode replicated plex1"

// get fetches a path through the balancer.
func (b *balancer) get(path string, header ...string) (int, http.Header, string) {
	b.t.Helper()
	return do(b.t, http.MethodGet, b.URL+path, header...)
}

func do(t testing.TB, method, url string, header ...string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(body)
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, within time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func TestMain(m *testing.M) {
	// Caddy keeps its own files out of the user's folders.
	dir, err := os.MkdirTemp("", "plexlb")
	if err != nil {
		panic(err)
	}
	os.Setenv("XDG_DATA_HOME", dir)
	os.Setenv("XDG_CONFIG_HOME", dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}
