package plexlb

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
)

// stopLater ends a transcode that its client has left behind on a server it no
// longer uses.
func (s *state) stopLater(o cluster.Orphan) {
	s.orphansMu.Lock()
	defer s.orphansMu.Unlock()
	if len(s.orphans) < maxOrphans {
		s.orphans = append(s.orphans, o)
	}
}

// nextOrphan returns what is to be stopped next, if anything.
func (s *state) nextOrphan() (o cluster.Orphan, ok bool) {
	s.orphansMu.Lock()
	defer s.orphansMu.Unlock()
	if len(s.orphans) == 0 {
		return o, false
	}
	o = s.orphans[0]
	s.orphans = s.orphans[1:]
	return o, true
}

// maxOrphans bounds what waits to be stopped. PMS ends the rest by itself after
// three minutes.
const maxOrphans = 256

// orphanPause keeps stops apart from each other and from the start they follow:
// bursts of them have crashed servers [P §10.34].
const orphanPause = 2 * time.Second

// stopOrphans ends what clients left behind, one at a time.
func (a *App) stopOrphans(ctx context.Context) {
	for sleep(ctx, orphanPause) {
		o, ok := a.state.nextOrphan()
		if !ok {
			continue
		}
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
