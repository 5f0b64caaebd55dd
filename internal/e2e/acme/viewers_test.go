package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// protocol is a version of HTTP, as answers call it.
type protocol string

const (
	http1  protocol = "HTTP/1.1"
	http2  protocol = "HTTP/2.0"
	http30 protocol = "HTTP/3.0"
)

// protocols are all that Caddy serves.
var protocols = []protocol{http1, http2, http30}

// only is a transport that speaks one version of HTTP to Caddy, and notes the
// certificates that it is shown.
type only struct {
	want protocol
	http.RoundTripper
	close func()

	mu      sync.Mutex
	serials map[string]bool
}

// client returns one that finds all names at Caddy.
func (h *house) client(want protocol, roots *x509.CertPool) *http.Client {
	h.t.Helper()
	o := &only{want: want, serials: make(map[string]bool)}
	config := &tls.Config{RootCAs: roots}
	if want == http30 {
		t := &http3.Transport{
			TLSClientConfig: config,
			Dial: func(ctx context.Context, _ string, config *tls.Config, quicConfig *quic.Config) (*quic.Conn, error) {
				return quic.DialAddrEarly(ctx, h.address(), config, quicConfig)
			},
		}
		o.RoundTripper, o.close = t, func() { _ = t.Close() }
	} else {
		t := &http.Transport{
			TLSClientConfig: config,
			Protocols:       new(http.Protocols),
			// Over HTTP/1.1 every request shakes hands anew.
			DisableKeepAlives: want == http1,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, h.address())
			},
		}
		t.Protocols.SetHTTP1(want == http1)
		t.Protocols.SetHTTP2(want == http2)
		o.RoundTripper, o.close = t, t.CloseIdleConnections
	}
	h.t.Cleanup(o.close)
	return &http.Client{Transport: o}
}

func (o *only) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := o.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if protocol(res.Proto) != o.want {
		_ = res.Body.Close()
		return nil, fmt.Errorf("answered over %s, want %s", res.Proto, o.want)
	}
	o.mu.Lock()
	o.serials[res.TLS.PeerCertificates[0].SerialNumber.String()] = true
	o.mu.Unlock()
	return res, nil
}

// audience is people who watch at all names, over all protocols.
type audience struct {
	t       *testing.T
	viewers []*plextest.Viewer
	what    []string
	playing sync.WaitGroup
}

// invite asks one viewer of each protocol to each name.
func (h *house) invite(roots *x509.CertPool, hosts ...string) *audience {
	h.t.Helper()
	a := &audience{t: h.t}
	// Players of all ways to play: segments in two forms, ranges of a file.
	kinds := []plextest.ViewerKind{plextest.PlexWeb, plextest.Mobile, plextest.DirectPlay, plextest.PlexForKodi}
	for _, host := range hosts {
		for _, p := range protocols {
			kind := kinds[len(a.viewers)%len(kinds)]
			v := plextest.NewViewer(kind, "https://"+host, plexToken, kind.Item(), uint64(len(a.viewers)))
			v.HTTP = h.client(p, roots)
			v.TimelineEvery = time.Second
			a.viewers = append(a.viewers, v)
			a.what = append(a.what, fmt.Sprintf("%s at %s over %s", kind, host, p))
		}
	}
	return a
}

// play has them start one after the other, so that each is placed when the
// others' load is known, and watch together. It comes back when all have begun.
func (a *audience) play(d time.Duration) {
	a.t.Helper()
	for i, v := range a.viewers {
		if err := v.Start(a.t.Context()); err != nil {
			a.t.Fatalf("%s: %v", a.what[i], err)
		}
	}
	for i, v := range a.viewers {
		a.playing.Go(func() {
			if err := v.Play(a.t.Context(), d); err != nil {
				a.t.Errorf("%s: %v", a.what[i], err)
			}
		})
	}
}

// content waits for the end, and makes sure that nobody noticed anything:
// every segment came at the first try, from a server that its name stands for.
func (a *audience) content(atLeast int, servers func(host string) []string) {
	a.t.Helper()
	a.playing.Wait()
	for i, v := range a.viewers {
		account := v.Account()
		if n := len(account.Waits); n < atLeast {
			a.t.Errorf("%s had %d segments, want %d", a.what[i], n, atLeast)
		}
		if len(account.Missing)+len(account.Refused)+len(account.Wrong) > 0 {
			a.t.Errorf("%s: missing %v, refused %v, wrong %v", a.what[i], account.Missing, account.Refused, account.Wrong)
		}
		for _, w := range account.Waits {
			if w.Tries != 1 {
				a.t.Errorf("%s asked %d times for %s", a.what[i], w.Tries, w.Asked)
			}
		}
		allowed := servers(v.Base[len("https://"):])
		for _, s := range account.Servers() {
			if !slices.Contains(allowed, s) {
				a.t.Errorf("%s was played by %s, want one of %v", a.what[i], s, allowed)
			}
		}
	}
}

// ownServer says whom a name stands for: a server of that name, or all.
func ownServer(host string) []string {
	if own, _, _ := strings.Cut(host, "."); own != "plex" {
		return []string{own}
	}
	return []string{"plex1", "plex2"}
}
