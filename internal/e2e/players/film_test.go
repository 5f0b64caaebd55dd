package players

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// The film: a test pattern with the name of its server and a running clock, and
// both once more as a strip of black and white cells along the top, which a
// program can read from what a player shows.
const (
	filmSeconds = 170
	frameRate   = 25
)

// The cells of the strip, from the left: two that are white and black, the
// number of the frame, the number of the server, a sum over both, and two that
// are black and white.
const (
	cells     = 32
	frameBits = 16
	sumBits   = 8
)

// strip draws the cells of frame N, one pixel each.
const strip = `st(0,mod(N*37+%[1]d*101,256));st(1,31-X);` +
	`if(gte(ld(1),30),255*(ld(1)-30),` +
	`if(gte(ld(1),14),255*mod(floor(N/pow(2,ld(1)-14)),2),` +
	`if(gte(ld(1),10),255*mod(floor(%[1]d/pow(2,ld(1)-10)),2),` +
	`if(gte(ld(1),2),255*mod(floor(ld(0)/pow(2,ld(1)-2)),2),255*(1-ld(1))))))`

// encoder is how a server makes its segments.
type encoder struct {
	size    string   // of the picture
	codec   string   // as manifests call it
	h264    []string // arguments for it
	clock   int      // ticks of a second in fMP4; zero is ffmpeg's choice
	audio   string   // as manifests call it
	hertz   int      // samples of a second
	shifted string   // seconds by which audio frames lie elsewhere than others'
}

// usual is what servers of one make do.
var usual = encoder{size: "480x270", codec: "avc1.42C01E", h264: []string{"-profile:v", "baseline"}, audio: "mp4a.40.2", hertz: 48000}

// film is one that a server has encoded. It is a plextest.Media.
type film struct {
	codecs  map[string]string
	headers map[string][]byte
	parts   map[string][][]byte
}

func (f *film) Header(rep string) []byte { return f.headers[rep] }

func (f *film) Codecs(rep string) string { return f.codecs[rep] }

func (f *film) Segment(rep string, n int) []byte {
	if parts := f.parts[rep]; n < len(parts) {
		return parts[n]
	}
	return nil
}

// films are those encoded so far.
var films struct {
	mu sync.Mutex
	of map[string]func() (*film, error)
}

// filmOf returns the film as the server of a number shows it.
func filmOf(ctx context.Context, server int, e encoder) (*film, error) {
	films.mu.Lock()
	name := fmt.Sprintf("plex%d %+v", server, e)
	if films.of == nil {
		films.of = make(map[string]func() (*film, error))
	}
	once := films.of[name]
	if once == nil {
		once = sync.OnceValues(func() (*film, error) { return encode(ctx, server, e) })
		films.of[name] = once
	}
	films.mu.Unlock()
	return once()
}

// encode makes the film in a folder that is gone afterwards.
func encode(ctx context.Context, server int, e encoder) (*film, error) {
	dir, err := os.MkdirTemp("", "plexlb-film-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	width, height, _ := strings.Cut(e.size, "x")
	var w, h int
	if _, err := fmt.Sscan(width+" "+height, &w, &h); err != nil {
		return nil, err
	}
	stripHeight := h / 9 / 2 * 2
	args := []string{
		"-f", "lavfi", "-i", fmt.Sprintf("testsrc2=s=%dx%d:r=%d", w, h-stripHeight, frameRate),
		"-f", "lavfi", "-i", fmt.Sprintf("nullsrc=s=%dx2:r=%d,format=gray,geq=lum='%s'", cells, frameRate, fmt.Sprintf(strip, server)),
		"-f", "lavfi", "-itsoffset", "0" + e.shifted, "-i", fmt.Sprintf("sine=frequency=%d:sample_rate=%d", 220*server, e.hertz),
		"-filter_complex", fmt.Sprintf("[1]scale=%d:%d:flags=neighbor,format=yuv420p[strip];[0]format=yuv420p,"+
			`drawtext=text='plex%d  %%{pts\:hms}':fontsize=%d:x=(w-tw)/2:y=(h-th)/2:box=1:boxborderw=6[picture];[strip][picture]vstack`,
			w, stripHeight, server, h/7),
		"-t", fmt.Sprint(filmSeconds), "-c:v", "libx264", "-preset", "ultrafast",
	}
	args = append(args, e.h264...)
	// A key frame at each second, as segments need.
	args = append(args, "-g", fmt.Sprint(frameRate), "-keyint_min", fmt.Sprint(frameRate), "-sc_threshold", "0", "-b:v", "300k",
		"-c:a", "aac", "-b:a", "64k", "-movflags", "+faststart", "film.mp4")
	if err := ffmpeg(ctx, dir, args...); err != nil {
		return nil, err
	}
	if err := ffmpeg(ctx, dir, "-i", "film.mp4", "-map", "0", "-c", "copy", "-muxdelay", "0", "-muxpreload", "0",
		"-f", "segment", "-segment_time", "1", "-segment_format", "mpegts", "base-%d"); err != nil {
		return nil, err
	}
	args = []string{"-i", "film.mp4", "-c", "copy"}
	if e.clock > 0 {
		args = append(args, "-format_options", fmt.Sprintf("video_track_timescale=%d", e.clock))
	}
	for rep, stream := range []string{"0:v", "0:a"} {
		if err := ffmpeg(ctx, dir, append(args, "-map", stream, "-f", "dash", "-seg_duration", "1", "-use_timeline", "0", "-use_template", "1",
			"-init_seg_name", fmt.Sprintf("%d-header", rep), "-media_seg_name", fmt.Sprintf("%d-$Number$", rep), fmt.Sprintf("%d.mpd", rep))...); err != nil {
			return nil, err
		}
	}
	f := &film{
		codecs:  map[string]string{"base": e.codec + "," + e.audio, "0": e.codec, "1": e.audio},
		headers: make(map[string][]byte), parts: make(map[string][][]byte),
	}
	for rep, first := range map[string]int{"base": 0, "0": 1, "1": 1} {
		if rep != "base" {
			if f.headers[rep], err = os.ReadFile(filepath.Join(dir, rep+"-header")); err != nil {
				return nil, err
			}
		}
		for n := range filmSeconds {
			part, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%s-%d", rep, n+first)))
			if err != nil {
				return nil, err
			}
			f.parts[rep] = append(f.parts[rep], part)
		}
	}
	return f, nil
}

// ffmpeg runs it in a folder.
func ffmpeg(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "ffmpeg", append([]string{"-hide_banner", "-loglevel", "error", "-nostdin"}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("ffmpeg %s: %s", strings.Join(args, " "), out), err)
	}
	return nil
}

// readStrip reads a frame's number and its server's from the brightness of the
// cells.
func readStrip(light []byte) (frame, server int, ok bool) {
	word := 0
	for _, l := range light {
		word <<= 1
		if l > 127 {
			word |= 1
		}
	}
	frame, server = word>>14&(1<<frameBits-1), word>>10&15
	sum := word >> 2 & (1<<sumBits - 1)
	return frame, server, len(light) == cells && word>>30 == 2 && word&3 == 1 && (frame*37+server*101)&(1<<sumBits-1) == sum
}
