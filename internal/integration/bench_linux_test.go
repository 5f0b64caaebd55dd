package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/bench/cputime"
	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// onlooker watches a Caddy by its admin endpoint and site until ctx is done.
type onlooker func(ctx context.Context, admin, site string) error

// onlookers are those whose cost is measured.
var onlookers = []onlooker{scraper, page}

// scraper is a Prometheus that scrapes every second.
func scraper(ctx context.Context, admin, _ string) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		res, err := http.Get("http://" + admin + "/metrics")
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK || n < 1000 || err != nil {
			return fmt.Errorf("/metrics: status %d, %d bytes, %v", res.StatusCode, n, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// page is a status page that somebody looks at.
func page(ctx context.Context, _, site string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, site+"/lb/events", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, res.Body)
	if ctx.Err() == nil || res.StatusCode != http.StatusOK || n < 100 {
		return fmt.Errorf("events: status %d, %d bytes, %v", res.StatusCode, n, err)
	}
	return nil
}

// What being watched adds to the processor time that a Caddy takes for a
// proxied request: segments, with a timeline now and then, are fetched as fast
// as it goes, in spans with and without onlookers that take turns within one
// run, and are compared by their medians. Every iteration is a pair of spans, so
// that -benchtime 20x is twenty of each.
//
// What is measured is the process of Caddy alone. Onlookers cost the same
// whatever the load is, which is why the time that a scrape and a second of a
// page take by themselves is told besides, and what the ratio is by that. The measured one is no better
// than its spread: on a machine with nothing else to do, that is what to look at.
func BenchmarkBeingWatched(b *testing.B) {
	for _, tc := range []struct{ servers, playbacks int }{{3, 30}, {20, 500}} {
		b.Run(fmt.Sprintf("servers=%d/playbacks=%d", tc.servers, tc.playbacks), func(b *testing.B) {
			benchmarkBeingWatched(b, tc.servers, tc.playbacks)
		})
	}
}

func benchmarkBeingWatched(b *testing.B, n, playbacks int) {
	servers := stand(b, n, func(_ int, cfg *plextest.Config) {
		cfg.Speed, cfg.Startup, cfg.SegmentSize = 10_000, -1, 64<<10
		cfg.MachineIdentifier, cfg.Database = "clone", "clone"
	})
	caddy, admin := &process{t: b, program: "caddy", addr: freeAddr(b)}, freeAddr(b)
	file := filepath.Join(b.TempDir(), "Caddyfile")
	config := "{\n" + strings.Replace(global, "admin off", "admin "+admin, 1) +
		strings.Replace(option(servers, replicated), "poll_interval 300ms", "poll_interval 5s", 1) + "}\nhttp://" + caddy.addr + " {\n\tplexlb_dashboard /lb*\n\tplexlb\n}\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	caddy.args = []string{"run", "--adapter", "caddyfile", "--config", file}
	b.Cleanup(caddy.kill)
	caddy.start()
	site := "http://" + caddy.addr

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true}, Timeout: 20 * time.Second}
	b.Cleanup(client.CloseIdleConnections)
	get := func(path string) error {
		res, err := client.Get(site + path)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK || err != nil {
			return fmt.Errorf("status %d, %v", res.StatusCode, err)
		}
		return nil
	}
	ids := func(i int) string {
		return fmt.Sprintf("&session=t%d&X-Plex-Session-Identifier=x%d&X-Plex-Client-Identifier=device%d&X-Plex-Token=%s", i, i, i, token)
	}
	for i := range playbacks {
		for _, what := range []string{"decision", "start.m3u8"} {
			if err := get("/video/:/transcode/universal/" + what + "?path=%2Flibrary%2Fmetadata%2F1&protocol=hls" + ids(i)); err != nil {
				b.Fatalf("beginning playback %d: %v", i, err)
			}
		}
	}

	// span returns the processor time per request of a while of load.
	var last, served atomic.Int64
	var loaded time.Duration
	span := func(d time.Duration, watching []onlooker) float64 {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		var wg sync.WaitGroup
		var requests atomic.Int64
		began := processorTime(b, caddy.cmd.Process.Pid)
		for _, watch := range watching {
			wg.Go(func() {
				if err := watch(ctx, admin, site); err != nil {
					b.Error(err)
				}
			})
		}
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					k := int(last.Add(1))
					i := k % playbacks
					path := fmt.Sprintf("/video/:/transcode/universal/session/t%d/base/00001.ts", i)
					if k%10 == 0 {
						path = "/:/timeline?ratingKey=1&key=%2Flibrary%2Fmetadata%2F1&state=playing&time=1000" + ids(i)
					}
					if err := get(path); err != nil {
						b.Errorf("playback %d: %v", i, err)
						return
					}
					requests.Add(1)
				}
			})
		}
		wg.Wait()
		served.Add(requests.Load())
		loaded += d
		return float64(processorTime(b, caddy.cmd.Process.Pid)-began) / float64(requests.Load()) / 1000
	}
	const length = 2 * time.Second
	span(2*length, onlookers) // warm up

	var alone, watched, ratios []float64
	for round := 0; b.Loop(); round++ {
		var a, w float64
		if round%2 == 0 {
			a = span(length, nil)
			w = span(length, onlookers)
		} else {
			w = span(length, onlookers)
			a = span(length, nil)
		}
		alone, watched, ratios = append(alone, a), append(watched, w), append(ratios, w/a)
	}
	b.StopTimer()
	perSecond := float64(served.Load()) / loaded.Seconds()
	b.ReportMetric(0, "ns/op") // which is how long spans are
	b.ReportMetric(perSecond, "requests/s")
	b.ReportMetric(median(alone), "µs/request-alone")
	b.ReportMetric(median(watched), "µs/request-watched")
	b.ReportMetric(median(watched)/median(alone), "watched/alone")
	b.ReportMetric(median(ratios), "pairwise")
	if quarter := len(ratios) / 4; quarter > 0 {
		slices.Sort(ratios)
		b.ReportMetric(ratios[len(ratios)-1-quarter]-ratios[quarter], "pairwise-spread")
	}

	// A scrape and a page by themselves, beside what Caddy does when nobody asks
	// for anything.
	const scrapes, quiet = 200, 10 * time.Second
	time.Sleep(time.Second)
	idle := processorTime(b, caddy.cmd.Process.Pid)
	time.Sleep(quiet)
	idle = processorTime(b, caddy.cmd.Process.Pid) - idle
	looked := processorTime(b, caddy.cmd.Process.Pid)
	looking, leave := context.WithTimeout(context.Background(), quiet)
	defer leave()
	if err := page(looking, admin, site); err != nil {
		b.Fatal(err)
	}
	second := float64(processorTime(b, caddy.cmd.Process.Pid)-looked-idle) / quiet.Seconds() / 1000
	began, at := processorTime(b, caddy.cmd.Process.Pid), time.Now()
	done, cancel := context.WithCancel(context.Background())
	cancel()
	for range scrapes {
		if err := scraper(done, admin, site); err != nil {
			b.Fatal(err)
		}
	}
	took := processorTime(b, caddy.cmd.Process.Pid) - began - time.Duration(float64(idle)*float64(time.Since(at))/float64(quiet))
	scrape := float64(took) / scrapes / 1000
	b.ReportMetric(scrape, "µs/scrape")
	b.ReportMetric(second, "µs/page-second")
	// What the ratio should be by that; it depends on the load, but less on
	// what else the machine is doing.
	b.ReportMetric(1+(scrape+second)/perSecond/median(alone), "computed")
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// processorTime is what a process has taken so far.
func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	took, err := cputime.Of(pid)
	if err != nil {
		b.Fatal(err)
	}
	return took
}
