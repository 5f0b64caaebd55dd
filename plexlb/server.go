package plexlb

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// Server is one Plex Media Server.
type Server struct {
	// The operator's word for the server: unique, and used in logs, metrics
	// and site blocks.
	Name string `json:"name"`

	// Where the server is: `host:port`, or an `http://` or `https://` URL
	// without a path. The port defaults to 32400, that of PMS; with a URL to
	// that of the scheme. Placeholders such as `{env.PLEX1}` are allowed;
	// one at the end that no port follows must hold the port, too.
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

	dial   string // the address as Caddy's upstream has it
	host   string // the same with its placeholders filled
	url    string // for reading sessions
	client *http.Client
}

// defaultPort is where PMS listens.
const defaultPort = "32400"

// ParseAddress splits a server's address into its scheme and its host:port.
// Placeholders stay as they are.
func ParseAddress(address string) (scheme, dial string, err error) {
	if address == "" {
		return "", "", errors.New("the address is missing: use host:port of the Plex Media Server, such as 192.168.1.10:32400")
	}
	scheme, rest, isURL := strings.Cut(address, "://")
	if !isURL {
		scheme, rest = "http", address
	}
	scheme = strings.ToLower(scheme)
	port := defaultPort
	switch {
	case scheme != "http" && scheme != "https":
		return "", "", fmt.Errorf("address has the scheme %q: use http:// or https://, or host:port alone", scheme)
	case isURL && scheme == "http":
		port = "80"
	case isURL:
		port = "443"
	}
	rest = strings.TrimSuffix(rest, "/")
	// Neither of these is repeated, as it may hold a secret.
	switch {
	case strings.Contains(rest, "@"):
		return "", "", errors.New("the address holds credentials: remove them, and use the setting token for an X-Plex-Token")
	case strings.ContainsAny(rest, "/?#"):
		return "", "", errors.New("the address has a path or query: use host:port alone, as a server is proxied as a whole")
	}
	wrong := func(why string) (string, string, error) {
		return "", "", fmt.Errorf("address %q %s", address, why)
	}

	host := rest
	if h, p, err := net.SplitHostPort(rest); err == nil {
		host, port = h, p
	} else if strings.Contains(rest, "{") && strings.HasSuffix(rest, "}") {
		return scheme, rest, nil // the port may be in there
	} else if strings.HasPrefix(rest, "[") && strings.HasSuffix(rest, "]") {
		host = rest[1 : len(rest)-1]
	} else if strings.Count(rest, ":") > 1 {
		return wrong("has more than one colon: use host:port, with an IPv6 address in brackets: [fd00::1]:32400")
	}
	switch {
	case host == "":
		return wrong("has no host: use host:port, such as 192.168.1.10:32400")
	case strings.ContainsFunc(host, notOfHosts):
		return wrong("is not that of one server: use host:port, such as 192.168.1.10:32400")
	case strings.Contains(port, "{"):
		return scheme, net.JoinHostPort(host, port), nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return wrong("has no usable port: use one from 1 to 65535, such as 32400")
	}
	return scheme, net.JoinHostPort(host, strconv.FormatUint(n, 10)), nil
}

// notOfHosts reports whether no name or address of a host can hold r.
func notOfHosts(r rune) bool {
	return r <= ' ' || strings.ContainsRune("[](),;<>=\"'`\\|", r)
}

// check reports what is wrong with the server by itself.
func (s *Server) check() error {
	switch {
	case s.Name == "":
		return errors.New("a server has no name: give it one, such as plex1")
	case !serverName.MatchString(s.Name):
		return fmt.Errorf("server name %q: use letters, digits, dots, dashes and underscores, beginning with a letter or digit", s.Name)
	case s.MaxTranscodes < 0:
		return fmt.Errorf("max_transcodes of server %q is %d: use 1 or more, or leave it out for no limit", s.Name, s.MaxTranscodes)
	case s.Weight != nil && !(*s.Weight > 0 && *s.Weight <= math.MaxFloat32):
		return fmt.Errorf("weight of server %q is %v: use a number greater than 0, such as 0.5 or 4", s.Name, *s.Weight)
	case !machineIdentifier.MatchString(s.MachineIdentifier):
		return fmt.Errorf("machine_identifier of server %q is %q: use the letters and digits that http://<server>/identity shows", s.Name, s.MachineIdentifier)
	}
	scheme, _, err := ParseAddress(s.Address)
	if err != nil {
		return fmt.Errorf("server %q: %v", s.Name, err)
	}
	if scheme == "http" && s.TLS != nil {
		return fmt.Errorf("server %q has TLS settings but an http address: write the address as https://…, or remove them", s.Name)
	}
	return nil
}

// serverName is what can be a word of a Caddyfile and a label.
var serverName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// machineIdentifier is what a placeholder is not: nothing would fill it.
var machineIdentifier = regexp.MustCompile(`^[A-Za-z0-9-]*$`)

// CheckServers reports what is wrong with the servers, each by itself and all
// together.
func CheckServers(servers []*Server) error {
	names, places := make(map[string]bool), make(map[string]string)
	for _, s := range servers {
		if s == nil {
			return errors.New("a server is null: give it a name and an address, or remove it")
		}
		if err := s.check(); err != nil {
			return err
		}
		if names[s.Name] {
			return fmt.Errorf("two servers are named %q: give each a name of its own", s.Name)
		}
		names[s.Name] = true
		_, dial, _ := ParseAddress(s.Address)
		place := canonical(cmp.Or(s.host, dial))
		if other, ok := places[place]; ok {
			return fmt.Errorf("servers %q and %q have the same address %s: list each server once", other, s.Name, dial)
		}
		places[place] = s.Name
	}
	return nil
}

// canonical returns the one spelling of a host:port.
func canonical(dial string) string {
	if strings.Contains(dial, "{") {
		return dial // the names of placeholders may differ in case only
	}
	if ap, err := netip.ParseAddrPort(dial); err == nil {
		return ap.String()
	}
	return strings.ToLower(dial)
}

// provision prepares the server for being read. What is wrong with it beyond
// its address, CheckServers tells.
func (s *Server) provision(ctx caddy.Context, a *App) error {
	if s == nil {
		return nil
	}
	if s.Weight == nil {
		one := 1.0
		s.Weight = &one
	}
	scheme, dial, err := ParseAddress(s.Address)
	if err != nil {
		return err
	}
	s.dial = dial
	s.host = caddy.NewReplacer().ReplaceAll(dial, "")
	if s.host != dial {
		if _, _, err := net.SplitHostPort(s.host); err != nil {
			return fmt.Errorf("address %q is %q when Caddy starts, not host:port: is its environment variable set to one?", s.Address, s.host)
		}
	}
	s.url = (&url.URL{Scheme: scheme, Host: s.host}).String()
	s.Token = a.resolve(s.Token, fmt.Sprintf("the token of server %q", s.Name))
	s.client, err = readingClient(ctx, s.TLS)
	return err
}

// readingClient is for reading sessions, apart from the traffic of viewers, so
// that neither waits for the other.
func readingClient(ctx caddy.Context, tls *reverseproxy.TLSConfig) (*http.Client, error) {
	t := readingTransport()
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

func readingTransport() *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		TLSHandshakeTimeout: 3 * time.Second,
		// PMS closes idle connections after 20 s [P §6.4].
		IdleConnTimeout:     15 * time.Second,
		MaxIdleConnsPerHost: 2 + copyLanes,
		DisableCompression:  true,
	}
}

// list joins words as a sentence does.
func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}
