package players

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// native is a player that is no browser: ffmpeg demuxes HLS and decodes it, and
// we look at its pictures when they are due. What it has decoded ahead waits in
// the pipe, which holds as many seconds as the other players fetch ahead.
type native struct {
	begun time.Time

	mu      sync.Mutex
	now     period
	since   time.Time
	last    time.Time // the picture before
	startup time.Duration
}

// row is how many bytes of a picture ffmpeg passes on: a line from the middle
// of the strip. A pipe holds 64 KiB.
const row = 240

// playNative begins the film in ffmpeg.
func (h *house) playNative(t *testing.T) *native {
	t.Helper()
	starting.Lock()
	defer starting.Unlock()
	p := &native{begun: time.Now()}
	p.begin()
	q := url.Values{
		"path": {"/library/metadata/1"}, "protocol": {"hls"}, "directPlay": {"0"}, "directStream": {"1"}, "session": {"transcode-ffmpeg"},
		"X-Plex-Session-Identifier": {"playback-ffmpeg"}, "X-Plex-Client-Identifier": {"client-ffmpeg"}, "X-Plex-Token": {token},
		"X-Plex-Product": {"Player"}, "X-Plex-Platform": {"Linux"}, "X-Plex-Device-Name": {"ffmpeg"},
	}
	if err := h.get(t.Context(), "/video/:/transcode/universal/decision?"+q.Encode()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-tls_verify", "0",
		"-i", h.URL+"/video/:/transcode/universal/start.m3u8?"+q.Encode(), "-map", "0:v",
		"-vf", fmt.Sprintf("crop=iw:2:0:ih/18,scale=%d:1:flags=neighbor,format=gray", row), "-fps_mode", "passthrough",
		"-f", "rawvideo", "-flush_packets", "1", "pipe:1")
	pictures, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	complaints, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for lines := bufio.NewScanner(complaints); lines.Scan(); {
			p.mu.Lock()
			p.now.Errors = append(p.now.Errors, "ffmpeg: "+strings.ReplaceAll(lines.Text(), token, "…"))
			p.mu.Unlock()
		}
	})
	wg.Go(func() {
		if err := p.watch(pictures); err != nil && ctx.Err() == nil {
			p.mu.Lock()
			p.now.Fatal = append(p.now.Fatal, "ffmpeg: "+err.Error())
			p.mu.Unlock()
		}
	})
	wg.Go(func() { p.timelines(ctx, h, q) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		_ = cmd.Wait()
	})
	await(t, p, "the first picture", 30*time.Second, began)
	return p
}

// watch looks at each picture when it is due: after the one before, never
// faster than the film runs.
func (p *native) watch(pictures io.Reader) error {
	picture := make([]byte, row)
	light := make([]byte, cells)
	var due time.Time
	for {
		if _, err := io.ReadFull(pictures, picture); err != nil {
			return errors.Join(errors.New("no more pictures"), err)
		}
		now := time.Now()
		if wait := due.Sub(now); wait > 0 {
			time.Sleep(wait)
			now = now.Add(wait)
		}
		due = now.Add(time.Second / frameRate)
		for i := range light {
			light[i] = picture[(2*i+1)*row/(2*cells)]
		}
		p.see(now, light)
	}
}

func (p *native) see(now time.Time, light []byte) {
	frame, server, ok := readStrip(light)
	p.mu.Lock()
	defer p.mu.Unlock()
	v := &p.now
	if p.startup == 0 {
		p.startup, p.last = now.Sub(p.begun), now
	}
	gap := float64(now.Sub(p.last).Milliseconds())
	p.last = now
	v.Frames++
	v.Longest = max(v.Longest, gap)
	if gap > 500 {
		v.Stalls++
	}
	if !ok {
		v.Unreadable++
		return
	}
	if v.Frame > 0 {
		v.Missed = max(v.Missed, float64(frame-v.Frame)*1000/frameRate-gap)
	}
	if frame < v.Frame {
		v.Back = append(v.Back, [2]int{v.Frame, frame})
	}
	if !slices.Contains(v.Servers, server) {
		v.Servers = append(v.Servers, server)
	}
	v.Frame, v.Server = frame, server
}

// timelines tells the server where the film is.
func (p *native) timelines(ctx context.Context, h *house, q url.Values) {
	tick := time.NewTicker(timelineEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		told := url.Values{"ratingKey": {"1"}, "key": {"/library/metadata/1"}, "state": {"playing"},
			"time": {fmt.Sprint(p.report().Frame * 1000 / frameRate)}, "duration": {fmt.Sprint(filmSeconds * 1000)}}
		for name, value := range q {
			if strings.HasPrefix(name, "X-Plex-") {
				told[name] = value
			}
		}
		if err := h.get(ctx, "/:/timeline?"+told.Encode()); err != nil && ctx.Err() == nil {
			p.mu.Lock()
			p.now.Errors = append(p.now.Errors, "timeline: "+strings.ReplaceAll(err.Error(), token, "…"))
			p.mu.Unlock()
		}
	}
}

// get asks for something and reads it.
func (h *house) get(ctx context.Context, path string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL+path, nil)
	if err != nil {
		return err
	}
	res, err := h.client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	_, err = io.Copy(new(bytes.Buffer), res.Body)
	return err
}

func (p *native) name() string { return "ffmpeg" }

func (p *native) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = time.Now()
	p.last = p.since
	p.now = period{Frame: p.now.Frame, Server: p.now.Server}
}

func (p *native) report() period {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.now
	v.Startup = float64(p.startup.Milliseconds())
	v.Lasted = float64(time.Since(p.since).Milliseconds())
	v.Longest = max(v.Longest, float64(time.Since(p.last).Milliseconds()))
	v.Servers = slices.Clone(v.Servers)
	return v
}

// picture keeps nothing: nothing is shown.
func (p *native) Picture(string) {}
