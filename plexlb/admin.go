package plexlb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI adds calls to Caddy's admin endpoint that show the servers and
// playbacks and let operators move them:
//
// Call | Does
// -----|-----
// `GET /plexlb/servers`, `GET /plexlb/servers/{name}` | Shows the servers
// `GET /plexlb/sessions`, `GET /plexlb/sessions/{id}` | Shows the playbacks, and why each is where it is
// `POST /plexlb/servers/{name}/drain` | Lets a server take no new playbacks; with `{"move": true}` or `{"move_after": "30m"}` the present ones are carried away
// `POST /plexlb/servers/{name}/undrain` | Lets it take new playbacks again
// `POST /plexlb/sessions/{id}/move` | Carries a playback to the server in `{"server": "plex2"}`
// `DELETE /plexlb/sessions/{id}` | Forgets where a playback is
// `POST /plexlb/rebalance` | Carries playbacks until no move lowers the highest load; with `{"dry_run": true}` it only says which
// `GET /plexlb/doctor` | Checks configuration and servers, and says what to change and why
//
// A session is addressed by any id that its client uses.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.plexlb",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// Routes returns the one route for all calls.
func (adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: adminPath, Handler: caddy.AdminHandlerFunc(serveAdmin)}}
}

const (
	adminPath = "/plexlb/"

	// maxAdminBody bounds what a call may bring, in bytes.
	maxAdminBody = 4096
)

// call answers one call about the server or playback of a name.
type call func(app *App, r *http.Request, name string) (any, error)

// calls are what there is, by path and method; * stands for a name.
var calls = map[string]map[string]call{
	"servers":           {http.MethodGet: listServers},
	"servers/*":         {http.MethodGet: showServer},
	"servers/*/drain":   {http.MethodPost: drainServer},
	"servers/*/undrain": {http.MethodPost: undrainServer},
	"sessions":          {http.MethodGet: listSessions},
	"sessions/*":        {http.MethodGet: showSession, http.MethodDelete: forgetSession},
	"sessions/*/move":   {http.MethodPost: moveSession},
	"rebalance":         {http.MethodPost: rebalance},
	"doctor":            {http.MethodGet: callDoctor},
}

// serveAdmin finds the call and answers it.
func serveAdmin(w http.ResponseWriter, r *http.Request) error {
	// As it was escaped: an id may hold a slash.
	words := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), adminPath), "/")
	name := ""
	if len(words) > 1 {
		var err error
		if name, err = url.PathUnescape(words[1]); err != nil {
			return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
		}
		if name != "" {
			words[1] = "*"
		}
	}
	methods := calls[strings.Join(words, "/")]
	if methods == nil {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("no such call: begin with /plexlb/servers or /plexlb/sessions")}
	}
	do := methods[r.Method]
	if do == nil {
		allowed := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
		w.Header().Set("Allow", allowed)
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("method not allowed: use %s", allowed)}
	}
	app, err := runningApp()
	if err != nil {
		return err
	}
	v, err := do(app, r, name)
	if err != nil {
		return apiError(err)
	}
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
	return nil
}

// runningApp returns the app of the config that runs now. The admin endpoint's
// own config is no guide to that: it may have failed after its endpoint came up.
func runningApp() (*App, error) {
	v, err := caddy.ActiveContext().AppIfConfigured("plexlb")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, caddy.APIError{
			HTTPStatus: http.StatusServiceUnavailable,
			Err:        errors.New("plexlb is not configured: the running config has neither app nor handler nor policy of it"),
		}
	}
	if err != nil {
		return nil, err
	}
	return v.(*App), nil
}

// apiError gives an error the status that goes with it.
func apiError(err error) error {
	if _, ok := errors.AsType[caddy.APIError](err); ok {
		return err
	}
	status := http.StatusInternalServerError
	for _, e := range []struct {
		err    error
		status int
	}{
		{ErrUnknown, http.StatusNotFound},
		{ErrImpossible, http.StatusConflict},
		{errTarget, http.StatusConflict},
		{errLost, http.StatusConflict},
		{errOver, http.StatusConflict},
		{errPresent, http.StatusConflict},
		{errLate, http.StatusGatewayTimeout},
		{errPages, http.StatusServiceUnavailable},
		{context.DeadlineExceeded, http.StatusGatewayTimeout},
	} {
		if errors.Is(err, e.err) {
			status = e.status
			break
		}
	}
	return caddy.APIError{HTTPStatus: status, Err: err}
}

// readBody reads what a call brings, if it brings anything.
func readBody(r *http.Request, v any) error {
	malformed := func(err error) error {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("malformed body: %w", err)}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAdminBody+1))
	if err != nil {
		return malformed(err)
	}
	if len(body) > maxAdminBody {
		return malformed(fmt.Errorf("longer than %d bytes", maxAdminBody))
	}
	if body = bytes.TrimSpace(body); len(body) == 0 {
		return nil
	}
	if body[0] != '{' {
		return malformed(errors.New("not a JSON object"))
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return malformed(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return malformed(errors.New("there is more after the JSON object"))
	}
	return nil
}

func listServers(app *App, _ *http.Request, _ string) (any, error) {
	return map[string]any{"servers": app.serverStatuses(time.Now())}, nil
}

func showServer(app *App, _ *http.Request, name string) (any, error) {
	for _, s := range app.serverStatuses(time.Now()) {
		if s.Name == name {
			return s, nil
		}
	}
	return nil, fmt.Errorf("server %q: %w", name, ErrUnknown)
}

func drainServer(app *App, r *http.Request, name string) (any, error) {
	var how drainOrder
	if err := readBody(r, &how); err != nil {
		return nil, err
	}
	if err := app.drain(name, &how); err != nil {
		return nil, err
	}
	return showServer(app, r, name)
}

// drainOrder says what is to become of the playbacks of a server that is
// drained. With nothing they stay.
type drainOrder struct {
	Move      *bool   `json:"move"`
	MoveAfter *string `json:"move_after"` // a duration
}

func (a *App) drain(name string, how *drainOrder) error {
	move, after := how.Move != nil && *how.Move, time.Duration(0)
	if how.MoveAfter != nil {
		var err error
		if after, err = caddy.ParseDuration(*how.MoveAfter); err == nil && after < 0 {
			err = errors.New("less than 0")
		}
		if err == nil && how.Move != nil && !move {
			err = errors.New(`it contradicts "move": false`)
		}
		if err != nil {
			return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("move_after: %w", err)}
		}
		move = true
	}
	return a.Drain(name, move, after)
}

func undrainServer(app *App, r *http.Request, name string) (any, error) {
	if err := readBody(r, &struct{}{}); err != nil {
		return nil, err
	}
	if err := app.Undrain(name); err != nil {
		return nil, err
	}
	return showServer(app, r, name)
}

func listSessions(app *App, _ *http.Request, _ string) (any, error) {
	return map[string]any{"sessions": app.sessionStatuses(time.Now())}, nil
}

func showSession(app *App, _ *http.Request, id string) (any, error) {
	v, ok := app.state.ledger.Explain(id)
	if !ok {
		return nil, fmt.Errorf("session %q: %w", id, ErrUnknown)
	}
	return statusOf(&v, time.Now()), nil
}

// forgetSession answers with what was forgotten.
func forgetSession(app *App, r *http.Request, id string) (any, error) {
	s, err := showSession(app, r, id)
	if err == nil && !app.state.ledger.Forget(id, time.Now()) {
		err = fmt.Errorf("session %q: %w", id, ErrUnknown)
	}
	return s, err
}

func moveSession(app *App, r *http.Request, id string) (any, error) {
	var where struct {
		Server string `json:"server"`
	}
	if err := readBody(r, &where); err != nil {
		return nil, err
	}
	if where.Server == "" {
		return nil, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: errors.New(`the body does not say where to: use {"server": "<name>"}`)}
	}
	if err := app.Move(r.Context(), id, where.Server); err != nil {
		return nil, err
	}
	return showSession(app, r, id)
}

// movedStatus is one playback of a rebalancing.
type movedStatus struct {
	Session string `json:"session"`
	From    string `json:"from"`
	To      string `json:"to"`
	Error   string `json:"error,omitempty"` // why it was not carried
}

// rebalanceStatus is what a rebalancing did, or would do.
type rebalanceStatus struct {
	DryRun bool          `json:"dry_run"`
	Moves  []movedStatus `json:"moves"`
}

func rebalance(app *App, r *http.Request, _ string) (any, error) {
	var how struct {
		DryRun bool `json:"dry_run"`
	}
	if err := readBody(r, &how); err != nil {
		return nil, err
	}
	list, err := app.Rebalance(r.Context(), how.DryRun)
	if err != nil {
		return nil, err
	}
	done := rebalanceStatus{how.DryRun, []movedStatus{}}
	for _, m := range list {
		one := movedStatus{Session: m.Session, From: m.From, To: m.To}
		if m.Err != nil {
			one.Error = m.Err.Error()
		}
		done.Moves = append(done.Moves, one)
	}
	return done, nil
}

// Interface guard
var _ caddy.AdminRouter = adminAPI{}
