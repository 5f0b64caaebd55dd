package integration

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// What a segment of 512 KiB costs through a real Caddy: with the handler, that
// is ready to resume its playback, in front of the proxy; with the policy alone;
// and with neither. They take turns in one run, so that what disturbs one
// disturbs all, and are compared by their medians. With -cpu 1 they are work
// alone, and differ least from run to run.
func BenchmarkSegment(b *testing.B) {
	segment := bytes.Repeat([]byte("0123456789abcdef"), 512<<10/16)
	pms := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/identity":
			_, _ = io.WriteString(w, `<MediaContainer machineIdentifier="x"/>`)
		case strings.Contains(r.URL.Path, "/universal/session/"):
			w.Header().Set("Content-Type", "video/mp4")
			w.Header().Set("Content-Length", fmt.Sprint(len(segment)))
			_, _ = w.Write(segment)
		case strings.Contains(r.URL.Path, "/universal/decision"):
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"MediaContainer":{"generalDecisionCode":1001}}`)
		default:
			_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nsession/bench/base/index.m3u8\n")
		}
	}))
	defer pms.Close()
	sites := []struct{ name, handler, policy, url string }{
		{"handler", "plexlb_session", "lb_policy least_transcodes", "http://" + freeAddr(b)},
		{"policy", "", "lb_policy least_transcodes", "http://" + freeAddr(b)},
		{"stock", "", "lb_policy first", "http://" + freeAddr(b)},
	}
	upstream := pms.Listener.Addr().String()
	config := "{\n" + global + "plexlb {\n" + replicated + "\nserver plex1 " + upstream + "\n}\n}\n"
	for _, s := range sites {
		config += s.url + " {\n" + s.handler + "\nreverse_proxy " + upstream + " {\n" + s.policy + "\nflush_interval -1\n}\n}\n"
	}
	if err := loadCaddyfile(config); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = caddy.Stop() }()

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	get := func(url string) (took time.Duration) {
		began := time.Now()
		res, err := client.Get(url)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(io.Discard, res.Body)
		res.Body.Close()
		took = time.Since(began)
		if res.StatusCode != http.StatusOK || err != nil || strings.Contains(url, "/session/") && n != int64(len(segment)) {
			b.Fatalf("%s: status %d, %d bytes, %v", url, res.StatusCode, n, err)
		}
		return took
	}
	const path = "/video/:/transcode/universal/session/bench/base/00001.ts"
	for _, s := range sites {
		// A connection that begins with a large answer stays slower for good,
		// by the size of its buffers.
		for _, what := range []string{"decision", "start.m3u8"} {
			get(s.url + "/video/:/transcode/universal/" + what + "?path=%2Flibrary%2Fmetadata%2F1&session=bench&X-Plex-Client-Identifier=bench&X-Plex-Token=" + token)
		}
		for range 50 {
			get(s.url + path)
		}
	}

	b.SetBytes(int64(len(sites) * len(segment)))
	took := make([][]time.Duration, len(sites))
	for round := 0; b.Loop(); round++ {
		for i := range sites {
			i = (i + round) % len(sites) // nobody always comes after the same
			took[i] = append(took[i], get(sites[i].url+path))
		}
	}
	median := make([]float64, len(sites))
	for i := range sites {
		slices.Sort(took[i])
		median[i] = float64(took[i][len(took[i])/2])
		b.ReportMetric(median[i], "ns/"+sites[i].name)
	}
	b.ReportMetric(median[0]/median[1], "handler/policy")
	b.ReportMetric(median[0]/median[2], "handler/stock")
}
