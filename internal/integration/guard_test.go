package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// Who is never let in, or only to what is open to all, takes nobody's place.
func TestJunkTakesNobodysPlace(t *testing.T) {
	servers := stand(t, 2, nil)
	b := load(t, "{\nGLOBAL\nplexlb {\ntoken "+token+"\nserver plex1 "+servers[0].Addr()+" {\nmax_transcodes 4\n}\nserver plex2 "+servers[1].Addr()+" {\nmax_transcodes 4\n}\noverflow reject\n}\n}\nHERE {\nplexlb\n}\n")
	for _, s := range servers {
		s.SetDelay(200 * time.Millisecond)
	}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/video/:/transcode/universal/start.mpd?path=x&session=j%d&X-Plex-Client-Identifier=j%d&X-Plex-Token=wrong", b.URL, i, i), nil)
			if res, err := http.DefaultClient.Do(r); err == nil {
				res.Body.Close()
			}
		})
	}
	wg.Wait()
	for _, s := range servers {
		s.SetDelay(0)
	}
	for i := range 500 {
		for _, path := range []string{"/identity", "/web/index.html", "/web"} {
			b.get(fmt.Sprintf("%s?X-Plex-Client-Identifier=%d", path, i))
		}
		if i%10 == 0 {
			do(t, http.MethodOptions, fmt.Sprintf("%s/library/sections?X-Plex-Client-Identifier=%d", b.URL, i))
		}
	}
	eventually(t, "nothing is left of it", 3*time.Second, func() bool {
		playbacks, clients := b.ledger().Len()
		load := 0.0
		for _, s := range b.ledger().View(time.Now()) {
			load += s.Load
		}
		return playbacks == 0 && clients == 0 && load == 0
	})
}

// fragile is an address that leads to a server and breaks one connection.
func fragile(t *testing.T, to string) (addr string, breakOn func(path string)) {
	t.Helper()
	var on atomic.Value
	on.Store("")
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := on.Load().(string); p != "" && strings.Contains(r.URL.Path, p) {
			on.Store("")
			conn, _, _ := http.NewResponseController(w).Hijack()
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
			return
		}
		r2, _ := http.NewRequestWithContext(r.Context(), r.Method, "http://"+to+r.URL.RequestURI(), r.Body)
		r2.Header = r.Header
		res, err := http.DefaultTransport.RoundTrip(r2)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		for k, v := range res.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(res.StatusCode)
		io.Copy(w, res.Body)
	}))
	t.Cleanup(proxy.Close)
	return proxy.Listener.Addr().String(), func(path string) { on.Store(path) }
}

// A connection that breaks once is no reason to move anybody, nor to let them
// wait for long.
func TestOneBrokenConnection(t *testing.T) {
	for mode, more := range map[string]string{"separate": "", "replicated": "mode replicated plex1"} {
		t.Run(mode, func(t *testing.T) {
			servers := stand(t, 2, nil)
			a1, break1 := fragile(t, servers[0].Addr())
			a2, break2 := fragile(t, servers[1].Addr())
			b := load(t, "{\nGLOBAL\nplexlb {\ntoken "+token+"\n"+more+"\nserver plex1 "+a1+"\nserver plex2 "+a2+"\n}\n}\nHERE {\nplexlb {\nmax_fails 9\ntransport http {\nkeepalive off\n}\n}\n}\n")
			v := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, 1)
			ask := func(path string) string {
				t.Helper()
				break1(path)
				break2(path)
				began := time.Now()
				status, header, _ := b.get(map[string]string{
					"/library/sections": "/library/sections?",
					"/decision":         "/video/:/transcode/universal/decision?path=%2Flibrary%2Fmetadata%2F1&session=one&X-Plex-Session-Identifier=one&",
					"/0/0.m4s":          "/video/:/transcode/universal/session/" + v.TSID + "/0/0.m4s?",
				}[path] + "X-Plex-Client-Identifier=" + v.CID + "&X-Plex-Token=" + token)
				if took := time.Since(began); status != http.StatusOK || took > 2*time.Second {
					t.Errorf("%s: status %d after %v", path, status, took)
				}
				return header.Get("X-Plextest-Server")
			}
			if err := v.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			home := v.Servers()[0]
			if got := ask("/0/0.m4s"); got != home {
				t.Errorf("a segment went to %s, its playback is on %s", got, home)
			}
			if mode == "replicated" {
				return
			}
			for _, path := range []string{"/library/sections", "/decision"} {
				if got := ask(path); got != home {
					t.Errorf("%s went to %s, the device's library is on %s", path, got, home)
				}
			}
		})
	}
}

// A config that fails must not have changed anything before it did.
func TestFailedChangeOfModeMovesNobody(t *testing.T) {
	servers := stand(t, 3, nil)
	b := load(t, site(servers, ""))
	home := func(i int) string {
		_, header, _ := b.get(fmt.Sprintf("/library/sections?X-Plex-Client-Identifier=dev%d&X-Plex-Token=%s", i, token))
		return header.Get("X-Plextest-Server")
	}
	var homes []string
	for i := range 9 {
		homes = append(homes, home(i))
	}
	for range 6 { // apps start in any order
		if err := b.reload(site(servers, replicated) + "http://" + servers[0].Addr() + " {\nrespond ok\n}\n"); err == nil {
			t.Fatal("a config on an occupied port was loaded")
		}
	}
	for i, want := range homes {
		if got := home(i); got != want {
			t.Errorf("device %d was at %s and is at %s", i, want, got)
		}
	}
}

// A playback that is found again by its segments is forgotten like any other.
func TestAdoptedPlaybacksAreForgotten(t *testing.T) {
	servers := stand(t, 2, nil)
	b := load(t, site(servers, replicated+"\nidle 1s"))
	v := plextest.NewViewer(plextest.PlexWeb, servers[1].URL(), token, plextest.HEVC, 1)
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is reported", 5*time.Second, func() bool { return b.server("plex2").Jobs[cluster.GPU] == 1 })
	for range 3 {
		status, header, _ := b.get("/video/:/transcode/universal/session/" + v.TSID + "/0/0.m4s")
		if at := header.Get("X-Plextest-Server"); status != http.StatusOK || at != "plex2" {
			t.Fatalf("segment: %d from %s", status, at)
		}
	}
	if n, _ := b.ledger().Len(); n != 1 {
		t.Errorf("%d playbacks are known, want the adopted one", n)
	}
	if err := v.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is forgotten", 8*time.Second, func() bool { n, _ := b.ledger().Len(); return n == 0 })
}

// A start that fails is tried once on another server, not again on the same.
func TestFailedStartGoesElsewhere(t *testing.T) {
	servers := stand(t, 3, nil)
	b := load(t, site(servers, replicated))
	v := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, 1)
	if err := v.Decide(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := v.Servers()[0]
	for i, s := range servers {
		if fmt.Sprintf("plex%d", i+1) == at {
			s.FailStarts(http.StatusServiceUnavailable)
		}
		s.ResetLog()
	}
	if err := v.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, s := range servers {
		for _, e := range s.Log() {
			if strings.Contains(e.Path, "/start.") {
				asked++
			}
		}
	}
	if got := v.Servers(); asked != 2 || got[len(got)-1] == at {
		t.Errorf("%d servers were asked to start, in the end %v", asked, got)
	}
	if err := v.Segment(t.Context(), 0); err != nil {
		t.Error(err)
	}
}

// What writes is sent once, whatever comes of it.
func TestWritesAreSentOnce(t *testing.T) {
	var asked atomic.Int32
	pms := func() string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/identity" {
				io.WriteString(w, `<MediaContainer machineIdentifier="x"/>`)
				return
			}
			asked.Add(1)
			if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
				t.Errorf("%s has got a body", r.URL.Path)
			}
			if r.URL.Query().Has("broken") {
				// On a connection that was used before, Go repeats any GET.
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	b := load(t, "{\nGLOBAL\nplexlb {\nmode replicated plex1\nserver plex1 "+pms()+"\nserver plex2 "+pms()+"\n}\n}\nHERE {\nplexlb\n}\n")
	for _, what := range []string{"POST /video/:/transcode/universal/decision?path=x&session=s", "GET /:/scrobble?key=1", "PUT /library/parts/1?audioStreamID=2", "GET /:/timeline?state=stopped",
		"GET /:/scrobble?key=1&broken=1", "GET /:/scrobble?key=1", "GET /:/timeline?state=stopped&broken=1"} {
		method, path, _ := strings.Cut(what, " ")
		asked.Store(0)
		do(t, method, b.URL+path)
		if n := asked.Load(); n != 1 {
			t.Errorf("%s was sent %d times", what, n)
		}
	}
	// What tells a state may be told twice.
	asked.Store(0)
	do(t, "GET", b.URL+"/:/timeline?state=playing")
	do(t, "GET", b.URL+"/:/timeline?state=playing&broken=1")
	if n := asked.Load(); n != 3 {
		t.Errorf("of two timelines %d were sent, one of them on a connection that broke: want it sent on another", n)
	}
}

// A paused player stops reading for as long as its viewer likes.
func TestPausedDownloadIsNotCut(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 2<<20) // 32 MiB, more than sockets hold
	pms := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/identity" {
			io.WriteString(w, `<MediaContainer machineIdentifier="x"/>`)
			return
		}
		_, _ = w.Write(big)
	}))
	t.Cleanup(pms.Close)
	b := load(t, "{\nGLOBAL\nservers {\ntimeouts {\nwrite_idle 1s\n}\n}\nplexlb {\nserver plex1 "+pms.Listener.Addr().String()+"\n}\n}\nHERE {\nplexlb\n}\n")
	for _, path := range []string{"/library/parts/1/2/file.mkv", "/video/:/transcode/universal/session/abc/0/1.m4s", "/video/:/transcode/universal/start.mkv?path=x&session=y"} {
		res, err := http.Get(b.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2500 * time.Millisecond)
		n, err := io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if err != nil || n != int64(len(big)) {
			t.Errorf("%s: %d of %d bytes, %v", path, n, len(big), err)
		}
	}
}

// What a client has chosen is known to the server that decides in the end, also
// when the first one refused.
func TestChoicesFollowARefusedDecision(t *testing.T) {
	servers := stand(t, 3, nil)
	b := load(t, "{\nGLOBAL\nplexlb {\ntoken "+token+"\n"+replicated+"\nserver plex1 "+servers[0].Addr()+" {\nweight 0.001\n}\nserver plex2 "+servers[1].Addr()+" {\nweight 100\n}\nserver plex3 "+servers[2].Addr()+"\n}\n}\nHERE {\n"+labels+"\nplexlb\n}\n")
	full := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, 1)
	if err := full.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	servers[1].SetTranscodeLimit(1)
	v := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, 2)
	if err := v.ChooseStreams(t.Context(), "4242", "4343"); err != nil {
		t.Fatal(err)
	}
	if err := v.Decide(t.Context()); err != nil {
		t.Fatal(err)
	}
	order := ""
	for _, e := range servers[2].Log() {
		if e.CID == v.CID {
			order += e.Method + " "
		}
	}
	if !strings.HasSuffix(order, "PUT GET ") {
		t.Errorf("plex3 saw %q, want the choice before the last decision", order)
	}
	if err := v.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := v.Segment(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	for _, o := range v.Observed() {
		if o.What == "segment" && (o.Body.Audio != "4242" || o.Body.Server != "plex3") {
			t.Errorf("segment from %s with audio %s", o.Body.Server, o.Body.Audio)
		}
	}
}

// A server that hangs does not hold up those who want to play, by their choices.
func TestChoicesDoNotBlock(t *testing.T) {
	servers := stand(t, 2, nil)
	servers[0].AddBypass(9)
	b := load(t, site(servers, replicated))
	eventually(t, "plex1 is seen to be busy", 5*time.Second, func() bool { return b.server("plex1").Load >= 9 })
	v := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, 1)
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := v.ChooseStreams(t.Context(), "1", "2"); err != nil {
		t.Fatal(err)
	}
	servers[1].Hang(true)
	defer servers[1].Hang(false)
	time.Sleep(7 * time.Second) // until the active check has noticed
	began := time.Now()
	err := v.Decide(t.Context())
	if took := time.Since(began); err != nil || took > 3*time.Second {
		t.Errorf("the decision took %v: %v", took, err)
	}
}
