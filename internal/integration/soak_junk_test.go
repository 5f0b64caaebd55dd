//go:build unix

package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// junk sends what nobody should, over and over.
func (s *soak) junk(ctx context.Context, rng *rand.Rand) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	for passes(ctx, time.Duration(rng.IntN(400))*time.Millisecond) {
		kind := rng.IntN(8)
		if kind < 2 {
			s.raw(ctx, rng, kind == 0)
			continue
		}
		what, path, header := someJunk(rng, kind)
		hangUp := ctx
		if rng.IntN(4) == 0 {
			var cancel context.CancelFunc
			hangUp, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(20))*time.Millisecond)
			defer cancel()
		}
		r, err := http.NewRequestWithContext(hangUp, []string{"GET", "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"}[rng.IntN(7)], s.base, nil)
		if err != nil {
			s.t.Error(err)
			return
		}
		r.URL.Opaque = path // as it is
		for name, value := range header {
			r.Header[name] = []string{value}
		}
		came := "broken off"
		if res, err := client.Do(r); err == nil {
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			came = res.Status
			if b, err := plextest.ReadBody(body); err == nil {
				s.tally.wrongf("junk (%s) got a segment: %v", what, b)
			}
			if bytes.Contains(body, []byte(token)) {
				s.tally.wrongf("junk (%s) got a token", what)
			}
			if res.StatusCode == http.StatusInternalServerError && !s.faults.during(time.Now().Add(-20*time.Second), time.Now()) {
				s.tally.wrongf("junk (%s) got status 500", what)
			}
		}
		s.tally.mu.Lock()
		s.tally.strange[what+": "+came]++
		s.tally.mu.Unlock()
	}
}

// someJunk makes a request.
func someJunk(rng *rand.Rand, kind int) (what, path string, header map[string]string) {
	noise := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return url.PathEscape(string(b))
	}
	id := fmt.Sprintf("%024x", rng.Uint64())
	switch kind {
	case 2:
		return "path", "/" + noise(1+rng.IntN(60)) + "/:/" + noise(9), nil
	case 3:
		return "unknown session", fmt.Sprintf("/video/:/transcode/universal/session/%s/base/%05d.ts", id, rng.IntN(100)), nil
	case 4:
		return "large header", "/library/sections", map[string]string{
			"X-Plex-Session-Identifier": strings.Repeat("x", 1<<(10+rng.IntN(9))), "X-Plex-Client-Identifier": strings.Repeat("y", 5000)}
	case 5:
		return "large query", "/video/:/transcode/universal/start.m3u8?path=%2Flibrary%2Fmetadata%2F1&session=" + strings.Repeat("z", 1<<(8+rng.IntN(9))), nil
	case 6:
		return "wrong token", "/video/:/transcode/universal/decision?path=%2Flibrary%2Fmetadata%2F1&protocol=hls&session=" + id +
			"&X-Plex-Client-Identifier=" + id + "&X-Plex-Token=wrong", nil
	default:
		return "noise in ids", "/:/timeline?state=" + noise(5) + "&session=" + noise(20) + "&X-Plex-Client-Identifier=" + noise(30), nil
	}
}

// raw sends a part of a request: all that will come, or a byte now and then.
func (s *soak) raw(ctx context.Context, rng *rand.Rand, slowly bool) {
	conn, err := net.Dial("tcp", s.caddy.addr)
	if err != nil {
		s.tally.wrongf("Caddy takes no connection: %v", err)
		return
	}
	defer conn.Close()
	text := "POST /playQueues?type=video HTTP/1.1\r\nHost: x\r\nX-Plex-Client-Identifier: slow\r\nContent-Length: 100\r\n\r\nabc"
	text = text[:1+rng.IntN(len(text)-1)]
	if !slowly {
		_, _ = io.WriteString(conn, text)
		passes(ctx, time.Duration(rng.IntN(1000))*time.Millisecond)
		return
	}
	for _, b := range []byte(text[:min(len(text), 10)]) {
		if _, err := conn.Write([]byte{b}); err != nil || !passes(ctx, 500*time.Millisecond) {
			return
		}
	}
}
