package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// seen is what a viewer saw at some second, and how long it took. Of plex2 it
// is known that it died at second 10 and was back at second 30.
func seen(what string, at, took float64, server string, err error) plextest.Observation {
	what, asked, named := strings.Cut(what, " ")
	if !named && what == "segment" {
		asked = fmt.Sprintf("base/%v", at) // each another
	}
	o := plextest.Observation{What: what, Asked: asked, At: second(at), Duration: seconds(took), Server: server, Balancer: server, Err: err}
	if s := (*plextest.StatusError)(nil); errors.As(err, &s) {
		o.Status = s.Status
	}
	return o
}

func second(n float64) time.Time      { return noon.Add(seconds(n)) }
func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

func TestTally(t *testing.T) {
	refused := func(what string, status int) error { return &plextest.StatusError{What: what, Status: status} }
	reset := &url.Error{Op: "Get", URL: "http://127.0.0.1", Err: io.EOF}
	wrong := fmt.Errorf("segment: %w", plextest.ErrWrong)
	inItsPlace := seen("timeline", 11, 0.1, "", nil)
	inItsPlace.Balancer = "plex2"
	canceled := &url.Error{Op: "Get", URL: "http://127.0.0.1", Err: context.Canceled}

	type counts struct {
		segments, lost, moved, left, strayed, cut, unheard, errors int

		longest, told time.Duration // told: the wait of the move
	}
	for name, tc := range map[string]struct {
		stream   bool
		saw      []plextest.Observation
		leavesAt float64
		gaveUp   error
		want     counts
	}{
		"a quiet evening": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex1", nil), seen("segment", 2, 0.5, "plex1", nil), seen("segment", 3, 0.1, "plex1", nil),
			},
			want: counts{segments: 2, longest: seconds(0.5)},
		},
		"carried to another server": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex2", nil), seen("segment", 9, 0.1, "plex2", nil), seen("segment", 11, 1.5, "plex1", nil),
				seen("timeline", 13, 0.1, "plex1", nil),
			},
			want: counts{segments: 2, moved: 1, longest: seconds(1.5), told: seconds(1.5)},
		},
		"carried while it waited": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex2", nil), seen("segment", 9.5, 2, "plex3", nil),
			},
			want: counts{segments: 1, moved: 1, longest: seconds(2), told: seconds(2)},
		},
		"timelines move first": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex2", nil), seen("timeline", 11, 0.1, "plex1", nil), seen("segment", 12, 0.3, "plex1", nil),
			},
			want: counts{segments: 1, moved: 1, longest: seconds(0.3), told: seconds(0.3)},
		},
		"moved without need": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex1", nil), seen("segment", 11, 0.1, "plex3", nil),
			},
			want: counts{segments: 1, strayed: 1, longest: seconds(0.1)},
		},
		"jumped back": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex2", nil), seen("segment", 11, 0.1, "plex1", nil), seen("segment", 31, 0.1, "plex2", nil),
			},
			want: counts{segments: 2, moved: 1, strayed: 1, longest: seconds(0.1), told: seconds(0.1)},
		},
		"moved away from a server that is back": {
			saw: []plextest.Observation{
				seen("start", 31, 0.1, "plex2", nil), seen("segment", 32, 0.1, "plex1", nil),
			},
			want: counts{segments: 1, strayed: 1, longest: seconds(0.1)},
		},
		"went on there when it was back": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex2", nil), seen("segment", 11, 20, "plex2", nil), seen("segment", 32, 0.1, "plex2", nil),
			},
			want: counts{segments: 2, moved: 1, longest: seconds(20), told: seconds(20)},
		},
		"moved before it died": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex2", nil), seen("segment", 5, 0.1, "plex1", nil),
			},
			want: counts{segments: 1, strayed: 1, longest: seconds(0.1)},
		},
		"not found is lost, however often": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex2", nil), seen("segment base/9", 11, 0.1, "plex1", refused("segment", 404)),
				seen("segment base/9", 12, 0.1, "plex1", refused("segment", 404)), seen("segment base/9", 14, 0.5, "plex1", nil),
				seen("segment base/10", 15, 0.1, "plex1", refused("segment", 503)), seen("segment base/10", 16, 0.1, "plex1", nil),
			},
			want: counts{segments: 2, lost: 2, moved: 1, longest: seconds(3.5), told: seconds(3.5)},
		},
		"the wrong segment is lost": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex1", nil), seen("segment", 11, 0.1, "plex1", wrong),
			},
			want: counts{lost: 1, longest: seconds(0.1)},
		},
		"a header is lost as a segment is": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex1", nil), seen("header base/-1", 11, 0.1, "plex1", refused("header", 502)),
			},
			gaveUp: refused("header", 502), leavesAt: 11.1,
			want: counts{lost: 1, longest: seconds(0.1)},
		},
		"broke off with its server, and came at the next try": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex2", nil), seen("segment base/9", 9.9, 0.1, "", reset), seen("segment base/9", 10.5, 0.5, "plex1", nil),
				seen("segment", 12, 0.3, "plex1", nil),
			},
			want: counts{segments: 2, moved: 1, cut: 1, longest: seconds(1.1), told: seconds(1.1)},
		},
		"broke off for no reason": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex1", nil), seen("segment base/9", 9.9, 0.1, "", reset), seen("segment base/9", 11, 0.1, "plex1", nil),
			},
			want: counts{segments: 1, errors: 1, longest: seconds(1.2)},
		},
		"broke off until the viewer gave up": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex2", nil), seen("segment base/9", 11, 0.1, "", reset), seen("segment base/9", 12, 0.1, "", reset),
			},
			gaveUp: reset, leavesAt: 12.1,
			want: counts{lost: 1, cut: 2, longest: seconds(1.1)},
		},
		"left before it wanted more": {
			saw:  []plextest.Observation{seen("start", 1, 0.1, "plex2", nil), seen("segment", 9, 0.1, "plex2", nil)},
			want: counts{segments: 1, left: 1, longest: seconds(0.1)}, leavesAt: 12,
		},
		"left in good time while it waited": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex2", nil), seen("segment", 11, 2, "", canceled),
			},
			leavesAt: 13,
			want:     counts{left: 1, longest: seconds(2)},
		},
		"left in the middle of an answer": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex1", nil), seen("segment", 11, 2, "plex1", fmt.Errorf("segment: %w", context.Canceled)),
			},
			leavesAt: 13,
			want:     counts{longest: seconds(2)},
		},
		"waited to the end in vain": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex2", nil), seen("segment", 11, 20, "", canceled),
			},
			leavesAt: 31,
			want:     counts{lost: 1, longest: seconds(20)},
		},
		"one of two representations fails": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex2", nil), seen("header 1/-1", 1.1, 0.1, "plex2", nil), seen("header 0/-1", 1.1, 0.1, "plex2", nil),
				seen("segment 1/9", 11, 0.1, "", reset), seen("segment 0/9", 11, 0.2, "plex1", nil),
				seen("segment 0/9", 12, 0.1, "plex1", nil), seen("segment 1/9", 12, 0.5, "plex1", nil),
				seen("segment 1/10", 13, 0.1, "plex1", nil), seen("segment 0/10", 13, 0.2, "plex1", nil),
			},
			want: counts{segments: 5, moved: 1, cut: 1, longest: seconds(1.5), told: seconds(0.2)},
		},
		"each of two representations fails once": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex1", nil),
				seen("segment 1/9", 11, 0.1, "plex1", refused("segment", 404)), seen("segment 0/9", 11, 0.2, "plex1", nil),
				seen("segment 1/9", 12, 0.1, "plex1", nil), seen("segment 0/9", 12, 0.5, "plex1", refused("segment", 404)),
				seen("segment 1/9", 13, 0.1, "plex1", nil), seen("segment 0/9", 13, 0.2, "plex1", nil),
			},
			want: counts{segments: 4, lost: 2, longest: seconds(1.2)},
		},
		"a stream comes at its own pace and is begun anew": {
			stream: true,
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex2", nil), seen("segment stream/8", 2, 5, "plex2", nil), seen("segment stream/9", 8, 2, "plex2", io.ErrUnexpectedEOF),
				seen("start", 10.5, 0.3, "plex1", nil), seen("segment stream/9", 11, 0.1, "plex1", nil), seen("segment stream/10", 12, 1, "plex1", nil),
			},
			want: counts{segments: 3, moved: 1, longest: seconds(1.1), told: seconds(0.8)},
		},
		"a stream of which there was more on its way when its server died": {
			stream: true,
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex2", nil), seen("segment stream/1", 9, 0.5, "plex2", nil), seen("segment stream/2", 10.5, 0.1, "plex2", nil),
				seen("timeline", 11, 0.1, "", refused("timeline", 502)), seen("segment stream/3", 11.5, 0.1, "plex2", io.ErrUnexpectedEOF),
				seen("start", 12, 0.3, "plex1", nil), seen("segment stream/3", 12.5, 0.1, "plex1", nil),
			},
			want: counts{segments: 3, moved: 1, unheard: 1, longest: seconds(1), told: seconds(0.7)},
		},
		"a stream that just ends is begun anew too": {
			stream: true,
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex2", nil), seen("segment stream/9", 8, 2, "plex2", io.EOF),
				seen("start", 10.5, 0.5, "plex1", nil), seen("segment stream/9", 11, 0.5, "plex1", nil),
			},
			want: counts{segments: 1, moved: 1, longest: seconds(1.5), told: seconds(1)},
		},
		"a timeline its dead server does not take": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex2", nil), seen("timeline", 11, 0.1, "", refused("timeline", 502)), seen("segment", 12, 0.1, "plex1", nil),
			},
			want: counts{segments: 1, moved: 1, unheard: 1, longest: seconds(0.1), told: seconds(0.1)},
		},
		"a timeline its dead server does not take, and a viewer who minds": {
			saw: []plextest.Observation{
				seen("start", 9, 0.1, "plex2", nil), seen("timeline", 11, 0.1, "", refused("timeline", 502)),
			},
			gaveUp: refused("timeline", 502), leavesAt: 12,
			want: counts{unheard: 1, left: 1},
		},
		"a last timeline that the balancer answers in place of its dead server": {
			saw:      []plextest.Observation{seen("start", 1, 0.1, "plex2", nil), inItsPlace},
			leavesAt: 11.1,
			want:     counts{left: 1},
		},
		"a timeline that the balancer answers in place of a server that lives": {
			saw:  []plextest.Observation{seen("start", 1, 0.1, "plex1", nil), inItsPlace},
			want: counts{errors: 1},
		},
		"a timeline refused by a server that lives": {
			saw: []plextest.Observation{
				seen("start", 1, 0.1, "plex1", nil), seen("timeline", 11, 0.1, "", refused("timeline", 502)),
			},
			want: counts{errors: 1},
		},
		"a start refused": {
			saw:    []plextest.Observation{seen("decision", 11, 0.1, "", refused("decision", 502))},
			gaveUp: refused("decision", 502), leavesAt: 11.1,
			want: counts{errors: 1},
		},
		"a playlist without segments": {
			saw:    []plextest.Observation{seen("start", 11, 0.1, "plex1", nil)},
			gaveUp: errors.New("playlist: no segments"), leavesAt: 11.1,
			want: counts{errors: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			out := &outage{server: "plex2", at: second(10), closed: second(10.01), back: second(30), moved: make(map[string]int)}
			tally := &tally{begin: noon, outages: []*outage{out}}
			g := &guest{client: "Plezy", title: "Low Tide", stream: tc.stream}
			dead := false
			die := func() {
				if dead = true; g.server == out.server {
					g.hit, out.had = out, 1
				}
			}
			for _, o := range tc.saw {
				if !dead && !ended(o).Before(out.at) {
					die()
				}
				tally.note(g, o)
			}
			if !dead {
				die()
			}
			if tc.leavesAt > 0 {
				tally.leave(g, second(tc.leavesAt), tc.gaveUp)
			}
			if want := name == "jumped back"; (out.jumped == 1) != want {
				t.Errorf("%d jumped back", out.jumped)
			}
			got := counts{tally.segments, tally.lost, out.movedAway(), out.left, tally.strayed, tally.cut, tally.unheard, tally.errors, tally.longest, 0}
			for _, p := range tally.fresh {
				got.told = p.wait
			}
			if restarted := out.streams > 0; restarted != (tc.stream && tc.want.moved > 0) {
				t.Errorf("begun anew by the player: %v", restarted)
			}
			if got != tc.want {
				t.Errorf("counted %+v\n   want %+v", got, tc.want)
			}
			if bad := tc.want.lost + tc.want.strayed + tc.want.errors; len(tally.problems) != bad {
				t.Errorf("problems %q, want %d", tally.problems, bad)
			}
			if len(tally.fresh) != out.movedAway() {
				t.Errorf("told of %d moves: %v", len(tally.fresh), tally.fresh)
			}
		})
	}
}

// A real viewer gets the sound of segment 2 at the third try only.
func TestTallyReadsARealViewer(t *testing.T) {
	pms := plextest.New(plextest.Config{Name: "plex1", Token: token})
	if err := pms.Start(); err != nil {
		t.Fatal(err)
	}
	defer pms.Close()
	target, _ := url.Parse(pms.URL())
	proxy := httputil.NewSingleHostReverseProxy(target)
	var tries atomic.Int32
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Plexlb-Server", "plex1")
		if strings.HasSuffix(r.URL.Path, "/1/2.m4s") && tries.Add(1) <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()

	v := plextest.NewViewer(plextest.PlexWeb, front.URL, token, plextest.HEVC, 1)
	defer v.Close()
	begin := time.Now()
	if err := v.Play(t.Context(), 500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	all := time.Since(begin)
	tally, g := &tally{begin: begin}, &guest{}
	tally.read(v, g)
	if tally.lost != 1 || len(tally.problems) != 1 || len(g.missing) > 0 {
		t.Errorf("lost %d, want 1, and to have got over it: %v", tally.lost, tally.problems)
	}
	if pauses := 300 * time.Millisecond; tally.longest < pauses || tally.longest > all {
		t.Errorf("longest wait is %v, want one of three tries, %v to %v", tally.longest, pauses, all)
	}
}

func TestOutageInWords(t *testing.T) {
	o := outage{had: 9, moved: map[string]int{"plex3": 2, "plex1": 5}, left: 1}
	if got, want := o.String(), "with 9 playbacks: 1 to move, 5 on plex1, 2 on plex3, 1 left"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	o = outage{had: 1}
	if got, want := o.String(), "with 1 playback: 1 to move"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
}
