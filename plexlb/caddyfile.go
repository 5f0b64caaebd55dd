package plexlb

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"go.uber.org/zap"
)

// UnmarshalCaddyfile sets up the app from Caddyfile tokens. Syntax:
//
//	plexlb {
//		token <token>
//		server <name> <address> {
//			weight             <number>
//			max_transcodes     <number>
//			token              <token>
//			machine_identifier <id>
//			tls_insecure_skip_verify
//			tls_server_name    <name>
//			tls_trust_pool     <module> [...]
//		}
//		mode separate | replicated <primary>
//		poll_interval <duration>
//		poll_timeout  <duration>
//		notifications on|off
//		cost {
//			gpu    <number>
//			cpu    <number>
//			copy   <number>
//			client <number>
//		}
//		idle       <duration>
//		slow_start <duration>|off
//		overflow   least|reject
//		require_env <variable>[=label] ...
//	}
//
// There is one server line for every Plex Media Server. With require_env the
// Caddyfile is refused where one of the environment variables is missing or
// empty, or, with =label, is not one part of a name: Caddy itself takes the gap
// that {$VARIABLE} leaves in a name for part of it, and a whole name as well.
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume option name
	if d.NextArg() {
		return d.Errf("unexpected %q: the global option plexlb takes its settings in a block", d.Val())
	}
	mode := at(d)
	seen := make(map[string]bool)
	for d.NextBlock(0) {
		word := d.Val()
		if word != "server" {
			if err := once(d, seen); err != nil {
				return err
			}
		}
		var err error
		switch word {
		case "token":
			a.Token, err = UnmarshalToken(d)
		case "server":
			err = a.unmarshalServer(d)
		case "mode":
			mode = at(d)
			err = a.unmarshalMode(d)
		case "poll_interval":
			a.PollInterval, err = duration(d, "5s")
		case "poll_timeout":
			a.PollTimeout, err = duration(d, "3s")
		case "notifications":
			var answer string
			answer, err = oneOf(d, "on", "off")
			on := answer == "on"
			a.Notifications = &on
		case "cost":
			err = a.unmarshalCost(d)
		case "idle":
			a.Idle, err = duration(d, "4m")
		case "slow_start":
			a.SlowStart, err = durationOrOff(d, "30s")
		case "overflow":
			a.Overflow, err = oneOf(d, OverflowLeast, OverflowReject)
		case "require_env":
			err = requireEnv(d)
		default:
			return d.Errf("unrecognized subdirective %q: the global option plexlb has cost, idle, mode, notifications, overflow, poll_interval, poll_timeout, require_env, server, slow_start and token", word)
		}
		if err != nil {
			return err
		}
	}
	// The primary may be listed after the mode that names it.
	if err := a.check(); err != nil {
		return mode.WrapErr(err)
	}
	return nil
}

// requireEnv refuses a Caddyfile whose environment lacks something.
func requireEnv(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Err("require_env takes names of environment variables: require_env DUCKDNS_DOMAIN=label DUCKDNS_TOKEN")
	}
	const everywhere = "wherever this Caddyfile is run, reloaded or validated"
	var missing []string
	for _, arg := range args {
		name, form, formed := strings.Cut(arg, "=")
		value := os.Getenv(name)
		switch {
		case formed && form != "label":
			return d.Errf("unrecognized form %q: require_env knows label, one part of a name", form)
		case strings.TrimSpace(value) == "":
			missing = append(missing, name)
		case formed && !label.MatchString(value):
			return d.Errf("set %s in the environment to one part of a name, as house of house.example.com, %s", name, everywhere)
		}
	}
	if len(missing) > 0 {
		return d.Errf("set %s in the environment, %s", strings.Join(missing, " and "), everywhere)
	}
	return nil
}

// label is one part of a name (RFC 1123, 2.1).
var label = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

func (a *App) unmarshalServer(d *caddyfile.Dispenser) error {
	line := at(d)
	args := d.RemainingArgs()
	switch {
	case len(args) > 2:
		return d.Errf("unexpected %q: a server has one name and one address; its settings go into a block", args[2])
	case len(args) < 2:
		return d.Err("a server has a name and an address: server plex1 192.168.1.10:32400; if there is a {$VARIABLE} in the line, is it set?")
	}
	s := &Server{Name: args[0], Address: args[1]}
	if err := CheckServers(append(a.Servers, s)); err != nil {
		return line.WrapErr(err)
	}
	a.Servers = append(a.Servers, s)

	tls := new(reverseproxy.TLSConfig)
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		word := d.Val()
		if err := once(d, seen); err != nil {
			return err
		}
		switch word {
		case "tls_insecure_skip_verify", "tls_server_name", "tls_trust_pool":
			s.TLS = tls
		}
		line := at(d)
		var err error
		switch word {
		case "weight":
			s.Weight, err = number(d, "4", "use a number greater than 0, such as 0.5 or 4")
		case "max_transcodes":
			var arg string
			if arg, err = value(d, "6"); err != nil {
				break
			}
			n, bad := strconv.Atoi(arg)
			if bad != nil || n < 1 {
				return d.Errf("max_transcodes is %q: use a whole number from 1, or leave it out for no limit", arg)
			}
			s.MaxTranscodes = n
		case "token":
			s.Token, err = UnmarshalToken(d)
		case "machine_identifier":
			s.MachineIdentifier, err = value(d, "<machineIdentifier that the server's /identity shows>")
		case "tls_insecure_skip_verify":
			if d.NextArg() {
				return d.Errf("tls_insecure_skip_verify takes no value: remove %q", d.Val())
			}
			tls.InsecureSkipVerify = true
		case "tls_server_name":
			tls.ServerName, err = value(d, "<name that the server's certificate holds>")
		case "tls_trust_pool":
			tls.CARaw, err = trustPool(d)
		default:
			return d.Errf("unrecognized subdirective %q: a server has machine_identifier, max_transcodes, tls_insecure_skip_verify, tls_server_name, tls_trust_pool, token and weight", word)
		}
		if err != nil {
			return err
		}
		if err := s.check(); err != nil {
			return line.WrapErr(err)
		}
	}
	return nil
}

func trustPool(d *caddyfile.Dispenser) ([]byte, error) {
	if !d.NextArg() {
		return nil, d.Err("tls_trust_pool needs a module: tls_trust_pool file <certificate of the authority>")
	}
	name := d.Val()
	m, err := caddyfile.UnmarshalModule(d, "tls.ca_pool.source."+name)
	if err != nil {
		return nil, err
	}
	ca, ok := m.(caddytls.CA)
	if !ok {
		return nil, d.Errf("module %q is not a pool of certificate authorities", name)
	}
	return caddyconfig.JSONModuleObject(ca, "provider", name, nil), nil
}

func (a *App) unmarshalMode(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 0:
		return d.Err("mode needs a value: mode separate, or mode replicated <primary>")
	case args[0] == ModeSeparate && len(args) > 1:
		return d.Errf("mode separate has no primary: remove %q, or use mode replicated", args[1])
	case args[0] == ModeReplicated && len(args) > 2:
		return d.Errf("mode replicated has one primary: remove %q", args[2])
	case args[0] != ModeSeparate && args[0] != ModeReplicated:
		return d.Errf("unknown mode %q: use separate or replicated", args[0])
	}
	a.Mode = args[0]
	if len(args) > 1 {
		a.Primary = args[1]
	}
	return nil
}

func (a *App) unmarshalCost(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("unexpected %q: cost takes a block with gpu, cpu, copy and client", d.Val())
	}
	a.Cost = new(Cost)
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := once(d, seen); err != nil {
			return err
		}
		to, ok := map[string]**float64{
			"gpu": &a.Cost.GPU, "cpu": &a.Cost.CPU, "copy": &a.Cost.Copy, "client": &a.Cost.Client,
		}[d.Val()]
		if !ok {
			return d.Errf("unrecognized subdirective %q: cost has gpu, cpu, copy and client", d.Val())
		}
		const hint = "use a number from 0, such as 0.1 or 2"
		word := d.Val()
		x, err := number(d, "2", hint)
		if err != nil {
			return err
		}
		if *x < 0 {
			return d.Errf("%s is %v: %s", word, *x, hint)
		}
		*to = x
	}
	return nil
}

// UnmarshalToken reads the token behind the word at which d stands. There is
// none if it is an environment variable that is not set, as in
//
//	token {$PLEX_TOKEN}
//
// which gives a warning: the servers are balanced all the same.
func UnmarshalToken(d *caddyfile.Dispenser) (string, error) {
	args := d.RemainingArgs()
	switch {
	case len(args) > 1:
		return "", d.Err("token takes one value: token <X-Plex-Token>")
	case len(args) == 0 || args[0] == "":
		caddy.Log().Named("config.adapter.caddyfile").Warn("token is empty; is its environment variable set?",
			zap.String("file", d.File()), zap.Int("line", d.Line()))
		return "", nil
	}
	return args[0], nil
}

// once refuses a subdirective that its block already holds.
func once(d *caddyfile.Dispenser, seen map[string]bool) error {
	switch {
	case d.Val() == "{":
		return d.Err("unexpected block: what stands before it takes none")
	case seen[d.Val()]:
		return d.Errf("%s is given twice: keep one of them", d.Val())
	}
	seen[d.Val()] = true
	return nil
}

// value reads the one argument of the subdirective at which d stands.
func value(d *caddyfile.Dispenser, example string) (string, error) {
	word := d.Val()
	args := d.RemainingArgs()
	if len(args) != 1 || args[0] == "" {
		return "", d.Errf("%s takes one value: %s %s", word, word, example)
	}
	return args[0], nil
}

func oneOf(d *caddyfile.Dispenser, this, that string) (string, error) {
	word := d.Val()
	arg, err := value(d, this)
	if err == nil && arg != this && arg != that {
		err = d.Errf("%s is %q: use %s or %s", word, arg, this, that)
	}
	return arg, err
}

func number(d *caddyfile.Dispenser, example, hint string) (*float64, error) {
	word := d.Val()
	arg, err := value(d, example)
	if err != nil {
		return nil, err
	}
	x, err := strconv.ParseFloat(arg, 64)
	if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
		return nil, d.Errf("%s is %q: %s", word, arg, hint)
	}
	return &x, nil
}

func duration(d *caddyfile.Dispenser, example string) (caddy.Duration, error) {
	word := d.Val()
	arg, err := value(d, example)
	if err != nil {
		return 0, err
	}
	x, err := caddy.ParseDuration(arg)
	if err != nil || x <= 0 {
		return 0, d.Errf("%s is %q: use a duration greater than 0 with its unit, such as %s", word, arg, example)
	}
	return caddy.Duration(x), nil
}

func durationOrOff(d *caddyfile.Dispenser, example string) (caddy.Duration, error) {
	if args := d.CountRemainingArgs(); args == 1 && d.NextArg() {
		if d.Val() == "off" {
			return -1, nil
		}
		d.Prev()
	}
	return duration(d, example+" or off")
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
		return d.Err("plexlb_session takes no block: the servers' settings are in the global option plexlb, those of the proxy in reverse_proxy")
	}
	return nil
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*App)(nil)
	_ caddyfile.Unmarshaler = (*Handler)(nil)
)
