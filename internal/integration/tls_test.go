package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// public is the name under which clients know the balancer.
const public = "plex.example.com"

// encrypted is a balancer behind TLS, which Caddy's own authority signs.
type encrypted struct {
	*balancer
	storage string
}

// loadTLS runs Caddy with the servers behind TLS, as they are at home, except
// for who signs; more holds further subdirectives of the option, and inside
// those of the directive.
func loadTLS(t *testing.T, servers []*plextest.Server, more, inside string) *encrypted {
	t.Helper()
	b := &encrypted{
		balancer: &balancer{t: t, addr: freeAddr(t)},
		storage:  filepath.Join(os.Getenv("XDG_DATA_HOME"), "tls"), // one authority for all tests
	}
	_, port, _ := net.SplitHostPort(b.addr)
	b.URL = "https://" + net.JoinHostPort(public, port)
	if err := b.reloadTLS(servers, more, inside); err != nil {
		t.Fatalf("starting Caddy: %v", err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping Caddy: %v", err)
		}
	})
	eventually(t, "there is a certificate", 20*time.Second, func() bool {
		config, err := b.trust()
		if err != nil {
			return false
		}
		conn, err := tls.Dial("tcp", b.addr, config)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	return b
}

// reloadTLS runs another config in the same place.
func (b *encrypted) reloadTLS(servers []*plextest.Server, more, inside string) error {
	global := strings.NewReplacer(
		"auto_https off", "auto_https disable_redirects\n\tskip_install_trust\n\tstorage_clean_interval off\n\tstorage file_system "+b.storage,
		"grace_period 1s", "",
	).Replace(global)
	return loadCaddyfile("{\n" + global + option(servers, more) + "}\n" +
		b.URL + " {\nbind 127.0.0.1\ntls internal\n" + labels + "plexlb {\n" + inside + "\n}\n}\n")
}

// trust is what a client needs to believe the balancer.
func (b *encrypted) trust() (*tls.Config, error) {
	root, err := os.ReadFile(filepath.Join(b.storage, "pki", "authorities", "local", "root.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		return nil, fmt.Errorf("no certificate in %q", root)
	}
	return &tls.Config{RootCAs: pool, ServerName: public}, nil
}

// versions are those of HTTP that clients speak.
var versions = []int{1, 2, 3}

// client speaks one version of HTTP and no other.
func (b *encrypted) client(t *testing.T, version int) *http.Client {
	t.Helper()
	config, err := b.trust()
	if err != nil {
		t.Fatal(err)
	}
	if version == 3 {
		tr := &http3.Transport{
			TLSClientConfig:    config,
			DisableCompression: true,
			// As browsers do it: QUIC connections end after half a minute
			// of silence.
			QUICConfig: &quic.Config{KeepAlivePeriod: 10 * time.Second},
			Dial: func(ctx context.Context, _ string, tlsConfig *tls.Config, quicConfig *quic.Config) (*quic.Conn, error) {
				return quic.DialAddrEarly(ctx, b.addr, tlsConfig, quicConfig)
			},
		}
		t.Cleanup(func() { _ = tr.Close() })
		return &http.Client{Transport: spoken{tr, 3}}
	}
	tr := &http.Transport{
		TLSClientConfig:    config,
		DisableCompression: true,
		Protocols:          new(http.Protocols),
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, b.addr)
		},
	}
	tr.Protocols.SetHTTP1(version == 1)
	tr.Protocols.SetHTTP2(version == 2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: spoken{tr, version}}
}

// spoken makes sure of the version.
type spoken struct {
	http.RoundTripper
	version int
}

func (s spoken) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := s.RoundTripper.RoundTrip(r)
	if err == nil && res.ProtoMajor != s.version {
		res.Body.Close()
		return nil, fmt.Errorf("the answer came by %s", res.Proto)
	}
	return res, err
}

// overEach runs a test over every version of HTTP.
func overEach(t *testing.T, b *encrypted, test func(t *testing.T, client *http.Client, version int)) {
	for _, version := range versions {
		t.Run(fmt.Sprintf("HTTP/%d", version), func(t *testing.T) {
			test(t, b.client(t, version), version)
		})
	}
}

// request makes one of a client that has a device and a token.
func request(t *testing.T, method, url, device string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Plex-Token", token)
	r.Header.Set("X-Plex-Client-Identifier", device)
	return r
}

// part is the path of the file of an item.
func part(t *testing.T, s *plextest.Server, ratingKey string) string {
	t.Helper()
	_, _, body := do(t, http.MethodGet, s.URL()+"/library/metadata/"+ratingKey, "X-Plex-Token", token)
	at := strings.Index(body, `"/library/parts/`)
	if at < 0 {
		t.Fatalf("no part in %s", body)
	}
	path, _, _ := strings.Cut(body[at+1:], `"`)
	return path
}
