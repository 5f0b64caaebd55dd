//go:build unix

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// fault is what a server suffered.
type fault struct {
	at, over time.Time // over is zero while it lasts
	server   string
	what     string
}

// faults are all there were.
type faults struct {
	mu   sync.Mutex
	list []fault
}

func (f *faults) begin(server, what string) (end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, fault{at: time.Now(), server: server, what: what})
	n := len(f.list) - 1
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.list[n].over = time.Now()
	}
}

// aftermath is how long after a fault its consequences may last: until checks
// have found the server up, and those who waited have been served.
const aftermath = 8 * time.Second

// during reports whether there was a fault at some time between two, or its
// aftermath: of one of some servers, or of any if none is named.
func (f *faults) during(from, to time.Time, servers ...string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.list, func(x fault) bool {
		return x.at.Before(to) && (x.over.IsZero() || x.over.Add(aftermath).After(from)) &&
			(len(servers) == 0 || slices.Contains(servers, x.server))
	})
}

// suffering counts the servers that had one of some kinds of fault at some time
// between two.
func (f *faults) suffering(from, to time.Time, kinds ...string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	servers := make(map[string]bool)
	for _, x := range f.list {
		if slices.Contains(kinds, x.what) && x.at.Before(to) && (x.over.IsZero() || x.over.After(from)) {
			servers[x.server] = true
		}
	}
	return len(servers)
}

// within reports whether there was one at some time between two, or in the
// second before.
func (f *faults) within(from, to time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.list, func(x fault) bool {
		return x.at.Before(to) && (x.over.IsZero() || x.over.Add(time.Second).After(from))
	})
}

// between says which faults there were at some time between two, and how long
// before the first they began.
func (f *faults) between(from, to time.Time) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var said []string
	for _, x := range f.list {
		if x.at.Before(to) && (x.over.IsZero() || x.over.Add(aftermath).After(from)) {
			until := "now"
			if !x.over.IsZero() {
				until = x.over.Sub(from).Round(100 * time.Millisecond).String()
			}
			said = append(said, fmt.Sprintf("%s %s from %v to %s", x.server, x.what, x.at.Sub(from).Round(100*time.Millisecond), until))
		}
	}
	return strings.Join(said, ", ")
}

func (f *faults) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := make(map[string]int)
	for _, x := range f.list {
		n[x.what]++
	}
	return fmt.Sprintf("%d faults: %v", len(f.list), n)
}

// schedule lets one server after the other suffer, at times two at once. There
// are always three that are well.
func (s *soak) schedule(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for lane := range 2 {
		rng := rand.New(rand.NewPCG(s.seed, 1<<40+uint64(lane)))
		servers := [][]*standIn{s.fleet[:2], s.fleet[2:]}[lane] // the primary is in the first
		wg.Go(func() {
			var kinds []int
			for passes(ctx, time.Duration(3+rng.IntN(8))*time.Second) {
				if len(kinds) == 0 { // each comes up
					kinds = rng.Perm(len(soakFaults))
				}
				kind := soakFaults[kinds[0]]
				kinds = kinds[1:]
				server := servers[rng.IntN(len(servers))]
				length := kind.least + time.Duration(rng.Int64N(int64(kind.most-kind.least)+1))
				over := s.faults.begin(server.name, kind.what)
				kind.do(ctx, s, server, rng, length)
				over()
			}
		})
	}
}

// soakFaults are the kinds of faults. Each is over when its function returns.
var soakFaults = []struct {
	what        string
	least, most time.Duration
	do          func(ctx context.Context, s *soak, server *standIn, rng *rand.Rand, d time.Duration)
}{
	{"killed", 3 * time.Second, 20 * time.Second, func(ctx context.Context, _ *soak, server *standIn, _ *rand.Rand, d time.Duration) {
		server.kill()
		passes(ctx, d)
		server.start()
	}},
	{"restarted", 0, time.Second, func(ctx context.Context, _ *soak, server *standIn, _ *rand.Rand, d time.Duration) {
		server.kill()
		passes(ctx, d)
		server.start()
	}},
	{"hung", 2 * time.Second, 20 * time.Second, func(ctx context.Context, _ *soak, server *standIn, _ *rand.Rand, d time.Duration) {
		server.stop()
		passes(ctx, d)
		server.cont()
	}},
	{"forgetful", 0, 0, func(_ context.Context, _ *soak, server *standIn, _ *rand.Rand, _ time.Duration) {
		server.forget()
	}},
	{"slow", 5 * time.Second, 15 * time.Second, func(ctx context.Context, s *soak, server *standIn, rng *rand.Rand, d time.Duration) {
		s.behave(ctx, server, d, plextest.Behaviour{Delay: time.Duration(100+rng.IntN(1400)) * time.Millisecond})
	}},
	{"lying", 5 * time.Second, 20 * time.Second, func(ctx context.Context, s *soak, server *standIn, rng *rand.Rand, d time.Duration) {
		s.behave(ctx, server, d, plextest.Behaviour{Poll: plextest.Poll(1 + rng.IntN(int(plextest.PollOtherServer)))})
	}},
	{"failing", 5 * time.Second, 15 * time.Second, func(ctx context.Context, s *soak, server *standIn, rng *rand.Rand, d time.Duration) {
		s.behave(ctx, server, d, plextest.Behaviour{FailStarts: []int{500, 503}[rng.IntN(2)]})
	}},
	{"in maintenance", 3 * time.Second, 8 * time.Second, func(ctx context.Context, s *soak, server *standIn, _ *rand.Rand, d time.Duration) {
		s.behave(ctx, server, d, plextest.Behaviour{Maintenance: true})
	}},
	{"drained", 5 * time.Second, 15 * time.Second, func(ctx context.Context, s *soak, server *standIn, _ *rand.Rand, d time.Duration) {
		s.operate(server.name+"/drain", `{"move":true}`)
		passes(ctx, d)
		s.operate(server.name+"/undrain", "")
	}},
}

// behave makes a server behave in some way for a while.
func (s *soak) behave(ctx context.Context, server *standIn, d time.Duration, b plextest.Behaviour) {
	set := func(b plextest.Behaviour) {
		body, err := json.Marshal(b)
		if err != nil {
			s.t.Error(err)
			return
		}
		r, err := http.NewRequest(http.MethodPut, "http://"+server.control+"/behaviour", bytes.NewReader(body))
		if err != nil {
			s.t.Error(err)
			return
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			s.t.Errorf("%s: %v", server.name, err)
			return
		}
		res.Body.Close()
	}
	set(b)
	passes(ctx, d)
	set(plextest.Behaviour{})
}

// operate does what an operator does to a server.
func (s *soak) operate(call, body string) {
	r, err := http.NewRequest(http.MethodPost, "http://"+s.admin+"/plexlb/servers/"+call, strings.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return
	}
	r.Close = true
	for try := 0; ; try++ {
		res, err := http.DefaultClient.Do(r)
		if err == nil {
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				s.t.Errorf("%s: status %d", call, res.StatusCode)
			}
			return
		}
		if try == 5 { // the endpoint is another one after a reload
			s.t.Errorf("%s: %v", call, err)
			return
		}
		time.Sleep(200 * time.Millisecond)
		r.Body, _ = r.GetBody()
	}
}
