// Package transcodeselect is the load-balancing policy least_transcodes: it
// translates Caddy's pool for the ledger, and the ledger's choice back.
package transcodeselect

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/plexlb"
)

func init() {
	caddy.RegisterModule(LeastTranscodes{})
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

	app *plexlb.App
}

// CaddyModule returns the Caddy module information.
func (LeastTranscodes) CaddyModule() caddy.ModuleInfo {
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
	if s := lease.Server(); s != nil {
		if u := upstream(pool, s.Address()); u != nil && u.Available() {
			lease.Go(s)
			if lease.Weighs() && others(pool, u) {
				lease.Elsewhere()
			}
			return u
		}
	}

	scratch := scratches.Get().(*[]cluster.Candidate)
	candidates := (*scratch)[:0]
	ledger := p.app.Ledger()
	known := ledger.Servers()
	available := 0
	for i, u := range pool {
		s := known.At(i, u.Dial)
		if s == nil || !s.Named() {
			now := time.Now()
			if s == nil {
				s = ledger.Admit(u.Dial, now)
			}
			s.Sighted(ledger, now)
		}
		out := cluster.Down
		if u.Available() {
			out = cluster.In
			if lease.Tried(s) {
				out = cluster.Tried
			} else {
				available++
			}
		}
		candidates = append(candidates, cluster.Candidate{Server: s, Out: out})
	}
	i := lease.Place(candidates)
	if lease.Weighs() && available > 1 {
		lease.Elsewhere()
	}
	clear(candidates) // keep no server alive
	*scratch = candidates[:0]
	scratches.Put(scratch)
	if i < 0 {
		return nil
	}
	return pool[i]
}

// scratches holds the candidates of one choice.
var scratches = sync.Pool{New: func() any { return new([]cluster.Candidate) }}

// upstream returns the member of the pool that is dialed at addr.
func upstream(pool reverseproxy.UpstreamPool, addr string) *reverseproxy.Upstream {
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
