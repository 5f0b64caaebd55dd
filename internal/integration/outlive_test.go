package integration

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// What the soak excuses, and stock Caddy does: a connection whose answer began
// before a reload is closed after it, and the answer does not say so. Who asks
// for something else on it at once is not answered.
func TestConnectionsThatOutliveAReload(t *testing.T) {
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "begun")
		_ = http.NewResponseController(w).Flush()
		<-end
		fmt.Fprintln(w, "over")
	}))
	defer server.Close()
	// Without a grace period, which would break the answer off.
	config := "{\nadmin off\npersist_config off\nauto_https off\nlog {\noutput discard\n}\n}\nHERE {\nNEW\nreverse_proxy " + server.Listener.Addr().String() + "\n}\n"
	b := load(t, strings.Replace(config, "NEW", "", 1))
	conn, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", b.addr)
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.reload(strings.Replace(config, "NEW", "header X-Reload 1", 1)); err != nil {
		t.Fatal(err)
	}
	close(end)
	if body, err := io.ReadAll(res.Body); string(body) != "begun\nover\n" || err != nil || res.Close {
		t.Errorf("the answer is %q, %v, and says that its connection is closed: %v; want it whole, and not said", body, err, res.Close)
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection is open still: %v", err)
	}
}

// Caddy stops trying when a config is replaced: what waits for its next attempt
// at that moment is tried again by us.
func TestRetriesOutliveAReload(t *testing.T) {
	for name, ask := range map[string]func(v *plextest.Viewer) error{
		"file": func(v *plextest.Viewer) error { return v.Segment(t.Context(), 3) },
		"listing": func(v *plextest.Viewer) error {
			res, err := http.Get(v.Base + "/library/sections?X-Plex-Token=" + token)
			if err != nil {
				return err
			}
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				return fmt.Errorf("status %d", res.StatusCode)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			servers := stand(t, 3, func(_ int, c *plextest.Config) { c.MachineIdentifier, c.Database = "clone", "clone" })
			config := strings.NewReplacer("GLOBAL", strings.Replace(global, "grace_period 1s", "grace_period 20s", 1),
				"\tplexlb\n", "\tplexlb {\n\t\tlb_try_interval 600ms\n\t}\n").Replace(site(servers, replicated, 10))
			b := load(t, config)
			v := plextest.NewViewer(plextest.DirectPlay, b.URL, token, plextest.Direct, 1)
			if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
				t.Fatal(err)
			}
			if got := v.Account().Servers(); len(got) != 1 || got[0] != "plex1" {
				t.Fatalf("it is on %v, want plex1", got)
			}
			servers[0].Close()
			done := make(chan error)
			go func() { done <- ask(v) }()
			time.Sleep(200 * time.Millisecond)
			select {
			case err := <-done:
				t.Fatalf("it did not wait: %v", err)
			default:
			}
			if err := b.reload(strings.Replace(config, "HERE {\n", "HERE {\nheader X-Reload 1\n", 1)); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}
