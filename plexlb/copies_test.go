package plexlb

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// primary is a server that hears copies, and answers when it is let.
type primary struct {
	*Server
	answer chan struct{} // closed for at once

	mu        sync.Mutex
	said      []string // client, item, state and time of what it heard
	now, most int      // how many were under way at once
}

func newPrimary(name string) *primary {
	p := &primary{answer: make(chan struct{})}
	p.Server = &Server{Name: name, url: "http://" + name, dial: name + ":80", client: &http.Client{Transport: p}}
	return p
}

func (p *primary) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	p.said = append(p.said, fmt.Sprint(r.FormValue("X-Plex-Client-Identifier"), " ", r.FormValue("ratingKey"), r.FormValue("key"), " ", r.FormValue("state"), " ", r.FormValue("time")))
	p.now++
	p.most = max(p.most, p.now)
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.now--
		p.mu.Unlock()
	}()
	select {
	case <-p.answer:
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func (p *primary) heard() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.said)
}

func copiesFor(p *primary) *copies {
	c := newCopies()
	c.keep(p.dial)
	return c
}

// timeline is one of item 1, unless more says otherwise.
func timeline(client, state string, at int, more ...string) *http.Request {
	query := fmt.Sprintf("/:/timeline?state=%s&time=%d&X-Plex-Client-Identifier=%s&X-Plex-Token=t&%s", state, at, client, strings.Join(more, "&"))
	if more == nil {
		query += "ratingKey=1"
	}
	return httptest.NewRequest(http.MethodGet, query, nil)
}

func (c *copies) tell(to *primary, r *http.Request) (room bool) {
	q := plex.Identify(r)
	return c.add(&q, r, nil, to.Server, zap.NewNop())
}

func (c *copies) waits() (tellers, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.by), c.size
}

// While the primary is busy with the first timeline, others come.
func TestCopiesThatWait(t *testing.T) {
	for name, tc := range map[string]struct {
		come, want []string // client, state, time and more
	}{
		"the newest": {[]string{"a playing 1", "a playing 2", "a playing 3"}, []string{"a 1 playing 1", "a 1 playing 3"}},
		"in the order of a client": {[]string{"a playing 1", "a playing 2", "a playing 3 ratingKey=2", "a paused 4", "a playing 5 ratingKey=3"},
			[]string{"a 1 playing 1", "a 2 playing 3", "a 1 paused 4", "a 3 playing 5"}},
		"also in the next session": {[]string{"a playing 1 ratingKey=1&X-Plex-Session-Identifier=x", "a stopped 2 ratingKey=1&X-Plex-Session-Identifier=x", "a playing 3 ratingKey=1&X-Plex-Session-Identifier=y"},
			[]string{"a 1 playing 1", "a 1 stopped 2", "a 1 playing 3"}},
		"an end stays": {[]string{"a playing 1", "a stopped 2", "a playing 3", "a playing 4"}, []string{"a 1 playing 1", "a 1 stopped 2", "a 1 playing 4"}},
		"a newer end":  {[]string{"a playing 1", "a stopped 2", "a stopped 3"}, []string{"a 1 playing 1", "a 1 stopped 3"}},
		"items by key": {[]string{"a playing 1 key=i", "a playing 2 key=i", "a playing 3 key=j"}, []string{"a i playing 1", "a i playing 2", "a j playing 3"}},
		"without ids but the playback's": {[]string{" playing 1 ratingKey=1&X-Plex-Playback-Session-Id=x", " paused 2 ratingKey=1&X-Plex-Playback-Session-Id=x", " playing 3 ratingKey=1&X-Plex-Playback-Session-Id=y"},
			[]string{" 1 playing 1", " 1 paused 2", " 1 playing 3"}},
		"without ids": {[]string{" playing 1", " paused 2", " elsewhere 3"}, []string{" 1 playing 1", " 1 paused 2", " 1 elsewhere 3"}},
		"dropped":     {[]string{"a playing 1", "a playing 2", "a stopped 3 ratingKey=2", "a drop 4"}, []string{"a 1 playing 1", "a 2 stopped 3"}},
		"no more than some, but ends": {[]string{"a playing 1", "a stopped 2 ratingKey=2", "a playing 3 ratingKey=3", "a playing 4 ratingKey=4", "a playing 5 ratingKey=5", "a playing 6 ratingKey=6",
			"a playing 7 ratingKey=7", "a playing 8 ratingKey=8", "a playing 9 ratingKey=9", "a full 10 ratingKey=10"},
			[]string{"a 1 playing 1", "a 2 stopped 2", "a 4 playing 4", "a 5 playing 5", "a 6 playing 6", "a 7 playing 7", "a 8 playing 8", "a 9 playing 9", "a 10 full 10"}},
		"no more than some ends": {[]string{"a playing 1", "a stopped 2 ratingKey=2", "a stopped 3 ratingKey=3", "a stopped 4 ratingKey=4", "a stopped 5 ratingKey=5", "a stopped 6 ratingKey=6",
			"a stopped 7 ratingKey=7", "a stopped 8 ratingKey=8", "a stopped 9 ratingKey=9", "a full 10 ratingKey=10"},
			[]string{"a 1 playing 1", "a 2 stopped 2", "a 3 stopped 3", "a 4 stopped 4", "a 5 stopped 5", "a 6 stopped 6", "a 7 stopped 7", "a 8 stopped 8", "a 9 stopped 9"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPrimary("plex1")
				c := copiesFor(p)
				for _, s := range tc.come {
					client, rest, _ := strings.Cut(s, " ")
					var state, more string
					var at int
					_, _ = fmt.Sscan(rest, &state, &at, &more)
					r := timeline(client, state, at)
					if more != "" {
						r = timeline(client, state, at, more)
					}
					switch state {
					case "drop":
						q := plex.Identify(r)
						c.drop(&q, r, nil)
						continue
					case "elsewhere":
						r.RemoteAddr = "203.0.113.7:1"
					}
					if room := c.tell(p, r); room == (state == "full") {
						t.Errorf("%s: room %v", s, room)
					}
					synctest.Wait()
				}
				close(p.answer)
				time.Sleep(10 * copyInterval)
				if got := p.heard(); !slices.Equal(got, tc.want) {
					t.Errorf("the primary heard %q, want %q", got, tc.want)
				}
				if tellers, size := c.waits(); tellers != 0 || size != 0 {
					t.Errorf("%d tellers and %d bytes are left", tellers, size)
				}
			})
		})
	}
}

// What is not new but in its time waits for an interval; anything else for none.
func TestCopiesThatHurry(t *testing.T) {
	for name, tc := range map[string]struct {
		come  []*http.Request
		takes time.Duration
	}{
		"the same but later": {[]*http.Request{timeline("a", "playing", 1), timeline("a", "playing", 2)}, copyInterval},
		"paused":             {[]*http.Request{timeline("a", "playing", 1), timeline("a", "paused", 2)}, 0},
		"stopped":            {[]*http.Request{timeline("a", "playing", 1), timeline("a", "stopped", 2)}, 0},
		"plays on":           {[]*http.Request{timeline("a", "paused", 1), timeline("a", "playing", 2)}, 0},
		"another client":     {[]*http.Request{timeline("a", "playing", 1), timeline("b", "playing", 2)}, 0},
		"another session":    {[]*http.Request{timeline("a", "playing", 1, "X-Plex-Session-Identifier=x"), timeline("a", "playing", 2, "X-Plex-Session-Identifier=y")}, 0},
		"other items":        {[]*http.Request{timeline("a", "playing", 1, "ratingKey=1"), timeline("a", "playing", 2, "ratingKey=2"), timeline("a", "playing", 3, "ratingKey=3")}, 0},
		"all three":          {[]*http.Request{timeline("a", "playing", 1), timeline("a", "paused", 2), timeline("a", "paused", 3)}, copyInterval},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPrimary("plex1")
				c := copiesFor(p)
				close(p.answer)
				began := time.Now()
				for i, r := range tc.come {
					c.tell(p, r)
					if i == 0 || tc.takes > 0 {
						synctest.Wait()
					}
				}
				for len(p.heard()) < len(tc.come) && time.Since(began) < time.Minute {
					time.Sleep(time.Millisecond)
					synctest.Wait()
				}
				if d := time.Since(began).Truncate(copyInterval / 2); d != tc.takes {
					t.Errorf("all was copied after %v, want %v", d, tc.takes)
				}
				time.Sleep(2 * copyInterval)
			})
		})
	}

	t.Run("not for what has been told", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPrimary("plex1")
			c := copiesFor(p)
			for i := range copyLanes {
				c.tell(p, timeline(fmt.Sprint("other", i), "playing", 1))
			}
			synctest.Wait()
			c.tell(p, timeline("a", "playing", 1))
			c.tell(p, timeline("a", "paused", 2)) // waits for a lane
			close(p.answer)
			synctest.Wait()
			c.tell(p, timeline("a", "paused", 3))
			time.Sleep(copyInterval / 2)
			if got := p.heard(); len(got) != copyLanes+1 || got[copyLanes] != "a 1 paused 2" {
				t.Errorf("at once the primary heard %q, want four and what was newest of the fifth", got)
			}
			time.Sleep(copyInterval)
			if got := p.heard(); len(got) != copyLanes+2 {
				t.Errorf("later the primary heard %q", got)
			}
			time.Sleep(2 * copyInterval)
		})
	})
}

// A primary that hangs keeps some of Caddy busy and no more.
func TestCopiesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := newPrimary("plex1")
		c := copiesFor(hangs)
		for i := range 2 * copyLanes {
			c.tell(hangs, timeline(fmt.Sprint("client", i), "playing", 1))
		}
		synctest.Wait()
		full := false
		for i := 0; i < maxPendingSize/512 && !full; i++ {
			full = !c.tell(hangs, timeline(fmt.Sprint("other", i), "playing", 1, "ratingKey=1&"+strings.Repeat("x", 10_000)))
		}
		if _, size := c.waits(); !full || size > maxPendingSize || size < maxPendingSize*9/10 {
			t.Errorf("%d bytes wait, full: %v", size, full)
		}

		// The operator names another. Requests of before may end after.
		p := newPrimary("plex2")
		close(p.answer)
		c.keep(p.dial)
		if c.tell(hangs, timeline("client1", "stopped", 2)) {
			t.Error("the former primary is told still")
		}
		time.Sleep(copyTimeout) // until what is under way is given up
		synctest.Wait()
		if !c.tell(p, timeline("client1", "playing", 3)) {
			t.Error("what was for the former primary takes the room")
		}
		time.Sleep(2 * copyInterval)
		if got := p.heard(); !slices.Equal(got, []string{"client1 1 playing 3"}) {
			t.Errorf("the new primary heard %q", got)
		}
		if hangs.most != copyLanes || len(hangs.heard()) != copyLanes {
			t.Errorf("the former primary heard %q, %d at once", hangs.heard(), hangs.most)
		}
	})
}

func TestCopyIsTheRequestOfTheClient(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/:/timeline?time=1", nil)
	r.RemoteAddr = "203.0.113.7:1"
	r.Header = http.Header{"Connection": {"close"}, "Expect": {"100-continue"}, "X-Plex-Token": {"t"}, "X-Forwarded-For": {"198.51.100.9"}}
	var got *http.Request
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
	defer s.Close()
	one := copyOf(r, nil)
	if !one.send(t.Context(), &Server{url: s.URL, client: &http.Client{Transport: readingTransport()}}, false) {
		t.Fatal("not accepted")
	}
	if want := (http.Header{"X-Plex-Token": {"t"}, "X-Forwarded-For": {"203.0.113.7"}}); got.RequestURI != "/:/timeline?time=1" || !maps.EqualFunc(got.Header, want, slices.Equal) {
		t.Errorf("%s with %v, want %v", got.RequestURI, got.Header, want)
	}
	if len(r.Header) != 4 {
		t.Errorf("the client's request has become %v", r.Header)
	}
}

// A server that dies with a request may have heard it.
func TestCopyOfAnEndIsSentOnce(t *testing.T) {
	var mu sync.Mutex
	var heard, from []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		heard, from = append(heard, r.FormValue("state")), append(from, r.RemoteAddr)
		if len(heard) == 2 {
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.Close()
		}
	}))
	defer s.Close()
	p := &primary{Server: &Server{url: s.URL, dial: "plex1:80", client: &http.Client{Transport: readingTransport()}}}
	c := copiesFor(p)
	for _, state := range []string{"playing", "stopped"} {
		c.tell(p, timeline("a", state, 1))
		for tellers := 1; tellers > 0; tellers, _ = c.waits() {
			time.Sleep(10 * time.Millisecond)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"playing", "stopped"}; !slices.Equal(heard, want) || from[0] != from[1] {
		t.Errorf("the primary heard %q from %q, want %q over one connection", heard, from, want)
	}
}

func TestCopyStaysHere(t *testing.T) {
	var followed bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	defer elsewhere.Close()
	s := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	defer s.Close()
	one := copyOf(timeline("a", "playing", 1), nil)
	if accepted := one.send(t.Context(), &Server{url: s.URL, client: &http.Client{Transport: readingTransport()}}, false); accepted || followed {
		t.Errorf("accepted: %v; followed, with the token: %v", accepted, followed)
	}
}
