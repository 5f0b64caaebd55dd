package players

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// viewer watches the film in some player.
type viewer interface {
	name() string
	begin()         // a new period
	report() period // what has been seen in this one
	Picture(of string)
}

// event is something that happens while people watch.
type event struct {
	letter string // of the list that it is from
	happen func(h *house)
	moves  bool          // the film goes on from another server
	stall  time.Duration // as long as a viewer may see the picture stand still
	errors int           // as many as a player may meet that it gets over
}

// troubled is for players whose server is not well: they meet errors, and what
// counts is what they show.
const troubled = math.MaxInt

// What viewers bear: nothing that they would call a stall. The machine that
// tests run on may be busy.
const smooth = 2 * time.Second

// startup is how long the first picture may take.
const startup = 6 * time.Second

// missed is how much of the film may be left out at once: less than a segment.
const missed = 800 * time.Millisecond

func TestPlayersGoOn(t *testing.T) {
	for name, e := range map[string]event{
		"nothing happens": {letter: "a", stall: smooth, happen: func(*house) {}},
		"its server is killed": {letter: "b", moves: true, stall: smooth, errors: troubled, happen: func(h *house) {
			h.Plex[1].Close()
		}},
		"its server hangs": {letter: "c", moves: true, stall: smooth, errors: troubled, happen: func(h *house) {
			h.Plex[1].Hang(true)
		}},
		"its server is restarted": {letter: "d", stall: smooth, errors: troubled, happen: func(h *house) {
			h.Plex[1].Restart()
		}},
		"its server is drained": {letter: "e", moves: true, stall: smooth, errors: troubled, happen: func(h *house) {
			h.tell("/plexlb/servers/plex2/drain", "application/json", `{"move":true}`)
		}},
		// A connection may be closed as idle just as it is used again.
		"Caddy is reloaded": {letter: "f", stall: smooth, errors: 1, happen: func(h *house) {
			h.tell("/load", "text/caddyfile", h.config)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, usual, usual, usual)
			all := append(viewers(h.playInBrowser(t)), h.playNative(t))
			h.settle(t, all...)
			for _, v := range all {
				v.Picture("before")
				v.begin()
			}
			at := time.Now()
			e.happen(h)
			// Until what was fetched before has been seen, and some more.
			time.Sleep(buffer + 15*time.Second - time.Since(at))
			for _, v := range all {
				v.Picture("after")
				note(e.letter, name, v, v.report())
				check(t, v, e)
			}
			if e.letter == "d" {
				for _, j := range h.Plex[1].Jobs() {
					if j.Started.Before(at) {
						t.Errorf("%s was not begun again", j.TSID)
					}
				}
			}
		})
	}
}

// Who drags the slider while the film is being carried to another server sees
// the new place, and not the old one again.
func TestPlayersSeekDuringAResume(t *testing.T) {
	t.Parallel()
	h := newHouse(t, usual, usual, usual)
	tabs := h.playInBrowser(t)
	h.settle(t, viewers(tabs)...)
	for _, p := range tabs {
		p.begin()
	}
	slow := func(d time.Duration) {
		h.Plex[0].SetDelay(d)
		h.Plex[2].SetDelay(d)
	}
	// A decision and a start take a second each, and less than what would be
	// taken for a server that is down.
	slow(time.Second)
	h.Plex[1].Close()
	time.Sleep(1500 * time.Millisecond)
	const to = 120 // seconds
	for _, p := range tabs {
		p.do(fmt.Sprintf("seek(%d)", to))
	}
	for _, i := range []int{0, 2} {
		for _, j := range h.Plex[i].Jobs() {
			if j.Segments > 0 {
				t.Errorf("%s has been carried to plex%d already", j.TSID, i+1)
			}
		}
	}
	for _, p := range tabs {
		await(t, p, "the new place", 20*time.Second, func(r period) bool { return r.Frame >= to*frameRate })
	}
	slow(0)
	time.Sleep(15 * time.Second)
	for _, p := range tabs {
		r := p.report()
		note("g", "seeking during a resume", p, r)
		check(t, p, event{moves: true, stall: 8 * time.Second, errors: troubled})
		if r.Frame < (to+10)*frameRate {
			t.Errorf("%s has come to second %d only", p.name(), r.Frame/frameRate)
		}
	}
}

// Who comes back from a pause that was longer than the server has patience for
// sees the film go on.
func TestPlayersPauseForLong(t *testing.T) {
	t.Parallel()
	h := newHouse(t, usual, usual, usual)
	tabs := h.playInBrowser(t)
	h.settle(t, viewers(tabs)...)
	for _, p := range tabs {
		p.do("pause()")
	}
	for end := time.Now().Add(3 * reap); len(h.Plex[1].Jobs()) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the transcodes live on: %+v", h.Plex[1].Jobs())
		}
	}
	for _, p := range tabs {
		p.begin()
		p.do("go()")
	}
	time.Sleep(buffer + 8*time.Second)
	for _, p := range tabs {
		note("h", "pausing for long", p, p.report())
		check(t, p, event{stall: smooth, errors: troubled})
	}
	if n := len(h.Plex[1].Jobs()); n != len(tabs) {
		t.Errorf("%d transcodes were begun again, want %d", n, len(tabs))
	}
}

// starting is held by the test whose players begin: how long that takes is
// measured, and would be longer with ten others.
var starting sync.Mutex

// playInBrowser begins the film in both players of the browser.
func (h *house) playInBrowser(t *testing.T) (tabs []*tab) {
	t.Helper()
	for _, library := range []string{"hls.js", "dash.js"} {
		func() {
			starting.Lock()
			defer starting.Unlock()
			p := h.play(t, library)
			tabs = append(tabs, p)
			await(t, p, "the first picture", 30*time.Second, began)
		}()
	}
	return tabs
}

// began says that the first picture has been seen.
func began(r period) bool { return r.Startup > 0 }

func viewers(tabs []*tab) []viewer {
	list := make([]viewer, len(tabs))
	for i, p := range tabs {
		list[i] = p
	}
	return list
}

// settle waits until all viewers have seen the film begin at plex2, and have
// fetched ahead.
func (h *house) settle(t *testing.T, viewers ...viewer) {
	t.Helper()
	for _, v := range viewers {
		await(t, v, "the film", 30*time.Second, func(r period) bool { return r.Frame >= 4*frameRate })
		r := v.report()
		if r.Startup > float64(startup.Milliseconds()) {
			t.Errorf("%s: the first picture came after %.0f ms", v.name(), r.Startup)
		}
		if !slices.Equal(r.Servers, []int{2}) {
			t.Errorf("%s: the film begins at plex%v", v.name(), r.Servers)
		}
	}
}

// await waits for what a viewer should see.
func await(t *testing.T, v viewer, what string, within time.Duration, seen func(period) bool) {
	t.Helper()
	for end := time.Now().Add(within); !seen(v.report()); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			v.Picture("late")
			t.Fatalf("%s does not show %s: %+v", v.name(), what, v.report())
		}
	}
}

// check makes sure that a viewer has seen nothing but the film.
func check(t *testing.T, v viewer, e event) {
	t.Helper()
	r := v.report()
	if len(r.Fatal) > 0 {
		t.Errorf("%s has given up: %v", v.name(), r.Fatal)
	}
	if len(r.Errors) > e.errors {
		t.Errorf("%s met %d errors, want at most %d: %q", v.name(), len(r.Errors), e.errors, r.Errors)
	}
	if r.Longest > float64(e.stall.Milliseconds()) {
		t.Errorf("%s: the picture stood still for %.0f ms, want at most %v", v.name(), r.Longest, e.stall)
	}
	if len(r.Back) > 0 {
		t.Errorf("%s: the clock in the picture jumped back: %v", v.name(), r.Back)
	}
	if r.Missed > float64(missed.Milliseconds()) {
		t.Errorf("%s: %.0f ms of the film were left out", v.name(), r.Missed)
	}
	if r.Off > 0.25 {
		t.Errorf("%s: the picture is %.2f s off the player's clock", v.name(), r.Off)
	}
	if r.Unreadable*50 > r.Frames {
		t.Errorf("%s: %d of %d pictures are broken", v.name(), r.Unreadable, r.Frames)
	}
	switch {
	case e.moves && (r.Server == 2 || len(r.Servers) != 2):
		t.Errorf("%s: the film comes from plex%v, want another server than plex2 in the end", v.name(), r.Servers)
	case !e.moves && !slices.Equal(r.Servers, []int{2}):
		t.Errorf("%s: the film comes from plex%v, want plex2 only", v.name(), r.Servers)
	}
	if t.Failed() {
		t.Logf("%s: %+v", v.name(), r)
	}
}

// scene is what happened while a player played.
type scene struct{ letter, what, player string }

// measured is what viewers have seen, of each scene as often as the tests ran.
var measured struct {
	mu     sync.Mutex
	scenes map[scene][]period
}

// note adds what a viewer has seen to the table.
func note(letter, what string, v viewer, r period) {
	measured.mu.Lock()
	defer measured.mu.Unlock()
	if measured.scenes == nil {
		measured.scenes = make(map[scene][]period)
	}
	s := scene{letter, what, v.name()}
	measured.scenes[s] = append(measured.scenes[s], r)
}

// publish writes the table beside the Caddy that was measured.
func publish() error {
	if len(measured.scenes) == 0 {
		return nil
	}
	var text strings.Builder
	most := 0
	for _, runs := range measured.scenes {
		most = max(most, len(runs))
	}
	if most > 1 {
		fmt.Fprintf(&text, "Medians of %d runs, with the least and the most where they differ.\n\n", most)
	}
	text.WriteString("|   | while | player | first picture, ms | longest stand-still, ms | over 0.5 s | film left out, ms | jumps back | errors | server |\n" +
		"|---|---|---|--:|--:|--:|--:|--:|--:|---|\n")
	for _, s := range slices.SortedFunc(maps.Keys(measured.scenes), func(x, y scene) int {
		return cmp.Or(cmp.Compare(x.letter, y.letter), cmp.Compare(x.what, y.what), cmp.Compare(x.player, y.player))
	}) {
		runs := measured.scenes[s]
		var ways []string
		for _, r := range runs {
			names := make([]string, len(r.Servers))
			for i, n := range r.Servers {
				names[i] = fmt.Sprintf("plex%d", n)
			}
			ways = append(ways, strings.Join(names, " → "))
		}
		slices.Sort(ways)
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", s.letter, s.what, s.player,
			spread(runs, func(r period) float64 { return r.Startup }),
			spread(runs, func(r period) float64 { return r.Longest }),
			spread(runs, func(r period) float64 { return float64(r.Stalls) }),
			spread(runs, func(r period) float64 { return r.Missed }),
			spread(runs, func(r period) float64 { return float64(len(r.Back)) }),
			spread(runs, func(r period) float64 { return float64(len(r.Errors) + len(r.Fatal)) }),
			strings.Join(slices.Compact(ways), ", "))
	}
	fmt.Print(text.String())
	return os.WriteFile(filepath.Join(players, "measured.md"), []byte(text.String()), 0o666)
}

// spread is the median of the runs, with the least and the most if they differ.
func spread(runs []period, of func(period) float64) string {
	all := make([]float64, len(runs))
	for i, r := range runs {
		all[i] = of(r)
	}
	slices.Sort(all)
	median := fmt.Sprintf("%.0f", (all[(len(all)-1)/2]+all[len(all)/2])/2)
	least, most := fmt.Sprintf("%.0f", all[0]), fmt.Sprintf("%.0f", all[len(all)-1])
	if least == most {
		return median
	}
	return median + " (" + least + "–" + most + ")"
}
