package plex

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"
)

// Greeting is what a server tells somebody who brings no token, and how it was
// reached.
type Greeting struct {
	Identity

	// Ahead is how far the server's clock is ahead of ours, to about a second;
	// known only if Dated.
	Ahead time.Duration
	Dated bool

	// Connected says that the server took a connection, whatever came of it.
	Connected bool

	// Local is the address from which the server was reached. It is not known
	// if TLS did not come about.
	Local netip.Addr
}

// Greet asks a server who it is, without a token: it may be anybody. With an
// error, the greeting holds what was learnt all the same.
func (c *Client) Greet(ctx context.Context) (Greeting, error) {
	var g Greeting
	var local atomic.Pointer[netip.Addr] // as a dial may outlive the request
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				connected.Store(true)
			}
		},
		GotConn: func(info httptrace.GotConnInfo) {
			connected.Store(true)
			if a, ok := info.Conn.LocalAddr().(*net.TCPAddr); ok {
				addr := a.AddrPort().Addr().Unmap()
				local.Store(&addr)
			}
		},
	}
	stranger := &Client{URL: c.URL, HTTP: c.HTTP}
	began := time.Now()
	n, header, err := stranger.answer(httptrace.WithClientTrace(ctx, trace), "/identity")
	took := time.Since(began)
	g.Connected = connected.Load()
	if addr := local.Load(); addr != nil {
		g.Local = *addr
	}
	if date, bad := http.ParseTime(header.Get("Date")); bad == nil {
		// The header leaves out fractions of a second: half of one, on average.
		g.Ahead, g.Dated = date.Add(time.Second/2).Sub(began.Add(took/2)), true
	}
	if err == nil {
		g.Identity, err = readIdentity(n)
	}
	if err != nil {
		return g, fmt.Errorf("reading identity: %w", err)
	}
	return g, nil
}

// Root asks for what the server says of itself to everybody whose token it
// takes, be it the owner's or not [P §2].
func (c *Client) Root(ctx context.Context) error {
	if _, err := c.fetch(ctx, "/"); err != nil {
		return fmt.Errorf("reading root: %w", err)
	}
	return nil
}

// SpeaksTLS reports whether what listens at the client's address speaks TLS.
// Nothing is said to it but that.
func (c *Client) SpeaksTLS(ctx context.Context) bool {
	u, err := url.Parse(c.URL)
	if err != nil {
		return false
	}
	dialer := tls.Dialer{Config: &tls.Config{
		ServerName:         u.Hostname(),
		InsecureSkipVerify: true, // whoever it is, nothing is told to it
	}}
	conn, err := dialer.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
