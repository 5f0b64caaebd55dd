package acme

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// byDNS has every site get its certificate by DNS-01.
const byDNS = `cert_issuer acme {
		dir DIRECTORY
		dns duckdns {env.DUCKDNS_TOKEN}
		resolvers {$RESOLVER}
		PROPAGATION
	}`

// What Caddy does when a TXT value is set: it looks for it, or tells the ACME
// server after a while to look for it.
const (
	looks = "propagation_timeout 12s"
	waits = "propagation_timeout -1\n\t\tpropagation_delay 6s"
)

// Why a name is given up then.
const (
	notSeen = "timed out waiting for record to fully propagate"
	refused = "found for DNS challenge" // "Correct value not", "No TXT records"
)

// Why there is one wildcard certificate: DuckDNS holds one TXT value for a
// domain, and of three names that ask at the same time one at most is certified.
func TestThreeNamesCollide(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct {
		example     string
		propagation string
		lost        string // why a name is given up
		slots       int    // of DuckDNS
		asking      int    // names that are certified at the same time
		served      []int  // names of three that may get a certificate
	}{
		"three names and the one TXT value of DuckDNS":         {"ports.caddyfile", looks, notSeen, 1, 3, []int{1}},
		"three names and a DNS provider that would hold three": {"ports.caddyfile", looks, notSeen, 3, 3, []int{3}},
		// Who fails first clears the value, whose ever it is.
		"three names and the one TXT value, at which only Pebble looks": {"ports.caddyfile", waits, refused, 1, 3, []int{0, 1}},
		"three names and three values, at which only Pebble looks":      {"ports.caddyfile", waits, refused, 3, 3, []int{3}},
		"a wildcard for three names and DuckDNS's one TXT value":        {"Caddyfile", "", notSeen, 1, 1, []int{3}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			// A certificate for an hour could be renewed meanwhile: Pebble proposes
			// a time within a day.
			h := newHouse(t, tc.example, 90*24*time.Hour)
			h.in.DuckDNS.Slots = tc.slots
			// None is looked for before all are there.
			h.in.DuckDNS.HoldTXT(tc.asking)
			var more []string
			if tc.propagation != "" {
				more = append(more, strings.NewReplacer("DIRECTORY", h.in.directory, "PROPAGATION", tc.propagation).Replace(byDNS))
			}
			h.start(more...)

			// A name either is served or has been given up.
			served := func() (n int) {
				for _, host := range []string{"plex", "plex1", "plex2"} {
					if _, err := h.greet(name(host), h.in.Roots); err == nil {
						n++
					}
				}
				return n
			}
			failed := func() int {
				n := 0
				for l := range strings.Lines(h.log.String()) {
					if strings.Contains(l, "could not get certificate from issuer") && strings.Contains(l, tc.lost) {
						n++
					}
				}
				return n
			}
			if !eventually(40*time.Second, func() bool { return served()+failed() >= 3 }) {
				t.Errorf("%d names are served, %d given up", served(), failed())
			}
			n := served()
			if !slices.Contains(tc.served, n) {
				t.Errorf("%d of three names are served, want %v", n, tc.served)
			}
			if given := failed(); given != 3-n {
				t.Errorf("%d names were given up, want %d", given, 3-n)
			}
			if set, cleared := h.in.challenges(); set != tc.asking || cleared != tc.asking {
				t.Errorf("the TXT value was set %d times and cleared %d times, want %d", set, cleared, tc.asking)
			}
		})
	}
}

// With open ports every name has a certificate of its own, and DNS holds nothing
// but the address.
func TestOpenPorts(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct{ more, challenge, other string }{
		"port 80":  {"disable_tlsalpn_challenge", "http-01", "tls-alpn-01"},
		"port 443": {"disable_http_challenge", "tls-alpn-01", "http-01"},
		"both":     {},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, "ports.caddyfile", time.Hour)
			var more []string
			if tc.more != "" {
				more = append(more, "cert_issuer acme {\n\t\tdir "+h.in.directory+"\n\t\t"+tc.more+"\n\t}")
			}
			h.start(more...)
			hosts := []string{name("plex"), name("plex1"), name("plex2")}
			for _, host := range hosts {
				cert := h.certified(host, h.in.Roots, 30*time.Second)
				if len(cert.DNSNames) != 1 || cert.DNSNames[0] != host {
					t.Errorf("the certificate of %s is for %v", host, cert.DNSNames)
				}
			}
			if set, _ := h.in.challenges(); set > 0 {
				t.Errorf("the TXT value was set %d times", set)
			}
			if text := h.log.String(); tc.more != "" && (!strings.Contains(text, tc.challenge) || strings.Contains(text, tc.other)) {
				t.Errorf("certified by another challenge than %s", tc.challenge)
			}
			a := h.invite(h.in.Roots, hosts...)
			a.play(3 * time.Second)
			a.content(2, ownServer)
		})
	}
}
