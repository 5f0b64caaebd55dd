package acme

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Within the house Caddy certifies by itself and tells nobody outside, whatever
// the names are.
func TestLAN(t *testing.T) {
	t.Parallel()
	for what, domain := range map[string]string{
		"the names of the example":       "",
		"names that could be the public": "house.example.org",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, "lan.caddyfile", time.Hour)
			if domain == "" {
				domain = "home.arpa"
			} else {
				h.set("LAN_DOMAIN", domain)
			}
			h.start()
			var authority []byte
			if !eventually(10*time.Second, func() (ok bool) {
				var err error
				authority, err = os.ReadFile(filepath.Join(h.folder, "caddy", "pki", "authorities", "local", "root.crt"))
				return err == nil
			}) {
				t.Fatal("Caddy has made no authority")
			}
			roots := x509.NewCertPool()
			if !roots.AppendCertsFromPEM(authority) {
				t.Fatal("the authority is no certificate")
			}
			hosts := []string{"plex." + domain, "plex1." + domain, "plex2." + domain}
			for _, host := range hosts {
				h.certified(host, roots, 10*time.Second)
			}
			a := h.invite(roots, hosts...)
			a.play(3 * time.Second)
			a.content(2, ownServer)
			if updates := h.in.DuckDNS.Updates(); len(updates) > 0 {
				t.Errorf("DuckDNS was told: %v", updates)
			}
		})
	}
}
