//go:build unix

package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// gauge is how much there is in Caddy.
type gauge struct {
	at         time.Duration // since the beginning
	heap       int           // bytes in use after a collection
	resident   int           // bytes
	goroutines int
	playbacks  int
}

func (g gauge) String() string {
	return fmt.Sprintf("%d goroutines, heap %.1f MiB, resident %.1f MiB, %d playbacks", g.goroutines, float64(g.heap)/(1<<20), float64(g.resident)/(1<<20), g.playbacks)
}

// gauge reads it. Whoever asks is to be seen in none of it.
func (s *soak) gauge() gauge {
	s.t.Helper()
	read := func(path string) *http.Response {
		r, err := http.NewRequest(http.MethodGet, "http://"+s.admin+path, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		r.Close = true // the endpoint is another after a reload
		for try := 0; ; try++ {
			res, err := http.DefaultClient.Do(r)
			if err == nil && res.StatusCode == http.StatusOK {
				return res
			}
			if try == 10 {
				s.t.Fatalf("%s: %v", path, err)
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
	for range 2 { // what lies in pools survives one collection
		collected := read("/debug/pprof/heap?gc=1")
		_, _ = io.Copy(io.Discard, collected.Body)
		collected.Body.Close()
	}
	metrics := read("/metrics")
	defer metrics.Body.Close()
	values := make(map[string]int)
	for lines := bufio.NewScanner(metrics.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if x, err := strconv.ParseFloat(value, 64); err == nil {
			values[name] = int(x)
		}
	}
	for _, name := range []string{"go_memstats_heap_alloc_bytes", "process_resident_memory_bytes", "go_goroutines", "caddy_plexlb_sessions"} {
		if _, ok := values[name]; !ok {
			s.t.Fatalf("no metric %s", name)
		}
	}
	return gauge{
		heap: values["go_memstats_heap_alloc_bytes"], resident: values["process_resident_memory_bytes"],
		goroutines: values["go_goroutines"], playbacks: values["caddy_plexlb_sessions"],
	}
}

// keepProfile stores what is left in the heap, for the case that it is too much.
func (s *soak) keepProfile() {
	file := filepath.Join("..", "..", "bin", "soak.heap")
	res, err := http.Get("http://" + s.admin + "/debug/pprof/heap")
	if err != nil {
		s.t.Errorf("the heap's profile: %v", err)
		return
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, raw, 0o644))
	}
	if err != nil {
		s.t.Errorf("the heap's profile: %v", err)
		return
	}
	s.t.Log("go tool pprof -top bin/soak.heap shows what is left")
}

// watch reads it now and then.
func (s *soak) watch(ctx context.Context, begin time.Time) (gauges []gauge) {
	for passes(ctx, 10*time.Second) {
		g := s.gauge()
		g.at = time.Since(begin).Round(time.Second)
		gauges = append(gauges, g)
		if len(gauges)%6 == 0 {
			s.t.Logf("%v: %v", g.at, g)
		}
	}
	return gauges
}

// empty waits until all is forgotten that was played.
func (s *soak) empty() {
	s.t.Helper()
	end := time.Now().Add(90 * time.Second)
	for {
		g := s.gauge()
		if g.playbacks == 0 {
			break
		}
		if time.Now().After(end) {
			s.t.Errorf("after a minute and a half without viewers there are %d playbacks", g.playbacks)
			break
		}
		time.Sleep(time.Second)
	}
	time.Sleep(5 * time.Second) // until connections have ended
}

// What may be left when all have gone, in bytes. Of runs of one and three
// minutes 0.4 to 3.3 MiB were left, of runs of ten minutes 6.4 to 6.7 MiB, in
// which there were 2155 devices and 7183 playbacks: some 2.3 KiB more for each
// device more.
const (
	settled    = 4 << 20      // what is made once, by configs that are replaced too
	remembered = 2<<10 + 1<<9 // of a device, whose choices of streams are kept
	choosers   = 10_000       // so many of them
)

// mayBeLeft is how much heap that is in all.
func mayBeLeft(devices int) int { return settled + min(devices, choosers)*remembered }

// What a playback leaves behind is found in ten minutes.
func TestALeakOfAKiBForEachPlaybackIsFound(t *testing.T) {
	const devices, playbacks, left = 2155, 7183, 6860 << 10 // measured
	if may := mayBeLeft(devices); may < left || may >= left+playbacks<<10 {
		t.Errorf("%d bytes may be left: %d were, and would be with a leak %d", may, left, left+playbacks<<10)
	}
}

// flat checks that what there is does not grow with time.
func flat(t *testing.T, base, end gauge, gauges []gauge, devices int) {
	t.Helper()
	if end.goroutines > base.goroutines+15 { // connections of the pollers come and go
		t.Errorf("%d goroutines are left, there were %d before", end.goroutines, base.goroutines)
	}
	if devices > 0 {
		t.Logf("%d bytes of heap are left of each of %d devices", (end.heap-base.heap)/devices, devices)
	}
	if left, may := end.heap-base.heap, mayBeLeft(devices); left > may {
		t.Errorf("%d KiB are left of %d devices, at most %d KiB may be", left>>10, devices, may>>10)
	}
	// How much there is at most depends on when servers hang, and requests wait;
	// how little, on when connections are closed. What is there most of the time
	// grows if something does.
	mostly := func(part []gauge, of func(gauge) int) int {
		values := make([]int, len(part))
		for i, g := range part {
			values[i] = of(g)
		}
		slices.Sort(values)
		return values[len(values)/4]
	}
	third := len(gauges) / 3
	if third < 4 {
		t.Log("too short to tell whether there is more and more")
		return
	}
	for what, of := range map[string]func(gauge) int{
		"heap":       func(g gauge) int { return g.heap },
		"goroutines": func(g gauge) int { return g.goroutines },
	} {
		before, after := mostly(gauges[third:2*third], of), mostly(gauges[2*third:], of)
		t.Logf("%s: mostly more than %d in the second third, %d in the last", what, before, after)
		if after > before+before/4+map[string]int{"heap": 4 << 20, "goroutines": 100}[what] {
			t.Errorf("%s grows: mostly more than %d in the second third, %d in the last", what, before, after)
		}
	}
}
