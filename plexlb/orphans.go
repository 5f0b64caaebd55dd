package plexlb

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
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
				continue // no token to stop it with; PMS ends it by itself after 3 minutes
			}
			work.Go(func() {
				one, cancel := context.WithTimeout(ctx, copyTimeout)
				defer cancel()
				err := p.client.Stop(one, o.Transcode)
				if err == nil {
					a.state.ledger.Buried(o)
				}
				if c := a.logger.Check(zap.DebugLevel, "stopped a transcode that was left behind"); c != nil {
					c.Write(zap.String("server", o.Server.Name()), zap.Error(err))
				}
			})
		}
	}
}
