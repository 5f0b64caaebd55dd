package acme

import (
	"testing"
	"time"
)

func TestWildcard(t *testing.T) {
	h := newHouse(t, "Caddyfile", 45*time.Second)
	h.start()
	cert := h.certified(name("plex"), h.in.Roots, 30*time.Second)
	t.Log(cert.DNSNames, cert.SerialNumber, cert.Issuer)
	t.Log(h.in.DuckDNS.Updates())
	time.Sleep(3 * time.Second)
	t.Log(h.log.String())
}
