package plexlb

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
)

// Handlers that hang hold nobody up.
func TestEmitNeverBlocks(t *testing.T) {
	app := waitingApp(t)
	for range maxEvents + 7 {
		app.emit(serverUpEvent, map[string]any{"server": "plex1"})
	}
	if n := app.state.metrics.dropped.Load(); n != 7 {
		t.Errorf("%d events are counted as dropped, want 7", n)
	}
}

// A scrape of many servers and playbacks.
func BenchmarkScrape(b *testing.B) {
	app := waitingApp(b)
	now := time.Now()
	servers := make([]cluster.ServerSettings, 200)
	for i := range servers {
		name := "plex" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		servers[i] = cluster.ServerSettings{Name: name, Address: name + ":32400"}
	}
	app.state.ledger.Configure(cluster.Settings{}, servers, now)
	b.ReportAllocs()
	for b.Loop() {
		ch := make(chan prometheus.Metric, 10_000)
		app.state.collect(ch, now)
	}
}
