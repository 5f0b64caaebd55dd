package plexlb

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plex"
)

const (
	// examTime is how long a server has to answer the doctor, all questions
	// together.
	examTime = 5 * time.Second

	// maxExamined bounds how many servers are asked at once.
	maxExamined = 256
)

// checkup is what the doctor has to say.
type checkup struct {
	Findings []Finding `json:"findings"`
	Checked  []string  `json:"checked"` // the servers that were asked
}

func callDoctor(app *App, r *http.Request, _ string) (any, error) {
	f, err := app.examine(r.Context())
	if err != nil {
		return nil, err
	}
	c := checkup{diagnose(f), []string{}}
	for _, s := range f.servers {
		if s.asked {
			c.Checked = append(c.Checked, s.name)
		}
	}
	return c, nil
}

// examine finds out all that the doctor judges. All servers are asked at the
// same time, by one doctor at a time.
func (a *App) examine(ctx context.Context) (*facts, error) {
	select {
	case a.state.examining <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-a.state.examining }()

	f := &facts{replicated: a.Mode == ModeReplicated, pollTimeout: time.Duration(a.PollTimeout), patience: examTime}
	a.proxyFacts(f)
	pictures := make(map[string]cluster.Picture)
	for _, v := range a.state.ledger.View(time.Now()) {
		pictures[v.Address] = v.Picture
	}
	servers := slices.DeleteFunc(slices.Clone(a.state.ledger.Servers().List()), a.former)
	f.servers = make([]serverFacts, len(servers))
	var all sync.WaitGroup
	for i, s := range servers {
		one := &f.servers[i]
		one.name, one.host = s.Name(), s.Address()
		picture := pictures[s.Address()]
		one.everRead, one.unread = !picture.Good.IsZero(), picture.Failure
		client := a.asker(s, one)
		if client == nil || i >= maxExamined {
			continue
		}
		one.asked = true
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, examTime)
			defer cancel()
			defer client.HTTP.CloseIdleConnections()
			one.ask(ctx, client)
		})
	}
	all.Wait()
	return f, ctx.Err()
}

// asker returns a client with connections of its own, so that what is wrong
// with making them shows. It is nil if the server cannot be asked.
func (a *App) asker(s *cluster.Server, one *serverFacts) *plex.Client {
	cfg := a.configured(s)
	if cfg == nil {
		if !askable(s) {
			return nil
		}
		token := a.strangersToken()
		one.token = token != ""
		return &plex.Client{URL: "http://" + s.Address(), Token: token, HTTP: &http.Client{Transport: readingTransport()}}
	}
	token := cmp.Or(cfg.Token, a.Token)
	one.named, one.host, one.https = true, cfg.host, strings.HasPrefix(cfg.url, "https:")
	one.expect, one.limit, one.token = cfg.MachineIdentifier, cfg.MaxTranscodes, token != ""
	transport, ok := cfg.client.Transport.(*http.Transport)
	if !ok {
		return nil
	}
	return &plex.Client{URL: cfg.url, Token: token, HTTP: &http.Client{Transport: transport.Clone()}}
}

// ask asks one server all there is to ask. The token is for the server that is
// meant and for nobody else, so that comes first.
func (s *serverFacts) ask(ctx context.Context, c *plex.Client) {
	var err error
	s.greeting, err = c.Greet(ctx)
	s.fault, s.names = plex.Fault(err), plex.CertificateNames(err)
	// What wants TLS breaks plain HTTP off, or answers 400. PMS itself speaks
	// both, so that speaking TLS proves nothing without that.
	refusal, _ := errors.AsType[plex.StatusError](err)
	if !s.https && s.greeting.Connected && (s.fault == "unreachable" || refusal.Code == http.StatusBadRequest) {
		s.tls = c.SpeaksTLS(ctx)
	}
	if !s.known() || !s.token {
		return
	}
	var all sync.WaitGroup
	all.Go(func() { s.root = plex.Fault(c.Root(ctx)) })
	all.Go(func() {
		began := time.Now()
		_, err := c.Sessions(ctx)
		s.took, s.sessions = time.Since(began), plex.Fault(err)
	})
	all.Go(func() {
		prefs, err := c.Preferences(ctx)
		s.prefs, s.preferences = prefs, plex.Fault(err)
	})
	all.Wait()
}
