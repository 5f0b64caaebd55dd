package plexlb

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestNoteProxy(t *testing.T) {
	for name, tc := range map[string]struct {
		peer, header string
		believed     bool
		want         string
	}{
		"a proxy in the network":    {"10.0.0.9:1234", "203.0.113.7", false, "10.0.0.9"},
		"a proxy on the machine":    {"127.0.0.1:1234", "203.0.113.7", false, "127.0.0.1"},
		"a proxy in IPv6":           {"[fd00::9]:1234", "203.0.113.7", false, "fd00::9"},
		"a link-local proxy":        {"[fe80::9%eth0]:1234", "203.0.113.7", false, "fe80::9"},
		"IPv4 written as IPv6":      {"[::ffff:10.0.0.9]:1234", "203.0.113.7", false, "10.0.0.9"},
		"an empty header":           {"10.0.0.9:1234", "", false, "10.0.0.9"},
		"whom Caddy believes":       {"10.0.0.9:1234", "203.0.113.7", true, ""},
		"a client from outside":     {"203.0.113.9:1234", "10.0.0.1", false, ""},
		"a client without a header": {"10.0.0.9:1234", "-", false, ""},
		"a socket":                  {"@", "203.0.113.7", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = tc.peer
			if tc.header != "-" {
				r.Header.Set("X-Forwarded-For", tc.header)
			}
			r = r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, map[string]any{caddyhttp.TrustedProxyVarKey: tc.believed}))
			a := new(App)
			a.noteProxy(r)
			got := ""
			if addr := a.proxy.Load(); addr != nil {
				got = addr.String()
			}
			if got != tc.want {
				t.Errorf("noted %q, want %q", got, tc.want)
			}
			r.RemoteAddr = "192.168.7.7:1"
			a.noteProxy(r)
			if addr := a.proxy.Load(); tc.want != "" && addr.String() != tc.want {
				t.Errorf("another one, %v, takes its place", addr)
			}
		})
	}
}

func TestNoteProxyAllocatesNothing(t *testing.T) {
	a := new(App)
	r := httptest.NewRequest("GET", "/", nil)
	if n := testing.AllocsPerRun(100, func() { a.noteProxy(r) }); n != 0 {
		t.Errorf("%v allocations for a request without the header", n)
	}
	addr := netip.MustParseAddr("10.0.0.9")
	a.proxy.Store(&addr)
	r.Header.Set("X-Forwarded-For", "203.0.113.7")
	if n := testing.AllocsPerRun(100, func() { a.noteProxy(r) }); n != 0 {
		t.Errorf("%v allocations when there is nothing more to note", n)
	}
}

func TestCredulous(t *testing.T) {
	for name, tc := range map[string]struct {
		ranges []string
		want   bool
	}{
		"nobody":          {nil, false},
		"private ranges":  {[]string{"192.168.0.0/16", "172.16.0.0/12", "10.0.0.0/8", "127.0.0.1/8", "fd00::/8", "::1"}, false},
		"all of IPv4":     {[]string{"0.0.0.0/0"}, true},
		"all of IPv6":     {[]string{"::/0"}, true},
		"two halves":      {[]string{"0.0.0.0/1", "128.0.0.0/1"}, true},
		"one half":        {[]string{"128.0.0.0/1"}, false},
		"the other half":  {[]string{"0.0.0.0/1"}, false},
		"all of the used": {[]string{"2000::/3"}, true},
		"a provider":      {[]string{"173.245.48.0/20", "2400:cb00::/32"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := credulous(func(addr netip.Addr) bool {
				for _, s := range tc.ranges {
					if p, err := caddyhttp.CIDRExpressionToPrefix(s); err == nil && p.Contains(addr) {
						return true
					}
				}
				return false
			})
			if got != tc.want {
				t.Errorf("credulous(%v) = %v, want %v", tc.ranges, got, tc.want)
			}
		})
	}
}

func TestOneAddressIsForwarded(t *testing.T) {
	for name, tc := range map[string]struct {
		trusted      bool
		client       string // as Caddy sees it
		remote, told string // what the proxy behind us sees
	}{
		"a trusted proxy":                        {true, "203.0.113.7", "203.0.113.7:0", ""},
		"one of a viewer with IPv6":              {true, "2001:db8::7", "[2001:db8::7]:0", ""},
		"a stranger":                             {false, "192.168.1.5", "192.168.1.5:1234", "203.0.113.7, 192.168.1.4"},
		"a trusted socket that does not say who": {true, "@", "192.168.1.5:1234", "203.0.113.7, 192.168.1.4"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.WithValue(t.Context(), caddyhttp.VarsCtxKey, map[string]any{
				caddyhttp.TrustedProxyVarKey: tc.trusted, caddyhttp.ClientIPVarKey: tc.client,
			})
			r := httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx)
			r.RemoteAddr = "192.168.1.5:1234"
			r.Header.Set("X-Forwarded-For", "203.0.113.7, 192.168.1.4")
			before := r.Header
			forwardOneAddress(r)
			if told := r.Header.Get("X-Forwarded-For"); r.RemoteAddr != tc.remote || told != tc.told {
				t.Errorf("it comes from %s, and says %q; want %s and %q", r.RemoteAddr, told, tc.remote, tc.told)
			}
			if before.Get("X-Forwarded-For") == "" {
				t.Error("the client's own request has lost its header")
			}
		})
	}
}

// A resumption is sent as the viewer's: what tells who that is must be kept.
func TestARecordingKnowsTheViewer(t *testing.T) {
	ctx := context.WithValue(t.Context(), caddyhttp.ServerCtxKey, &caddyhttp.Server{ClientIPHeaders: []string{"CF-Connecting-IP"}})
	r := httptest.NewRequest(http.MethodGet, "/video/:/transcode/universal/start.m3u8", nil).WithContext(ctx)
	for _, name := range []string{"CF-Connecting-IP", "X-Forwarded-For", "True-Client-IP"} {
		r.Header.Set(name, "203.0.113.7")
	}
	h := record(r, "", "").header
	if h.Get("CF-Connecting-IP") == "" || h.Get("X-Forwarded-For") == "" || h.Get("True-Client-IP") != "" {
		t.Errorf("%v is recorded", h)
	}
}
