package plexlb

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
)

// labels are a request's placeholders. They outlive its lease: logs are
// written when all is over.
type labels struct {
	server        *cluster.Server
	reason        cluster.Reason
	kind, session string
}

// describe offers the request's placeholders to whoever wants them.
func describe(r *http.Request, l *Lease) *labels {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return nil
	}
	told := &labels{l.hold.Server, l.reason, l.request.Class(), l.query.Name()}
	repl.Map(told.get)
	return told
}

// correct says where the request really went.
func (t *labels) correct(server *cluster.Server, reason cluster.Reason) {
	if t != nil {
		t.server, t.reason = server, reason
	}
}

func (t *labels) get(key string) (any, bool) {
	key, ok := strings.CutPrefix(key, "http.plexlb.")
	if !ok {
		return nil, false
	}
	switch key {
	case "server":
		if t.server == nil {
			return "", true
		}
		return t.server.Name(), true
	case "reason":
		return t.reason.String(), true
	case "kind":
		return t.kind, true
	case "session":
		return clean(t.session), true // it may be on its way into a header, or onto a terminal
	}
	return nil, false
}
