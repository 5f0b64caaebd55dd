package plexlb

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
)

// stopLater ends a transcode that its client has left behind on a server it no
// longer uses.
func (a *App) stopLater(o cluster.Orphan) {
	a.orphansMu.Lock()
	defer a.orphansMu.Unlock()
	if len(a.orphans) < maxCopies {
		a.orphans = append(a.orphans, o)
	}
}

// orphanPause keeps stops apart from each other and from the start they follow:
// bursts of them have crashed servers [P §10.34].
const orphanPause = 2 * time.Second

// stopOrphans ends what clients left behind, one at a time.
func (a *App) stopOrphans(ctx context.Context) {
	for sleep(ctx, orphanPause) {
		a.orphansMu.Lock()
		if len(a.orphans) == 0 {
			a.orphansMu.Unlock()
			continue
		}
		o := a.orphans[0]
		a.orphans = a.orphans[1:]
		a.orphansMu.Unlock()
		p := a.poller(o.Server)
		if p == nil {
			continue // no token to stop it with; PMS ends it by itself after 3 minutes
		}
		one, cancel := context.WithTimeout(ctx, copyTimeout)
		err := p.client.Stop(one, o.Transcode)
		cancel()
		if c := a.logger.Check(zap.DebugLevel, "stopped a transcode that was left behind"); c != nil {
			c.Write(zap.String("server", o.Server.Name()), zap.Error(err))
		}
	}
}
