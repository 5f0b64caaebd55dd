package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// The first requests of a playback come together, over several connections and
// under different names.
func TestThirtyTwoFirstRequestsAgreeOnAServer(t *testing.T) {
	for mode, more := range map[string]string{"separate": "", "replicated": replicated} {
		t.Run(mode, func(t *testing.T) {
			servers := stand(t, 3, nil)
			b := load(t, site(servers, more))
			for round := range 50 {
				id := fmt.Sprintf("-%s-%d", mode, round)
				query := "path=%2Flibrary%2Fmetadata%2F1&protocol=dash&X-Plex-Token=" + token +
					"&session=tsid" + id + "&X-Plex-Session-Identifier=xsi" + id + "&X-Plex-Client-Identifier=cid" + id
				var seen sync.Map
				var wg sync.WaitGroup
				for i := range 32 {
					what := [...]string{"decision", "start.mpd"}[i%2]
					wg.Go(func() {
						status, header, _ := b.get("/video/:/transcode/universal/" + what + "?" + query)
						if status != http.StatusOK {
							t.Errorf("%s: status %d", what, status)
						}
						seen.Store(header.Get("X-Plextest-Server"), true)
					})
				}
				wg.Wait()
				n := 0
				seen.Range(func(any, any) bool { n++; return true })
				if n != 1 {
					t.Fatalf("round %d: requests of one playback reached %d servers", round, n)
				}
			}
		})
	}
}

// A burst of starts comes faster than any poll can tell, and must not herd.
func TestBurstOfStartsSpreadsByWeight(t *testing.T) {
	servers := stand(t, 3, nil)
	b := load(t, site(servers, replicated, 4, 2, 1))
	const n = 60
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 2 * time.Second / n)
			v := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, uint64(i))
			if err := v.Start(t.Context()); err != nil {
				t.Errorf("viewer %d: %v", i, err)
			}
		})
	}
	wg.Wait()

	// What a perfect balancer that sees each start would have done. Ties
	// fall either way, and lead to the same numbers.
	want := make([]int, 3)
	for range n {
		best := 0
		weight := []float64{4, 2, 1}
		for i := range want {
			if float64(want[i]+1)/weight[i] < float64(want[best]+1)/weight[best] {
				best = i
			}
		}
		want[best]++
	}
	for i, s := range servers {
		if got := len(s.Jobs()); got != want[i] {
			t.Errorf("plex%d has %d transcodes, want %d", i+1, got, want[i])
		}
	}
	// Reservations and reports are the same entries.
	eventually(t, "each transcode is confirmed and counted once", 5*time.Second, func() bool {
		for i, v := range b.ledger().View(time.Now()) {
			if v.Jobs[cluster.GPU] != want[i] || v.Reserved != 0 {
				return false
			}
		}
		return true
	})
}

// Clients that know a server's own address come past the balancer; what they
// use is not there for others.
func TestLoadThatBypassesSteersTheNextStart(t *testing.T) {
	servers := stand(t, 2, nil)
	b := load(t, site(servers, replicated))
	servers[0].AddBypass(3)
	servers[1].AddDownload(1)
	eventually(t, "the bypassing sessions are seen", 5*time.Second, func() bool {
		return b.server("plex1").Jobs[cluster.GPU] == 3 && b.server("plex2").Jobs[cluster.GPU] == 1
	})
	for i := range 2 {
		v := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, uint64(i))
		if err := v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(servers[1].Jobs()); got != 3 { // the download and both viewers
		t.Errorf("plex2 has %d transcodes, want 3", got)
	}
	servers[0].EndBypass()
	eventually(t, "their end is seen", 5*time.Second, func() bool {
		return b.server("plex1").Load == 0
	})
}

// Whatever is wrong with a server's answer, it does not mean that the server
// is idle; and nobody waits for it.
func TestBadPollIsNeverTakenForIdle(t *testing.T) {
	for name, poll := range map[string]plextest.Poll{
		"401": plextest.Poll401, "403": plextest.Poll403, "503": plextest.Poll503, "HTML": plextest.PollHTML,
		"half a JSON": plextest.PollTruncated, "64 MB": plextest.PollHuge, "no answer": plextest.PollHang,
		"no body": plextest.PollEmpty, "other JSON": plextest.PollWrongJSON,
	} {
		t.Run(name, func(t *testing.T) {
			servers := stand(t, 2, nil)
			b := load(t, site(servers, replicated+"\nnotifications off"))
			servers[0].AddBypass(4)
			eventually(t, "plex1 is seen to be busy", 5*time.Second, func() bool {
				return b.server("plex1").Jobs[cluster.GPU] == 4
			})
			servers[0].SetPoll(poll)
			servers[0].EndBypass() // which the balancer cannot know any more
			eventually(t, "the failure is noticed", 5*time.Second, func() bool {
				return b.server("plex1").Picture.Failure != ""
			})
			last := b.server("plex2").Picture.Good
			eventually(t, "plex2 is read meanwhile", 5*time.Second, func() bool {
				return b.server("plex2").Picture.Good.Sub(last) > 500*time.Millisecond
			})
			for i := range 3 {
				v := plextest.NewViewer(plextest.Plezy, b.URL, token, plextest.HEVC, uint64(i))
				began := time.Now()
				if err := v.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("start took %v", took)
				}
			}
			if got := b.server("plex1").Jobs[cluster.GPU]; got != 4 {
				t.Errorf("plex1 counts %d transcodes after the failure, want the last known 4", got)
			}
			if got := len(servers[1].Jobs()); got != 3 {
				t.Errorf("plex2 got %d of 3 starts", got)
			}
			servers[0].SetPoll(plextest.PollGood)
			eventually(t, "plex1 is read again", 10*time.Second, func() bool {
				return b.server("plex1").Load == 0
			})
		})
	}
}

// A server in maintenance keeps what it plays and gets nothing new.
func TestMaintenanceTakesNoNewPlaybacks(t *testing.T) {
	servers := stand(t, 3, nil)
	b := load(t, site(servers, replicated))
	servers[1].SetPoll(plextest.Poll503)
	eventually(t, "maintenance is noticed", 5*time.Second, func() bool { return b.server("plex2").Maintenance })
	for i := range 6 {
		v := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, uint64(i))
		if err := v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(servers[1].Jobs()); got != 0 {
		t.Errorf("plex2 in maintenance got %d starts", got)
	}
}

// Anybody can send requests; only who is let in by a server is remembered.
func TestUnauthorisedRequestsLeaveNothingBehind(t *testing.T) {
	for mode, more := range map[string]string{"separate": "", "replicated": replicated} {
		t.Run(mode, func(t *testing.T) {
			servers := stand(t, 3, nil)
			b := load(t, site(servers, more))
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
			defer client.CloseIdleConnections()
			var admitted atomic.Int64
			flood := func(n int) {
				var wg sync.WaitGroup
				for worker := range 16 {
					wg.Go(func() {
						rng := rand.New(rand.NewPCG(uint64(n), uint64(worker)))
						for range n / 16 {
							id := rng.Uint64()
							path := [...]string{
								"/video/:/transcode/universal/decision?path=%%2Flibrary%%2Fmetadata%%2F1&session=s%[1]x&X-Plex-Session-Identifier=x%[1]x&X-Plex-Client-Identifier=c%[1]x&X-Plex-Token=wrong",
								"/video/:/transcode/universal/start.m3u8?path=%%2Flibrary%%2Fmetadata%%2F1&session=s%[1]x&X-Plex-Client-Identifier=c%[1]x&X-Plex-Token=wrong",
								"/video/:/transcode/universal/session/s%[1]x/base/00000.ts",
								"/:/timeline?state=playing&X-Plex-Session-Identifier=x%[1]x&X-Plex-Client-Identifier=c%[1]x&X-Plex-Token=wrong",
								"/library/parts/%[1]d/1/file.mkv?X-Plex-Client-Identifier=c%[1]x",
								"/library/sections?X-Plex-Client-Identifier=c%[1]x",
							}[rng.IntN(6)]
							res, err := client.Get(b.URL + fmt.Sprintf(path, id))
							if err != nil {
								t.Error(err)
								return
							}
							if res.StatusCode < 400 {
								admitted.Add(1)
							}
							res.Body.Close()
						}
					})
				}
				wg.Wait()
				for _, s := range servers {
					s.ResetLog()
				}
			}
			flood(2_000) // whatever is allocated once
			before := heap()
			flood(20_000)
			after := heap()
			if n := admitted.Load(); n > 0 {
				t.Fatalf("%d requests were let in: the test tests nothing", n)
			}
			if playbacks, clients := b.ledger().Len(); playbacks != 0 || clients != 0 {
				t.Errorf("%d playbacks and %d clients are remembered", playbacks, clients)
			}
			for _, s := range b.ledger().View(time.Now()) {
				if s.Load != 0 || s.Reserved != 0 {
					t.Errorf("%s has load %v, %d reserved", s.Name, s.Load, s.Reserved)
				}
			}
			if grown := int64(after) - int64(before); grown > 4<<20 {
				t.Errorf("memory grew by %d KiB", grown>>10)
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A limit is the operator's; PMS has its own, which need not be known here.
func TestLimits(t *testing.T) {
	t.Run("a full server gets no more while another has room", func(t *testing.T) {
		servers := stand(t, 2, nil)
		b := load(t, "{\nGLOBAL\nplexlb {\ntoken "+token+"\n"+replicated+"\nserver plex1 "+servers[0].Addr()+
			" {\nweight 10\nmax_transcodes 2\n}\nserver plex2 "+servers[1].Addr()+"\n}\n}\nHERE {\nplexlb\n}\n")
		for i := range 5 {
			v := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, uint64(i))
			if err := v.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if a, b := len(servers[0].Jobs()), len(servers[1].Jobs()); a != 2 || b != 3 {
			t.Errorf("got %d and %d transcodes, want 2 and 3", a, b)
		}
	})
	t.Run("reject says when to come back", func(t *testing.T) {
		servers := stand(t, 1, nil)
		b := load(t, "{\nGLOBAL\nplexlb {\ntoken "+token+"\n"+replicated+"\noverflow reject\nserver plex1 "+servers[0].Addr()+
			" {\nmax_transcodes 1\n}\n}\n}\nHERE {\nplexlb {\nlb_try_duration 200ms\n}\n}\n")
		v := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, 1)
		if err := v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		status, header, _ := b.get("/video/:/transcode/universal/decision?path=%2Flibrary%2Fmetadata%2F1&session=other&X-Plex-Client-Identifier=other&X-Plex-Token=" + token)
		if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
			t.Errorf("got %d, Retry-After %q; want 503 with one", status, header.Get("Retry-After"))
		}
	})
	t.Run("a decision that one server refuses for want of room is made by another", func(t *testing.T) {
		servers := stand(t, 2, nil)
		b := load(t, site(servers, replicated, 100, 1))
		servers[0].SetTranscodeLimit(1)
		for i := range 3 {
			v := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, uint64(i))
			if err := v.Start(t.Context()); err != nil {
				t.Fatalf("viewer %d: %v", i, err)
			}
			if got := v.Servers(); i > 0 && got[len(got)-1] != "plex2" {
				t.Errorf("viewer %d ended on %v, want plex2", i, got)
			}
		}
		if a, b := len(servers[0].Jobs()), len(servers[1].Jobs()); a != 1 || b != 2 {
			t.Errorf("got %d and %d transcodes, want 1 and 2", a, b)
		}
	})
}

// A config that is loaded while people watch, or that fails to load, is no
// event to them.
func TestReloadInMidPlay(t *testing.T) {
	servers := stand(t, 3, nil)
	config := site(servers, replicated, 4, 2, 1)
	b := load(t, config)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	viewers := make([]*plextest.Viewer, 12)
	for i := range viewers {
		kinds := plextest.Kinds()
		kind := kinds[i%len(kinds)]
		viewers[i] = plextest.NewViewer(kind, b.URL, token, kind.Item(), uint64(i))
		wg.Go(func() {
			if err := viewers[i].Play(ctx, 6*time.Second); err != nil {
				t.Errorf("viewer %d (%s): %v", i, kind, err)
			}
		})
	}
	time.Sleep(1500 * time.Millisecond)
	before := b.ledger()
	if err := b.reload(site(servers, replicated, 1, 1, 1)); err != nil {
		t.Fatal(err)
	}
	if b.ledger() != before {
		t.Error("the ledger did not live through the reload")
	}
	if got := b.server("plex1").Weight; got != 1 {
		t.Errorf("weight is %v after the reload, want 1", got)
	}
	time.Sleep(time.Second)
	for name, bad := range map[string]string{
		"refused when read":       "{\nGLOBAL\nplexlb {\nserver plex1 " + servers[0].Addr() + " {\nweight 0\n}\n}\n}\nHERE {\nplexlb\n}\n",
		"refused when set up":     site(servers, replicated, 9, 9, 9) + "http://127.0.0.1:1 {\ntls /no/such.crt /no/such.key\n}\n",
		"fails when it starts up": site(servers, replicated, 9, 9, 9) + "http://" + servers[0].Addr() + " {\nrespond ok\n}\n",
	} {
		if err := b.reload(bad); err == nil {
			t.Errorf("%s: was loaded", name)
		}
		if got := b.server("plex1").Weight; got != 1 {
			t.Errorf("%s: weight is %v, want the running config's 1", name, got)
		}
	}
	wg.Wait()
	for i, v := range viewers {
		if got := v.Servers(); len(got) != 1 {
			t.Errorf("viewer %d was on %v", i, got)
		}
	}
}
