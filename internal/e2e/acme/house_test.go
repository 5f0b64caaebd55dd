// Package acme proves examples/duckdns: the Caddyfiles as they are shipped, in
// the Caddy that xcaddy.sh builds, get certificates from a real ACME server by
// way of DuckDNS, and people play through them.
package acme

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/child"
	"github.com/plexlb/caddy-plexlb/internal/e2e/transcript"
	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// plexToken is the owner's, at both servers.
const plexToken = "owner-token"

// binary is Caddy as ./xcaddy.sh build builds it, and challtestsrv Pebble's
// challenge DNS server, of the same version as Pebble.
var binary, challtestsrv string

func TestMain(m *testing.M) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(root, "bin", "caddy")
	build := exec.Command(filepath.Join(root, "xcaddy.sh"), "build", binary)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building Caddy: %v\n%s", err, out)
		os.Exit(1)
	}
	where := exec.Command("go", "tool", "-n", "pebble-challtestsrv")
	where.Stderr = os.Stderr
	tool, err := where.Output()
	if err != nil {
		fmt.Fprintf(os.Stderr, "building Pebble's challenge DNS server: %v\n", err)
		os.Exit(1)
	}
	challtestsrv = strings.TrimSpace(string(tool))
	// Pebble dawdles and lies at random, and spares itself work by what it has
	// seen before. Nonces are refused as ever.
	for name, value := range map[string]string{"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0"} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// house is where Caddy and the Plex Media Servers are.
type house struct {
	t       *testing.T
	in      *internet
	Plex    []*plextest.Server // plex1 and plex2
	folder  string             // what Caddy keeps
	http    int
	https   int
	admin   string
	example string
	env     []string

	caddy *exec.Cmd
	stdin interface{ Close() error }
	log   transcript.Transcript
}

// newHouse has an internet, two servers and no Caddy yet.
func newHouse(t *testing.T, example string, validity time.Duration) *house {
	t.Helper()
	h := &house{t: t, example: example, folder: t.TempDir(), http: port(t), https: port(t), admin: "127.0.0.1:" + strconv.Itoa(port(t))}
	h.in = newInternet(t, h.http, h.https, validity)
	for i := range 2 {
		s := plextest.New(plextest.Config{Name: fmt.Sprintf("plex%d", i+1), Token: plexToken, SegmentSize: 2048})
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		h.Plex = append(h.Plex, s)
	}
	h.env = append(h.in.environment(),
		"PATH="+os.Getenv("PATH"), "HOME="+h.folder, "XDG_DATA_HOME="+h.folder, "XDG_CONFIG_HOME="+h.folder,
		"DUCKDNS_DOMAIN="+domain, "DUCKDNS_TOKEN="+duckdnsToken, "PLEX_TOKEN="+plexToken,
		"PLEX1="+h.Plex[0].Addr(), "PLEX2="+h.Plex[1].Addr(), "CHECK_INTERVAL=1s",
	)
	return h
}

// set changes a variable of Caddy's environment.
func (h *house) set(name, value string) { h.env = append(h.env, name+"="+value) }

// start runs Caddy with the example as it is shipped; what a test needs on top
// is added to its global options.
func (h *house) start(more ...string) {
	h.t.Helper()
	shipped, err := os.ReadFile(filepath.Join("..", "..", "..", "examples", "duckdns", h.example))
	if err != nil {
		h.t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(shipped), "\n{\n")
	if !ok {
		h.t.Fatalf("%s has no global options", h.example)
	}
	options := append([]string{
		"admin " + h.admin,
		"default_bind 127.0.0.1",
		"http_port " + strconv.Itoa(h.http),
		"https_port " + strconv.Itoa(h.https),
		"acme_ca " + h.in.directory,
		// Without one, a Caddy that makes its account for several names at the
		// same time may take the account's folder, default, for an address.
		"email owner@" + parent,
		"renew_interval 1s",
		// As it starts, Caddy removes empty folders of certificates: also one
		// that was made at that moment, whose certificate then comes a minute
		// later.
		"storage_clean_interval off",
		"grace_period 1s",
	}, more...)
	config := filepath.Join(h.folder, "Caddyfile")
	text := head + "\n{\n\t" + strings.Join(options, "\n\t") + "\n" + rest
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}

	h.caddy = tied(binary, "run", "--config", config, "--adapter", "caddyfile")
	h.caddy.Env = h.env
	h.caddy.Stdout, h.caddy.Stderr = &h.log, &h.log
	h.stdin, err = h.caddy.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.caddy.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(h.stop)
	if !eventually(30*time.Second, func() bool { return strings.Contains(h.log.String(), "serving initial configuration") }) {
		h.t.Fatal("Caddy does not serve")
	}
}

// tied is a command that ends with its standard input, so that it does not
// outlive a test that was killed.
func tied(name string, args ...string) *exec.Cmd {
	return exec.Command("sh", append([]string{"-c", `exec 3<&0; (cat <&3; kill $$) >/dev/null 2>&1 & exec "$@" 3<&- </dev/null`, "sh", name}, args...)...)
}

// stop ends Caddy, and looks at what it has said.
func (h *house) stop() {
	_ = h.stdin.Close()
	_ = h.caddy.Wait()
	text := h.log.String()
	if h.t.Failed() {
		h.t.Logf("%s said:\n%s", h.example, text)
	}
	for _, secret := range h.secrets() {
		if strings.Contains(text, secret) {
			h.t.Errorf("a token is in the log: %s", line(text, secret))
		}
	}
	if hosts := h.in.Refused(); len(hosts) > 0 {
		h.t.Errorf("Caddy wanted to reach %v", hosts)
	}
}

// secrets are the tokens that Caddy was given.
func (h *house) secrets() (tokens []string) {
	for _, variable := range h.env {
		if name, value, _ := strings.Cut(variable, "="); strings.HasSuffix(name, "_TOKEN") {
			tokens = append(tokens, value)
		}
	}
	return tokens
}

// line returns the first line of a text that contains something.
func line(text, something string) string {
	for l := range strings.Lines(text) {
		if strings.Contains(l, something) {
			return l
		}
	}
	return ""
}

// patience is how long a handshake may take. A machine that has other things to
// do is no fault of Caddy's.
const patience = 10 * time.Second

// greet shakes hands over TLS for a name and returns the certificate.
func (h *house) greet(host string, roots *x509.CertPool) (*x509.Certificate, error) {
	d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: &tls.Config{ServerName: host, RootCAs: roots}}
	c, err := d.Dial("tcp", h.address())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// certified waits until a name is served with a certificate that is trusted.
func (h *house) certified(host string, roots *x509.CertPool, within time.Duration) *x509.Certificate {
	h.t.Helper()
	var cert *x509.Certificate
	err := errors.New("nobody asked")
	if !eventually(within, func() bool { cert, err = h.greet(host, roots); return err == nil }) {
		h.t.Fatalf("%s has no certificate after %v: %v", host, within, err)
	}
	return cert
}

// address is where Caddy serves HTTPS.
func (h *house) address() string { return "127.0.0.1:" + strconv.Itoa(h.https) }

// eventually waits for a condition, and says whether it came.
func eventually(within time.Duration, ok func() bool) bool {
	for end := time.Now().Add(within); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// port returns one that is free over TCP and UDP.
func port(t *testing.T) int {
	t.Helper()
	text, err := child.FreePort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
