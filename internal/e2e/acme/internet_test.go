package acme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"github.com/plexlb/caddy-plexlb/internal/e2e/duckdns"
)

// What an account at DuckDNS is: a domain and a token of 36 characters.
const (
	domain       = "plexlb-test"
	duckdnsToken = "9b2f6a1e-7c3d-4e58-8f60-1a2b3c4d5e6f"
	parent       = domain + ".duckdns.org"
)

// internet is all that Caddy reaches beyond the house: DuckDNS, a service that
// tells callers their address, and a certificate authority. The first two have
// their real URLs and are reached through a proxy, as in a network that has no
// other way out.
type internet struct {
	DuckDNS *duckdns.Server
	Roots   *x509.CertPool // of the ACME server

	proxy     string // URL
	trust     string // file of the authority that the rest of the internet is certified by
	resolver  string // address of DuckDNS's name server
	names     *names // where the ACME server looks names up
	directory string // URL of the ACME server
	authority tls.Certificate

	mu      sync.Mutex
	address netip.Addr // that the house's router has
	refused []string   // hosts that are not there
}

// newInternet starts it. The ACME server looks for the challenges that open
// ports answer at the given ones, and issues certificates that are valid as
// long as stated.
func newInternet(t *testing.T, httpPort, httpsPort int, validity time.Duration) *internet {
	t.Helper()
	in := &internet{address: netip.MustParseAddr("127.0.0.1")}
	in.DuckDNS = duckdns.New(duckdnsToken, in.address, domain)
	in.certify(t)
	in.serveNames(t)
	in.serveChallenges(t)
	in.serveProxy(t)
	in.serveACME(t, httpPort, httpsPort, validity)
	return in
}

// Move gives the house another address.
func (in *internet) Move(address string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.address = netip.MustParseAddr(address)
}

func (in *internet) Address() netip.Addr {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.address
}

// Refused returns the hosts that somebody wanted and that are not there.
func (in *internet) Refused() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.refused)
}

// certify makes the authority of everything but the names of the house.
func (in *internet) certify(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "plexlb test"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	in.trust = filepath.Join(t.TempDir(), "authority.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(in.trust, block, 0o644); err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	in.authority = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// serve answers over HTTPS for names or addresses, and returns where.
func (in *internet) serve(t *testing.T, handler http.Handler, names ...string) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     names,
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, in.authority.Leaf, &key.PublicKey, in.authority.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(handler)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// serveNames is DuckDNS's name server.
func (in *internet) serveNames(t *testing.T) {
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in.resolver = packets.LocalAddr().String()
	s := &dns.Server{PacketConn: packets, Handler: in.DuckDNS}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	t.Cleanup(func() { in.DuckDNS.HoldTXT(0) })
}

// serveProxy is the way out: it connects to the hosts that are there.
func (in *internet) serveProxy(t *testing.T) {
	hosts := map[string]string{
		"www.duckdns.org:443": in.serve(t, in.DuckDNS, "www.duckdns.org"),
		"icanhazip.com:443": in.serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintln(w, in.Address())
		}), "icanhazip.com"),
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target, ok := hosts[r.Host]
		if r.Method != http.MethodConnect || !ok {
			in.mu.Lock()
			in.refused = append(in.refused, r.Host)
			in.mu.Unlock()
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		there, err := net.Dial("tcp", target)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		here, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			_ = there.Close()
			return
		}
		_, _ = io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { _, _ = io.Copy(there, here); _ = there.Close() }()
		go func() { _, _ = io.Copy(here, there); _ = here.Close() }()
	}))
	t.Cleanup(s.Close)
	in.proxy = s.URL
}

// serveACME is Pebble, which looks at challenges for real.
func (in *internet) serveACME(t *testing.T, httpPort, httpsPort int, validity time.Duration) {
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	authority := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{
		"default": {Description: "the only one", ValidityPeriod: uint64(validity.Seconds())},
	})
	validator := va.New(quiet, httpPort, httpsPort, false, in.names.address, store)
	front := wfe.New(quiet, store, validator, authority, []string{"pebble.letsencrypt.org"}, false, false, 1, 1)
	in.directory = "https://" + in.serve(t, front.Handler()) + wfe.DirectoryPath
	in.Roots = x509.NewCertPool()
	in.Roots.AddCert(authority.GetRootCert(0).Cert)
}

// environment is what a process needs to find the internet.
func (in *internet) environment() []string {
	return []string{
		"HTTPS_PROXY=" + in.proxy,
		"SSL_CERT_FILE=" + in.trust,
		"SSL_CERT_DIR=" + filepath.Dir(in.trust),
		"RESOLVER=" + in.resolver,
	}
}

// challenges returns the updates of the TXT value: set, and cleared.
func (in *internet) challenges() (set, cleared int) {
	for _, u := range in.DuckDNS.Updates() {
		switch {
		case !u.TXT || !u.OK:
		case u.Clear:
			cleared++
		default:
			set++
		}
	}
	return set, cleared
}

// name is one of the house's names.
func name(host string) string { return strings.ToLower(host) + "." + parent }
