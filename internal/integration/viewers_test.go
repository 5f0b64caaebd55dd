package integration

import (
	"context"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// Every kind of client names its playback in another way; none may see it
// change servers.
func TestEveryClientKindStaysOnOneServer(t *testing.T) {
	for name, c := range map[string]struct {
		mode    string
		weights []float64
	}{"separate": {"", []float64{4, 2, 1}}, "separate, all alike": {}, "replicated": {replicated, []float64{4, 2, 1}}} {
		t.Run(name, func(t *testing.T) {
			servers := stand(t, 3, nil)
			b := load(t, site(servers, c.mode, c.weights...))
			for _, kind := range plextest.Kinds() {
				t.Run(string(kind), func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
					defer cancel()
					v := plextest.NewViewer(kind, b.URL, token, kind.Item(), 7)
					defer v.Close()
					watch(t, ctx, v)
				})
			}
		})
	}
}

// watch plays a bit with everything a client of its kind does.
func watch(t *testing.T, ctx context.Context, v *plextest.Viewer) {
	t.Helper()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	must("start", v.Start(ctx))
	must("segment 0", v.Segment(ctx, 0))
	must("timeline", v.Timeline(ctx, "playing"))
	must("segment 1", v.Segment(ctx, 1))
	must("pause", v.Timeline(ctx, "paused"))
	if err := v.Ping(ctx); v.Kind != plextest.DirectPlay { // PMS knows no transcode of that one
		must("ping", err)
	}
	must("seek", v.Seek(ctx, 40))
	must("timeline", v.Timeline(ctx, "playing"))
	if v.Kind != plextest.DirectPlay {
		must("quality", v.ChangeQuality(ctx, 2000))
	}
	must("segment", v.Segment(ctx, 41))
	must("stop", v.Stop(ctx))
	if got := v.Servers(); len(got) != 1 {
		t.Errorf("playback was on %v, want one server", got)
		for _, o := range v.Observed() {
			t.Logf("%-10s %s (%s: %s) %d", o.What, o.Server, o.Balancer, o.Reason, o.Status)
		}
	}
}
