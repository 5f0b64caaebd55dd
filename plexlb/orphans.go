package plexlb

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// orphanPause keeps stops on one server apart from each other and from the
// start they follow: bursts of them have crashed servers [P §10.34].
const orphanPause = time.Second

// stopOrphans ends what viewers left behind.
func (a *App) stopOrphans(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	for sleep(ctx, orphanPause) {
		for _, o := range a.state.ledger.Orphans(time.Now()) {
			p := a.reader(o.Server)
			if p == nil {
				a.state.ledger.Told(o, false)
				continue // no token to stop it with; PMS ends it by itself after 3 minutes
			}
			work.Go(func() {
				one, cancel := context.WithTimeout(ctx, copyTimeout)
				defer cancel()
				err := p.client.Stop(one, o.Transcode)
				a.state.ledger.Told(o, err == nil)
				if c := a.logger.Check(zap.DebugLevel, "stopped a transcode that was left behind"); c != nil {
					c.Write(zap.String("server", o.Server.Name()), zap.Error(err))
				}
			})
		}
	}
}

// awaitStop keeps a start from reaching its server before what was left there
// under the same id is stopped, and from being stopped in its place.
func (l *Lease) awaitStop(s *cluster.Server) {
	if l.request.Kind != plex.Start {
		return
	}
	id := l.query.Transcode
	if l.resumption != nil {
		id = l.resumption.Transcode
	}
	stopped := l.app.state.ledger.BeingStopped(s, id)
	if stopped == nil {
		return
	}
	late := time.NewTimer(startPatience)
	defer late.Stop()
	select {
	case <-stopped:
	case <-late.C:
	case <-l.ctx.Done():
	}
}
