// Package caddyplexlb brings the balancer's modules into a build of Caddy:
//
//	xcaddy build --with github.com/plexlb/caddy-plexlb
package caddyplexlb

import (
	_ "github.com/plexlb/caddy-plexlb/caddyfile"
	_ "github.com/plexlb/caddy-plexlb/plexlb"
	_ "github.com/plexlb/caddy-plexlb/transcodeselect"
)
