package plexlb

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(new(Dashboard))
}

// Dashboard serves a page that shows the servers, the playbacks and why each is
// where it is, and the moves as they happen. It needs nothing from elsewhere,
// and can be put below any path. It shows what people watch: put something like
// `basic_auth` in front of it.
type Dashboard struct {
	// Whether the page can also drain servers and move playbacks. Each such
	// step is to be confirmed, and other sites cannot cause it. Default: it
	// only shows.
	Control bool `json:"control,omitempty"`

	app     *App
	leaving *leave
	servers sync.Map // *http.Server → nil: those that tell when they shut down
	guard   *http.CrossOriginProtection
}

//go:embed dashboard
var dashboardFiles embed.FS

// asset is a file of the page.
type asset struct {
	content, kind, tag string
}

// assets are the files of the page, by name; the page itself has none.
var assets = readAssets()

func readAssets() map[string]asset {
	all := make(map[string]asset)
	files, err := fs.Glob(dashboardFiles, "dashboard/*")
	if err != nil {
		panic(err)
	}
	for _, file := range files {
		content, err := dashboardFiles.ReadFile(file)
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(content)
		name := path.Base(file)
		kind := mimeTypes[path.Ext(name)]
		if name == "index.html" {
			name = ""
		}
		all[name] = asset{string(content), kind, `"` + hex.EncodeToString(sum[:8]) + `"`}
	}
	return all
}

// mimeTypes does without those of the machine, which may be missing or wrong.
var mimeTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// dashboardPolicy lets the page load and run its own files only.
const dashboardPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// CaddyModule returns the Caddy module information.
func (*Dashboard) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.plexlb_dashboard",
		New: func() caddy.Module { return new(Dashboard) },
	}
}

// Provision sets up the handler.
func (d *Dashboard) Provision(ctx caddy.Context) error {
	app, err := ctx.App("plexlb")
	if err != nil {
		return fmt.Errorf("getting app plexlb: %v", err)
	}
	d.app = app.(*App)
	d.guard = http.NewCrossOriginProtection()
	d.leaving = &leave{done: make(chan struct{})}
	// A server waits for its requests when it stops. Pages have to leave
	// before; the context ends only afterwards.
	return d.app.events.Subscribe(&caddyevents.Subscription{
		Events: []string{"stopping"}, Handlers: []caddyevents.Handler{d.leaving},
	})
}

// leave says when the pages have to go.
type leave struct {
	done chan struct{}
	once sync.Once
}

func (l *leave) now() { l.once.Do(func() { close(l.done) }) }

// Handle hears that the config is about to stop.
func (l *leave) Handle(context.Context, caddy.Event) error {
	l.now()
	return nil
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	plexlb_dashboard [<matcher>] {
//		control
//	}
func (d *Dashboard) UnmarshalCaddyfile(t *caddyfile.Dispenser) error {
	t.Next() // consume directive name
	if t.NextArg() {
		return t.Errf("unexpected %q: plexlb_dashboard takes a matcher and a block", t.Val())
	}
	for t.NextBlock(0) {
		switch word := t.Val(); word {
		case "control":
			if t.NextArg() {
				return t.Errf("unexpected %q: control has no arguments", t.Val())
			}
			d.Control = true
		default:
			return t.Errf("unrecognized subdirective %q: use control", word)
		}
	}
	return nil
}

// ServeHTTP serves the page, its files and what it asks for. Which of these is
// the last part of the path says; the rest is where the page is.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	asked := r.URL.Path
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		asked = original.URL.Path // handle_path takes the page's place away
	}
	name := asked[strings.LastIndexByte(asked, '/')+1:]

	h := w.Header()
	h.Set("Content-Security-Policy", dashboardPolicy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")

	file, isFile := assets[name]
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case name == "control":
		return d.serveControl(w, r)
	case !read:
		h.Set("Allow", "GET, HEAD")
		return caddyhttp.Error(http.StatusMethodNotAllowed, errors.New("the status page is read only, but for control"))
	case name == "events":
		return d.serveEvents(w, r)
	case name == "session":
		s, err := showSession(d.app, r, r.URL.Query().Get("id"))
		return answerJSON(w, s, err)
	case isFile:
		h.Set("Cache-Control", "no-cache")
		h.Set("Content-Type", file.kind)
		h.Set("Etag", file.tag)
		http.ServeContent(w, r, name, time.Time{}, strings.NewReader(file.content))
		return nil
	case strings.Contains(name, "."):
		return caddyhttp.Error(http.StatusNotFound, errors.New("no such file of the status page"))
	}
	// The files are beside the page, whose own address must end with a slash.
	h.Set("Location", (&url.URL{Path: "./" + name + "/"}).String())
	w.WriteHeader(http.StatusFound)
	return nil
}

// serveEvents tells a page what there is, and what changes, until it leaves.
func (d *Dashboard) serveEvents(w http.ResponseWriter, r *http.Request) error {
	// A config that fails as it starts is stopped without a word.
	if s, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok {
		if _, known := d.servers.LoadOrStore(s, nil); !known {
			s.RegisterOnShutdown(d.leaving.now)
		}
	}
	live := &d.app.state.live
	p, err := live.open(d.app, d.Control, time.Now())
	if err != nil {
		return answerJSON(w, nil, err)
	}
	defer live.close(p)

	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // another proxy in front may be nginx
	out := http.NewResponseController(w)
	// The connection may go on to serve other requests.
	defer func() { _ = out.SetWriteDeadline(time.Time{}) }()
	for {
		select {
		case <-r.Context().Done():
			return nil
		case <-d.leaving.done:
			return nil
		case text, ok := <-p.messages:
			if !ok {
				return nil
			}
			// Pages may go without a word; not all connections can have a deadline.
			_ = out.SetWriteDeadline(time.Now().Add(pageTimeout))
			if _, err := w.Write(text); err != nil {
				return nil
			}
			if err := out.Flush(); err != nil {
				return nil
			}
		}
	}
}

// pageTimeout is how long a page may take to receive one message.
const pageTimeout = 15 * time.Second

// order is what a page can ask to be done.
type order struct {
	Do      string `json:"do"` // drain, undrain or move
	Server  string `json:"server"`
	Session string `json:"session"`
	drainOrder
}

// serveControl does what a page asks for, if pages may.
func (d *Dashboard) serveControl(w http.ResponseWriter, r *http.Request) error {
	refuse := func(status int, text string) error {
		return answerJSON(w, nil, caddy.APIError{HTTPStatus: status, Err: errors.New(text)})
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return refuse(http.StatusMethodNotAllowed, "method not allowed: use POST")
	}
	if !d.Control {
		return refuse(http.StatusForbidden, "this page only shows: the block of plexlb_dashboard does not have the word control")
	}
	// What a form of another site could send has another type, even in browsers
	// that do not say where a request comes from.
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err := d.guard.Check(r); err != nil || kind != "application/json" {
		return refuse(http.StatusForbidden, "this request did not come from the status page")
	}
	var o order
	if err := readBody(r, &o); err != nil {
		return answerJSON(w, nil, err)
	}
	var err error
	switch o.Do {
	case "drain":
		err = d.app.drain(o.Server, &o.drainOrder)
	case "undrain":
		err = d.app.Undrain(o.Server)
	case "move":
		err = d.app.Move(r.Context(), o.Session, o.Server)
	default:
		return refuse(http.StatusBadRequest, `"do" has to be drain, undrain or move`)
	}
	return answerJSON(w, struct{}{}, err)
}

// answerJSON answers a page.
func answerJSON(w http.ResponseWriter, v any, err error) error {
	status := http.StatusOK
	if err != nil {
		e, _ := errors.AsType[caddy.APIError](apiError(err))
		status, v = e.HTTPStatus, map[string]string{"error": e.Err.Error()}
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Dashboard)(nil)
	_ caddyfile.Unmarshaler       = (*Dashboard)(nil)
	_ caddyhttp.MiddlewareHandler = (*Dashboard)(nil)
	_ caddyevents.Handler         = (*leave)(nil)
)
