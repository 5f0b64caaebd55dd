package acme

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The uplink gets another address, and the names follow: found out and told to
// DuckDNS as the example does by itself.
func TestAddressFollows(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "Caddyfile", time.Hour)
	h.in.Move("203.0.113.7")
	h.start()
	for _, address := range []string{"203.0.113.7", "198.51.100.23"} {
		h.in.Move(address)
		h.leadsTo(dns.TypeA, address)
	}
	before := len(h.told())
	time.Sleep(3 * time.Second) // three checks
	if told := h.told(); len(told) != before || before != 2 {
		t.Errorf("DuckDNS was told %v for two addresses", told)
	}
}

// The same for IPv6, where only that address changes.
func TestIPv6AddressFollows(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("no IPv6 here: %v", err)
	}
	var address atomic.Value
	address.Store("2001:db8::7")
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, address.Load())
	}))
	s.Listener = listener
	s.Start()
	t.Cleanup(s.Close)

	h := newHouse(t, "Caddyfile", time.Hour)
	// The proxy is reached over IPv4, so what is behind it is told that one only.
	h.set("CHECK_INTERVAL", "1s\n\t\tip_source simple_http "+s.URL)
	h.start()
	for _, a := range []string{"2001:db8::7", "2001:db8:1::7"} {
		address.Store(a)
		h.leadsTo(dns.TypeAAAA, a)
	}
	if ipv4 := h.in.DuckDNS.Records(domain).IPv4; ipv4 != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("the IPv4 address has become %v", ipv4)
	}
}

// leadsTo waits until all names do, by DNS.
func (h *house) leadsTo(rrtype uint16, address string) {
	h.t.Helper()
	for _, host := range []string{parent, name("plex"), name("plex1"), name("plex2")} {
		got := ""
		if !eventually(10*time.Second, func() bool { got = h.resolve(host, rrtype); return got == address }) {
			h.t.Fatalf("%s leads to %q, want %s", host, got, address)
		}
	}
}

func (h *house) resolve(host string, rrtype uint16) string {
	m := new(dns.Msg).SetQuestion(host+".", rrtype)
	in, err := dns.Exchange(m, h.in.resolver)
	if err != nil {
		return err.Error()
	}
	for _, rr := range in.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			return rr.A.String()
		case *dns.AAAA:
			return rr.AAAA.String()
		}
	}
	return ""
}

// told returns the addresses that DuckDNS was told.
func (h *house) told() (addresses []string) {
	for _, u := range h.in.DuckDNS.Updates() {
		if !u.TXT && u.OK {
			addresses = append(addresses, u.Value)
		}
	}
	return addresses
}
