package plexlb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

func init() {
	caddy.RegisterModule(new(Webhook))
}

// Webhook sends events to a URL: a POST with the event in JSON, as
// [CloudEvents](https://cloudevents.io) describes it. It is meant for the events
// of this app, which are few and for which nobody waits. An event that cannot be
// sent within five seconds is lost, and logged.
type Webhook struct {
	// Where to send events. Placeholders are allowed.
	URL string `json:"url"`
}

// webhookTimeout bounds how long sending one event may take.
const webhookTimeout = 5 * time.Second

// CaddyModule returns the Caddy module information.
func (*Webhook) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "events.handlers.plexlb_webhook",
		New: func() caddy.Module { return new(Webhook) },
	}
}

// Provision sets up the handler.
func (h *Webhook) Provision(caddy.Context) error {
	h.URL = caddy.NewReplacer().ReplaceAll(h.URL, "")
	return nil
}

// Validate checks the URL.
func (h *Webhook) Validate() error {
	u, err := url.Parse(h.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("the URL of plexlb_webhook has to begin with http:// or https:// and name a host") // it may be a secret
	}
	return nil
}

// Handle sends the event.
func (h *Webhook) Handle(ctx context.Context, e caddy.Event) error {
	body, err := json.Marshal(e.CloudEvent())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, webhookTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL of plexlb_webhook is not one")
	}
	r.Header.Set("Content-Type", "application/cloudevents+json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL
		}
		return fmt.Errorf("sending the event: %v", err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection can be used again
	res.Body.Close()
	if res.StatusCode >= 300 {
		return fmt.Errorf("sending the event: answered with status %d", res.StatusCode)
	}
	return nil
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	plexlb_webhook <url>
func (h *Webhook) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume handler name
	if !d.AllArgs(&h.URL) {
		return d.ArgErr()
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Webhook)(nil)
	_ caddy.Validator       = (*Webhook)(nil)
	_ caddyevents.Handler   = (*Webhook)(nil)
	_ caddyfile.Unmarshaler = (*Webhook)(nil)
)
