package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// One certificate holds for all names, people play at all of them over every
// HTTP, and nobody notices when it is renewed.
func TestWildcard(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "Caddyfile", 40*time.Second)
	h.start()
	hosts := []string{name("plex"), name("plex1"), name("plex2")}

	first := h.certified(hosts[0], h.in.Roots, 30*time.Second)
	if !slices.Equal(first.DNSNames, []string{"*." + parent}) {
		t.Errorf("the certificate is for %v", first.DNSNames)
	}
	for _, host := range hosts[1:] {
		if cert := h.certified(host, h.in.Roots, time.Second); !cert.Equal(first) {
			t.Errorf("%s has a certificate of its own", host)
		}
	}
	a := h.invite(h.in.Roots, hosts...)
	seen := h.watchHandshakes(hosts)
	a.play(38 * time.Second)
	a.content(35, ownServer)
	serials, shaken := seen()
	t.Logf("%d handshakes saw %d certificates", shaken, len(serials))
	if len(serials) < 2 {
		t.Errorf("the certificate was not renewed in %d handshakes", shaken)
	}
	var balanced []string
	for i, v := range a.viewers {
		o := v.HTTP.Transport.(*only)
		if o.want == http1 && len(o.serials) < 2 {
			t.Errorf("%s, on a new connection for every request, saw one certificate", a.what[i])
		}
		if v.Base == "https://"+hosts[0] {
			balanced = append(balanced, v.Account().Servers()...)
		}
	}
	slices.Sort(balanced)
	if got := slices.Compact(balanced); len(got) != 2 {
		t.Errorf("three devices at %s were all sent to %v", hosts[0], got)
	}
	if !eventually(15*time.Second, func() bool { set, cleared := h.in.challenges(); return set == cleared && set >= 2 }) {
		set, cleared := h.in.challenges()
		t.Errorf("TXT was set %d times and cleared %d times", set, cleared)
	}
	if set, _ := h.in.challenges(); h.in.names.looked(t, "_acme-challenge."+parent) < set {
		t.Errorf("TXT was set %d times, and the ACME server has not looked each time", set)
	}
	h.otherNamesGetNothing()
	h.tokensStayInTheEnvironment()
}

// watchHandshakes begins connections to all names, over TCP and over QUIC, until
// the returned function is called. It returns the serial numbers that were
// shown, and how many connections there were.
func (h *house) watchHandshakes(hosts []string) func() (serials map[string]bool, n int) {
	done := make(chan struct{})
	serials, n := make(map[string]bool), 0
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			for _, host := range hosts {
				for _, greet := range []func(string, *x509.CertPool) (*x509.Certificate, error){h.greet, h.greetQUIC} {
					cert, err := greet(host, h.in.Roots)
					if err != nil {
						h.t.Errorf("handshake for %s: %v", host, err)
						continue
					}
					serials[cert.SerialNumber.String()] = true
					n++
				}
			}
			select {
			case <-done:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
	return func() (map[string]bool, int) {
		close(done)
		watching.Wait()
		return serials, n
	}
}

// greetQUIC is greet over QUIC.
func (h *house) greetQUIC(host string, roots *x509.CertPool) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := quic.DialAddr(ctx, h.address(), &tls.Config{ServerName: host, RootCAs: roots, NextProtos: []string{"h3"}}, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.CloseWithError(0x100, "") }() // H3_NO_ERROR
	return c.ConnectionState().TLS.PeerCertificates[0], nil
}

// otherNamesGetNothing: below the wildcard there are three names.
func (h *house) otherNamesGetNothing() {
	h.t.Helper()
	if res, err := h.client(http2, h.in.Roots).Get("https://" + name("other") + "/identity"); err == nil {
		_ = res.Body.Close()
		h.t.Errorf("a name that nobody set up is answered with %s", res.Status)
	}
}

// tokensStayInTheEnvironment: neither the running config nor the one that Caddy
// saves has them.
func (h *house) tokensStayInTheEnvironment() {
	h.t.Helper()
	res, err := http.Get("http://" + h.admin + "/config/")
	if err != nil {
		h.t.Error(err)
		return
	}
	defer res.Body.Close()
	config, err := io.ReadAll(res.Body)
	if err != nil || !strings.Contains(string(config), "{env.DUCKDNS_TOKEN}") {
		h.t.Errorf("no config: %v", err)
	}
	for _, secret := range h.secrets() {
		if strings.Contains(string(config), secret) {
			h.t.Error("a token is in the config")
		}
	}
}
