package integration

//lint:file-ignore SA1019 The Transport of net/http sends no field called :protocol.

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// xconnect says that Go offers WebSockets over HTTP/2 (RFC 8441) in this
// process. It does so only if its environment says so as it begins.
var xconnect = strings.Contains(os.Getenv("GODEBUG"), offer)

const offer = "http2xconnect=1"

// again begins a test once more in a process that offers WebSockets over HTTP/2,
// where it has only those, and returns what waits for its end; nil in that
// process.
func again(t *testing.T) (wait func(*testing.T)) {
	t.Helper()
	if xconnect {
		return nil
	}
	name := t.Name()
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+name+"$", "-test.v")
	c.Env = append(os.Environ(), "GODEBUG="+strings.TrimPrefix(os.Getenv("GODEBUG")+","+offer, ","))
	var said strings.Builder
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T) {
		if err := c.Wait(); err != nil || !strings.Contains(said.String(), "--- PASS: "+name+"/") {
			t.Errorf("%s with GODEBUG=%s: %v\n%s", name, offer, err, &said)
		}
	}
}

// dials are the ways to open a WebSocket, by version of HTTP.
func dials() map[int]func(*testing.T, *encrypted, string) *listener {
	if xconnect {
		return map[int]func(*testing.T, *encrypted, string) *listener{2: connect2}
	}
	return map[int]func(*testing.T, *encrypted, string) *listener{1: upgrade, 3: connect3}
}

// upgrade opens a WebSocket the usual way.
func upgrade(t *testing.T, b *encrypted, device string) *listener {
	t.Helper()
	return b.upgrade(t, b.client(t, 1).Transport, device)
}

// upgrade does so by a client's connections.
func (b *encrypted) upgrade(t *testing.T, client http.RoundTripper, device string) *listener {
	t.Helper()
	r := request(t, http.MethodGet, b.URL+"/:/websockets/notifications", device, nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	res, err := client.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	conn, ok := res.Body.(io.ReadWriter)
	if !ok || res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("answered %s %v", res.Status, res.Header)
	}
	return &listener{t, plextest.NewSocket(conn), res.Header.Get("X-Plextest-Server")}
}

// connect3 opens a WebSocket in an HTTP/3 connection (RFC 9220).
func connect3(t *testing.T, b *encrypted, device string) *listener {
	t.Helper()
	config, err := b.trust()
	if err != nil {
		t.Fatal(err)
	}
	config.NextProtos = []string{http3.NextProtoH3}
	conn, err := quic.DialAddr(t.Context(), b.addr, config, &quic.Config{KeepAlivePeriod: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	client := new(http3.Transport).NewClientConn(conn)
	<-client.ReceivedSettings()
	stream, err := client.OpenRequestStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := request(t, http.MethodConnect, b.URL+"/:/websockets/notifications", device, nil)
	r.Proto = "websocket"
	r.Header.Set("Sec-WebSocket-Version", "13")
	if err := stream.SendRequestHeader(r); err != nil {
		t.Fatal(err)
	}
	res, err := stream.ReadResponse()
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("answered %s", res.Status)
	}
	return &listener{t, plextest.NewSocket(stream), res.Header.Get("X-Plextest-Server")}
}

// connect2 opens a WebSocket in an HTTP/2 connection (RFC 8441).
func connect2(t *testing.T, b *encrypted, device string) *listener {
	t.Helper()
	res, out, err := b.connect2(t, device)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
		t.Fatalf("answered %s over %s", res.Status, res.Proto)
	}
	return &listener{t, plextest.NewSocket(struct {
		io.Reader
		io.Writer
	}{res.Body, out}), res.Header.Get("X-Plextest-Server")}
}

// connect2 asks for one, and returns what else is written to it.
func (b *encrypted) connect2(t *testing.T, device string) (*http.Response, io.Writer, error) {
	t.Helper()
	config, err := b.trust()
	if err != nil {
		t.Fatal(err)
	}
	tr := &http2.Transport{
		TLSClientConfig: config,
		DialTLSContext: func(ctx context.Context, network, _ string, config *tls.Config) (net.Conn, error) {
			return (&tls.Dialer{Config: config}).DialContext(ctx, network, b.addr)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	in, out := io.Pipe()
	t.Cleanup(func() { _ = out.Close() })
	r := request(t, http.MethodConnect, b.URL+"/:/websockets/notifications", device, in)
	r.Header[":protocol"] = []string{"websocket"}
	r.Header.Set("Sec-WebSocket-Version", "13")
	res, err := tr.RoundTrip(r)
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res, out, nil
}

// A browser asks for a WebSocket over HTTP/1.1 where HTTP/2 has none to offer,
// which is so unless Caddy's environment says otherwise. All else goes over
// HTTP/2.
func TestWebSocketsBesideHTTP2(t *testing.T) {
	servers := stand(t, 2, nil)
	b := loadTLS(t, servers, replicated, "")
	client := b.client(t, 2)
	tr := client.Transport.(spoken).RoundTripper.(*http.Transport)
	tr.Protocols.SetHTTP1(true) // offered side by side
	browses := func() {
		t.Helper()
		res, err := client.Do(request(t, http.MethodGet, b.URL+"/library/sections", "browser", nil))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	browses()
	l := b.upgrade(t, tr, "browser")
	if l.server != "plex1" {
		t.Errorf("the WebSocket is at %s", l.server)
	}
	l.hears(servers[0], "somebody")
	l.answers()
	browses()
	if _, _, err := b.connect2(t, "browser"); err == nil || !strings.Contains(err.Error(), "extended connect not supported by peer") {
		t.Errorf("a WebSocket over HTTP/2 is answered %v", err)
	}
}
