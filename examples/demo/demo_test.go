package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/plexlb/caddy-plexlb"
	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// beCaddy in the environment makes this program the Caddy of the demo.
const beCaddy = "PLEXLB_DEMO_BE_CADDY"

func TestMain(m *testing.M) {
	if os.Getenv(beCaddy) != "" {
		caddycmd.Main()
		return
	}
	os.Exit(m.Run())
}

func self(t *testing.T) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(beCaddy, "1")
	t.Setenv("TMPDIR", t.TempDir())
	return program
}

func TestWholeDemo(t *testing.T) {
	var out bytes.Buffer
	o := options{caddy: self(t), length: 7 * time.Second, kill: true}
	if err := run(t.Context(), o, &plain{out: &out}); err != nil {
		t.Error(err)
	}
	got := out.String()
	t.Log(got)
	if strings.Contains(got, "\x1b") {
		t.Error("plain output has escape sequences")
	}
	for _, name := range []string{"plex1", "plex2", "plex3"} {
		if !strings.Contains(got, ") on "+name+": most room") {
			t.Errorf("nobody was placed on %s", name)
		}
	}
	for what, pattern := range map[string]string{
		"nobody changes server unasked":      `(?m)^moved without need +0$`,
		"nothing is lost":                    `(?m)^segments lost +0$`,
		"nothing fails":                      `(?m)^other errors +0$`,
		"strangers come":                     `(?m)^ 0:01  3 transcodes start on plex3 past the balancer$`,
		"a server is killed halfway":         `(?m)^ 0:03  plex2 is killed, with [1-9]\d* playbacks? on it$`,
		"its viewers watch on":               `(?m)^ 0:0[34]  .* goes on with .* on plex[13] \(plex2 died; waited `,
		"it is shown as down":                `(?m)^ 0:05  load / weight: plex1 .*, plex2 down, plex3 `,
		"the others have its playbacks":      `(?m)^ 0:05  load / weight: plex1 .* moved in\)`,
		"servers are told about":             `(?m)^ 0:05  load / weight: plex1 \d`,
		"the first come in the first second": `(?m)^ 0:00  .* plays `,
	} {
		if !regexp.MustCompile(pattern).MatchString(got) {
			t.Errorf("%s: nothing matches %s", what, pattern)
		}
	}
	m := regexp.MustCompile(`(?m)^playbacks moved +(\d+) of (\d+) on plex2 when it was killed(?:; (\d+) viewers? left first)?$`).FindStringSubmatch(got)
	if m == nil {
		t.Fatal("the summary does not say how many playbacks moved")
	}
	moved, _ := strconv.Atoi(m[1])
	had, _ := strconv.Atoi(m[2])
	left, _ := strconv.Atoi(m[3])
	if moved == 0 || moved+left != had {
		t.Errorf("%d of %d playbacks moved, and %d viewers left", moved, had, left)
	}
	if left, _ := os.ReadDir(os.TempDir()); len(left) > 0 {
		t.Errorf("left in the folder for temporary files: %v", left)
	}
}

func TestNobodyJumpsBackToAServerThatReturns(t *testing.T) {
	o := options{caddy: self(t), length: 4 * time.Second, kill: true, stay: true}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out := untilSaid{what: "jumped back", done: cancel} // as by Ctrl-C
	if err := run(ctx, o, &plain{out: &out}); err != nil {
		t.Error(err)
	}
	got := out.String()
	t.Log(got)
	for _, pattern := range []string{
		`(?m)^ 0:\d\d  plex2 is killed, with [1-9]`,
		`(?m)^ 0:\d\d  plex2 is back, with no playbacks$`,
		`(?m)^ 0:\d\d  since plex2 is back: nobody jumped back, \d+ new playbacks? began there$`,
		`(?m)^moved without need +0$`,
	} {
		if !regexp.MustCompile(pattern).MatchString(got) {
			t.Errorf("nothing matches %s", pattern)
		}
	}
}

// untilSaid keeps what is written, and calls done when the words come.
type untilSaid struct {
	bytes.Buffer
	what string
	done func()
}

func (u *untilSaid) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(u.what)) {
		u.done()
	}
	return u.Buffer.Write(p)
}

func TestNobodyIsKilledWithoutTheFlag(t *testing.T) {
	var out bytes.Buffer
	o := options{caddy: self(t), length: time.Second}
	if err := run(t.Context(), o, &plain{out: &out}); err != nil {
		t.Error(err)
	}
	if got := out.String(); strings.Contains(got, "killed") || strings.Contains(got, "playbacks moved") {
		t.Errorf("somebody speaks of it:\n%s", got)
	}
}

// A balancer that does not know Plex spreads the segments of one playback: a
// demo that finds nothing wrong with that proves nothing.
func TestDemoFailsIfSegmentsAreLost(t *testing.T) {
	o := options{caddy: self(t), length: time.Second, kill: true}
	defer func(was []byte) { caddyfile = was }(caddyfile)
	caddyfile = []byte(`{
	admin off
	persist_config off
	auto_https off
}
http://:{$PORT} {
	bind 127.0.0.1
	reverse_proxy {$PLEX1} {$PLEX2} {$PLEX3} {
		lb_policy uri_hash
	}
}
`)
	var out bytes.Buffer
	if err := run(t.Context(), o, &plain{out: &out}); err == nil {
		t.Error("no error")
	}
	if !regexp.MustCompile(`(?m)^segments lost +[1-9]`).MatchString(out.String()) {
		t.Errorf("no segment is lost:\n%s", out.String())
	}
}

func TestCaddyThatDoesNotStart(t *testing.T) {
	o := options{caddy: self(t), length: time.Second}
	defer func(was []byte) { caddyfile = was }(caddyfile)
	caddyfile = []byte("{\n\tno_such_option\n}\n")
	var out bytes.Buffer
	err := run(t.Context(), o, &plain{out: &out})
	if err == nil {
		t.Fatal("no error")
	}
	if !strings.Contains(err.Error(), "no_such_option") || !strings.Contains(err.Error(), "caddy.log") {
		t.Errorf("error does not show Caddy's last words: %v", err)
	}
}

// full is a frame with everything in it.
func full() frame {
	f := frame{
		elapsed: 31 * time.Second, length: time.Minute,
		tally: tally{
			begin: noon, viewers: 34, playbacks: 44, segments: 1487, longest: 1240 * time.Millisecond,
			starts: map[string]int{"plex1": 20, "plex2": 14, "plex3": 10},
			outages: []*outage{
				{server: "plex1", at: noon, closed: noon, back: noon.Add(time.Second), had: 1, moved: map[string]int{"plex2": 1}},
			},
		},
	}
	for i, c := range []count{{gpu: 16, copy: 4}, {gpu: 11, cpu: 1, copy: 2, direct: 2, past: 5}, {gpu: 3, copy: 1}} {
		r := row{name: fmt.Sprintf("plex%d", i+1), weight: float64(int(4) >> i)}
		r.look(c, false)
		f.servers = append(f.servers, r)
	}
	for i, k := range plextest.Kinds() {
		f.latest = append(f.latest, placement{
			at: time.Duration(i) * time.Second, client: clients[k], title: titleOf(k.Item()), work: "direct",
			server: "plex2", reason: because("least_load"), scores: []float64{4.1, 3.25, 12.34}, chosen: 1,
		})
	}
	f.latest = append(f.latest, placement{at: 30 * time.Second, note: "5 transcodes start on plex2 past the balancer"})
	return f
}

// noon is when the evenings of these tests begin.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// killed is full, after plex3 was killed.
func killed() frame {
	f := full()
	at := noon.Add(30 * time.Second)
	f.tally.outages = append(f.tally.outages, &outage{server: "plex3", at: at, closed: at, had: 14, left: 1,
		moved: map[string]int{"plex1": 10, "plex2": 2}})
	f.servers[2].look(count{}, true)
	f.latest = append(f.latest,
		placement{at: 30 * time.Second, note: "plex3 is killed, with 14 playbacks on it", alarm: true},
		placement{at: 31 * time.Second, client: "PlexKodiConnect", title: "Night Ferry", work: "moved", server: "plex1",
			from: "plex3", wait: 1240 * time.Millisecond, reason: "plex3 died"},
		placement{at: 31 * time.Second, client: "Plezy", title: "Low Tide", work: "GPU", server: "plex2",
			reason: because("least_load"), scores: []float64{4.1, 3.25, math.Inf(1)}, chosen: 1},
	)
	return f
}

func TestPictureFits(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {120, 40}, {200, 60}, {60, 20}, {30, 10}, {1, 1}} {
		width, height := size[0], size[1]
		var out bytes.Buffer
		p := &picture{out: &out, glyphs: blocks, size: func() (int, int) { return width, height }}
		f := killed()
		if err := p.tell(f.latest); err != nil {
			t.Fatal(err)
		}
		if err := p.draw(f); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(bare(out.String()), "\n")
		if len(lines) > height {
			t.Errorf("%dx%d: %d lines", width, height, len(lines))
		}
		for _, l := range lines {
			if n := len([]rune(l)); n >= max(width, 2) {
				t.Errorf("%dx%d: line of %d columns: %s", width, height, n, l)
			}
		}
	}
}

func TestPictureSaysEverythingAt80x24(t *testing.T) {
	var b strings.Builder
	for _, l := range full().lines(79, 23, letters) {
		b.WriteString(l.cut(79, false) + "\n")
	}
	got := b.String()
	t.Log("\n" + got)
	for _, want := range []string{
		"plexlb balances 34 viewers over 3 Plex servers", "0:31 of 1:00\n",
		"= 5 of plex2's transcodes came past the balancer",
		"6.65", "16.40", "PlexConnect", "Night Ferry", "plex2   4.10  3.25 12.34  most room\n",
		"moved in\n", "     2         1\n",
		"segments 1487   lost 0   longest wait 1.24s   errors 0\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("picture lacks %q", want)
		}
	}
	for _, r := range got {
		if r > 126 {
			t.Errorf("%q is not a letter every terminal has", r)
		}
	}
}

func TestPictureSaysWhichServerDiedAndWhereItsPlaybacksAre(t *testing.T) {
	var b strings.Builder
	for _, l := range killed().lines(79, 23, letters) {
		b.WriteString(l.cut(79, false) + "\n")
	}
	got := b.String()
	t.Log("\n" + got)
	for _, want := range []string{
		"over 3 Plex servers, plex3 is down ",
		"plex3        1  killed 0:30 with 14 playbacks: 1 to move, 10 on plex1, 2 on pl",
		"     0        10\n",
		" 0:30  plex3 is killed, with 14 playbacks on it\n",
		"moved  plex1  waited 1.24s       plex3 died\n",
		"plex2   4.10  3.25  down  most room\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("picture lacks %q", want)
		}
	}
}

func TestPictureIsRedrawnInPlaceAndTakenAway(t *testing.T) {
	var out bytes.Buffer
	width := 80
	p := &picture{out: &out, glyphs: letters, size: func() (int, int) { return width, 24 }}
	_ = p.draw(full())
	if !strings.HasPrefix(out.String(), "\x1b[?25l") {
		t.Error("the cursor is not hidden")
	}
	n := strings.Count(out.String(), "\n")
	out.Reset()
	_ = p.draw(full())
	if want := fmt.Sprintf("\x1b[%dA\r", n); !strings.HasPrefix(out.String(), want) {
		t.Errorf("second picture begins with %.12q, want %q", out.String(), want)
	}
	out.Reset()
	width = 100
	_ = p.draw(full())
	if !strings.HasPrefix(out.String(), "\x1b[2J") {
		t.Error("a new size does not clear the screen")
	}
	out.Reset()
	p.close()
	p.close()
	if want := fmt.Sprintf("\x1b[%dA\r\x1b[J\x1b[?25h", n); out.String() != want {
		t.Errorf("closing wrote %q, want %q", out.String(), want)
	}
}

func TestBar(t *testing.T) {
	for name, tc := range map[string]struct {
		own, past float64
		want      string
	}{
		"empty":                      {0, 0, ".........."},
		"half":                       {2.5, 0, "#####....."},
		"a little is not nothing":    {0.01, 0, "#........."},
		"strangers come on top":      {2, 1, "####==...."},
		"strangers alone":            {0, 5, "=========="},
		"no more than full":          {9, 0, "##########"},
		"no more than full together": {4, 9, "########=="},
	} {
		t.Run(name, func(t *testing.T) {
			if got := letters.bar(10, tc.own, tc.past, 5).cut(80, false); got != tc.want {
				t.Errorf("bar = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestLineIsCutWithoutItsColours(t *testing.T) {
	l := line{{normal, "ab"}, {green, "cdé"}, {red, "f"}}
	if got := l.cut(5, false); got != "abcdé" {
		t.Errorf("cut(5) = %q", got)
	}
	if got := l.cut(3, true); got != "ab\x1b[32mc\x1b[0m" {
		t.Errorf("cut(3) in colour = %q", got)
	}
}

func TestLoadOfACount(t *testing.T) {
	c := count{gpu: 3, cpu: 1, copy: 2, direct: 4}
	if got := c.load(); got < 5.3999 || got > 5.4001 {
		t.Errorf("load = %v, want 5.4", got)
	}
	if got, want := c.String(), "3 GPU + 1 CPU + 2 copy + 4 direct"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	if got := (count{}).String(); got != "idle" {
		t.Errorf("of nothing: %q", got)
	}
}

func TestNothingIsDueFromAServerThatIsDown(t *testing.T) {
	r := row{weight: 2}
	r.look(count{gpu: 3}, false)
	r.look(count{}, true)
	if r.sum != 3 || r.due != 2 || !r.down {
		t.Errorf("load %v of %v due", r.sum, r.due)
	}
}

func TestWitnessSpeaksOnlyOfWhatItSaw(t *testing.T) {
	before := []count{{gpu: 2}, {gpu: 1, copy: 1}}
	for name, tc := range map[string]struct {
		after []count
		want  bool
	}{
		"one more there":          {[]count{{gpu: 2}, {gpu: 2, copy: 1}}, true},
		"its file is yet to come": {before, true},
		"one more elsewhere":      {[]count{{gpu: 3}, {gpu: 1, copy: 1}}, false},
		"two more":                {[]count{{gpu: 2}, {gpu: 2, copy: 2}}, false},
		"one went, one came":      {[]count{{gpu: 2}, {gpu: 2}}, false},
		"one left elsewhere":      {[]count{{gpu: 1}, {gpu: 2, copy: 1}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := oneMore(before, tc.after, 1); got != tc.want {
				t.Errorf("oneMore() = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestAServerThatIsDownIsNoBetterPlace(t *testing.T) {
	w := &witness{}
	for _, name := range []string{"plex1", "plex2"} {
		w.servers = append(w.servers, &server{Server: plextest.New(plextest.Config{Name: name}), name: name, weight: 1})
	}
	w.servers[0].AddBypass(3)
	score := func() placement {
		p := placement{client: "Plezy", title: "Low Tide", work: "GPU", server: "plex1", reason: "most room"}
		p.scores = w.after(w.before(), "plex1", gpuCost)
		return p
	}
	if p := score(); !p.misplaced() {
		t.Error("not misplaced on the fuller of two")
	}
	w.servers[1].down.Store(true)
	p := score()
	if p.misplaced() {
		t.Error("misplaced on the only one that is up")
	}
	if got, want := p.sentence(), "Plezy plays Low Tide (GPU) on plex1: most room (4.00)"; got != want {
		t.Errorf("sentence() = %q, want %q", got, want)
	}
	w.disturb(time.Minute)
	w.disturb(0)
	if score().scores != nil {
		t.Error("the witness speaks although the balancer cannot know everything yet")
	}
}

func TestPlacementInWords(t *testing.T) {
	p := placement{client: "Plezy", title: "Low Tide", work: "GPU", server: "plex3", reason: because("least_load")}
	if got, want := p.sentence(), "Plezy plays Low Tide (GPU) on plex3: most room"; got != want {
		t.Errorf("sentence() = %q, want %q", got, want)
	}
	m := placement{client: "Plezy", title: "Low Tide", work: "moved", server: "plex3", from: "plex2", wait: 410 * time.Millisecond}
	if got, want := m.sentence(), "Plezy goes on with Low Tide on plex3 (plex2 died; waited 410ms)"; got != want {
		t.Errorf("sentence() = %q, want %q", got, want)
	}
	p.scores, p.chosen = []float64{3.5, 4, 3.1}, 2
	if got, want := p.sentence(), "Plezy plays Low Tide (GPU) on plex3: most room (3.10, not 3.50 or 4.00)"; got != want {
		t.Errorf("sentence() = %q, want %q", got, want)
	}
	if p.misplaced() {
		t.Error("misplaced on the best server")
	}
	p.chosen = 1
	if !p.misplaced() || !strings.HasSuffix(p.sentence(), ", misplaced") {
		t.Error("not misplaced on the worst server")
	}
	for _, reason := range []string{"least_load", "pinned", "live_playback", "client_server", "adopted", "server_lost", "resumed", "overflow", "", "some_new_word"} {
		if got := because(reason); got == "" || strings.Contains(got, "_") {
			t.Errorf("because(%q) = %q", reason, got)
		}
	}
}

func TestEveryClientHasANameAndSomethingToPlay(t *testing.T) {
	transcodes := 0
	const many = 1300
	for n := range many {
		for _, k := range plextest.Kinds() {
			if clients[k] == "" {
				t.Fatalf("%s has no name", k)
			}
			item := pick(k, n)
			if titleOf(item) == "" {
				t.Fatalf("%s plays nothing", k)
			}
			if slices.Index([]string{"1", "2", "3", "4", "5", "6", "7", "8"}, item) >= 0 {
				transcodes++
			}
		}
	}
	if 2*transcodes < many*len(plextest.Kinds()) {
		t.Errorf("%d of %d playbacks are transcodes: not most", transcodes, many*len(plextest.Kinds()))
	}
}

func TestFailuresOfRequests(t *testing.T) {
	for name, tc := range map[string]struct {
		seen plextest.Observation
		want bool
	}{
		"good":                   {plextest.Observation{What: "segment", Status: 200, Server: "plex1", Balancer: "plex1"}, false},
		"not found":              {plextest.Observation{What: "segment", Status: 404, Err: &plextest.StatusError{What: "segment", Status: 404}}, true},
		"stop comes too late":    {plextest.Observation{What: "stop", Status: 404, Err: &plextest.StatusError{What: "stop", Status: 404}}, false},
		"viewer left":            {plextest.Observation{What: "segment", Err: fmt.Errorf("segment: %w", context.Canceled)}, false},
		"label and truth differ": {plextest.Observation{What: "start", Status: 200, Server: "plex1", Balancer: "plex2"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := failure(tc.seen); (err != nil) != tc.want {
				t.Errorf("failure() = %v", err)
			}
		})
	}
}

func TestSummary(t *testing.T) {
	s := summary{killed()}
	s.tally.judged, s.tally.misplaced, s.tally.excess = 40, 1, 0.1
	var b strings.Builder
	for _, l := range s.lines() {
		if l.width() > 79 {
			t.Errorf("%d columns: %s", l.width(), l.cut(200, false))
		}
		b.WriteString(l.cut(79, false) + "\n")
	}
	got := b.String()
	t.Log("\n" + got)
	for _, want := range []string{
		"plexlb after 0:31: 44 playbacks, 1487 segments\n", "plex2*",
		"segments lost       0\n", "longest wait        1.24s for a segment; players hold 5s\n",
		"moved without need  0\n",
		"playbacks moved     13 of 15 on plex1 when it was killed; 1 viewer left first\n",
		"1 of 40, by up to 0.10; 4 came too close together to judge",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("summary lacks %q", want)
		}
	}
}

func TestUTF8Locale(t *testing.T) {
	for name, tc := range map[string]struct {
		env  map[string]string
		want bool
	}{
		"nothing set":    {nil, false},
		"LANG":           {map[string]string{"LANG": "de_CH.UTF-8"}, true},
		"LC_ALL rules":   {map[string]string{"LANG": "de_CH.UTF-8", "LC_ALL": "C"}, false},
		"spelled as BSD": {map[string]string{"LC_CTYPE": "C.utf8"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := utf8Locale(func(k string) string { return tc.env[k] }); got != tc.want {
				t.Errorf("utf8Locale() = %v, want %v", got, tc.want)
			}
		})
	}
}

// bare takes escape sequences out.
func bare(s string) string {
	return regexp.MustCompile(`\x1b\[[?0-9;]*[a-zA-Z]`).ReplaceAllString(s, "")
}
