package plextest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func timelineQuery(item, state, xsi, cid string) string {
	q := "/:/timeline?key=/library/metadata/" + item + "&ratingKey=" + item + "&time=5000&duration=600000&state=" + state + "&X-Plex-Token=owner-token"
	if xsi != "" {
		q += "&X-Plex-Session-Identifier=" + xsi
	}
	if cid != "" {
		q += "&X-Plex-Client-Identifier=" + cid
	}
	return q
}

// plays tells what plays, as "kind item tsid".
func plays(s *Server) []string {
	var out []string
	for _, p := range s.Playbacks() {
		out = append(out, strings.TrimSpace(p.Kind+" "+p.Item+" "+p.TSID))
	}
	return out
}

func TestOnePlaybackPerClient(t *testing.T) {
	for name, tc := range map[string]struct {
		then string // after c played item 1 as T with XSI x
		want []string
	}{
		"another film ends it":                     {startQuery("m3u8", "2", "T2", "x2", "c"), []string{"transcode 2 T2"}},
		"a file ends it":                           {"PART13&X-Plex-Client-Identifier=c&X-Plex-Session-Identifier=y", []string{"direct 13"}},
		"the same film in another tab too":         {startQuery("m3u8", "1", "T2", "x2", "c"), []string{"transcode 1 T2"}},
		"another quality replaces the transcode":   {startQuery("mpd", "1", "T2", "x", "c"), []string{"transcode 1 T2"}},
		"the same again replaces the transcode":    {startQuery("m3u8", "1", "T", "x", "c"), []string{"transcode 1 T"}},
		"another client does not":                  {startQuery("m3u8", "2", "T2", "x2", "d"), []string{"transcode 1 T", "transcode 2 T2"}},
		"another client's file does not":           {"PART13&X-Plex-Client-Identifier=d", []string{"transcode 1 T", "direct 13"}},
		"a download does not":                      {"PART13&X-Plex-Client-Identifier=c&download=1", []string{"transcode 1 T"}},
		"its name used by another client takes it": {startQuery("m3u8", "2", "T", "x2", "d"), []string{"transcode 2 T"}},
		"its timeline does not":                    {timelineQuery("1", "playing", "x", "c"), []string{"transcode 1 T"}},
		"its last timeline does":                   {timelineQuery("1", "stopped", "x", "c"), nil},
		"a last timeline without identifier":       {timelineQuery("1", "stopped", "", "c"), []string{"transcode 1 T"}},
		"the last timeline of something else":      {timelineQuery("1", "stopped", "z", "c"), []string{"transcode 1 T"}},
		"a stray timeline makes a ghost":           {timelineQuery("1", "playing", "z", "c"), []string{"transcode 1 T", "timeline 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Config{})
			get(s, startQuery("m3u8", "1", "T", "x", "c"))
			get(s, strings.Replace(tc.then, "PART13", s.item("13").partKey()+"?X-Plex-Token=owner-token", 1))
			if got := plays(s); !slices.Equal(got, tc.want) {
				t.Errorf("plays %q, want %q", got, tc.want)
			}
			gone := !slices.ContainsFunc(tc.want, func(p string) bool { return strings.HasSuffix(p, " T") })
			if got := get(s, segmentPath("T", 0)).Code; (got == 404) != gone {
				t.Errorf("old segments: status %d", got)
			}
		})
	}
}

func TestClientWithoutIdentifier(t *testing.T) {
	s := New(Config{})
	start := func(item string) {
		get(s, transcoder+"start.m3u8?path=/library/metadata/"+item+"&session=C&X-Plex-Client-Identifier=C&X-Plex-Token=owner-token")
	}
	start("1")
	get(s, timelineQuery("1", "playing", "", "C"))
	start("2")
	get(s, timelineQuery("1", "stopped", "", "C")) // late
	if got := plays(s); !slices.Equal(got, []string{"transcode 2 C"}) {
		t.Errorf("plays %q", got)
	}
	get(s, timelineQuery("2", "stopped", "", "C"))
	if got := plays(s); len(got) != 0 {
		t.Errorf("plays %q after its end", got)
	}
}

func TestGhostRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		for range 3 {
			if got := get(s, timelineQuery("1", "playing", "x", "c")).Code; got != 200 {
				t.Fatalf("status %d", got)
			}
		}
		if got := plays(s); !slices.Equal(got, []string{"timeline 1"}) {
			t.Errorf("plays %q", got)
		}
		time.Sleep(time.Second)
		rows := list(tree(t, asOwner(s, "/status/sessions")), "Metadata")
		if len(rows) != 1 || rows[0]["TranscodeSession"] != nil {
			t.Errorf("rows %v", rows)
		}
		get(s, timelineQuery("1", "stopped", "x", "c"))
		get(s, timelineQuery("1", "stopped", "x2", "c"))
		if got := plays(s); len(got) != 0 {
			t.Errorf("plays %q after its end", got)
		}
		send(s, http.MethodPost, timelineQuery("1", "playing", "x3", "c"))
		time.Sleep(181 * time.Second)
		if got := plays(s); len(got) != 0 {
			t.Errorf("plays %q after silence", got)
		}
	})
}

func TestStopByClient(t *testing.T) {
	s := New(Config{StopByClient: true})
	get(s, startQuery("m3u8", "1", "T", "x", "c"))
	get(s, timelineQuery("1", "stopped", "z", "c"))
	if got := plays(s); len(got) != 0 {
		t.Errorf("plays %q", got)
	}
}

func TestTimelineAnswers(t *testing.T) {
	s := New(Config{UserTokens: []string{"guest"}})
	c := tree(t, get(s, timelineQuery("1", "playing", "x", "c"), "Accept", "application/json"))
	if c["size"] != 0.0 || c["viewOffset"] != 5000.0 || c["playbackState"] != "progress" || c["terminationCode"] != nil {
		t.Errorf("answer %v", c)
	}
	if got := asOwner(s, "/:/timeline?ratingKey=1&state=playing&time=7&duration=6").Code; got != 400 {
		t.Errorf("beyond the end: status %d", got)
	}
	if got := asOwner(s, "/:/timeline?ratingKey=1&time=7").Code; got != 400 {
		t.Errorf("without a state: status %d", got)
	}
	offset := func(token string) any {
		w := get(s, "/library/metadata/1", "X-Plex-Token", token, "Accept", "application/json")
		return list(tree(t, w), "Metadata")[0]["viewOffset"]
	}
	if offset("owner-token") != 5000.0 || offset("guest") != 0.0 {
		t.Errorf("watch state %v and %v", offset("owner-token"), offset("guest"))
	}
	asOwner(s, "/:/scrobble?key=1&identifier=com.plexapp.plugins.library")
	if m := list(tree(t, asOwner(s, "/library/metadata/1")), "Metadata")[0]; m["viewCount"] != 1.0 || m["viewOffset"] != 0.0 {
		t.Errorf("after a scrobble: %v", m)
	}
}

func TestTermination(t *testing.T) {
	s := New(Config{})
	get(s, startQuery("m3u8", "1", "T", "x", "c"))
	if got := asOwner(s, "/status/sessions/terminate?sessionId=x&reason=Bedtime").Code; got != 200 {
		t.Fatalf("status %d", got)
	}
	if len(s.Jobs()) != 0 {
		t.Error("the encoder lives")
	}
	c := tree(t, get(s, timelineQuery("1", "playing", "x", "c"), "Accept", "application/json"))
	if c["terminationCode"] != 2006.0 || c["terminationText"] != "Bedtime" {
		t.Errorf("answer %v", c)
	}
	if got := plays(s); !slices.Equal(got, []string{"timeline 1"}) {
		t.Errorf("the timeline did not bring the row back: %q", got)
	}
}

func TestBypass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{GPULimit: 2, TranscodeLimit: 1, Database: "x"})
		ids := s.AddBypass(3)
		downloads := s.AddDownload(1)
		s.AddOptimizer(2)
		if len(ids) != 3 || len(downloads) != 1 {
			t.Fatalf("ids %q and %q", ids, downloads)
		}
		time.Sleep(time.Hour) // they stay
		if got := len(s.Jobs()); got != 4 {
			t.Errorf("%d jobs", got)
		}
		kinds := ""
		for _, j := range s.Jobs() {
			if j.Complete {
				t.Errorf("complete: %+v", j)
			}
			kinds += j.Kind + " "
		}
		if strings.Count(kinds, "gpu") != 2 {
			t.Errorf("kinds %q with two GPU slots", kinds)
		}
		if got := len(list(tree(t, asOwner(s, "/status/sessions")), "Metadata")); got != 3 {
			t.Errorf("%d rows", got)
		}
		if got := len(list(tree(t, asOwner(s, "/transcode/sessions")), "TranscodeSession")); got != 4 {
			t.Errorf("%d transcodes", got)
		}
		if got := len(list(tree(t, asOwner(s, "/status/sessions/background")), "TranscodeJob")); got != 2 {
			t.Errorf("%d background jobs", got)
		}
		s.EndBypass(ids[0])
		if got := len(s.Jobs()); got != 3 {
			t.Errorf("%d jobs after one ended", got)
		}
		s.EndBypass()
		if len(s.Jobs()) != 0 || len(s.Playbacks()) != 0 || len(list(tree(t, asOwner(s, "/status/sessions/background")), "TranscodeJob")) != 0 {
			t.Error("something is left")
		}
	})
}

func TestForget(t *testing.T) {
	s := New(Config{})
	get(s, startQuery("m3u8", "1", "T", "x", "c"))
	get(s, timelineQuery("2", "playing", "y", "d"))
	s.Forget()
	if len(s.Jobs()) != 0 || len(s.Playbacks()) != 0 {
		t.Error("sessions survive")
	}
	if got := get(s, segmentPath("T", 0)).Code; got != 404 {
		t.Errorf("segment: status %d", got)
	}
	get(s, startQuery("m3u8", "1", "T", "x", "c"))
	if got := get(s, segmentPath("T", 0)).Code; got != 200 {
		t.Errorf("segment after a new start: status %d", got)
	}
}

// TestThousands has many clients at once; with -race it is the test of the
// locks as well.
func TestThousands(t *testing.T) {
	s := New(Config{Lag: -1, SegmentSize: 512, Speed: 1000})
	var wg sync.WaitGroup
	const clients, each = 20, 60
	for c := range clients {
		wg.Go(func() {
			for n := range each {
				id := fmt.Sprintf("%d-%d", c, n)
				get(s, startQuery("m3u8", HEVC, "t"+id, "x"+id, "c"+id))
				get(s, segmentPath("t"+id, 0))
				get(s, timelineQuery("1", "playing", "x"+id, "c"+id))
				if n%50 == 0 {
					asOwner(s, "/status/sessions")
					s.Jobs()
				}
			}
		})
	}
	wg.Wait()
	if got := len(s.Jobs()); got != clients*each {
		t.Errorf("%d jobs", got)
	}
	if got := len(list(tree(t, asOwner(s, "/status/sessions")), "Metadata")); got != clients*each {
		t.Errorf("%d rows", got)
	}
}
