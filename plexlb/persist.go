package plexlb

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// A request whose server fails waits for the proxy's next attempt. When the
// config is replaced meanwhile, reverse_proxy stops waiting and answers 502 or 503
// [LoadBalancing.tryAgain]. Here those that do no harm if they are carried out
// twice are sent again as it would have done, so that no reload costs a playback.

// Proxy is a reverse_proxy as its selection policy knows it.
type Proxy struct {
	balancing *reverseproxy.LoadBalancing
	over      <-chan struct{} // closed when its config is no longer in force
}

// ProxyOf returns the proxy that a selection policy is provisioned for, nil if
// there is none.
func ProxyOf(ctx caddy.Context) *Proxy {
	for _, m := range slices.Backward(ctx.Modules()) {
		if h, ok := m.(*reverseproxy.Handler); ok && h.LoadBalancing != nil {
			return &Proxy{balancing: h.LoadBalancing, over: ctx.Done()}
		}
	}
	return nil
}

// AskedBy notes that a proxy's policy has been asked for an upstream.
func (l *Lease) AskedBy(p *Proxy) {
	l.proxy = p
	l.asked++
}

// persist has the proxy send a request, and goes on where it stopped only because
// its config was replaced.
func (h *Handler) persist(l *Lease, r *http.Request, next caddyhttp.Handler) error {
	begin := time.Now()
	l.proxy, l.asked = nil, 0
	err := l.attempt(r, next)
	for err != nil && l.cutShort(r, err, begin) {
		select {
		case <-time.After(time.Duration(l.proxy.balancing.TryInterval)):
		case <-r.Context().Done():
			return h.giveUp(l, context.Canceled)
		}
		err = l.attempt(r, next)
	}
	return err
}

// cutShort reports whether the proxy would have sent the request once more if its
// config were still in force, and whether that does no harm: what became of the
// request is not known here for certain.
func (l *Lease) cutShort(r *http.Request, err error, begin time.Time) bool {
	if l.proxy == nil || l.status != 0 || l.interrupted || l.takenBack {
		return false
	}
	select {
	case <-l.proxy.over:
	default:
		return false
	}
	lb := l.proxy.balancing
	switch {
	case lb.TryInterval == 0, // it would not have waited
		lb.TryDuration == 0 && lb.Retries == 0,
		lb.TryDuration > 0 && time.Since(begin) >= time.Duration(lb.TryDuration),
		lb.Retries > 0 && l.asked > lb.Retries:
		return false
	}
	if harmless, _ := Repeatable.MatchWithError(r); !harmless || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	var failure caddyhttp.HandlerError
	if !errors.As(err, &failure) {
		return false
	}
	switch failure.StatusCode {
	case http.StatusServiceUnavailable: // there was no upstream
		return true
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		if errors.As(err, new(reverseproxy.DialError)) || lb.RetryMatch == nil && r.Method == http.MethodGet {
			return true
		}
		match, err := lb.RetryMatch.AnyMatchWithError(r)
		return lb.RetryMatch != nil && match && err == nil
	}
	return false // what a route made of an answer
}
