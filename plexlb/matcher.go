package plexlb

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/plexlb/caddy-plexlb/internal/plex"
)

func init() {
	caddy.RegisterModule(Match{})
}

// Kinds are the words for what a request is to Plex.
var Kinds = []string{"start", "segment", "part", "timeline", "control", "browse", "write"}

// Repeatable are the kinds whose requests do no harm if they are carried out
// twice, as long as their method is GET or HEAD.
var Repeatable = Match{"start", "segment", "part", "browse"}

// Match matches requests by what they are to Plex. The kinds are:
//
//   - `start`: decision and start of a playback
//   - `segment`: playlists, segments and subtitles of a running transcode
//   - `part`: a file, played directly or downloaded
//   - `timeline`: what a player is doing
//   - `control`: ping, stop and fallback of a transcode
//   - `browse`: anything else that only reads
//   - `write`: anything else that changes something, whatever its method: many
//     of Plex's changes are GETs
type Match []string

// CaddyModule returns the Caddy module information.
func (Match) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.matchers.plex",
		New: func() caddy.Module { return new(Match) },
	}
}

// UnmarshalCaddyfile sets up the matcher from Caddyfile tokens. Syntax:
//
//	plex <kinds...>
func (m *Match) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() {
		*m = append(*m, d.RemainingArgs()...)
		if err := m.Validate(); err != nil {
			return d.WrapErr(err)
		}
		if d.NextBlock(0) {
			return d.Err("plex takes no block: name the kinds on one line")
		}
	}
	return nil
}

// Validate refuses a matcher without kinds, and kinds that do not exist.
func (m Match) Validate() error {
	if len(m) == 0 {
		return fmt.Errorf("matcher plex needs a kind of request: use one or more of %s", list(Kinds))
	}
	for _, k := range m {
		if !slices.Contains(Kinds, k) {
			return fmt.Errorf("unknown kind %q: use one or more of %s", k, list(Kinds))
		}
	}
	return nil
}

// MatchWithError reports whether the request is of one of the kinds.
func (m Match) MatchWithError(r *http.Request) (bool, error) {
	return slices.Contains(m, plex.Identify(r).Class()), nil
}

// Interface guards
var (
	_ caddy.Validator                   = Match(nil)
	_ caddyfile.Unmarshaler             = (*Match)(nil)
	_ caddyhttp.RequestMatcherWithError = Match(nil)
)
