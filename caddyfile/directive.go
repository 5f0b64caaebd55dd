package caddyfile

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/plexlb/caddy-plexlb/plexlb"
)

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
//		stream_close_delay 5m
//		transport http {
//			keepalive 15s
//			compression off
//			versions 1.1
//		}
//	}
//
// and every subdirective in its block replaces the one above, or adds to them;
// those of transport http do so one by one. With https servers, the transport
// has their TLS settings, and the client's Host header is kept.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // consume directive name
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	h.Next()

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
		return nil, d.WrapErr(err)
	}
	https, err := common(servers)
	if err != nil {
		return nil, d.WrapErr(err)
	}
	d.Reset()
	given, err := subdirectives(d, servers, https)
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
		d.Reset()
		d.Next()
		return nil, d.Err("no servers: list them in the global option plexlb, as in: server plex1 192.168.1.10:32400")
	}
	if err := fill(proxy, given, servers, https); err != nil {
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

// common reports whether the servers of a site speak https, and what keeps them
// from being behind one proxy.
func common(servers []*plexlb.Server) (https bool, err error) {
	for i, s := range servers {
		scheme, _, err := plexlb.ParseAddress(s.Address)
		switch first := servers[0]; {
		case err != nil:
			return false, err
		case i == 0:
			https = scheme == "https"
		case https != (scheme == "https"):
			return false, fmt.Errorf("server %q (%s) and server %q (%s) cannot be behind one site, as a proxy speaks to all its servers alike: give both the same scheme, or each a site of its own",
				first.Name, first.Address, s.Name, s.Address)
		case !reflect.DeepEqual(s.TLS, first.TLS):
			return false, fmt.Errorf("server %q and server %q have different TLS settings and cannot be behind one site, as a proxy verifies all its servers alike: give both the same settings, or each a site of its own",
				first.Name, s.Name)
		}
	}
	return https, nil
}

// subdirectives returns where each subdirective of the block is first given.
// Those that add upstreams must not disagree with the servers, which
// reverse_proxy does not know.
func subdirectives(d *caddyfile.Dispenser, servers []*plexlb.Server, https bool) (given map[string]*caddyfile.Dispenser, err error) {
	given = make(map[string]*caddyfile.Dispenser)
	d.Next() // consume directive name
	for d.NextBlock(0) {
		line := d.NewFromNextSegment()
		line.Next()
		word := line.Val()
		if given[word] == nil {
			given[word] = line
		}
		switch word {
		case "server", "weight", "max_transcodes", "machine_identifier", "token", "mode", "overflow", "idle":
			return nil, line.Errf("%s belongs into the global option plexlb, at the top of the Caddyfile", word)
		}
		if word != "to" || len(servers) == 0 {
			continue
		}
		for _, address := range line.RemainingArgs() {
			if strings.HasPrefix(strings.ToLower(address), "https://") != https {
				return nil, line.Errf("server %q (%s) and an upstream with another scheme cannot be behind one site, as a proxy speaks to all its servers alike: give both the same scheme, or each a site of its own",
					servers[0].Name, servers[0].Address)
			}
		}
	}
	return given, nil
}

func matcherSets(set caddy.ModuleMap) caddyhttp.RawMatcherSets {
	if set == nil {
		return nil
	}
	return caddyhttp.RawMatcherSets{set}
}
