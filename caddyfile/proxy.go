package caddyfile

import (
	"cmp"
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/plexlb/caddy-plexlb/plexlb"
	"github.com/plexlb/caddy-plexlb/transcodeselect"
)

// fill gives the proxy the servers and all that its block left open.
func fill(proxy *reverseproxy.Handler, given map[string]*caddyfile.Dispenser, servers []*plexlb.Server, https bool) error {
	if proxy.LoadBalancing == nil {
		proxy.LoadBalancing = new(reverseproxy.LoadBalancing)
	}
	lb := proxy.LoadBalancing
	if given["lb_policy"] == nil {
		lb.SelectionPolicyRaw = caddyconfig.JSONModuleObject(new(transcodeselect.LeastTranscodes), "policy", "least_transcodes", nil)
	}
	if given["lb_try_duration"] == nil && given["lb_retries"] == nil {
		lb.TryDuration = caddy.Duration(5 * time.Second)
	}
	if given["lb_try_interval"] == nil {
		lb.TryInterval = caddy.Duration(100 * time.Millisecond)
	}
	if given["lb_retry_match"] == nil {
		// Many of Plex's changes are GETs [P §10.21].
		lb.RetryMatchRaw = caddyhttp.RawMatcherSets{{
			"method": caddyconfig.JSON(caddyhttp.MatchMethod{http.MethodGet, http.MethodHead}, nil),
			"plex":   caddyconfig.JSON(plexlb.Repeatable, nil),
		}}
	}

	if proxy.HealthChecks == nil {
		proxy.HealthChecks = new(reverseproxy.HealthChecks)
	}
	active := proxy.HealthChecks.Active
	if active == nil {
		active = new(reverseproxy.ActiveHealthChecks)
		proxy.HealthChecks.Active = active
	}
	if given["health_uri"] == nil && given["health_path"] == nil {
		// Any server on the port may answer 200, and PMS itself shows 503
		// pages while it starts [P §10.26].
		active.URI = "/identity"
		if given["health_status"] == nil {
			active.ExpectStatus = http.StatusOK
		}
		if given["health_body"] == nil {
			active.ExpectBody = identity(servers, len(proxy.Upstreams) > 0)
		}
	}
	if given["health_interval"] == nil {
		active.Interval = caddy.Duration(2 * time.Second)
	}
	if given["health_timeout"] == nil {
		active.Timeout = caddy.Duration(2 * time.Second)
	}
	if given["health_fails"] == nil {
		active.Fails = 2
	}
	passive := proxy.HealthChecks.Passive
	if passive == nil {
		// For connections that fail. Slow answers and errors of the
		// application say nothing about a server [P §10.25].
		passive = new(reverseproxy.PassiveHealthChecks)
		proxy.HealthChecks.Passive = passive
	}
	if given["fail_duration"] == nil {
		passive.FailDuration = caddy.Duration(5 * time.Second)
	}
	if given["max_fails"] == nil {
		passive.MaxFails = 3
	}

	if given["stream_close_delay"] == nil {
		// Notifications go on over a reload, rather than all clients
		// coming back at once.
		proxy.StreamCloseDelay = caddy.Duration(5 * time.Minute)
	}

	pool := make(reverseproxy.UpstreamPool, 0, len(servers)+len(proxy.Upstreams))
	for _, s := range servers {
		_, dial, err := plexlb.ParseAddress(s.Address)
		if err != nil {
			return err
		}
		pool = append(pool, &reverseproxy.Upstream{Dial: dial})
	}
	proxy.Upstreams = append(pool, proxy.Upstreams...)
	return fillTransport(proxy, given["transport"], servers, https)
}

// fillTransport completes the transport with what suits PMS, and with the
// servers' TLS settings.
func fillTransport(proxy *reverseproxy.Handler, given *caddyfile.Dispenser, servers []*plexlb.Server, https bool) error {
	t := new(reverseproxy.HTTPTransport)
	if proxy.TransportRaw != nil {
		var kind struct{ Protocol string }
		if err := json.Unmarshal(proxy.TransportRaw, &kind); err != nil {
			return err
		}
		if kind.Protocol != "http" {
			return nil
		}
		if err := json.Unmarshal(proxy.TransportRaw, t); err != nil {
			return err
		}
	}
	if t.KeepAlive == nil {
		t.KeepAlive = new(reverseproxy.KeepAlive)
	}
	if t.KeepAlive.Enabled == nil && t.KeepAlive.IdleConnTimeout == 0 {
		// PMS closes idle connections after 20 s; one that it closes under
		// us costs the viewer a retry [P §10.35].
		t.KeepAlive.IdleConnTimeout = caddy.Duration(15 * time.Second)
	}
	if t.Compression == nil {
		// What the client did not ask for is not compressed, and ranges
		// stay what they are.
		t.Compression = new(bool)
	}
	if t.Versions == nil {
		t.Versions = []string{"1.1"}
	}
	switch {
	case https && (t.TLS == nil || reflect.DeepEqual(t.TLS, new(reverseproxy.TLSConfig))):
		t.TLS = cmp.Or(servers[0].TLS, new(reverseproxy.TLSConfig))
	case !https && t.TLS != nil && len(servers) > 0:
		return given.Errf("the transport has TLS settings but server %q (%s) is http: write its address as https://… in the global option plexlb, or remove them",
			servers[0].Name, servers[0].Address)
	}
	proxy.TransportRaw = caddyconfig.JSONModuleObject(t, "protocol", "http", nil)
	if t.TLS != nil {
		keepHost(proxy)
	}
	return nil
}

// keepHost has the servers get the Host that the client used, unless the block has
// a word on it: with https Caddy would send the upstream's address, and PMS builds
// redirects from this header [P §6.4].
func keepHost(proxy *reverseproxy.Handler) {
	if proxy.Headers == nil {
		proxy.Headers = new(headers.Handler)
	}
	if proxy.Headers.Request == nil {
		proxy.Headers.Request = new(headers.HeaderOps)
	}
	ops := proxy.Headers.Request
	_, added := ops.Add["Host"]
	_, set := ops.Set["Host"]
	_, replaced := ops.Replace["Host"]
	if added || set || replaced || slices.ContainsFunc(ops.Delete, func(s string) bool { return strings.EqualFold(s, "Host") }) {
		return
	}
	if ops.Set == nil {
		ops.Set = make(http.Header)
	}
	ops.Set.Set("Host", "{http.request.hostport}")
}

// identity is what the answer to /identity must hold, as XML or JSON: a
// machine identifier, and one of the configured ones if all upstreams have one.
func identity(servers []*plexlb.Server, others bool) string {
	const word = "machineIdentifier"
	if others || len(servers) == 0 {
		return word
	}
	var ids []string
	for _, s := range servers {
		if s.MachineIdentifier == "" {
			return word
		}
		if id := regexp.QuoteMeta(s.MachineIdentifier); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return word + `"?\s*[=:]\s*"(` + strings.Join(ids, "|") + `)"`
}
