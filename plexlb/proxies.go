package plexlb

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// noteProxy remembers where a request came from that another proxy seems to
// have sent, and that Caddy does not believe to be one. One such address is
// enough for the doctor; clients from outside can add none.
func (a *App) noteProxy(r *http.Request) {
	if len(r.Header["X-Forwarded-For"]) == 0 || a.proxy.Load() != nil {
		return
	}
	if believed, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); believed {
		return
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return
	}
	if addr := peer.Addr().Unmap().WithZone(""); addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() {
		a.proxy.CompareAndSwap(nil, &addr)
	}
}

// forwardOneAddress has a request that a trusted proxy has sent reach its server
// as if the client had: which of several addresses in X-Forwarded-For PMS takes
// for the viewer's is not known [P §6.4]. Of what is not trusted Caddy makes one
// address by itself. The request must be nobody else's.
func forwardOneAddress(r *http.Request) {
	if believed, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); !believed {
		return
	}
	viewer, err := netip.ParseAddr(clientIP(r))
	if err != nil {
		return // of a proxy that comes by a socket, and does not say
	}
	r.RemoteAddr = netip.AddrPortFrom(viewer, 0).String()
	if r.Header["X-Forwarded-For"] != nil {
		r.Header = r.Header.Clone()
		r.Header.Del("X-Forwarded-For")
	}
}

// anybody are addresses that are nobody's: no list of proxies holds them, unless
// it holds all. Who believes a whole row believes all addresses of that kind.
var anybody = [][]netip.Addr{
	{netip.MustParseAddr("0.0.0.1"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.1")},
	{netip.MustParseAddr("2001:db8::1")},
}

// credulous reports whether everybody is believed to be a proxy.
func credulous(believes func(netip.Addr) bool) bool {
	return slices.ContainsFunc(anybody, func(row []netip.Addr) bool {
		return !slices.ContainsFunc(row, func(a netip.Addr) bool { return !believes(a) })
	})
}

// proxyFacts finds out who is believed to be a proxy in front of Caddy.
func (a *App) proxyFacts(f *facts) {
	v, err := a.ctx.AppIfConfigured("http")
	if err != nil {
		return
	}
	app, ok := v.(*caddyhttp.App)
	if !ok {
		return
	}
	if addr := a.proxy.Load(); addr != nil {
		f.proxy = *addr
	}
	names := make([]string, 0, len(app.Servers))
	for name := range app.Servers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		srv := app.Servers[name]
		ours, proxies := balanced(srv)
		if !ours {
			continue
		}
		if credulous(func(addr netip.Addr) bool { return believes(srv, addr) }) {
			f.trusting = append(f.trusting, fmt.Sprintf("HTTP server %s", name))
		}
		for _, p := range proxies {
			by := func(addr netip.Addr) bool { return believedBy(p, addr) }
			if what := fmt.Sprintf("a reverse_proxy of HTTP server %s", name); credulous(by) && !slices.Contains(f.trusting, what) {
				f.trusting = append(f.trusting, what)
			}
			if f.proxy.IsValid() && by(f.proxy) {
				f.proxy = netip.Addr{} // the proxy itself believes it
			}
		}
	}
}

// believes reports whether an HTTP server takes an address for that of a proxy.
// Caddy keeps its list to itself, but shows what comes of it.
func believes(srv *caddyhttp.Server, addr netip.Addr) bool {
	r, err := http.NewRequest(http.MethodGet, "/", nil)
	if err != nil {
		return false
	}
	r.RemoteAddr = netip.AddrPortFrom(addr, 1).String()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, srv)
	believed, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return believed
}

// believedBy reports the same of a reverse_proxy's own list.
func believedBy(p *reverseproxy.Handler, addr netip.Addr) bool {
	return slices.ContainsFunc(p.TrustedProxies, func(s string) bool {
		prefix, err := caddyhttp.CIDRExpressionToPrefix(s)
		return err == nil && prefix.Contains(addr)
	})
}

// balanced reports whether an HTTP server has our handler anywhere in its
// routes, and the proxies that it has.
func balanced(srv *caddyhttp.Server) (ours bool, proxies []*reverseproxy.Handler) {
	var look func(caddyhttp.RouteList)
	look = func(routes caddyhttp.RouteList) {
		for _, route := range routes {
			for _, h := range route.Handlers {
				switch h := h.(type) {
				case *Handler:
					ours = true
				case *reverseproxy.Handler:
					proxies = append(proxies, h)
				case *caddyhttp.Subroute:
					look(h.Routes)
				}
			}
		}
	}
	look(srv.Routes)
	for _, route := range srv.NamedRoutes {
		look(caddyhttp.RouteList{*route})
	}
	return ours, proxies
}
