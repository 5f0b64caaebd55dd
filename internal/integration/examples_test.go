package integration

import (
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// hiccup is the hash of that word.
const hiccup = "$2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG"

// The examples are not only valid: people play through them.
func TestExamplesRun(t *testing.T) {
	for _, name := range []string{"minimal", "replicated", "handwritten", "logging", "dashboard"} {
		t.Run(name, func(t *testing.T) {
			config, err := os.ReadFile(filepath.Join("..", "..", "examples", name, "Caddyfile"))
			if err != nil {
				t.Fatal(err)
			}
			servers := stand(t, 2, nil)
			b := &balancer{t: t, addr: freeAddr(t)}
			b.URL = "http://" + b.addr
			log := filepath.Join(t.TempDir(), "access.log")
			failures := filepath.Join(t.TempDir(), "caddy.log")
			for key, value := range map[string]string{
				"PLEX1": servers[0].Addr(), "PLEX2": servers[1].Addr(), "PLEX_TOKEN": token, "LOG": "file " + log, "ERRORS": "file " + failures,
				"ADMIN_HASH": hiccup, "SITE": b.URL, "SITE1": "http://" + freeAddr(t), "SITE2": "http://" + freeAddr(t),
			} {
				t.Setenv(key, value)
			}
			head, rest, ok := strings.Cut(string(config), "\n{\n")
			if !ok {
				t.Fatal("no global options")
			}
			options := global
			if name == "logging" {
				options = strings.ReplaceAll(options, "log {\n\t\toutput discard\n\t}", "")
			}
			if err := loadCaddyfile(head + "\n{\n" + options + rest); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = caddy.Stop() })
			for i, kind := range plextest.Kinds() {
				v := plextest.NewViewer(kind, b.URL, token, kind.Item(), uint64(i))
				if err := v.Start(t.Context()); err != nil {
					t.Fatalf("%s: %v", kind, err)
				}
				if err := v.Segment(t.Context(), 0); err != nil {
					t.Errorf("%s: %v", kind, err)
				}
				_ = v.Stop(t.Context())
			}
			if name == "dashboard" {
				if status, _, _ := b.get("/plexlb/events"); status != http.StatusUnauthorized {
					t.Errorf("the status page is open to all: %d", status)
				}
				if status, head, _ := b.get("/plexlb/", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("admin:hiccup"))); status != http.StatusOK || head.Get("Content-Security-Policy") == "" {
					t.Errorf("the status page: %d", status)
				}
			}
			if name != "logging" {
				return
			}
			b.get("/photo/:/transcode?width=9&height=9&url=%2Flibrary%2Fmetadata%2F1%2Fthumb%2F1%3FX-Plex-Token%3D"+token+"&x-plex-token="+token, "Referer", "http://x/?X-Plex-Token="+token)
			// Requests that fail are told of in another log.
			for _, s := range servers {
				s.Close()
			}
			b.get("/:/timeline?state=playing&X-Plex-Token="+token+"&url=x%253FX-Plex-Token%253D"+token, "X-Plex-Token", token, "Referer", "http://x/?X-Plex-Token="+token)
			if err := caddy.Stop(); err != nil {
				t.Fatal(err)
			}
			errors, err := os.ReadFile(failures)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(errors), "/:/timeline"); n == 0 || strings.Contains(string(errors), token) {
				t.Errorf("the failed request is logged %d times, token in it: %v", n, strings.Contains(string(errors), token))
			}
			raw, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
			if len(lines) < 30 {
				t.Errorf("only %d lines in the access log", len(lines))
			}
			placed := 0
			for _, line := range lines {
				if strings.Contains(line, token) {
					t.Errorf("token in the access log: %s", line)
				}
				if strings.Contains(line, `"plex_server":"plex`) && strings.Contains(line, `"plex_reason":"`) {
					placed++
				}
			}
			if placed < len(lines)*9/10 {
				t.Errorf("%d of %d lines name a server", placed, len(lines))
			}
		})
	}
}
