// Package caddyfile is how plexlb is written in a Caddyfile: the global option
// plexlb, and the directives plexlb and plexlb_session.
package caddyfile

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/plexlb/caddy-plexlb/plexlb"
	"github.com/plexlb/caddy-plexlb/transcodeselect"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("plexlb", parseOption)
	httpcaddyfile.RegisterDirective("plexlb", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("plexlb", httpcaddyfile.Before, "reverse_proxy")
	httpcaddyfile.RegisterHandlerDirective("plexlb_session", parseSession)
	httpcaddyfile.RegisterDirectiveOrder("plexlb_session", httpcaddyfile.Before, "reverse_proxy")
}

// parseOption reads the global option plexlb, whose syntax is described at
// plexlb.App.UnmarshalCaddyfile.
func parseOption(d *caddyfile.Dispenser, existing any) (any, error) {
	app := new(plexlb.App)
	if existing != nil {
		d.Next()
		return nil, d.Err("the global option plexlb is already specified: put all servers into one")
	}
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "plexlb", Value: caddyconfig.JSON(app, nil)}, nil
}

// options returns what the global option says.
func options(h httpcaddyfile.Helper) (*plexlb.App, error) {
	opt, ok := h.Option("plexlb").(httpcaddyfile.App)
	if !ok {
		return new(plexlb.App), nil
	}
	return plexlb.FromJSON(opt.Value)
}

// pick returns the servers that a directive names, all of them if it names
// none.
func pick(h httpcaddyfile.Helper, names []string) ([]*plexlb.Server, error) {
	app, err := options(h)
	if err != nil {
		return nil, err
	}
	servers, unknown := app.Pick(names)
	if unknown != "" {
		return nil, h.Errf("unknown server %q: use one of %s, or add it to the global option plexlb", unknown, app.Names())
	}
	return servers, nil
}

// parseSession reads the directive plexlb_session. Syntax:
//
//	plexlb_session [<matcher>] [<servers...>]
func parseSession(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(plexlb.Handler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	if _, err := pick(h, handler.Servers); err != nil {
		return nil, err
	}
	return handler, nil
}

// parseDirective reads the directive plexlb, which is a shortcut in the way of
// php_fastcgi. Syntax:
//
//	plexlb [<matcher>] [<servers...>] {
//		<any subdirective of reverse_proxy>
//	}
//
// With the servers of the global option, a line such as
//
//	plexlb
//
// is equivalent to
//
//	plexlb_session
//	reverse_proxy <addresses of the servers...> {
//		lb_policy least_transcodes
//		lb_try_duration 5s
//		lb_try_interval 100ms
//		lb_retry_match {
//			method GET HEAD
//			plex start segment part browse
//		}
//		health_uri /identity
//		health_interval 2s
//		health_timeout 2s
//		health_fails 2
//		health_status 200
//		health_body <machineIdentifier, the configured one where there is one>
//		fail_duration 5s
//		max_fails 3
//		flush_interval -1
//		stream_close_delay 5m
//		transport http {
//			dial_timeout 3s
//			keepalive 15s
//			compression off
//			versions 1.1
//		}
//	}
//
// and every subdirective in its block replaces the one above, or adds to them.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}

	// The words behind the directive are servers to us and upstreams to
	// reverse_proxy, which reads the rest.
	d := h.NewFromNextSegment()
	d.Next()
	handler := new(plexlb.Handler)
	for d.NextArg() {
		handler.Servers = append(handler.Servers, d.Val())
		d.Delete()
	}
	servers, err := pick(h, handler.Servers)
	if err != nil {
		return nil, err
	}
	d.Reset()
	proxy := new(reverseproxy.Handler)
	if err := proxy.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	if err := proxy.FinalizeUnmarshalCaddyfile(h); err != nil {
		return nil, err
	}
	if len(servers) == 0 && len(proxy.Upstreams) == 0 && proxy.DynamicUpstreamsRaw == nil {
		return nil, h.Err("no servers: list them in the global option plexlb, or give upstreams in the block")
	}
	if err := fill(h, proxy, servers); err != nil {
		return nil, err
	}
	return []httpcaddyfile.ConfigValue{{
		Class: "route",
		Value: caddyhttp.Route{
			MatcherSetsRaw: matcherSets(matcher),
			HandlersRaw: []json.RawMessage{
				caddyconfig.JSONModuleObject(handler, "handler", "plexlb", nil),
				caddyconfig.JSONModuleObject(proxy, "handler", "reverse_proxy", nil),
			},
		},
	}}, nil
}

func matcherSets(set caddy.ModuleMap) caddyhttp.RawMatcherSets {
	if set == nil {
		return nil
	}
	return caddyhttp.RawMatcherSets{set}
}

// fill gives the proxy the servers and all that its block left open.
func fill(h httpcaddyfile.Helper, proxy *reverseproxy.Handler, servers []*plexlb.Server) error {
	scheme, err := upstreams(h, proxy, servers)
	if err != nil {
		return err
	}

	if proxy.LoadBalancing == nil {
		proxy.LoadBalancing = new(reverseproxy.LoadBalancing)
	}
	lb := proxy.LoadBalancing
	if lb.SelectionPolicyRaw == nil {
		lb.SelectionPolicyRaw = caddyconfig.JSONModuleObject(transcodeselect.LeastTranscodes{}, "policy", "least_transcodes", nil)
	}
	if lb.TryDuration == 0 && lb.Retries == 0 {
		lb.TryDuration = caddy.Duration(5 * time.Second)
	}
	if lb.TryInterval == 0 {
		lb.TryInterval = caddy.Duration(100 * time.Millisecond)
	}
	if lb.RetryMatchRaw == nil {
		// Many of Plex's changes are GETs [P §10.21].
		lb.RetryMatchRaw = caddyhttp.RawMatcherSets{{
			"method": caddyconfig.JSON(caddyhttp.MatchMethod{http.MethodGet, http.MethodHead}, nil),
			"plex":   caddyconfig.JSON(plexlb.Match{"start", "segment", "part", "browse"}, nil),
		}}
	}

	if proxy.HealthChecks == nil {
		proxy.HealthChecks = new(reverseproxy.HealthChecks)
	}
	checks := proxy.HealthChecks
	if checks.Active == nil {
		checks.Active = new(reverseproxy.ActiveHealthChecks)
	}
	if a := checks.Active; a.URI == "" && a.Path == "" {
		// Any server on the port may answer 200, and PMS itself shows 503
		// pages while it starts [P §10.26].
		a.URI = "/identity"
		if a.ExpectStatus == 0 {
			a.ExpectStatus = http.StatusOK
		}
		if a.ExpectBody == "" {
			a.ExpectBody = identity(servers)
		}
	}
	if a := checks.Active; a.Interval == 0 {
		a.Interval = caddy.Duration(2 * time.Second)
	}
	if a := checks.Active; a.Timeout == 0 {
		a.Timeout = caddy.Duration(2 * time.Second)
	}
	if a := checks.Active; a.Fails == 0 {
		a.Fails = 2
	}
	if checks.Passive == nil {
		// For connections that fail. Slow answers and errors of the
		// application say nothing about a server [P §10.25].
		checks.Passive = new(reverseproxy.PassiveHealthChecks)
	}
	if p := checks.Passive; p.FailDuration == 0 {
		p.FailDuration = caddy.Duration(5 * time.Second)
	}
	if p := checks.Passive; p.MaxFails == 0 {
		p.MaxFails = 3
	}

	if proxy.FlushInterval == 0 {
		proxy.FlushInterval = -1
	}
	if proxy.StreamCloseDelay == 0 {
		// Notifications go on over a reload, rather than all clients
		// coming back at once.
		proxy.StreamCloseDelay = caddy.Duration(5 * time.Minute)
	}
	if scheme == "https" && proxy.Headers == nil {
		// Caddy would send the upstream's name; PMS builds redirects from
		// the one that the client used [P §6.4].
		proxy.Headers = &headers.Handler{Request: &headers.HeaderOps{
			Set: http.Header{"Host": []string{"{http.request.hostport}"}},
		}}
	}
	return nil
}

// upstreams adds the servers to the pool, and the transport that suits them.
func upstreams(h httpcaddyfile.Helper, proxy *reverseproxy.Handler, servers []*plexlb.Server) (scheme string, err error) {
	pool := make(reverseproxy.UpstreamPool, 0, len(servers)+len(proxy.Upstreams))
	for i, s := range servers {
		sch, dial, err := plexlb.ParseAddress(s.Address)
		if err != nil {
			return "", h.WrapErr(err)
		}
		if i > 0 && sch != scheme {
			return "", h.Errf("servers %q (%s) and %q (%s) cannot be behind one site: Caddy speaks to all upstreams of a proxy alike; give both the same scheme, or each a site of its own",
				servers[0].Name, scheme, s.Name, sch)
		}
		if i > 0 && !reflect.DeepEqual(s.TLS, servers[0].TLS) {
			return "", h.Errf("servers %q and %q cannot be behind one site with different TLS settings: Caddy verifies all upstreams of a proxy alike; use names in the addresses that their certificates hold, or give each a site of its own",
				servers[0].Name, s.Name)
		}
		scheme = sch
		pool = append(pool, &reverseproxy.Upstream{Dial: dial})
	}
	proxy.Upstreams = append(pool, proxy.Upstreams...)
	if proxy.TransportRaw != nil {
		return scheme, nil
	}
	off := false
	t := &reverseproxy.HTTPTransport{
		DialTimeout: caddy.Duration(3 * time.Second),
		// PMS closes idle connections after 20 s; one that it closes under
		// us costs the viewer a retry [P §10.35].
		KeepAlive: &reverseproxy.KeepAlive{IdleConnTimeout: caddy.Duration(15 * time.Second)},
		// What the client did not ask for is not compressed, and ranges
		// stay what they are.
		Compression: &off,
		Versions:    []string{"1.1"},
	}
	if scheme == "https" {
		t.TLS = new(reverseproxy.TLSConfig)
		if servers[0].TLS != nil {
			t.TLS = servers[0].TLS
		}
	}
	proxy.TransportRaw = caddyconfig.JSONModuleObject(t, "protocol", "http", nil)
	return scheme, nil
}

// identity is what the answer to /identity must hold, as XML or JSON: a
// machine identifier, and one of the configured ones if all servers have one.
func identity(servers []*plexlb.Server) string {
	ids := make([]string, 0, len(servers))
	for _, s := range servers {
		if s.MachineIdentifier == "" {
			return "machineIdentifier"
		}
		ids = append(ids, regexp.QuoteMeta(s.MachineIdentifier))
	}
	if len(ids) == 0 {
		return "machineIdentifier"
	}
	return `machineIdentifier"?\s*[=:]\s*"(` + strings.Join(ids, "|") + `)"`
}
