package plexlb

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// Server is one Plex Media Server.
type Server struct {
	// The operator's word for the server: unique, and used in logs, metrics
	// and site blocks.
	Name string `json:"name"`

	// Where the server is: `host:port`, or an `http://` or `https://` URL
	// without a path. The port defaults to 32400, that of PMS; with a URL to
	// that of the scheme.
	Address string `json:"address"`

	// The server's transcoding capacity in relation to the others', greater
	// than 0. Default: 1.
	Weight *float64 `json:"weight,omitempty"`

	// How many video transcodes the server may run at once. Default: no
	// limit. PMS has a limit of its own, which should not be lower.
	MaxTranscodes int `json:"max_transcodes,omitempty"`

	// The X-Plex-Token for this server, if not the app's.
	Token string `json:"token,omitempty"`

	// The machine identifier that the server must have. Another server that
	// answers at the address is then taken for a failure.
	MachineIdentifier string `json:"machine_identifier,omitempty"`

	// How to verify the server's certificate, with an https address.
	TLS *reverseproxy.TLSConfig `json:"tls,omitempty"`

	parsed *caddyfile.Dispenser // where the Caddyfile has it
	dial   string               // the address as Caddy's upstream has it
	url    string               // for reading sessions
	client *http.Client
}

// defaultPort is where PMS listens.
const defaultPort = "32400"

// ParseAddress splits a server's address into its scheme and its host:port.
func ParseAddress(address string) (scheme, dial string, err error) {
	wrong := func(why string) (string, string, error) {
		return "", "", fmt.Errorf("address %q %s", address, why)
	}
	scheme, rest, isURL := strings.Cut(address, "://")
	if !isURL {
		scheme, rest = "http", address
	}
	if scheme != "http" && scheme != "https" {
		return wrong("has the scheme " + strconv.Quote(scheme) + ": use http:// or https://, or host:port alone")
	}
	rest = strings.TrimSuffix(rest, "/")
	switch {
	case strings.Contains(rest, "@"):
		return wrong("holds credentials: use host:port, and the option token")
	case strings.ContainsAny(rest, "/?#"):
		return wrong("has a path: use host:port alone, as a server is proxied as a whole")
	case rest == "":
		return wrong("is empty: use host:port")
	}
	host, port, err := net.SplitHostPort(rest)
	switch {
	case err == nil:
	case strings.Contains(rest, "{"):
		return scheme, rest, nil // a placeholder may hold the port too
	case strings.Count(rest, ":") > 1 && !strings.HasPrefix(rest, "["):
		return wrong("is an IPv6 address without brackets: use [address]:port")
	default:
		host = strings.Trim(rest, "[]")
		port = map[bool]string{false: defaultPort, true: map[string]string{"http": "80", "https": "443"}[scheme]}[isURL]
	}
	if host == "" {
		return wrong("has no host: use host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); (err != nil || n == 0) && !strings.Contains(port, "{") {
		return wrong("has no usable port: use a single one from 1 to 65535")
	}
	return scheme, net.JoinHostPort(host, port), nil
}

// Check reports what is wrong with the server by itself.
func (s *Server) Check() error {
	switch {
	case s.Name == "":
		return errors.New("a server needs a name")
	case !serverName.MatchString(s.Name):
		return fmt.Errorf("server name %q: use letters, digits, dots, dashes and underscores", s.Name)
	case s.Address == "":
		return fmt.Errorf("server %q needs an address: host:port of the Plex Media Server", s.Name)
	case s.Weight != nil && !(*s.Weight > 0 && *s.Weight <= math.MaxFloat32):
		return fmt.Errorf("weight of server %q is %v: use a number greater than 0, such as 0.5 or 4", s.Name, *s.Weight)
	case s.MaxTranscodes < 0:
		return fmt.Errorf("max_transcodes of server %q is %d: use a number greater than 0, or leave it out for no limit", s.Name, s.MaxTranscodes)
	}
	scheme, _, err := ParseAddress(s.Address)
	if err != nil {
		return fmt.Errorf("server %q: %w", s.Name, err)
	}
	if scheme == "http" && s.TLS != nil {
		return fmt.Errorf("server %q has TLS settings and an http address: write the address as https://…", s.Name)
	}
	return nil
}

// CheckServers reports what is wrong with the servers by themselves and
// together.
func CheckServers(servers []*Server) error {
	names, dials := make(map[string]bool), make(map[string]string)
	for _, s := range servers {
		if err := s.Check(); err != nil {
			return err
		}
		if names[s.Name] {
			return fmt.Errorf("two servers are named %q: give each a name of its own", s.Name)
		}
		names[s.Name] = true
		_, dial, _ := ParseAddress(s.Address)
		if other, ok := dials[strings.ToLower(dial)]; ok {
			return fmt.Errorf("servers %q and %q have the same address %s: list a server once", other, s.Name, dial)
		}
		dials[strings.ToLower(dial)] = s.Name
	}
	return nil
}

// provision prepares the server for being read.
func (s *Server) provision(ctx caddy.Context, a *App) error {
	if s.Weight == nil {
		one := 1.0
		s.Weight = &one
	}
	if err := s.Check(); err != nil {
		return err
	}
	scheme, dial, err := ParseAddress(s.Address)
	if err != nil {
		return err
	}
	s.dial = dial
	s.url = (&url.URL{Scheme: scheme, Host: caddy.NewReplacer().ReplaceAll(dial, "")}).String()
	s.Token = a.resolve(s.Token, fmt.Sprintf("the token of server %q", s.Name))
	s.client, err = readingClient(ctx, s.TLS)
	return err
}

// readingClient is for reading sessions, apart from the traffic of viewers, so
// that neither waits for the other.
func readingClient(ctx caddy.Context, tls *reverseproxy.TLSConfig) (*http.Client, error) {
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		TLSHandshakeTimeout: 3 * time.Second,
		// PMS closes idle connections after 20 s [P §6.4].
		IdleConnTimeout:     15 * time.Second,
		MaxIdleConnsPerHost: 2,
		DisableCompression:  true,
	}
	if tls != nil {
		cfg, err := tls.MakeTLSClientConfig(ctx)
		if err != nil {
			return nil, fmt.Errorf("TLS settings: %v", err)
		}
		t.TLSClientConfig = cfg
	}
	ctx.OnCancel(t.CloseIdleConnections)
	return &http.Client{Transport: t}, nil
}

// Names joins the servers' names for a sentence.
func (a *App) Names() string { return a.names() }

// list joins words as a sentence does.
func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}
