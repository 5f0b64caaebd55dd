// Package caddyfile is how plexlb is written in a Caddyfile: the global option
// plexlb, and the directives plexlb, plexlb_session and plexlb_dashboard.
package caddyfile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/plexlb/caddy-plexlb/plexlb"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("plexlb", parseOption)
	httpcaddyfile.RegisterDirective("plexlb", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("plexlb", httpcaddyfile.Before, "reverse_proxy")
	httpcaddyfile.RegisterHandlerDirective("plexlb_session", parseSession)
	httpcaddyfile.RegisterDirectiveOrder("plexlb_session", httpcaddyfile.Before, "reverse_proxy")
	httpcaddyfile.RegisterHandlerDirective("plexlb_dashboard", parseDashboard)
	httpcaddyfile.RegisterDirectiveOrder("plexlb_dashboard", httpcaddyfile.Before, "respond")
}

// parseOption reads the global option plexlb. For its syntax, see the
// UnmarshalCaddyfile method of plexlb.App.
func parseOption(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next()
		return nil, d.Err("the global option plexlb is given twice: put all servers into one")
	}
	app := new(plexlb.App)
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "plexlb", Value: caddyconfig.JSON(app, nil)}, nil
}

// pick returns the servers of the global option that a directive names, all of
// them if it names none.
func pick(h httpcaddyfile.Helper, names []string) ([]*plexlb.Server, error) {
	app := new(plexlb.App)
	if opt, ok := h.Option("plexlb").(httpcaddyfile.App); ok {
		if err := json.Unmarshal(opt.Value, app); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 {
		return app.Servers, nil
	}
	servers, words := make(map[string]*plexlb.Server), make([]string, 0, len(app.Servers))
	for _, s := range app.Servers {
		servers[s.Name] = s
		words = append(words, s.Name)
	}
	var picked []*plexlb.Server
	for i, name := range names {
		switch s := servers[name]; {
		case s == nil && strings.ContainsAny(name, ":/"):
			return nil, fmt.Errorf("%q is an address: give it a name in the global option plexlb, as in server plex1 %s, and write that name here", name, name)
		case len(servers) == 0:
			return nil, fmt.Errorf("unknown server %q: the global option plexlb lists no servers; add a line to it: server %s <address>", name, name)
		case s == nil:
			return nil, fmt.Errorf("unknown server %q: use one of %s, or add it to the global option plexlb", name, strings.Join(words, ", "))
		case slices.Contains(names[:i], name):
			return nil, fmt.Errorf("server %q is named twice: name it once", name)
		default:
			picked = append(picked, s)
		}
	}
	return picked, nil
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
		return nil, h.WrapErr(err)
	}
	return handler, nil
}

// parseDashboard reads the directive plexlb_dashboard. For its syntax, see the
// UnmarshalCaddyfile method of plexlb.Dashboard.
func parseDashboard(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(plexlb.Dashboard)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return handler, nil
}
