// Package transcodeselect is the load-balancing policy least_transcodes: it
// translates Caddy's pool for the ledger, and the ledger's choice back.
package transcodeselect

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/plexlb"
)

func init() {
	caddy.RegisterModule(new(LeastTranscodes))
}

// LeastTranscodes sends every request of a Plex playback to the server that
// plays it, and starts a new playback on the server with the most transcoding
// room: the least load by weight, where the load is what the server reports to
// be transcoding and what was sent there since.
//
// Put `plexlb_session` in front of the proxy, which tells the policy what it
// learns from the answers. Upstreams that the `plexlb` option does not name
// count as servers of weight 1.
type LeastTranscodes struct {
	// The X-Plex-Token for reading the sessions of upstreams that the
	// `plexlb` option does not name. Placeholders are allowed. Default: the
	// option's token.
	Token string `json:"token,omitempty"`

	app   *plexlb.App
	proxy *plexlb.Proxy
	last  atomic.Pointer[translation]
}

// CaddyModule returns the Caddy module information.
func (*LeastTranscodes) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.selection_policies.least_transcodes",
		New: func() caddy.Module { return new(LeastTranscodes) },
	}
}

// Provision sets up the policy.
func (p *LeastTranscodes) Provision(ctx caddy.Context) error {
	app, err := ctx.App("plexlb")
	if err != nil {
		return fmt.Errorf("getting app plexlb: %v", err)
	}
	p.app = app.(*plexlb.App)
	p.proxy = plexlb.ProxyOf(ctx)
	if p.Token != "" {
		p.app.UseToken(p.Token)
	}
	return nil
}

// Select returns the upstream for the request, nil if none can take it.
func (p *LeastTranscodes) Select(pool reverseproxy.UpstreamPool, r *http.Request, w http.ResponseWriter) *reverseproxy.Upstream {
	lease := plexlb.LeaseOf(w)
	if lease == nil {
		lease = p.app.Borrow(r)
	}
	lease.AskedBy(p.proxy)
	if s := lease.Server(); s != nil {
		if u := p.upstream(pool, s); u != nil && u.Available() && lease.Go(s, u) {
			if !s.Named() {
				s.Sighted(p.app.Ledger(), time.Now())
			}
			if lease.Weighs() && others(pool, u) {
				lease.Elsewhere()
			}
			return u
		}
	}
	if len(pool) == 0 {
		return nil
	}
	if lease.Follows() {
		lease.Interrupt()
		return pool[0]
	}

	t := p.translate(pool)
	scratch := t.scratch()
	candidates := *scratch
	available := 0
	for i, u := range pool {
		out := cluster.Down
		if u.Available() {
			out = cluster.In
			available++
		}
		candidates[i].Out = out
	}
	available -= lease.Exclude(candidates)
	i := lease.Place(candidates, pool)
	t.scratches.Put(scratch)
	if lease.Weighs() && available > 1 {
		lease.Elsewhere()
	}
	if i < 0 {
		return nil
	}
	return pool[i]
}

// translation is a pool in the ledger's terms. A static pool is the same slice
// in every request, so that its servers are looked up once; it is kept alive
// here, so that no other pool can be taken for it.
type translation struct {
	pool      reverseproxy.UpstreamPool
	known     *cluster.Directory
	servers   []*cluster.Server
	scratches sync.Pool // *[]cluster.Candidate with the servers filled in
}

// of reports whether the translation is that of pool, as far as it was seen.
func (t *translation) of(pool reverseproxy.UpstreamPool) bool {
	return t != nil && len(t.pool) == len(pool) && len(pool) > 0 && &t.pool[0] == &pool[0]
}

func (t *translation) scratch() *[]cluster.Candidate {
	if c, ok := t.scratches.Get().(*[]cluster.Candidate); ok {
		return c
	}
	c := make([]cluster.Candidate, len(t.servers))
	for i, s := range t.servers {
		c[i].Server = s
	}
	return &c
}

// translate finds the servers of a pool, admitting those that no configuration
// names.
func (p *LeastTranscodes) translate(pool reverseproxy.UpstreamPool) *translation {
	ledger := p.app.Ledger()
	t := p.last.Load()
	if !t.of(pool) || t.known != ledger.Servers() {
		t = &translation{pool: pool, servers: make([]*cluster.Server, len(pool))}
		for i, u := range pool {
			t.servers[i] = ledger.Admit(u.Dial, time.Now())
		}
		t.known = ledger.Servers()
		p.last.Store(t)
	}
	if t.known.Strangers() {
		now := time.Now()
		for _, s := range t.servers {
			s.Sighted(ledger, now)
		}
	}
	return t
}

// upstream returns the member of the pool that is the server, nil if it has
// none.
func (p *LeastTranscodes) upstream(pool reverseproxy.UpstreamPool, s *cluster.Server) *reverseproxy.Upstream {
	addr := s.Address()
	if t := p.last.Load(); t.of(pool) {
		for i, known := range t.servers {
			if known == s && pool[i].Dial == addr {
				return pool[i]
			}
		}
	}
	for _, u := range pool {
		if u.Dial == addr {
			return u
		}
	}
	return nil
}

// others reports whether an upstream beside u is available.
func others(pool reverseproxy.UpstreamPool, u *reverseproxy.Upstream) bool {
	for _, v := range pool {
		if v != u && v.Available() {
			return true
		}
	}
	return false
}

// UnmarshalCaddyfile sets up the policy from Caddyfile tokens. Syntax:
//
//	lb_policy least_transcodes {
//		token <token>
//	}
func (p *LeastTranscodes) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume policy name
	if d.NextArg() {
		return d.Errf("unexpected %q: least_transcodes takes its settings in a block", d.Val())
	}
	seen := false
	for d.NextBlock(0) {
		if d.Val() != "token" {
			return d.Errf("unrecognized subdirective %q: least_transcodes has only token", d.Val())
		}
		if seen {
			return d.Err("token is given twice: keep one of them")
		}
		seen = true
		var err error
		if p.Token, err = plexlb.UnmarshalToken(d); err != nil {
			return err
		}
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner     = (*LeastTranscodes)(nil)
	_ caddyfile.Unmarshaler = (*LeastTranscodes)(nil)
	_ reverseproxy.Selector = (*LeastTranscodes)(nil)
)
