package plex

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

const identity = `{"MediaContainer":{"machineIdentifier":"abc","version":"1.43"}}`

func TestGreetingTellsClockAndAddress(t *testing.T) {
	for name, tc := range map[string]struct {
		date  string
		dated bool
		ahead time.Duration
	}{
		"in step":   {time.Now().UTC().Format(http.TimeFormat), true, 0},
		"ahead":     {time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), true, time.Hour},
		"behind":    {time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), true, -time.Hour},
		"malformed": {"today", false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Plex-Token") != "" || r.URL.RawQuery != "" {
					t.Error("a stranger was told the token")
				}
				w.Header().Set("Date", tc.date)
				body("application/json", identity)(w, r)
			})
			g, err := c.Greet(t.Context())
			if err != nil || g.MachineIdentifier != "abc" || g.Version != "1.43" {
				t.Fatalf("%+v, error %v", g, err)
			}
			if off := (g.Ahead - tc.ahead).Abs(); g.Dated != tc.dated || tc.dated && off > 5*time.Second {
				t.Errorf("the clock is %v ahead, known %v", g.Ahead, g.Dated)
			}
			if !g.Connected || !g.Local.IsLoopback() {
				t.Errorf("reached from %v, connected %v", g.Local, g.Connected)
			}
		})
	}
}

// What is learnt of a server that gives no good answer.
func TestGreetingOfOthers(t *testing.T) {
	hangs := newServer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if g, err := hangs.Greet(ctx); Fault(err) != "timeout" || !g.Connected {
		t.Errorf("hangs: %+v, %v", g, err)
	}
	if g, err := newServer(t, status(503)).Greet(t.Context()); Fault(err) != "maintenance" || !g.Dated {
		t.Errorf("maintenance: %+v, %v", g, err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	gone := &Client{URL: "http://" + ln.Addr().String()}
	if g, err := gone.Greet(t.Context()); Fault(err) != "refused" || g.Connected || g.Local.IsValid() {
		t.Errorf("gone: %+v, %v", g, err)
	}
}

// authority makes certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key, pool: x509.NewCertPool()}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// issue makes a certificate for names.
func (a *authority) issue(until time.Time, use x509.ExtKeyUsage, names ...string) tls.Certificate {
	a.t.Helper()
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{use},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.cert, a.key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}

func TestFaults(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	soon, server := time.Now().Add(time.Hour), x509.ExtKeyUsageServerAuth
	secure := func(cert tls.Certificate, edit ...func(*tls.Config)) string {
		srv := httptest.NewUnstartedServer(body("application/json", identity))
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		for _, e := range edit {
			e(srv.TLS)
		}
		srv.StartTLS()
		t.Cleanup(srv.Close)
		return srv.URL
	}
	open := httptest.NewServer(body("application/json", identity))
	t.Cleanup(open.Close)
	good := secure(ours.issue(soon, server, "127.0.0.1"))
	for name, tc := range map[string]struct {
		url   string
		want  string
		names []string
		tls   bool // it speaks that
	}{
		"good":              {good, "", nil, true},
		"plain":             {open.URL, "", nil, false},
		"another name":      {secure(ours.issue(soon, server, "*.abc.plex.direct", "10.0.0.1")), FaultWrongName, []string{"*.abc.plex.direct", "10.0.0.1"}, true},
		"another authority": {secure(foreign.issue(soon, server, "127.0.0.1")), FaultUntrusted, nil, true},
		"expired":           {secure(ours.issue(time.Now().Add(-time.Minute), server, "127.0.0.1")), FaultExpired, nil, true},
		"not for servers":   {secure(ours.issue(soon, x509.ExtKeyUsageClientAuth, "127.0.0.1")), FaultCertificate, nil, true},
		"no common version": {secure(ours.issue(soon, server, "127.0.0.1"), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11; c.MinVersion = tls.VersionTLS10 }), FaultCertificate, nil, false},
		"plain at https":    {"https" + open.URL[len("http"):], FaultPlain, nil, false},
		"TLS at http":       {"http" + good[len("https"):], "status", nil, true}, // Go answers 400
		"unknown name":      {"http://nowhere.invalid:32400", FaultNoName, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ours.pool}}
			defer transport.CloseIdleConnections()
			c := &Client{URL: tc.url, HTTP: &http.Client{Transport: transport}}
			_, err := c.Greet(t.Context())
			if got := Fault(err); got != tc.want {
				t.Errorf("the fault is %q, want %q: %v", got, tc.want, err)
			}
			if got := CertificateNames(err); !slices.Equal(got, tc.names) {
				t.Errorf("the certificate is for %v, want %v", got, tc.names)
			}
			if got := c.SpeaksTLS(t.Context()); got != tc.tls {
				t.Errorf("it speaks TLS: %v, want %v", got, tc.tls)
			}
		})
	}
}
