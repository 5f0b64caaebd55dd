package plexlb

import (
	"slices"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plex"
)

func TestWhatReadingsSayOfEncoders(t *testing.T) {
	video := func(id string, speed float64, edit func(*plex.Transcode)) plex.Transcode {
		t := plex.Transcode{ID: id, VideoDecision: "transcode", Progress: 3, Speed: speed}
		if edit != nil {
			edit(&t)
		}
		return t
	}
	gpu := func(t *plex.Transcode) { t.HwEncoding = "nvenc" }
	wants := func(t *plex.Transcode) { t.HwRequested = true }
	type reading []plex.Transcode
	for name, tc := range map[string]struct {
		readings       []reading // five seconds apart
		fallback, slow bool
	}{
		"nothing plays":                     {[]reading{{}, {}}, false, false},
		"software, and nobody wants else":   {[]reading{{video("a", 2, nil)}, {video("a", 2, nil)}, {video("a", 2, nil)}}, false, false},
		"software where a GPU was used":     {[]reading{{video("a", 5, gpu)}, {video("b", 2, nil)}, {video("b", 2, nil)}}, true, false},
		"software though hardware is asked": {[]reading{{video("a", 2, wants)}, {video("a", 2, wants)}}, true, false},
		"for one reading only":              {[]reading{{video("a", 2, wants)}, {video("a", 5, gpu)}}, false, false},
		"too young to tell": {[]reading{{video("a", 5, gpu)},
			{video("b", 0, func(t *plex.Transcode) { t.Progress = 0 })}, {video("b", 0, func(t *plex.Transcode) { t.Progress = 0 })}}, false, false},
		"a copy wants hardware as well": {[]reading{
			{{ID: "a", VideoDecision: "copy", HwRequested: true, Progress: 3}}, {video("b", 2, nil)}, {video("b", 2, nil)}}, false, false},
		"slow from the third reading on": {[]reading{{video("a", .5, nil)}, {video("a", .5, nil)}, {video("a", .5, nil)}, {video("a", .5, nil)}}, false, true},
		"slow in its first ten seconds":  {[]reading{{video("a", .5, nil)}, {video("a", .5, nil)}, {video("a", 3, nil)}, {video("a", 3, nil)}}, false, false},
		"slow for one reading":           {[]reading{{video("a", 3, nil)}, {video("a", 3, nil)}, {video("a", .5, nil)}, {video("a", 3, nil)}}, false, false},
		"throttled": {[]reading{{video("a", 3, nil)}, {video("a", 3, nil)},
			{video("a", 0, func(t *plex.Transcode) { t.Throttled = true })}, {video("a", 0, func(t *plex.Transcode) { t.Throttled = true })}}, false, false},
		"complete": {[]reading{{video("a", 3, nil)}, {video("a", 3, nil)},
			{video("a", 0, func(t *plex.Transcode) { t.Complete = true })}, {video("a", 0, func(t *plex.Transcode) { t.Complete = true })}}, false, false},
		"live TV": {[]reading{{video("a", .99, func(t *plex.Transcode) { t.Progress = -1 })}, {video("a", .99, func(t *plex.Transcode) { t.Progress = -1 })},
			{video("a", .99, func(t *plex.Transcode) { t.Progress = -1 })}, {video("a", .99, func(t *plex.Transcode) { t.Progress = -1 })}}, false, false},
		"another one each time": {[]reading{{video("a", .5, nil)}, {video("b", .5, nil)}, {video("c", .5, nil)}, {video("d", .5, nil)}}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			var e encoders
			now := time.Now()
			var said map[string]string
			for _, r := range tc.readings {
				said = make(map[string]string)
				e.read(r, 5*time.Second, now, said)
				now = now.Add(5 * time.Second)
			}
			if got := said[GPUFallback] != ""; got != tc.fallback {
				t.Errorf("said %v, want a fallback: %v", said, tc.fallback)
			}
			if got := said[SlowTranscode] != ""; got != tc.slow {
				t.Errorf("said %v, want slow: %v", said, tc.slow)
			}
		})
	}
}

// ward is one server that a test looks at every second.
type ward struct {
	*troubles
	app  *App
	view cluster.ServerView
	now  time.Time

	unreadable bool
}

func newWard() *ward {
	view := cluster.ServerView{ServerSettings: cluster.ServerSettings{Name: "plex1", Address: "a:1"}}
	return &ward{troubles: new(troubles), app: &App{}, view: view, now: time.Now()}
}

// pass lets time go by, and returns what is told meanwhile.
func (w *ward) pass(d time.Duration) (news []string) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(time.Second) {
		for _, c := range w.look(w.app, []cluster.ServerView{w.view}, map[string]cluster.Census{}, map[string]bool{"a:1": !w.unreadable}, w.now) {
			word := c.event
			if c.reason != "" {
				word = c.reason
				if !c.begins {
					word = "no " + word
				}
			}
			news = append(news, word)
		}
	}
	return news
}

func (w *ward) told(t *testing.T, what string, news []string, want ...string) {
	t.Helper()
	if len(news) != len(want) || len(want) == 1 && news[0] != want[0] {
		t.Errorf("%s: told %q, want %q", what, news, want)
	}
}

func (w *ward) goodReading() {
	w.view.Picture = cluster.Picture{Good: w.now, Tried: w.now}
	w.read("a:1", nil, false, time.Second, w.now)
}

// What changes is told once, and what comes and goes is one trouble.
func TestDegradationsAreToldOnce(t *testing.T) {
	w := newWard()
	w.goodReading()
	w.told(t, "a good server", w.pass(20*time.Second))
	w.unread("a:1", "unauthorized")
	w.told(t, "a refused token", w.pass(5*time.Second), TokenRejected)
	for range 10 {
		w.goodReading()
		w.told(t, "a good reading between", w.pass(2*time.Second))
		w.unread("a:1", "unauthorized")
		w.told(t, "and refused again", w.pass(2*time.Second))
	}
	w.unread("a:1", "timeout")
	w.told(t, "what does not contradict", w.pass(25*time.Second))
	w.told(t, "thirty seconds without a good reading", w.pass(10*time.Second), PollStale)
	w.goodReading()
	w.told(t, "over", w.pass(20*time.Second), "no "+PollStale, "no "+TokenRejected)
}

// A server that is not read any more, for want of a token, is not said to
// refuse the one it had.
func TestWhatReadingsSaidGoesWithTheReader(t *testing.T) {
	w := newWard()
	w.unread("a:1", "unauthorized")
	w.told(t, "a refused token", w.pass(time.Second), TokenRejected)
	w.unreadable = true
	w.told(t, "a server that nobody reads", w.pass(20*time.Second), "no "+TokenRejected)
}

func TestAServerIsFullOnlyWithAllOthers(t *testing.T) {
	w := newWard()
	other := cluster.ServerView{ServerSettings: cluster.ServerSettings{Name: "plex2", Address: "b:1", MaxTranscodes: 1}}
	w.view.MaxTranscodes, w.view.Jobs[cluster.GPU] = 1, 1
	full := func() (names []string) {
		w.look(w.app, []cluster.ServerView{w.view, other}, nil, nil, w.now)
		for _, a := range []string{"a:1", "b:1"} {
			_, found := w.of(a)
			if slices.ContainsFunc(found, func(d Degradation) bool { return d.Reason == AllFull }) {
				names = append(names, a)
			}
		}
		return names
	}
	if got := full(); len(got) != 0 {
		t.Errorf("one has room, and %v are full", got)
	}
	other.Jobs[cluster.CPU] = 1
	if got := full(); len(got) != 2 {
		t.Errorf("none has room, and only %v are full", got)
	}
	w.now = w.now.Add(calm)
	other.MaxTranscodes = 0
	if got := full(); len(got) != 0 {
		t.Errorf("one has no limit, and %v are full", got)
	}
	other.Draining = true
	if got := full(); len(got) != 1 {
		t.Errorf("the only one that takes playbacks is full, and %v are", got)
	}
}

// Ten full servers are one message, not ten.
func TestThatAllServersAreFullIsToldOnce(t *testing.T) {
	w := newWard()
	views := make([]cluster.ServerView, 3)
	for i, name := range []string{"plex1", "plex2", "plex3"} {
		views[i].ServerSettings = cluster.ServerSettings{Name: name, Address: name + ":1", MaxTranscodes: 1}
	}
	look := func(full ...bool) (news []change) {
		for i := range views {
			views[i].Jobs[cluster.GPU] = 0
			if full[i] {
				views[i].Jobs[cluster.GPU] = 1
			}
		}
		w.now = w.now.Add(time.Second)
		return w.look(w.app, views, nil, nil, w.now)
	}
	check := func(what string, news []change, begins bool) {
		t.Helper()
		if len(news) != 1 || news[0].reason != AllFull || news[0].begins != begins || news[0].server != "plex1, plex2" {
			t.Errorf("%s: told %+v", what, news)
		}
	}
	views[2].Draining = true // and takes nothing anyway
	look(true, false, true)
	check("all that take playbacks are full", look(true, true, false), true)
	if news := look(true, true, true); len(news) != 0 {
		t.Errorf("a draining one is full, too: told %+v", news)
	}
	views[2].MaxTranscodes = 2
	for range calm/time.Second - 1 {
		if news := look(true, false, false); len(news) != 0 {
			t.Errorf("one may be full again at any moment: told %+v", news)
		}
	}
	look(true, true, false)
	for range calm/time.Second - 1 {
		look(false, false, false)
	}
	var news []change
	for range 3 {
		news = append(news, look(false, false, false)...)
	}
	check("there is room", news, false)
}

// A server that was gone for a moment is up again when it has been read, and not
// only after a while.
func TestUpAgainWhenRead(t *testing.T) {
	w := newWard()
	w.goodReading()
	w.view.Down = true // a connection was refused
	w.view.Picture.Failure = "refused"
	w.told(t, "gone", w.pass(2*time.Second), serverDownEvent)
	w.view.Down = false
	w.told(t, "not known yet", w.pass(2*time.Second))
	w.goodReading()
	w.told(t, "read", w.pass(2*time.Second), serverUpEvent)
}

func TestUpAndDown(t *testing.T) {
	w := newWard()
	w.told(t, "nothing heard", w.pass(5*time.Second))
	w.view.Down = true // part of a choice, and not available
	w.view.Picture.Failure = "refused"
	w.told(t, "not available", w.pass(5*time.Second), serverDownEvent)
	w.heard(w.app, "a:1", false)
	w.told(t, "the health check says so, too", w.pass(5*time.Second))
	w.heard(w.app, "a:1", true)
	w.told(t, "the health check is good", w.pass(5*time.Second), serverUpEvent)
	w.heard(w.app, "a:1", false)
	w.told(t, "and fails", w.pass(5*time.Second), serverDownEvent)

	// A new config takes all for healthy, and says nothing of what is not down.
	w.app = &App{}
	w.view.Down = false
	w.told(t, "reload", w.pass(5*time.Second))
	w.goodReading()
	w.told(t, "it answers", w.pass(15*time.Second), serverUpEvent)
	w.heard(w.app, "a:1", false)
	w.told(t, "down again", w.pass(time.Second), serverDownEvent)
	w.app = &App{}
	w.pass(time.Second)
	w.heard(w.app, "a:1", false)
	w.told(t, "down through a reload", w.pass(5*time.Minute), PollStale)
}

func TestDrainedIsToldOnce(t *testing.T) {
	w := newWard()
	w.view.Draining = true
	w.told(t, "nothing left", w.pass(5*time.Second), serverDrainedEvent)
	w.view.Draining = false
	w.told(t, "taken back", w.pass(2*time.Second))
	w.view.Draining = true
	w.told(t, "drained again", w.pass(5*time.Second), serverDrainedEvent)
}
