//go:build unix

package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// What a reader who looked for harm in resuming and moving has found.

// meddler answers a request in a server's place, or leaves it to the server.
type meddler func(server string, w http.ResponseWriter, r *http.Request) (done bool)

// meddled are stand-ins in front of which a test can meddle.
type meddled struct {
	servers []*plextest.Server
	addrs   []string
	meddle  atomic.Pointer[meddler]
}

func meddle(t *testing.T, n int) *meddled {
	t.Helper()
	m := &meddled{servers: stand(t, n, nil)}
	for i, s := range m.servers {
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if do := m.meddle.Load(); do == nil || !(*do)(fmt.Sprintf("plex%d", i+1), w, r) {
				s.ServeHTTP(w, r)
			}
		}))
		t.Cleanup(front.Close)
		m.addrs = append(m.addrs, front.Listener.Addr().String())
	}
	return m
}

func (m *meddled) by(f meddler) { m.meddle.Store(&f) }

// site is a Caddyfile with a directive and further options.
func (m *meddled) site(more, directive string) string {
	var b strings.Builder
	b.WriteString("{\nGLOBAL\nplexlb {\n\tpoll_interval 300ms\n\tpoll_timeout 1s\n" + replicated + "\n" + more + "\n")
	for i, addr := range m.addrs {
		fmt.Fprintf(&b, "\tserver plex%d %s\n", i+1, addr)
	}
	b.WriteString("}\n}\nHERE {\n" + labels + directive + "\n}\n")
	return b.String()
}

const withToken = "\ttoken " + token

// watching makes a viewer who has had the first segment, and returns the server
// that sent it.
func watching(t *testing.T, base string, seed uint64) (v *plextest.Viewer, home string) {
	t.Helper()
	v = plextest.NewViewer(plextest.Mobile, base, token, plextest.HEVC, seed)
	t.Cleanup(v.Close)
	if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
		t.Fatal(err)
	}
	return v, v.Account().Servers()[0]
}

func segment(id string, n int) string {
	return fmt.Sprintf("/video/:/transcode/universal/session/%s/base/%05d.ts", id, n)
}

// asking is the query of a decision or start of one device.
func asking(device, id string, item int, more string) string {
	return fmt.Sprintf("?path=%%2Flibrary%%2Fmetadata%%2F%d&protocol=hls&session=%s&X-Plex-Client-Identifier=%s&X-Plex-Token=%s%s", item, id, device, token, more)
}

// begin sends decision and start.
func begin(t *testing.T, base, query string) {
	t.Helper()
	for _, what := range []string{"decision", "start.m3u8"} {
		if status, _, _ := do(t, http.MethodGet, base+"/video/:/transcode/universal/"+what+query); status != http.StatusOK {
			t.Fatalf("%s: status %d", what, status)
		}
	}
}

// running lists the transcodes on any of the servers.
func running(servers []*plextest.Server) (ids []string) {
	for _, s := range servers {
		for _, j := range s.Jobs() {
			ids = append(ids, j.TSID)
		}
	}
	return ids
}

// An answer that breaks off while a playback is resumed makes the proxy panic;
// nobody else shall notice.
func TestResumeWhoseAnswerBreaksOff(t *testing.T) {
	m := meddle(t, 2)
	b := load(t, m.site(withToken, "plexlb"))
	type one struct {
		v          *plextest.Viewer
		what, home string
		all        bool // servers break off, not only its own
	}
	of := make(map[string]one)
	for i, what := range []string{"decision", "start", "decision", "start"} {
		v, home := watching(t, b.URL, uint64(i))
		of[v.TSID] = one{v, what, home, i > 1}
	}
	m.by(func(server string, w http.ResponseWriter, r *http.Request) bool {
		o := of[r.URL.Query().Get("session")]
		if o.v == nil || !strings.Contains(r.URL.Path, "/universal/"+o.what) || server != o.home && !o.all {
			return false
		}
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "#EXTM3U\n")
		_ = http.NewResponseController(w).Flush()
		time.Sleep(50 * time.Millisecond)
		panic(http.ErrAbortHandler)
	})
	for _, s := range m.servers {
		s.Forget()
	}
	var wg sync.WaitGroup
	for id, o := range of {
		wg.Go(func() {
			status, header, _ := b.get(segment(id, 1))
			at := header.Get("X-Plextest-Server")
			switch {
			case !o.all && (status != http.StatusOK || at == o.home):
				t.Errorf("%s breaks off at %s: segment has status %d from %q", o.what, o.home, status, at)
			case o.all && (status != http.StatusServiceUnavailable || header.Get("Retry-After") == ""):
				t.Errorf("%s breaks off everywhere: segment has status %d, Retry-After %q", o.what, status, header.Get("Retry-After"))
			}
		})
	}
	wg.Wait()
}

// A playback is moved only to where its site leads.
func TestDrainKeepsToTheSite(t *testing.T) {
	servers := stand(t, 3, nil)
	only, two := freeAddr(t), freeAddr(t)
	b := load(t, site(servers, replicated)+"http://"+only+" {\n"+labels+"\tplexlb plex2\n}\nhttp://"+two+" {\n"+labels+"\tplexlb plex2 plex3\n}\n")
	b.get("/identity") // the site with all of them is known
	if err := b.app().Drain("plex3", false, 0); err != nil {
		t.Fatal(err)
	}
	a := invite(t, b.URL, 2, plextest.Mobile)
	a.viewers[0].Base, a.viewers[1].Base = "http://"+only, "http://"+two
	a.play(7 * time.Second)
	before := a.at()
	if !slices.Equal(before, []string{"plex2", "plex2"}) {
		t.Fatalf("they are on %v", before)
	}
	if err := errors.Join(b.app().Undrain("plex3"), b.app().Drain("plex2", true, 0)); err != nil {
		t.Fatal(err)
	}
	a.unharmed(2 * time.Second)
	if now := a.at(); !slices.Equal(now, []string{"plex2", "plex3"}) {
		t.Errorf("they went from %v to %v", before, now)
	}
	if n := len(servers[0].Jobs()); n > 0 || b.ledger().Totals().Moved != 1 {
		t.Errorf("%d transcodes on plex1, %+v", n, b.ledger().Totals())
	}
	for i, v := range a.viewers {
		if n := startsOf(servers, v.TSID); n != 1+i {
			t.Errorf("%s was started %d times", a.who(i), n)
		}
	}
}

// What the operator has ended stays ended.
func TestOperatorEndsPlayback(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, b *balancer, home *plextest.Server, v *plextest.Viewer) int{
		"at its server": func(t *testing.T, b *balancer, home *plextest.Server, v *plextest.Viewer) int {
			status, _, _ := do(t, http.MethodGet, home.URL()+"/status/sessions/terminate?reason=Bedtime&sessionId="+home.Playbacks()[0].XSI, "X-Plex-Token", token)
			if err := v.Timeline(t.Context(), "playing"); err != nil { // by which the player learns of it
				t.Error(err)
			}
			return status
		},
		"through the balancer": func(t *testing.T, b *balancer, home *plextest.Server, v *plextest.Viewer) int {
			status, _, _ := b.get("/status/sessions/terminate?reason=Bedtime&sessionId="+home.Playbacks()[0].XSI, "X-Plex-Token", token)
			return status
		},
		"its transcode": func(t *testing.T, b *balancer, home *plextest.Server, v *plextest.Viewer) int {
			status, _, _ := do(t, http.MethodDelete, b.URL+"/transcode/sessions/"+v.TSID, "X-Plex-Token", token)
			return status
		},
	} {
		t.Run(name, func(t *testing.T) {
			servers := stand(t, 3, nil)
			b := load(t, site(servers, replicated))
			b.get("/library/sections", "X-Plex-Token", token, "X-Plex-Client-Identifier", "operator")
			v, home := watching(t, b.URL, 1)
			if status := end(t, b, called(servers, home), v); status >= 300 {
				t.Fatalf("ending it has status %d", status)
			}
			for n := 1; n < 4; n++ {
				if status, _, _ := b.get(segment(v.TSID, n)); status != http.StatusNotFound {
					t.Errorf("segment %d after the end has status %d", n, status)
				}
			}
			if ids, n := running(servers), startsOf(servers, v.TSID); len(ids) > 0 || n != 1 {
				t.Errorf("%v runs after %d starts", ids, n)
			}
		})
	}
}

// A device plays one thing on a server; what it played before is not brought
// back by a late request, which would end the present one [P §4.4].
func TestLateSegmentOfAFormerPlayback(t *testing.T) {
	for name, tc := range map[string]struct {
		item int
		site bool // another one
		more string
	}{
		"at another site":        {2, true, "&X-Plex-Session-Identifier=xsi2"},
		"before another quality": {1, false, "&X-Plex-Session-Identifier=xsi1&maxVideoBitrate=2000"},
	} {
		t.Run(name, func(t *testing.T) {
			servers := stand(t, 2, nil)
			second := freeAddr(t)
			b := load(t, site(servers, replicated)+"http://"+second+" {\n"+labels+"\tplexlb plex1\n}\n")
			if err := b.app().Drain("plex2", false, 0); err != nil { // both are on plex1
				t.Fatal(err)
			}
			base := b.URL
			begin(t, base, asking("dev1", "former", 1, "&X-Plex-Session-Identifier=xsi1"))
			if status, _, _ := do(t, http.MethodGet, base+segment("former", 0)); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			if tc.site {
				base = "http://" + second
			}
			begin(t, base, asking("dev1", "present", tc.item, tc.more))
			for n := 1; n < 5; n++ {
				if status, _, body := do(t, http.MethodGet, base+segment("present", n)); status != http.StatusOK || !strings.Contains(body, "session=present") {
					t.Errorf("segment %d of the present playback has status %d", n, status)
				}
				if status, _, _ := b.get(segment("former", n)); status != http.StatusNotFound {
					t.Errorf("segment %d of the former playback has status %d", n, status)
				}
			}
			if ids := running(servers); !slices.Equal(ids, []string{"present"}) {
				t.Errorf("%v runs", ids)
			}
			for _, id := range []string{"former", "present"} {
				if n := startsOf(servers, id); n != 1 {
					t.Errorf("%s was started %d times", id, n)
				}
			}
		})
	}
}

// Starts come to nothing: there is an end to them.
func TestEncoderThatDies(t *testing.T) {
	m := meddle(t, 2)
	b := load(t, m.site(withToken, "plexlb"))
	v, _ := watching(t, b.URL, 1)
	time.Sleep(time.Second)
	var starts atomic.Int32
	m.by(func(_ string, w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/universal/start") {
			starts.Add(1)
		}
		dead := strings.Contains(r.URL.Path, "/session/") || strings.Contains(r.URL.Path, "/transcode/sessions/")
		if dead {
			w.WriteHeader(http.StatusNotFound)
		}
		return dead
	})
	last := 0
	for i := range 20 {
		last, _, _ = b.get(segment(v.TSID, 1+i/5))
	}
	if n := starts.Load(); n == 0 || n > 5 || last != http.StatusNotFound {
		t.Errorf("%d starts for 20 requests, the last of which has status %d", n, last)
	}
}

// Who cannot be asked is not made to start again for each segment that is not.
func TestNoSuchSegmentWithoutToken(t *testing.T) {
	m := meddle(t, 2)
	b := load(t, m.site("", "plexlb"))
	v, home := watching(t, b.URL, 1)
	time.Sleep(1200 * time.Millisecond)
	// At the pace at which each may cause a start; five starts come before the last.
	for i, most := range []int{2, 3, 4, 5, 5} {
		if i > 0 {
			time.Sleep(5100 * time.Millisecond)
		}
		for range 10 {
			if status, _, _ := b.get(segment(v.TSID, 99999)); status != http.StatusNotFound {
				t.Errorf("status %d", status)
			}
		}
		if n := startsOf(m.servers, v.TSID); n > most {
			t.Fatalf("%d starts after %d times ten requests, want %d at most", n, i+1, most)
		}
	}
	if status, header, _ := b.get(segment(v.TSID, 1)); status != http.StatusOK || header.Get("X-Plextest-Server") != home {
		t.Errorf("a segment that is there has status %d from %s, the playback was on %s", status, header.Get("X-Plextest-Server"), home)
	}
}

// A balancer that did not see the start waits for the one that did.
func TestTwoCaddiesAndAKilledServer(t *testing.T) {
	f := startFleet(t, 3, clones...)
	config := f.site(replicated)
	hosts := []string{"http://" + f.caddy(config).addr, "http://" + f.caddy(config).addr}
	v, home := watching(t, hosts[0], 1)
	for n := range 4 {
		if status, _, _ := do(t, http.MethodGet, hosts[n%2]+segment(v.TSID, n)); status != http.StatusOK {
			t.Fatalf("segment %d has status %d", n, status)
		}
	}
	f.named(home).kill()
	time.Sleep(100 * time.Millisecond)
	fetch := func(i, n int) (status int, at string) {
		status, header, _ := do(t, http.MethodGet, hosts[i]+segment(v.TSID, n))
		if status != http.StatusOK && (status != http.StatusServiceUnavailable || header.Get("Retry-After") == "") {
			t.Errorf("Caddy %d answers %d to segment %d, Retry-After %q", i+1, status, n, header.Get("Retry-After"))
		}
		return status, header.Get("X-Plextest-Server")
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { fetch(1, 4) }) // long before the other one knows
	time.Sleep(3 * time.Second)
	status, at := fetch(0, 5)
	if status != http.StatusOK || at == home {
		t.Fatalf("the Caddy that saw the start answers %d from %q", status, at)
	}
	wg.Wait()
	eventually(t, "the other one has found it", 5*time.Second, func() bool {
		status, there := fetch(1, 6)
		return status == http.StatusOK && there == at
	})
	for n := 7; n < 11; n++ {
		if status, there := fetch(n%2, n); status != http.StatusOK || there != at {
			t.Errorf("segment %d has status %d from %q, the playback is on %s", n, status, there, at)
		}
	}
	if n := f.starts()[v.TSID]; n != 1 {
		t.Errorf("it was resumed %d times", n)
	}
}

// The first requests come before the servers have been read.
func TestSegmentsWhileCaddyStarts(t *testing.T) {
	f := startFleet(t, 3, clones...)
	c := f.caddy(f.site(replicated))
	v, home := watching(t, "http://"+c.addr, 1)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 8 {
		c.kill()
		first := make(chan string, 1)
		go func() {
			for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
				if res, err := client.Get("http://" + c.addr + segment(v.TSID, 1)); err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
					first <- fmt.Sprint(res.StatusCode, " ", res.Header.Get("X-Plextest-Server"), " ", res.Header.Get("Retry-After"))
					return
				}
			}
			first <- "nothing"
		}()
		c.start()
		if got := <-first; got != "200 "+home+" " && got != "503  2" {
			t.Errorf("the first answer is %s", got)
		}
	}
	if n := f.starts()[v.TSID]; n != 1 {
		t.Errorf("it was started %d times", n)
	}
}

// A device that uses one id for ever gets what it asked for last, or nothing.
func TestConstantIdIsNotTheFormerFilm(t *testing.T) {
	// wrong tells of what was started for the device.
	wrong := func(servers []*plextest.Server) (all []string) {
		for _, s := range servers {
			for _, e := range s.Log() {
				if strings.Contains(e.Path, "/universal/start") {
					all = append(all, e.Query)
				}
			}
			s.ResetLog()
		}
		return all
	}
	// fetch waits as long as it takes to do the wrong thing.
	fetch := func(t *testing.T, url string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		r.Header.Set("X-Plex-Client-Identifier", "kodi")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return string(body), err
	}

	t.Run("a start too long to keep", func(t *testing.T) {
		servers := stand(t, 2, nil)
		b := load(t, site(servers, replicated))
		begin(t, b.URL, asking("kodi", "kodi", 1, ""))
		begin(t, b.URL, asking("kodi", "kodi", 2, "&X-Plex-Client-Profile-Extra="+strings.Repeat("x", 8200)))
		if _, _, body := b.get(segment("kodi", 0)); !strings.Contains(body, " item=2 ") {
			t.Fatalf("it plays %.200q", body)
		}
		for _, s := range servers {
			s.Forget()
		}
		wrong(servers)
		if body, err := fetch(t, b.URL+segment("kodi", 1)); strings.Contains(body, " item=1 ") {
			t.Errorf("it gets the former film; %v", err)
		}
		if all := wrong(servers); len(all) > 0 {
			t.Errorf("started %v", all)
		}
	})

	// What the first server still runs under the id is the former film.
	for _, refused := range []string{"decision", "start"} {
		t.Run("another server, as its own refused the "+refused, func(t *testing.T) {
			for what, loss := range map[string]func(*plextest.Server){"forgets": (*plextest.Server).Forget, "dies": (*plextest.Server).Close} {
				servers := stand(t, 3, nil)
				b := load(t, site(servers, replicated))
				former := plextest.NewViewer(plextest.PlexForKodi, b.URL, token, "1", 1)
				t.Cleanup(former.Close)
				if err := errors.Join(former.Start(t.Context()), former.Segment(t.Context(), 0)); err != nil {
					t.Fatal(err)
				}
				first := called(servers, former.Account().Servers()[0])
				v := former.Next("2")
				if refused == "start" {
					if err := v.Decide(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				first.FailStarts(http.StatusServiceUnavailable)
				start := v.Begin
				if refused == "decision" {
					start = v.Start
				}
				if err := errors.Join(start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
					t.Fatal(err)
				}
				first.FailStarts(0)
				second := called(servers, v.Account().Servers()[0])
				if second == first {
					t.Fatal("it did not move: the test tests nothing")
				}
				loss(second)
				if err := v.Segment(t.Context(), 1); err != nil {
					t.Errorf("its server %s: %v", what, err)
				}
				if err := caddy.Stop(); err != nil {
					t.Error(err)
				}
			}
		})
	}

	// Its viewer does not wait until the former film goes on. Of two starts under
	// way the one that a server deals with last would win.
	t.Run("what is resumed just then", func(t *testing.T) {
		servers := stand(t, 1, nil)
		b := load(t, site(servers, replicated))
		former := plextest.NewViewer(plextest.PlexForKodi, b.URL, token, "1", 1)
		t.Cleanup(former.Close)
		if err := errors.Join(former.Start(t.Context()), former.Segment(t.Context(), 0)); err != nil {
			t.Fatal(err)
		}
		servers[0].Forget()
		before := startsOf(servers, former.TSID)
		servers[0].SetDelay(700 * time.Millisecond)
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { _ = former.Segment(ctx, 1) })
		eventually(t, "the former film is started again", 20*time.Second, func() bool { return startsOf(servers, former.TSID) > before })
		leave()
		servers[0].SetDelay(0)
		v := former.Next("2")
		if err := v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // by now the server has dealt with both
		if err := v.Segment(t.Context(), 0); err != nil {
			t.Error(err)
		}
	})

	t.Run("another server, which hung when the former film ended", func(t *testing.T) {
		servers := stand(t, 3, nil)
		b := load(t, site(servers, replicated))
		former := plextest.NewViewer(plextest.PlexForKodi, b.URL, token, "1", 1)
		t.Cleanup(former.Close)
		if err := errors.Join(former.Start(t.Context()), former.Segment(t.Context(), 0)); err != nil {
			t.Fatal(err)
		}
		first := called(servers, former.Account().Servers()[0])
		first.Hang(true)
		_ = former.Stop(t.Context()) // which it does not hear of
		v := former.Next("2")
		if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
			t.Fatal(err)
		}
		second := called(servers, v.Account().Servers()[0])
		if second == first {
			t.Fatal("it did not move: the test tests nothing")
		}
		first.Hang(false)
		time.Sleep(3 * time.Second) // until it has been read again
		second.Forget()
		if err := v.Segment(t.Context(), 1); err != nil {
			t.Error(err)
		}
	})

	// moves has the device's film go on elsewhere, and returns the server that
	// still runs it and cannot be told yet to stop it.
	moves := func(t *testing.T) (servers []*plextest.Server, b *balancer, former *plextest.Viewer, first *plextest.Server) {
		t.Helper()
		servers = stand(t, 3, nil)
		b = load(t, site(servers, replicated))
		former = plextest.NewViewer(plextest.PlexForKodi, b.URL, token, "1", 1)
		t.Cleanup(former.Close)
		primary := serverName(servers[0], servers) // which is told of all that is stopped
		if err := errors.Join(b.app().Drain(primary, false, 0), former.Start(t.Context()), former.Segment(t.Context(), 0), b.app().Undrain(primary)); err != nil {
			t.Fatal(err)
		}
		first = called(servers, former.Account().Servers()[0])
		name := serverName(first, servers)
		eventually(t, "it is listed", 5*time.Second, func() bool { return b.server(name).Reserved == 0 })
		first.SetPoll(plextest.Poll503)
		eventually(t, "it cannot be read", 5*time.Second, func() bool { return b.server(name).Picture.Failure != "" })
		if err := b.app().Drain(name, true, 0); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it goes on elsewhere", 5*time.Second, func() bool { return b.ledger().Totals().Moved == 1 })
		if err := former.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(first.Jobs()) != 1 {
			t.Fatalf("%s does not run the former film any more: the test tests nothing", name)
		}
		return servers, b, former, first
	}

	t.Run("a drained server, which still runs the former film", func(t *testing.T) {
		servers, _, former, first := moves(t)
		v := former.Next("2")
		if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
			t.Fatal(err)
		}
		if got := called(servers, v.Account().Servers()[0]); got == first {
			t.Error("it begins where nothing is to begin")
		}
	})

	t.Run("the server that is just being told to stop the former film", func(t *testing.T) {
		servers, b, former, first := moves(t)
		for _, s := range servers {
			var err error
			if name := serverName(s, servers); s == first {
				err = b.app().Undrain(name)
			} else {
				err = b.app().Drain(name, false, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		first.ResetLog()
		first.SetPoll(plextest.PollGood)
		eventually(t, "it is read", 5*time.Second, func() bool { return b.server(serverName(first, servers)).Picture.Failure == "" })
		first.SetDelay(1500 * time.Millisecond)
		eventually(t, "it is told", 5*time.Second, func() bool {
			return slices.ContainsFunc(first.Log(), func(e plextest.Entry) bool { return strings.Contains(e.Path, "/universal/stop") })
		})
		first.SetDelay(0)
		v := former.Next("2")
		if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
			t.Fatal(err)
		}
		if got := called(servers, v.Account().Servers()[0]); got != first {
			t.Fatal("it begins elsewhere: the test tests nothing")
		}
		time.Sleep(2 * time.Second) // by now the server has dealt with both
		if err := v.Segment(t.Context(), 1); err != nil {
			t.Error(err)
		}
		if n := startsOf([]*plextest.Server{first}, v.TSID); n != 1 {
			t.Errorf("it was started %d times", n)
		}
	})

	t.Run("direct play after a transcode", func(t *testing.T) {
		servers := stand(t, 3, nil)
		b := load(t, site(servers, replicated))
		begin(t, b.URL, asking("kodi", "kodi", 1, "&directPlay=0"))
		if status, _, _ := b.get(segment("kodi", 0)); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		part := ""
		for item := 2; item < 14 && part == ""; item++ {
			_, _, body := b.get("/video/:/transcode/universal/decision" + asking("kodi", "kodi", item, "&directPlay=1&X-Plex-Platform=Chrome"))
			if strings.Contains(body, `generalDecisionCode="1000"`) {
				_, part, _ = strings.Cut(body, `"/library/parts/`)
				part, _, _ = strings.Cut(part, `"`)
			}
		}
		if part == "" {
			t.Fatal("there is nothing to play directly")
		}
		path := "/library/parts/" + part + "?X-Plex-Token=" + token
		status, header, _ := b.get(path, "X-Plex-Client-Identifier", "kodi")
		if status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		home := header.Get("X-Plextest-Server")
		called(servers, home).Close()
		wrong(servers)
		if body, err := fetch(t, b.URL+path); err != nil || body == "" {
			t.Errorf("the file is gone: %v", err)
		}
		if all := wrong(servers); len(all) > 0 {
			t.Errorf("started %v", all)
		}
	})
}

// A server that fails once is not lost.
func TestOneServerError(t *testing.T) {
	m := meddle(t, 2)
	b := load(t, m.site(withToken, "plexlb"))
	v, home := watching(t, b.URL, 1)
	time.Sleep(500 * time.Millisecond)
	var once atomic.Bool
	m.by(func(_ string, w http.ResponseWriter, r *http.Request) bool {
		fails := strings.Contains(r.URL.Path, "/session/") && once.CompareAndSwap(false, true)
		if fails {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "a moment")
		}
		return fails
	})
	if status, header, body := b.get(segment(v.TSID, 1)); status != http.StatusServiceUnavailable || body != "a moment" || header.Get("Retry-After") != "7" {
		t.Errorf("status %d, Retry-After %q, %q", status, header.Get("Retry-After"), body)
	}
	if status, header, _ := b.get(segment(v.TSID, 1)); status != http.StatusOK || header.Get("X-Plextest-Server") != home {
		t.Errorf("status %d from %s, it was on %s", status, header.Get("X-Plextest-Server"), home)
	}
	if n := startsOf(m.servers, v.TSID); n != 1 || b.ledger().Totals().Moved != 0 {
		t.Errorf("%d starts, %+v", n, b.ledger().Totals())
	}
}

// A segment on its way is cut only if nothing comes of it any more.
func TestSegmentsOnTheirWay(t *testing.T) {
	const size, piece = 500_000, 10_000
	m := meddle(t, 2)
	b := load(t, m.site(withToken, "plexlb {\nhealth_interval 300ms\nhealth_timeout 300ms\n}"))
	v, _ := watching(t, b.URL, 1)
	var sick atomic.Bool
	m.by(func(_ string, w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/identity" && sick.Load():
			w.WriteHeader(http.StatusInternalServerError)
			return true
		case !strings.Contains(r.URL.Path, "/session/"):
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(size))
		for n := 0; n < size; n += piece {
			_, _ = w.Write(make([]byte, piece))
			_ = http.NewResponseController(w).Flush()
			sick.Store(true)
			if strings.HasSuffix(r.URL.Path, "00002.ts") {
				<-r.Context().Done()
				return true
			}
			time.Sleep(100 * time.Millisecond)
		}
		return true
	})
	read := func(n int) (int64, time.Duration, error) {
		began := time.Now()
		res, err := http.Get(b.URL + segment(v.TSID, n))
		if err != nil {
			return 0, time.Since(began), err
		}
		defer res.Body.Close()
		got, err := io.Copy(io.Discard, res.Body)
		return got, time.Since(began), err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if n, took, err := read(1); err != nil || n != size {
			t.Errorf("the one that flows: %d bytes after %v, %v", n, took, err)
		}
	})
	wg.Go(func() {
		if n, took, err := read(2); err == nil || n != piece || took > 5*time.Second {
			t.Errorf("the one that is stuck: %d bytes after %v, %v", n, took, err)
		}
	})
	wg.Wait()
}

// Players that ask for what is not there do not make the servers work.
func TestAskingForWhatIsNot(t *testing.T) {
	servers := stand(t, 3, nil)
	b := load(t, site(servers, replicated))
	ended, _ := watching(t, b.URL, 1)
	if err := ended.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	live, _ := watching(t, b.URL, 2)
	time.Sleep(1200 * time.Millisecond)
	for what, path := range map[string]string{
		"an ended playback":       segment(ended.TSID, 1),
		"a segment after the end": segment(live.TSID, 99999),
		"nonsense":                "/video/:/transcode/universal/session/" + live.TSID + "/base/nonsense.ts",
	} {
		for _, s := range servers {
			s.ResetLog()
		}
		for range 500 {
			if status, _, _ := b.get(path); status != http.StatusNotFound {
				t.Fatalf("%s: status %d", what, status)
			}
		}
		asked, started := 0, 0
		for _, s := range servers {
			for _, e := range s.Log() {
				if strings.HasPrefix(e.Path, "/transcode/sessions/") {
					asked++
				}
				if strings.Contains(e.Path, "/universal/") && !strings.Contains(e.Path, "/session/") {
					started++
				}
			}
		}
		if asked > 20 || started > 0 {
			t.Errorf("%s: 500 requests caused %d questions and %d starts", what, asked, started)
		}
	}
	if err := live.Segment(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

// What an operator wants and cannot have is not in a viewer's way.
func TestMoveInTheWay(t *testing.T) {
	m := meddle(t, 3)
	b := load(t, m.site(withToken, "plexlb"))
	v, home := watching(t, b.URL, 1)
	time.Sleep(500 * time.Millisecond)
	to := map[string]string{"plex1": "plex2", "plex2": "plex3", "plex3": "plex1"}[home]
	m.by(func(server string, w http.ResponseWriter, r *http.Request) bool {
		fails := server == to && strings.Contains(r.URL.Path, "/universal/start")
		if fails {
			time.Sleep(500 * time.Millisecond)
			w.WriteHeader(http.StatusInternalServerError)
		}
		return fails
	})
	moved := make(chan error, 1)
	go func() { moved <- b.app().Move(t.Context(), v.TSID, to) }()
	time.Sleep(200 * time.Millisecond)
	called(m.servers, home).Forget()
	began := time.Now()
	status, header, _ := b.get(segment(v.TSID, 1))
	if took := time.Since(began); status != http.StatusOK || header.Get("X-Plextest-Server") != home || took > 3*time.Second {
		t.Errorf("status %d from %q after %v, it was on %s", status, header.Get("X-Plextest-Server"), took, home)
	}
	if err := <-moved; err == nil {
		t.Error("the move succeeded")
	}
}

// A player that fetches many segments side by side pays for one resumption, and
// one that loses its session again and again is healed four times in a minute.
func TestManySegmentsPayOnce(t *testing.T) {
	servers := stand(t, 2, nil)
	b := load(t, site(servers, replicated))
	v, _ := watching(t, b.URL, 100)
	for loss := range 4 {
		time.Sleep(1200 * time.Millisecond) // listed by then
		for _, s := range servers {
			s.Forget()
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if status, _, _ := b.get(segment(v.TSID, 1+i)); status != http.StatusOK {
					t.Errorf("loss %d, segment %d: status %d", loss, i, status)
				}
			})
		}
		wg.Wait()
		if n := startsOf(servers, v.TSID); n != 2+loss {
			t.Errorf("loss %d: %d starts in all, want %d", loss, n, 2+loss)
		}
	}
}
