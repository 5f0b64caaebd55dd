package plexlb

import (
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// UnmarshalCaddyfile sets up the app from Caddyfile tokens. Syntax:
//
//	plexlb {
//		token             <token>
//		server            <name> <address> {
//			weight             <number>
//			max_transcodes     <number>
//			token              <token>
//			machine_identifier <id>
//			tls_insecure_skip_verify
//			tls_server_name    <name>
//			tls_trust_pool     <module> { … }
//		}
//		mode              separate
//		mode              replicated <primary>
//		poll_interval     <duration>
//		poll_timeout      <duration>
//		notifications     on|off
//		cost {
//			gpu    <number>
//			cpu    <number>
//			copy   <number>
//			client <number>
//		}
//		idle              <duration>
//		slow_start        <duration>
//		overflow          least|reject
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume option name
	if d.NextArg() {
		return d.ArgErr()
	}
	mode := at(d)
	seen := make(map[string]bool)
	for d.NextBlock(0) {
		word := d.Val()
		if word != "server" && seen[word] {
			return d.Errf("%s already specified", word)
		}
		seen[word] = true
		switch word {
		case "token":
			if err := parseToken(d, &a.Token); err != nil {
				return err
			}
		case "server":
			s, err := parseServer(d)
			if err != nil {
				return err
			}
			a.Servers = append(a.Servers, s)
			if err := CheckServers(a.Servers); err != nil {
				return s.parsed.WrapErr(err)
			}
		case "mode":
			mode = at(d)
			args := d.RemainingArgs()
			if len(args) == 0 {
				return d.ArgErr()
			}
			a.Mode = args[0]
			switch {
			case a.Mode == ModeReplicated && len(args) == 2:
				a.Primary = args[1]
			case a.Mode == ModeReplicated && len(args) < 2:
				return d.Err("mode replicated needs a primary: name the server that keeps the library and watch state")
			case len(args) > 1:
				return d.ArgErr()
			}
		case "poll_interval":
			if err := parseDuration(d, &a.PollInterval); err != nil {
				return err
			}
		case "poll_timeout":
			if err := parseDuration(d, &a.PollTimeout); err != nil {
				return err
			}
		case "idle":
			if err := parseDuration(d, &a.Idle); err != nil {
				return err
			}
		case "slow_start":
			if d.CountRemainingArgs() == 1 && d.NextArg() {
				if d.Val() == "off" || d.Val() == "0" {
					a.SlowStart = -1
					break
				}
				d.Prev()
			}
			if err := parseDuration(d, &a.SlowStart); err != nil {
				return err
			}
		case "notifications":
			var word string
			if !d.AllArgs(&word) {
				return d.ArgErr()
			}
			if word != "on" && word != "off" {
				return d.Errf("notifications is on or off, not %q", word)
			}
			on := word == "on"
			a.Notifications = &on
		case "cost":
			if err := a.parseCost(d); err != nil {
				return err
			}
		case "overflow":
			if !d.AllArgs(&a.Overflow) {
				return d.ArgErr()
			}
			if a.Overflow != OverflowLeast && a.Overflow != OverflowReject {
				return d.Errf("unknown overflow %q: use least or reject", a.Overflow)
			}
		default:
			return d.Errf("unrecognized subdirective %q", word)
		}
	}
	// Servers may come after the mode that names one.
	if err := a.check(); err != nil {
		return mode.WrapErr(err)
	}
	return nil
}

// unsetToken is a placeholder that nothing ever fills: what Caddy leaves of
// `token {$VARIABLE}` when the variable is not set is a word without an
// argument, which Provision shall warn of like of any token that turns out
// empty.
const unsetToken = "{plexlb.unset_token}"

func parseToken(d *caddyfile.Dispenser, to *string) error {
	if d.CountRemainingArgs() > 1 {
		return d.ArgErr()
	}
	if !d.NextArg() || d.Val() == "" {
		*to = unsetToken
		return nil
	}
	*to = d.Val()
	return nil
}

// serverName is what can be a word of a Caddyfile and a label.
var serverName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func parseServer(d *caddyfile.Dispenser) (*Server, error) {
	s := &Server{parsed: at(d)}
	args := d.RemainingArgs()
	if len(args) != 2 {
		return nil, d.Errf("a server has a name and an address: server plex1 192.168.1.10:32400")
	}
	s.Name, s.Address = args[0], args[1]
	seen := make(map[string]bool)
	tls := func() *reverseproxy.TLSConfig {
		if s.TLS == nil {
			s.TLS = new(reverseproxy.TLSConfig)
		}
		return s.TLS
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		word := d.Val()
		if seen[word] {
			return nil, d.Errf("%s already specified", word)
		}
		seen[word] = true
		switch word {
		case "weight":
			w, err := parseNumber(d, "weight")
			if err != nil {
				return nil, err
			}
			s.Weight = &w
			if err := s.Check(); err != nil {
				return nil, d.WrapErr(err)
			}
		case "max_transcodes":
			var word string
			if !d.AllArgs(&word) {
				return nil, d.ArgErr()
			}
			n, err := strconv.Atoi(word)
			if err != nil || n < 1 {
				return nil, d.Errf("max_transcodes %q is not a number of transcodes: use 1 or more, or leave it out for no limit", word)
			}
			s.MaxTranscodes = n
		case "token":
			if err := parseToken(d, &s.Token); err != nil {
				return nil, err
			}
		case "machine_identifier":
			if !d.AllArgs(&s.MachineIdentifier) {
				return nil, d.ArgErr()
			}
		case "tls_insecure_skip_verify":
			if d.NextArg() {
				return nil, d.ArgErr()
			}
			tls().InsecureSkipVerify = true
		case "tls_server_name":
			if !d.AllArgs(&tls().ServerName) {
				return nil, d.ArgErr()
			}
		case "tls_trust_pool":
			if !d.NextArg() {
				return nil, d.ArgErr()
			}
			module := d.Val()
			unm, err := caddyfile.UnmarshalModule(d, "tls.ca_pool.source."+module)
			if err != nil {
				return nil, err
			}
			tls().CARaw = caddyconfig.JSONModuleObject(unm, "provider", module, nil)
		default:
			return nil, d.Errf("unrecognized subdirective %q of a server", word)
		}
	}
	return s, nil
}

func (a *App) parseCost(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	a.Cost = new(Cost)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		to, ok := map[string]**float64{
			"gpu": &a.Cost.GPU, "cpu": &a.Cost.CPU, "copy": &a.Cost.Copy, "client": &a.Cost.Client,
		}[d.Val()]
		if !ok {
			return d.Errf("unknown cost %q: use gpu, cpu, copy or client", d.Val())
		}
		if *to != nil {
			return d.Errf("cost %s already specified", d.Val())
		}
		word := d.Val()
		x, err := parseNumber(d, word)
		if err != nil {
			return err
		}
		if x < 0 {
			return d.Errf("cost %s is %v: a cost cannot be less than 0", word, x)
		}
		*to = &x
	}
	return nil
}

func parseNumber(d *caddyfile.Dispenser, what string) (float64, error) {
	var word string
	if !d.AllArgs(&word) {
		return 0, d.ArgErr()
	}
	x, err := strconv.ParseFloat(word, 64)
	if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, d.Errf("%s %q is not a number", what, word)
	}
	return x, nil
}

func parseDuration(d *caddyfile.Dispenser, to *caddy.Duration) error {
	what := d.Val()
	var word string
	if !d.AllArgs(&word) {
		return d.ArgErr()
	}
	x, err := caddy.ParseDuration(word)
	if err != nil {
		return d.Errf("%s %q is not a duration, such as 5s or 4m", what, word)
	}
	if x <= 0 {
		return d.Errf("%s must be greater than 0", what)
	}
	*to = caddy.Duration(x)
	return nil
}

// at returns a dispenser that stands where d does, for an error that is found
// later.
func at(d *caddyfile.Dispenser) *caddyfile.Dispenser {
	there := caddyfile.NewDispenser([]caddyfile.Token{d.Token()})
	there.Next()
	return there
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	plexlb_session [<matcher>] [<servers...>]
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume directive name
	h.Servers = d.RemainingArgs()
	if d.NextBlock(0) {
		return d.Err("plexlb_session takes no block: the servers' settings are in the global option plexlb")
	}
	return nil
}

// FromJSON returns the app that a config holds, for directives that expand to
// its servers.
func FromJSON(raw json.RawMessage) (*App, error) {
	a := new(App)
	if err := json.Unmarshal(raw, a); err != nil {
		return nil, err
	}
	return a, nil
}

// Pick returns the servers with the given names, all of them if there are none.
// It returns the first name that is unknown, too.
func (a *App) Pick(names []string) (servers []*Server, unknown string) {
	if len(names) == 0 {
		return a.Servers, ""
	}
	for _, name := range names {
		i := slices.IndexFunc(a.Servers, func(s *Server) bool { return s.Name == name })
		if i < 0 {
			return nil, name
		}
		servers = append(servers, a.Servers[i])
	}
	return servers, ""
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*App)(nil)
	_ caddyfile.Unmarshaler = (*Handler)(nil)
)
