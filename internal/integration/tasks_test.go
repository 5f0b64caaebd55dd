package integration

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// nameServer answers every question for IPv4 addresses of its name with those
// that it has at the moment, as Docker's does for tasks.SERVICE.
type nameServer struct {
	name  string
	addrs atomic.Pointer[[]string]
	conn  net.PacketConn
}

// startNameServer makes a name server the one that this process asks.
func startNameServer(t *testing.T, name string, addrs ...string) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{name: name, conn: conn}
	s.addrs.Store(&addrs)
	go s.serve()
	usual := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = usual
		_ = conn.Close()
	})
	return s
}

func (s *nameServer) serve() {
	buf := make([]byte, 512)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if a := s.answer(buf[:n]); a != nil {
			_, _ = s.conn.WriteTo(a, from)
		}
	}
}

// answer writes the response to a message with one question, RFC 1035 §4.1.
func (s *nameServer) answer(ask []byte) []byte {
	const header = 12
	end := header
	var labels []string
	for end < len(ask) && ask[end] != 0 {
		n := int(ask[end])
		if end+1+n >= len(ask) {
			return nil
		}
		labels = append(labels, string(ask[end+1:end+1+n]))
		end += 1 + n
	}
	if end+5 > len(ask) {
		return nil
	}
	kind := binary.BigEndian.Uint16(ask[end+1:])
	flags, addrs := uint16(0x8180), *s.addrs.Load()
	switch {
	case strings.Join(labels, ".") != s.name:
		flags, addrs = 0x8183, nil // no such name
	case kind != 1:
		addrs = nil
	}
	a := append([]byte(nil), ask[:2]...)
	for _, v := range []uint16{flags, 1, uint16(len(addrs)), 0, 0} {
		a = binary.BigEndian.AppendUint16(a, v)
	}
	a = append(a, ask[header:end+5]...)
	for _, addr := range addrs {
		a = append(a, 0xc0, header)                  // the name of the question
		a = append(a, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4) // Docker's lie of ten minutes
		a = append(a, net.ParseIP(addr).To4()...)
	}
	return a
}

// Servers that nobody names, found under the name of a service's tasks: with
// the Swarm example as it is they take playbacks, new ones among them, and one
// that is gone harms only what it played.
func TestTasksOfAService(t *testing.T) {
	const most = 3
	_, port, _ := net.SplitHostPort(freeAddr(t))
	servers := make([]*plextest.Server, most)
	addrs := make([]string, most)
	for i := range servers {
		servers[i] = plextest.New(plextest.Config{Name: fmt.Sprintf("plex%d", i+1), Token: token, SegmentSize: 2048})
		addrs[i] = fmt.Sprintf("127.0.0.%d", 11+i)
		if err := servers[i].StartOn(net.JoinHostPort(addrs[i], port)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(servers[i].Close)
	}
	names := startNameServer(t, "tasks.plex", addrs[:2]...)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "plex_token"), []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &balancer{t: t, addr: freeAddr(t)}
	b.URL = "http://" + b.addr
	t.Setenv("SITE", b.URL)
	t.Setenv("SECRETS", dir)
	t.Setenv("PLEX_PORT", port)
	config, err := os.ReadFile(filepath.Join("..", "..", "examples", "deploy", "swarm", "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	// The image's CADDY_ADMIN.
	usual := caddy.DefaultAdminListen
	caddy.DefaultAdminListen = "unix/" + filepath.Join(dir, "s")
	t.Cleanup(func() { caddy.DefaultAdminListen = usual })
	if err := loadCaddyfile(string(config)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })

	viewers := 0
	invite := func(n int) (list []*plextest.Viewer) {
		t.Helper()
		for range n {
			viewers++
			v := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, uint64(viewers))
			t.Cleanup(v.Close)
			if err := v.Start(t.Context()); err != nil {
				t.Fatalf("viewer %d: %v", viewers, err)
			}
			list = append(list, v)
		}
		return list
	}
	watch := func(list []*plextest.Viewer, n int) (lost int) {
		t.Helper()
		for _, v := range list {
			if err := v.Segment(t.Context(), n); err != nil {
				lost++
			}
			if at := v.Servers(); len(at) != 1 {
				t.Errorf("a viewer was on %v", at)
			}
		}
		return lost
	}
	jobs := func() string {
		n := make([]int, most)
		for i, s := range servers {
			n[i] = len(s.Jobs())
		}
		return fmt.Sprint(n)
	}

	first := invite(4)
	if got := jobs(); got != "[2 2 0]" {
		t.Fatalf("of 4 playbacks the servers have %s", got)
	}
	names.addrs.Store(&addrs)
	time.Sleep(6 * time.Second) // refresh, of the example
	second := invite(2)
	if got := jobs(); got != "[2 2 2]" {
		t.Errorf("with a third server the playbacks are %s", got)
	}
	if lost := watch(append(first, second...), 0); lost > 0 {
		t.Errorf("%d viewers lost a segment", lost)
	}
	// One is gone before Docker has noticed.
	servers[0].Close()
	third := invite(2)
	if got := len(servers[1].Jobs()) + len(servers[2].Jobs()); got != 6 {
		t.Errorf("the two servers that are left have %d playbacks, want 6", got)
	}
	left := addrs[1:]
	names.addrs.Store(&left)
	time.Sleep(6 * time.Second)
	stay := append(second, third...)
	for _, v := range first {
		if v.Servers()[0] != "plex1" {
			stay = append(stay, v)
		}
	}
	if len(stay) != 6 {
		t.Fatalf("%d viewers are at servers that are left", len(stay))
	}
	if lost := watch(stay, 1); lost > 0 {
		t.Errorf("%d viewers of other servers lost a segment", lost)
	}
	if status, _, _ := b.get("/identity"); status != http.StatusOK {
		t.Errorf("the site answers %d", status)
	}
}
