package plexlb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plex"
)

const (
	// The longest pause between readings of a server that does not answer.
	maxPause = time.Minute

	// Readings that events ask for are at least this far apart.
	minPause = time.Second

	// How long after an event the server's list can be expected to show it
	// [P §1.8].
	settling = 300 * time.Millisecond

	// How often a server's identity is checked while its sessions are read.
	identityPause = time.Minute

	// maxRemembered bounds the sessions of which events are remembered.
	maxRemembered = 1000

	// maxName bounds what is kept of a title or a player's name, in bytes.
	maxName = 200
)

// poller reads one server's sessions for the ledger.
type poller struct {
	server  *cluster.Server
	ledger  *cluster.Ledger
	state   *state
	client  *plex.Client
	expect  string // machine identifier, if configured
	every   time.Duration
	timeout time.Duration
	wake    chan struct{}
	logger  *zap.Logger

	failure  string // of the last reading, for telling changes
	verified time.Time
	identity string // when it was first asked; what is expected, if configured
	changed  bool   // it is another now

	playing map[string]string // what events said last, by session
}

// poller returns a poller for a server, nil if there is no token to read with.
func (a *App) poller(s *cluster.Server) *poller {
	p := &poller{
		server: s, ledger: a.state.ledger, state: a.state,
		every: time.Duration(a.PollInterval), timeout: time.Duration(a.PollTimeout),
		wake:   make(chan struct{}, 1),
		logger: a.logger.Named("poller"),
	}
	switch cfg := a.configured(s); {
	case cfg != nil:
		p.expect = cfg.MachineIdentifier
		p.client = &plex.Client{URL: cfg.url, Token: cmp.Or(cfg.Token, a.Token), HTTP: cfg.client}
	case a.former(s), !askable(s):
		return nil
	default:
		client, err := readingClient(a.ctx, nil)
		if err != nil {
			return nil
		}
		p.client = &plex.Client{URL: "http://" + s.Address(), Token: a.strangersToken(), HTTP: client}
	}
	if p.client.Token == "" {
		return nil
	}
	return p
}

// configured returns the configuration of a server, nil if none names it.
func (a *App) configured(s *cluster.Server) *Server {
	for _, cfg := range a.Servers {
		if cfg.dial == s.Address() {
			return cfg
		}
	}
	return nil
}

// former reports whether only another configuration names the server, or did
// before this one: our token is not meant for it, least of all in clear, and
// what is wrong with it is nobody's business any more.
func (a *App) former(s *cluster.Server) bool {
	return (s.Named() || s.Dropped()) && a.configured(s) == nil
}

// askable reports whether a server that no configuration names has an address
// at which we can ask by ourselves.
func askable(s *cluster.Server) bool { return !strings.ContainsAny(s.Address(), "{/") }

// run reads the server's sessions until ctx is done.
func (p *poller) run(ctx context.Context) {
	pause := time.Duration(rand.Int64N(int64(200 * time.Millisecond)))
	last := time.Time{}
	for {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-p.wake:
			timer.Stop()
			if !sleep(ctx, max(settling, minPause-time.Since(last))) {
				return
			}
		}
		last = time.Now()
		err := p.read(ctx)
		if ctx.Err() != nil {
			return
		}
		p.tell(err)
		switch {
		case err == nil:
			pause = jitter(p.every)
		default:
			pause = jitter(min(max(2*pause, p.every), max(maxPause, p.every)))
		}
	}
}

// read does one reading. Only a whole and good one counts: anything else says
// nothing about what the server plays.
func (p *poller) read(ctx context.Context) error {
	one, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	began := time.Now()
	reports, transcodes, err := p.sessions(one)
	if ctx.Err() != nil {
		return ctx.Err() // the config is on its way out
	}
	now := time.Now()
	p.state.metrics.polled(p.server, now.Sub(began), reasonOf(err))
	if err != nil {
		p.verified = time.Time{} // it may come back as another
		p.ledger.Unread(p.server, reasonOf(err), errors.Is(err, plex.ErrMaintenance), now)
		p.state.troubles.unread(p.server.Address(), reasonOf(err))
		return err
	}
	p.ledger.Observe(p.server, reports, began, now)
	p.state.troubles.read(p.server.Address(), transcodes, p.changed, p.every, now)
	return nil
}

// errOtherServer says that another server answers than the configured one.
var errOtherServer = errors.New("another server answers at this address")

// otherServer is the reason for that.
const otherServer = "other_server"

func reasonOf(err error) string {
	if errors.Is(err, errOtherServer) {
		return otherServer
	}
	return plex.Reason(err)
}

// verify asks the server who it is, now and then. Where no identity is
// configured, the first one is remembered, and another is no failure: the
// operator may have put another server there.
func (p *poller) verify(ctx context.Context) error {
	if time.Since(p.verified) <= identityPause {
		return nil
	}
	id, err := p.client.Identity(ctx)
	switch {
	case err != nil && p.expect != "":
		return err
	case err != nil:
		return nil
	case p.expect != "" && id.MachineIdentifier != p.expect:
		return fmt.Errorf("%w: expected machine identifier %s", errOtherServer, p.expect)
	case p.identity == "":
		p.identity = id.MachineIdentifier
	}
	p.changed = id.MachineIdentifier != p.identity
	p.verified = time.Now()
	return nil
}

// sessions asks for what the server plays, and for all about its transcodes.
func (p *poller) sessions(ctx context.Context) ([]cluster.Report, []plex.Transcode, error) {
	if err := p.verify(ctx); err != nil {
		return nil, nil, err
	}
	sessions, err := p.client.Sessions(ctx)
	if err != nil {
		return nil, nil, err
	}
	transcodes, err := p.client.Transcodes(ctx)
	if err != nil && !errors.Is(err, plex.ErrNotFound) {
		return nil, nil, err
	}
	reports := make([]cluster.Report, 0, len(sessions)+len(transcodes))
	listed := make(map[string]bool, len(sessions))
	for _, s := range sessions {
		r := cluster.Report{
			ID: "\x00session " + s.Key, Client: s.Client, Session: s.ID,
			Title: shortened(s.Title), Device: shortened(s.PlayerTitle), Work: cluster.Work(s.Work()),
		}
		if s.GrandparentTitle != "" {
			r.Title = shortened(s.GrandparentTitle + " – " + s.Title)
		}
		switch {
		case r.Device == "":
			r.Device = shortened(s.Product)
		case s.Product != "" && s.Product != s.PlayerTitle:
			r.Device = shortened(s.PlayerTitle + " (" + s.Product + ")")
		}
		if s.Transcode != nil && s.Transcode.ID != "" {
			r.ID, r.Young = s.Transcode.ID, s.Transcode.Young()
			listed[r.ID] = true
		}
		reports = append(reports, r)
	}
	// Downloads and captures have no player, and so are in this list only.
	for _, t := range transcodes {
		if t.ID != "" && !listed[t.ID] {
			reports = append(reports, report(t))
		}
	}
	for _, s := range sessions {
		t := s.Transcode
		if t != nil && !slices.ContainsFunc(transcodes, func(u plex.Transcode) bool { return u.ID == t.ID }) {
			transcodes = append(transcodes, *t)
		}
	}
	return reports, transcodes, nil
}

// shortened cuts what people name things to a length that can be shown and kept:
// some of it is what clients say.
func shortened(s string) string {
	if len(s) <= maxName {
		return s
	}
	return strings.ToValidUTF8(s[:maxName], "") + "…"
}

func report(t plex.Transcode) cluster.Report {
	return cluster.Report{ID: t.ID, Work: cluster.Work(t.Work()), Young: t.Young()}
}

// tell logs what changed about reading the server.
func (p *poller) tell(err error) {
	failure := ""
	if err != nil {
		failure = reasonOf(err)
	}
	if failure == p.failure {
		return
	}
	if err != nil {
		p.logger.Warn("cannot read sessions; the last reading stays in force",
			zap.String("server", p.server.Name()), zap.String("reason", failure), zap.Error(err))
	} else {
		p.logger.Info("reading sessions again", zap.String("server", p.server.Name()))
	}
	p.failure = failure
}

// listen follows the server's events until ctx is done. They make readings
// come early; when they fail, readings come when they are due.
func (p *poller) listen(ctx context.Context) {
	pause := time.Second
	for {
		began := time.Now()
		err := p.client.Events(ctx, p.heard)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > maxPause {
			pause = time.Second
		}
		if c := p.logger.Check(zap.DebugLevel, "event stream ended"); c != nil {
			c.Write(zap.String("server", p.server.Name()), zap.Error(err))
		}
		if !sleep(ctx, jitter(pause)) {
			return
		}
		pause = min(2*pause, maxPause)
	}
}

func (p *poller) heard(e plex.Event) {
	now := time.Now()
	switch {
	case e.Type == "transcodeSession.end" && e.TranscodeID != "":
		p.ledger.Gone(p.server, e.TranscodeID, now)
	case e.Transcode != nil && e.Transcode.ID != "":
		p.ledger.Seen(p.server, report(*e.Transcode), now)
		if e.Type == "transcodeSession.update" {
			return // all there is to know
		}
	case p.repeats(e):
		return
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// repeats reports whether an event only says once more that something is
// playing, which servers do every few seconds for each.
func (p *poller) repeats(e plex.Event) bool {
	if e.SessionKey == "" {
		return false
	}
	now := e.State + " " + e.TranscodeID
	if p.playing[e.SessionKey] == now {
		return true
	}
	if p.playing == nil || len(p.playing) >= maxRemembered {
		p.playing = make(map[string]string)
	}
	p.playing[e.SessionKey] = now
	return false
}

// jitter varies d by up to a tenth either way.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + time.Duration(rand.Int64N(int64(d/5)+1))
}

// sleep waits for d, and reports whether ctx was not done before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
