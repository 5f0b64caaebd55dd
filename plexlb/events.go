package plexlb

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
)

// Events that the app emits through Caddy's events app. None holds a token.
const (
	serverUpEvent       = "plexlb.server_up"       // server
	serverDownEvent     = "plexlb.server_down"     // server
	serverDrainedEvent  = "plexlb.server_drained"  // server
	serverDegradedEvent = "plexlb.server_degraded" // server (all of them for all_full), reason, detail; degraded is false when it is over
	sessionMovedEvent   = "plexlb.session_moved"   // session, from, to, cause
	sessionLostEvent    = "plexlb.session_lost"    // session, server, cause, reason
)

// maxEvents bounds what waits for slow event handlers.
const maxEvents = 1024

// event is one that waits to be emitted.
type event struct {
	name string
	data map[string]any
}

// emit has an event emitted. Handlers run one after the other and may take
// long, so that nobody who serves requests waits for them.
func (a *App) emit(name string, data map[string]any) {
	select {
	case a.state.events <- event{name, data}:
	default:
		a.state.metrics.dropped.Add(1)
	}
}

// announce emits what there is to tell until ctx is done. What is left is for
// the next config's app.
func (a *App) announce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-a.state.events:
			if ctx.Err() != nil {
				a.emit(e.name, e.data)
				return
			}
			c := a.ctx
			c.Context = ctx
			a.events.Emit(c, e.name, e.data)
		}
	}
}

// tellMoves logs and emits what playbacks went to other servers.
func (a *App) tellMoves() {
	news, missed := a.state.ledger.News()
	for _, m := range news {
		a.logger.Info("playback moved to another server", zap.String("session", m.Session),
			zap.String("from", m.From), zap.String("to", m.To), zap.Stringer("cause", m.Cause))
		a.emit(sessionMovedEvent, map[string]any{
			"session": m.Session, "from": m.From, "to": m.To, "cause": m.Cause.String(),
		})
		a.tellPages(m.Session, m.Move, moved)
	}
	if missed > 0 {
		a.logger.Warn("more playbacks moved at once than can be told", zap.Uint64("untold", missed))
		a.state.metrics.dropped.Add(missed)
	}
}

// reason is why the journey is made.
func (j *journey) reason() cluster.Cause {
	if j.mover != nil {
		return j.mover.Cause()
	}
	return j.cause
}

// count counts how the journey ended. A playback that is on another server is
// counted by the ledger.
func (j *journey) count(from, to *cluster.Server, err error, took time.Duration) {
	m := j.handler.app.state.metrics
	switch {
	case err == nil:
		m.resumes.Observe(took.Seconds())
		if from == to {
			m.ended(j.reason(), resumed)
		}
	case !errors.Is(err, errOver) && !errors.Is(err, errPresent):
		m.ended(j.reason(), failed)
	}
}

// tellLost says that a playback was given up.
func (a *App) tellLost(session, server, why string, cause cluster.Cause) {
	a.state.metrics.ended(cause, lost)
	a.logger.Warn("playback lost", zap.String("session", session), zap.String("server", server),
		zap.Stringer("cause", cause), zap.String("why", why))
	a.emit(sessionLostEvent, map[string]any{
		"session": session, "server": server, "reason": why, "cause": cause.String(),
	})
	a.tellPages(session, cluster.Move{At: time.Now(), From: server, Cause: cause}, lost)
}
