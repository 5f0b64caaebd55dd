package plexlb

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
)

// A playback's resumption and its client's next start do not meet at a server.
func TestStartsAndResumptionsOneAfterTheOther(t *testing.T) {
	p := new(cluster.Playback)

	t.Run("a start waits until the resumption has landed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var f flights
			fl, _ := f.join(p, false)
			f.takeOff(p, fl)
			time.AfterFunc(time.Second, func() { f.land(p, fl, nil) })
			began := time.Now()
			startOf(t, &f, p)(true)
			if took := time.Since(began); took != time.Second || fl.ctx.Err() != nil {
				t.Errorf("it waited for %v, the resumption ended with %v; want 1s and nil", took, fl.ctx.Err())
			}
			fl.stop()
		})
	})

	t.Run("a resumption that leads nowhere is given up for a start", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var f flights
			fl, _ := f.join(p, false)
			f.takeOff(p, fl)
			context.AfterFunc(fl.ctx, func() { f.land(p, fl, errLate) })
			began := time.Now()
			startOf(t, &f, p)(true)
			if took := time.Since(began); took != startPatience {
				t.Errorf("it waited for %v, want %v", took, startPatience)
			}
		})
	})

	t.Run("a resumption waits for all starts, and is not needed after one that worked", func(t *testing.T) {
		for name, accepted := range map[string]bool{"one works": true, "none does": false} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var f flights
					first, second := startOf(t, &f, p), startOf(t, &f, p)
					fl, _ := f.join(p, false)
					defer fl.stop()
					third := startOf(t, &f, p) // which does not wait for what waits for it
					time.AfterFunc(time.Second, func() { first(false) })
					time.AfterFunc(2*time.Second, func() { second(accepted) })
					time.AfterFunc(3*time.Second, func() { third(false) })
					began := time.Now()
					if begun := f.takeOff(p, fl); begun != accepted {
						t.Errorf("it hears that a start worked: %v, want %v", begun, accepted)
					}
					if took := time.Since(began); took != 3*time.Second {
						t.Errorf("it waited for %v, want 3s", took)
					}
					if len(f.starts) > 0 {
						t.Error("starts are left behind")
					}
				})
			})
		}
	})
}

func startOf(t *testing.T, f *flights, p *cluster.Playback) (end func(accepted bool)) {
	end, _ = f.begin(t.Context(), p)
	return end
}
