package integration

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// Ten thousand playbacks come and go, some of which lose their session in
// between. What is left of them is nothing.
func TestPlaybacksLeaveNothingBehind(t *testing.T) {
	servers := stand(t, 3, func(_ int, cfg *plextest.Config) { // encoders that take no time
		cfg.Speed, cfg.Startup, cfg.SegmentSize = 10_000, -1, 512
	})
	// Connections that nobody uses end soon, so as not to be counted.
	b := load(t, "{\nGLOBAL\n"+option(servers, replicated+"\nidle 8s")+"}\nHERE {\n"+labels+"plexlb {\ntransport http {\nkeepalive 1s\n}\n}\n}\n")
	crowd := &crowd{t: t, base: b.URL, servers: servers}
	settle := func() (goroutines int, memory uint64) {
		t.Helper()
		eventually(t, "all playbacks are forgotten", 30*time.Second, func() bool {
			playbacks, _ := b.ledger().Len()
			return playbacks == 0
		})
		for _, s := range servers { // whose memory is not the question
			s.Forget()
			s.ResetLog()
		}
		time.Sleep(2500 * time.Millisecond) // until connections have ended
		return runtime.NumGoroutine(), heap()
	}

	n := 10_000
	if raceEnabled {
		n = 2000
	}
	crowd.play(n / 10) // whatever is allocated once
	goroutines, memory := settle()
	crowd.play(n)
	if crowd.lost.Load() < int64(n/50) {
		t.Errorf("only %d sessions were lost: the test tests little", crowd.lost.Load())
	}
	afterwards, after := settle()
	if afterwards > goroutines+12 { // connections of the pollers come and go
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines, %d before\n%s", afterwards, goroutines, buf[:runtime.Stack(buf, true)])
	}
	grown := int64(after) - int64(memory)
	t.Logf("%d goroutines, %d before; memory grew by %d KiB", afterwards, goroutines, grown>>10)
	if grown > 4<<20 && !raceEnabled {
		t.Errorf("memory grew by %d KiB", grown>>10)
	}
}

// crowd is devices that play one thing after the other, a second of each.
type crowd struct {
	t       *testing.T
	base    string
	servers []*plextest.Server
	last    atomic.Int64 // playback
	lost    atomic.Int64 // playbacks whose session was forgotten
}

// play lets n playbacks come and go, sixteen at a time.
func (c *crowd) play(n int) {
	c.t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for device := range 16 {
		wg.Go(func() {
			for range n / 16 {
				if !c.one(client, device, c.last.Add(1)) {
					return
				}
			}
		})
	}
	wg.Wait()
}

// one is a playback by a device; every twentieth loses its session, and with it
// all others at its server do. It reports false if it failed.
func (c *crowd) one(client *http.Client, device int, id int64) bool {
	ids := fmt.Sprintf("&session=t%d&X-Plex-Session-Identifier=x%d&X-Plex-Client-Identifier=device%d&X-Plex-Token=%s", id, id, device, token)
	ask := "?path=%2Flibrary%2Fmetadata%2F1&protocol=hls" + ids
	server := ""
	get := func(path string) bool {
		res, err := client.Get(c.base + path)
		if err != nil {
			c.t.Errorf("playback %d: %v", id, err)
			return false
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		server = res.Header.Get("X-Plextest-Server")
		if res.StatusCode != http.StatusOK {
			c.t.Errorf("playback %d: %s: status %d from %q", id, strings.ReplaceAll(path, token, "…"), res.StatusCode, server)
			return false
		}
		return true
	}
	if !get("/video/:/transcode/universal/decision"+ask) || !get("/video/:/transcode/universal/start.m3u8"+ask) {
		return false
	}
	if id%20 == 0 {
		for _, s := range c.servers {
			if serverName(s, c.servers) == server {
				s.Forget()
				c.lost.Add(1)
			}
		}
	}
	segment := fmt.Sprintf("/video/:/transcode/universal/session/t%d/base/00001.ts", id)
	return get(segment) && get("/:/timeline?ratingKey=1&key=%2Flibrary%2Fmetadata%2F1&state=stopped&time=1000"+ids)
}
