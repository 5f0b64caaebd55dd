//go:build unix

package integration

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// soak is a full house to which everything happens that can.
type soak struct {
	t           *testing.T
	seed        uint64
	fleet       fleet
	caddy       *process
	base, admin string        // of Caddy
	segment     time.Duration // length of one

	faults  faults
	reloads faults // when Caddy was given another config
	strain  strain
	tally   *tally
}

// TestSoak runs for as long as PLEXLB_SOAK says, with PLEXLB_SOAK_VIEWERS
// viewers at a time (default: 500 from ten minutes on, otherwise 120, which two
// busy cores can play), and the schedule of PLEXLB_SOAK_SEED (default: another
// each time; it is printed).
func TestSoak(t *testing.T) {
	if os.Getenv("PLEXLB_SOAK") == "" {
		t.Skip("runs for as long as PLEXLB_SOAK says, 3m for one")
	}
	length, err := time.ParseDuration(os.Getenv("PLEXLB_SOAK"))
	if err != nil {
		t.Fatalf("PLEXLB_SOAK: %v", err)
	}
	viewers := int(number(t, "PLEXLB_SOAK_VIEWERS", map[bool]uint64{true: 500, false: 120}[length >= 10*time.Minute]))
	s := &soak{t: t, seed: number(t, "PLEXLB_SOAK_SEED", rand.Uint64()), tally: newTally(), segment: 2 * time.Second}
	if viewers > 200 {
		s.segment *= 2 // for the sake of two cores that do all the parts
	}
	t.Logf("%d viewers for %v, PLEXLB_SOAK_SEED=%d", viewers, length, s.seed)

	// Sessions that viewers left behind go soon, and with them what is known
	// of them.
	s.fleet = startFleet(t, 5, append([]string{"-segment-duration", s.segment.String(), "-reap", "25s"}, clones...)...)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s.admin = freeAddr(t)
	s.caddy = s.fleet.caddy(s.config(0))
	s.base = "http://" + s.caddy.addr

	begin := time.Now()
	sit := func(n int, d time.Duration) {
		ctx, enough := context.WithTimeout(t.Context(), d)
		defer enough()
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { s.seat(ctx, uint64(i)) })
		}
		wg.Wait()
	}
	sit(len(soakKinds), 5*time.Second) // whatever is made once
	s.empty()
	base := s.gauge()

	var wg sync.WaitGroup
	ctx, enough := context.WithTimeout(t.Context(), length)
	defer enough()
	wg.Go(func() { s.schedule(ctx) })
	wg.Go(func() { s.reload(ctx, taken.Addr().String()) })
	for i := range 8 {
		wg.Go(func() { s.junk(ctx, rand.New(rand.NewPCG(s.seed, 1<<32+uint64(i)))) })
	}
	wg.Go(func() { s.strain.measure(ctx) })
	var gauges []gauge
	wg.Go(func() { gauges = s.watch(ctx, begin) })
	sit(viewers, length)
	enough()
	wg.Wait()

	s.empty()
	end := s.gauge()
	s.keepProfile()
	t.Logf("before: %v; after: %v", base, end)
	flat(t, base, end, gauges, len(s.tally.devices))
	s.caddy.kill() // which looks for data races
	s.said()
	for _, p := range s.fleet {
		p.kill()
	}
	s.tally.report(t, &s.faults)
	spent := time.Duration(0)
	for _, p := range s.fleet {
		spent += p.spent
	}
	if s.strain.report(t, s.caddy.spent, spent) && t.Failed() {
		t.Error("the machine was overloaded, which may be what is wrong above: take fewer viewers, or a machine with more room")
	}
}

// number reads one from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(cmp.Or(os.Getenv(name), strconv.FormatUint(otherwise, 10)), 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// config is the n-th Caddyfile. They differ in what may change.
func (s *soak) config(n int) string {
	config := s.fleet.site(fmt.Sprintf("\t%s\n\tidle 30s\n\tslow_start 5s\n\tcost {\n\t\tcpu %d\n\t}\n", replicated, 2+n%3))
	// What plexlb did with a playback is told in full, for the case that
	// something happens to it.
	logs := "log {\nexclude plexlb http.handlers.plexlb\n" + logFormat(s.t) + "\n}\nlog plexlb {\nlevel DEBUG\ninclude plexlb http.handlers.plexlb\n" + logFormat(s.t) + "\n}\n"
	config = strings.Replace(config, "GLOBAL", "admin "+s.admin+"\npersist_config off\nauto_https off\n"+logs, 1)
	config = strings.Replace(config, "poll_interval 300ms", "poll_interval 1s", 1)
	config = strings.Replace(config, "HERE {\n", fmt.Sprintf("HERE {\nheader >X-Reload %d\n", n), 1)
	// In the middle between what lies at hand and what has to go soon.
	return strings.Replace(config, "\tplexlb\n}", "\tplexlb {\n\t\ttransport http {\n\t\t\tkeepalive 2s\n\t\t}\n\t}\n}", 1)
}

// reload loads another config now and then. Every third time it is one that
// fails, before or after it was provisioned.
func (s *soak) reload(ctx context.Context, taken string) {
	good, bad := 0, 0
	defer func() {
		s.t.Logf("%d configs were loaded, %d refused", good, bad)
		if good == 0 {
			s.t.Error("no config was loaded")
		}
	}()
	for n := 1; passes(ctx, 20*time.Second); n++ {
		config := strings.ReplaceAll(s.config(n), "HERE", s.base)
		fails := n%3 == 0
		switch {
		case n%6 == 0:
			config += "\nhttp://" + taken + " {\n\trespond ok\n}\n"
		case fails:
			config = strings.Replace(config, "idle 30s", "idle soon", 1)
		}
		// It answers when the admin endpoint is another one.
		r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://"+s.admin+"/load", strings.NewReader(config))
		if err != nil {
			s.t.Error(err)
			return
		}
		r.Close = true
		r.Header.Set("Content-Type", "text/caddyfile")
		over := s.reloads.begin("Caddy", "reloaded")
		res, err := http.DefaultClient.Do(r)
		over()
		if err != nil {
			s.t.Errorf("reload %d: %v", n, err)
			continue
		}
		said, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if (res.StatusCode != http.StatusOK) != fails {
			s.t.Errorf("reload %d: status %d, it should fail: %v: %s", n, res.StatusCode, fails, said)
		}
		if fails {
			bad++
		} else {
			good++
		}
	}
}

// passes waits, and reports whether to go on.
func passes(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
