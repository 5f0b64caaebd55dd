package plextest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func decide(t *testing.T, s *Server, query string) map[string]any {
	t.Helper()
	w := asOwner(s, transcoder+"decision?"+query)
	if w.Code != http.StatusOK {
		t.Fatalf("status %d", w.Code)
	}
	return tree(t, w)
}

func TestDecision(t *testing.T) {
	s := New(Config{})
	for name, tc := range map[string]struct {
		query                      string
		general, direct, transcode float64
		video                      string // what is decided about the video
	}{
		"a film that plays as it is":         {"path=/library/metadata/13&directPlay=1&protocol=http", 1000, 1000, 0, ""},
		"the same for a client that refuses": {"path=/library/metadata/13&directPlay=0&protocol=hls", 1001, 3000, 1001, "copy"},
		"hevc is transcoded":                 {"path=/library/metadata/1&directPlay=0&protocol=dash", 1001, 3000, 1001, "transcode"},
		"hevc does not play directly":        {"path=/library/metadata/1&directPlay=1&protocol=dash", 1001, 3000, 1001, "transcode"},
		"h264 is copied":                     {"path=/library/metadata/9&protocol=hls&directStream=1", 1001, 3000, 1001, "copy"},
		"h264 at a lower quality is not":     {"path=/library/metadata/9&protocol=hls&maxVideoBitrate=2000", 1001, 3000, 1001, "transcode"},
		"nor without direct stream":          {"path=/library/metadata/9&protocol=hls&directStream=0", 1001, 3000, 1001, "transcode"},
		"a protocol nobody has heard of":     {"path=/library/metadata/1&protocol=carrier-pigeon", 2000, 3000, 4005, ""},
		"an item nobody has":                 {"path=/library/metadata/999&protocol=hls", 2004, 3000, 2004, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := decide(t, s, tc.query)
			code := func(name string) float64 { f, _ := c[name].(float64); return f }
			if code("generalDecisionCode") != tc.general || code("directPlayDecisionCode") != tc.direct || code("transcodeDecisionCode") != tc.transcode {
				t.Errorf("codes %v", c)
			}
			if tc.video != "" {
				part := list(list(list(c, "Metadata")[0], "Media")[0], "Part")[0]
				if part["decision"] != "transcode" || list(part, "Stream")[0]["decision"] != tc.video {
					t.Errorf("part %v", part)
				}
				if part["file"] != nil || part["key"] != nil {
					t.Error("the delivered form tells its file")
				}
			}
		})
	}
	if len(s.Jobs()) != 0 {
		t.Error("a decision started an encoder")
	}
}

func TestDecisionInXML(t *testing.T) {
	w := get(New(Config{}), transcoder+"decision?path=/library/metadata/1&protocol=dash", "X-Plex-Token", "owner-token")
	if !strings.Contains(w.Body.String(), `generalDecisionCode="1001"`) {
		t.Errorf("%s", w.Body)
	}
}

func TestMalformedRequests(t *testing.T) {
	s := New(Config{})
	const extra = "&X-Plex-Client-Profile-Extra=add-limitation%28scope%3DvideoCodec%26scopeName%3D%2A%29"
	for name, tc := range map[string]struct {
		query string
		want  int
	}{
		"without a path":              {"protocol=hls", 400},
		"contradictory":               {"path=/library/metadata/1&protocol=hls&directPlay=1&subtitles=burn", 400},
		"with a profile":              {"path=/library/metadata/1&protocol=hls" + extra, 200},
		"with a profile cut in two":   {"path=/library/metadata/1&protocol=hls" + strings.Replace(extra, "%26", "&", 1), 400},
		"with everything a PMS needs": {"path=/library/metadata/1&protocol=hls", 200},
	} {
		for _, name2 := range []string{"decision", "start.m3u8"} {
			if got := asOwner(s, transcoder+name2+"?"+tc.query).Code; got != tc.want {
				t.Errorf("%s %s: status %d, want %d", name2, name, got, tc.want)
			}
		}
	}
}

func TestTranscodeLimit(t *testing.T) {
	s := New(Config{TranscodeLimit: 1, Startup: -1})
	if got := get(s, startQuery("m3u8", HEVC, "t1", "x1", "c1")).Code; got != 200 {
		t.Fatalf("status %d", got)
	}
	query := "path=/library/metadata/2&protocol=hls&X-Plex-Client-Identifier="
	c := decide(t, s, query+"c2")
	if c["generalDecisionCode"].(float64) < 2000 || !strings.Contains(c["transcodeDecisionText"].(string), "limit") {
		t.Errorf("decision %v", c)
	}
	if got := get(s, startQuery("m3u8", HEVC, "t2", "x2", "c2")).Code; got != 500 {
		t.Errorf("start past the limit: status %d", got)
	}
	if len(s.Jobs()) != 1 {
		t.Errorf("jobs %+v", s.Jobs())
	}
	if c := decide(t, s, query+"c1"); c["generalDecisionCode"] != 1001.0 {
		t.Errorf("a client's own transcode stands in its way: %v", c)
	}
	if c := decide(t, s, "path=/library/metadata/9&protocol=hls&X-Plex-Client-Identifier=c2"); c["generalDecisionCode"] != 1001.0 {
		t.Errorf("a remux falls under the limit: %v", c)
	}
	s.SetTranscodeLimit(2)
	if got := get(s, startQuery("m3u8", HEVC, "t2", "x2", "c2")).Code; got != 200 {
		t.Errorf("start under a higher limit: status %d", got)
	}
}

func TestGPUFallsBackToSoftware(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  Config
		want string
	}{
		"gpu":            {Config{}, "gpu gpu gpu"},
		"gpu with room":  {Config{GPULimit: 2}, "gpu gpu cpu"},
		"server without": {Config{NoHardware: true}, "cpu cpu cpu"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(tc.cfg)
				for n := range 3 {
					get(s, startQuery("m3u8", HEVC, fmt.Sprint("t", n), fmt.Sprint("x", n), fmt.Sprint("c", n)))
					time.Sleep(time.Millisecond)
				}
				get(s, startQuery("m3u8", Remux, "t9", "x9", "c9"))
				var kinds []string
				for _, j := range s.Jobs() {
					kinds = append(kinds, j.Kind)
				}
				if got := strings.Join(kinds, " "); got != tc.want+" copy" {
					t.Errorf("kinds %q, want %q and a copy", got, tc.want)
				}
			})
		})
	}
}

func TestFallback(t *testing.T) {
	s := New(Config{})
	get(s, startQuery("m3u8", HEVC, "t", "x", "c"))
	for n, want := range []int{200, 412} {
		if got := send(s, http.MethodPost, transcoder+"fallback?session=t", "X-Plex-Token", "owner-token").Code; got != want {
			t.Errorf("fallback %d: status %d, want %d", n, got, want)
		}
	}
	if s.Jobs()[0].Kind != "cpu" {
		t.Error("no fallback")
	}
	if got := send(s, http.MethodPost, transcoder+"fallback?session=none", "X-Plex-Token", "owner-token").Code; got != 404 {
		t.Errorf("fallback of nothing: status %d", got)
	}
}

func TestManifests(t *testing.T) {
	s := New(Config{})
	w := get(s, startQuery("m3u8", HEVC, "a%2Fb%20c", "x", "c"))
	if !strings.Contains(w.Body.String(), "\nsession/a%2Fb%20c/base/index.m3u8\n") {
		t.Errorf("master %q", w.Body)
	}
	if got := get(s, transcoder+"session/a%2Fb%20c/base/00000.ts").Code; got != 200 {
		t.Errorf("segment of a session with a slash: status %d", got)
	}
	w = get(s, startQuery("m3u8", HEVC, "T1", "x", "c"))
	if w.Header().Get("Content-Type") != "application/vnd.apple.mpegurl" || !strings.Contains(w.Body.String(), "\nsession/T1/base/index.m3u8\n") {
		t.Errorf("master %q", w.Body)
	}
	w = get(s, transcoder+"session/T1/base/index.m3u8")
	if got := strings.Count(w.Body.String(), ".ts\n"); got != 600 || !strings.Contains(w.Body.String(), "#EXT-X-ENDLIST") {
		t.Errorf("playlist of %d segments", got)
	}
	w = get(s, startQuery("mpd", HEVC, "T2", "x", "c"))
	for _, want := range []string{`type="static"`, `media="session/T2/$RepresentationID$/$Number$.m4s"`, `startNumber="0"`, `duration="PT0H10M0.000S"`, `id="1" mimeType="audio/mp4"`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("manifest lacks %s:\n%s", want, w.Body)
		}
	}
}

func TestServerMakesASession(t *testing.T) {
	s := New(Config{})
	path := transcoder + "start.m3u8?path=/library/metadata/1&transcodeSessionId=ignored&X-Plex-Token=owner-token"
	id := func() string {
		w := get(s, path)
		_, rest, _ := strings.Cut(w.Body.String(), "\nsession/")
		id, _, _ := strings.Cut(rest, "/")
		return id
	}
	first, second := id(), id()
	if len(first) != 36 || first == second {
		t.Errorf("sessions %q and %q", first, second)
	}
	if len(s.Jobs()) != 2 {
		t.Errorf("%d jobs", len(s.Jobs()))
	}
}

func TestSegments(t *testing.T) {
	s := New(Config{Name: "plex3", SegmentSize: 2048})
	if get(s, segmentPath("T", 0)).Code != 404 {
		t.Error("a segment made a session")
	}
	get(s, startQuery("mpd", HEVC, "T", "x", "c"))
	base := transcoder + "session/T/"
	for path, want := range map[string]Body{
		base + "base/00003.ts":                              {Rep: "base", Number: 3},
		base + "base/header":                                {Rep: "base", Number: -1},
		base + "0/header":                                   {Rep: "0", Number: -1},
		base + "1/7.m4s":                                    {Rep: "1", Number: 7},
		base + "vtt-base/00001.vtt":                         {Rep: "vtt-base", Number: 1},
		transcoder + "dash/T/0/2.m4s":                       {Rep: "0", Number: 2},
		transcoder + "dash/T/1/initial.mp4":                 {Rep: "1", Number: -1},
		"/anything/:/transcode/universal/session/T/0/4.m4s": {Rep: "0", Number: 4},
	} {
		w := get(s, path)
		got, err := ReadBody(w.Body.Bytes())
		want.Server, want.Session, want.Item, want.Subtitle, want.Audio = "plex3", "T", "1", "0", got.Audio
		if w.Code != 200 || err != nil || got != want || w.Body.Len() != 2048 {
			t.Errorf("%s: status %d, %d bytes, %v (%v)", path, w.Code, w.Body.Len(), got, err)
		}
	}
	for _, path := range []string{base + "0/600.m4s", base + "0/x.m4s", base + "0/-1.m4s", base + "0/1.exe", base + "0", base + "0/1/2"} {
		if got := get(s, path); got.Code != 404 && got.Code != 401 {
			t.Errorf("%s: status %d", path, got.Code)
		}
	}
	w := get(s, transcoder+"session/other/0/1.m4s")
	if w.Code != 404 || !strings.Contains(w.Body.String(), "<html>") {
		t.Errorf("foreign session: %d %q", w.Code, w.Body)
	}
	if len(s.Jobs()) != 1 {
		t.Error("a segment made a session")
	}
}

func TestSegmentIsHeldUntilItExists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Startup: 2 * time.Second, Speed: 2})
		get(s, startQuery("m3u8", HEVC, "T", "x", "c"))
		took := func(n int) time.Duration {
			begin := time.Now()
			if got := get(s, segmentPath("T", n)).Code; got != 200 {
				t.Errorf("segment %d: status %d", n, got)
			}
			return time.Since(begin).Round(10 * time.Millisecond)
		}
		if got := took(0); got != 2500*time.Millisecond {
			t.Errorf("first segment after %v", got)
		}
		if got := took(4); got != 2*time.Second {
			t.Errorf("four more after %v", got)
		}
		if got := took(2); got != 0 {
			t.Errorf("one that is there after %v", got)
		}
		if got := took(300); got != 2500*time.Millisecond {
			t.Errorf("a far one, with a new encoder, after %v", got)
		}
		if got := took(0); got != 2500*time.Millisecond {
			t.Errorf("back at the start after %v", got)
		}
		if len(s.Jobs()) != 1 {
			t.Errorf("%d encoders after seeking", len(s.Jobs()))
		}
	})
}

func TestSeekOvertakesAHeldSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Startup: 10 * time.Second})
		get(s, startQuery("m3u8", HEVC, "T", "x", "c"))
		var wg sync.WaitGroup
		wg.Go(func() {
			if w := get(s, segmentPath("T", 5)); w.Code != 200 || w.Body.Len() != 0 {
				t.Errorf("overtaken: status %d, %d bytes", w.Code, w.Body.Len())
			}
		})
		time.Sleep(time.Second)
		if w := get(s, segmentPath("T", 400)); w.Code != 200 || w.Body.Len() == 0 {
			t.Errorf("overtaking: status %d, %d bytes", w.Code, w.Body.Len())
		}
		wg.Wait()
	})
}

func TestHeldSegmentOfAKilledSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Startup: time.Minute})
		get(s, startQuery("m3u8", HEVC, "T", "x", "c"))
		var wg sync.WaitGroup
		wg.Go(func() {
			begin := time.Now()
			if got := get(s, segmentPath("T", 0)).Code; got != 404 || time.Since(begin) != time.Second {
				t.Errorf("status %d after %v", got, time.Since(begin))
			}
		})
		time.Sleep(time.Second)
		get(s, transcoder+"stop?session=T&X-Plex-Token=owner-token")
		wg.Wait()
	})
}

func TestSegmentZeroBeforeAnOffset(t *testing.T) {
	s := New(Config{})
	get(s, startQuery("m3u8", HEVC, "T", "x", "c")+"&offset=8")
	if got := get(s, segmentPath("T", 0)).Code; got != 404 {
		t.Errorf("segment 0: status %d", got)
	}
	if got := get(s, segmentPath("T", 8)).Code; got != 200 {
		t.Errorf("segment 8: status %d", got)
	}
}

func TestEncoderOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Startup: -1, Lag: -1, Speed: 20})
		get(s, startQuery("m3u8", HEVC, "T", "x", "c"))
		session := func() map[string]any {
			c := tree(t, asOwner(s, "/transcode/sessions/T"))
			return list(c, "TranscodeSession")[0]
		}
		if got := session(); got["progress"] != 0.0 || got["speed"] != 0.0 {
			t.Errorf("at once: %v", got)
		}
		time.Sleep(1500 * time.Millisecond)
		if got := session(); got["progress"].(float64) < 4.9 || got["speed"] != 20.0 || got["throttled"] != false || got["remaining"] == nil {
			t.Errorf("working: %v", got)
		}
		time.Sleep(10 * time.Second)
		if got := session(); got["throttled"] != true || got["speed"] != 0.0 || got["maxOffsetAvailable"] != 60.0 || got["complete"] != false {
			t.Errorf("far enough ahead: %v", got)
		}
		get(s, segmentPath("T", 30))
		time.Sleep(100 * time.Millisecond)
		if got := session(); got["throttled"] != false {
			t.Errorf("working again: %v", got)
		}
		get(s, segmentPath("T", 599))
		time.Sleep(5 * time.Second)
		if got := session(); got["complete"] != true || got["progress"] != 100.0 || got["speed"] != 0.0 {
			t.Errorf("complete: %v", got)
		}
		if c := tree(t, asOwner(s, "/")); c["transcoderActiveVideoSessions"] != 0.0 {
			t.Errorf("a complete transcode is active")
		}
		get(s, segmentPath("T", 10)) // before what this encoder began with
		if got := session(); got["complete"] != false {
			t.Errorf("working once more: %v", got)
		}
	})
}

func TestReaping(t *testing.T) {
	for name, tc := range map[string]struct {
		keep  string
		lives bool
	}{
		"silence kills":             {"", false},
		"segments keep":             {segmentPath("T", 1), true},
		"pings keep":                {transcoder + "ping?session=T&X-Plex-Token=owner-token", true},
		"timelines do not":          {"/:/timeline?ratingKey=1&state=paused&time=0&X-Plex-Session-Identifier=x&X-Plex-Client-Identifier=c&X-Plex-Token=owner-token", false},
		"pings of others do not":    {transcoder + "ping?session=U&X-Plex-Token=owner-token", false},
		"looking at it does not":    {"/transcode/sessions/T?X-Plex-Token=owner-token", false},
		"decisions alone do not":    {transcoder + "decision?path=/library/metadata/1&session=T&X-Plex-Token=owner-token", false},
		"reading its playlist does": {transcoder + "session/T/base/index.m3u8", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Config{})
				get(s, startQuery("m3u8", HEVC, "T", "x", "c"))
				for range 20 {
					time.Sleep(10 * time.Second)
					if tc.keep != "" {
						get(s, tc.keep)
					}
				}
				if lives := get(s, segmentPath("T", 1)).Code == 200; lives != tc.lives {
					t.Errorf("lives %v after 200s", lives)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // to the second
		s := New(Config{})
		get(s, startQuery("m3u8", HEVC, "T", "x", "c"))
		time.Sleep(179 * time.Second)
		if len(s.Jobs()) != 1 || len(s.Playbacks()) != 1 {
			t.Error("gone too early")
		}
		time.Sleep(2 * time.Second)
		if len(s.Jobs()) != 0 || len(s.Playbacks()) != 0 {
			t.Error("still there")
		}
	})
}

func TestPingAndStop(t *testing.T) {
	s := New(Config{})
	get(s, startQuery("m3u8", HEVC, "T", "x", "c"))
	for _, tc := range []struct {
		name string
		want int
	}{
		{"ping?session=none", 404}, {"stop?session=none", 404}, {"subtitles?session=none", 404},
		{"ping?session=T", 200}, {"subtitles?session=T", 200}, {"stop?session=T", 200}, {"stop?session=T", 404}, {"ping?session=T", 404},
	} {
		if got := asOwner(s, transcoder+tc.name).Code; got != tc.want {
			t.Errorf("%s: status %d, want %d", tc.name, got, tc.want)
		}
	}
	if len(s.Jobs()) != 0 {
		t.Error("stop did not stop")
	}
}

func TestDeleteTranscode(t *testing.T) {
	s := New(Config{})
	get(s, startQuery("m3u8", HEVC, "T", "x", "c"))
	if got := send(s, http.MethodDelete, "/transcode/sessions/T", "X-Plex-Token", "owner-token").Code; got != 204 {
		t.Errorf("status %d", got)
	}
	if got := get(s, segmentPath("T", 0)).Code; got != 404 {
		t.Errorf("segment after it: status %d", got)
	}
}

func TestStreamKeepsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{SegmentSize: 1000})
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequest(http.MethodGet, "/music/:/transcode/universal/start.mp3?path=/library/metadata/17&session=m&offset=10&X-Plex-Token=owner-token&X-Plex-Client-Identifier=c", nil)
		w := httptest.NewRecorder()
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { _ = recover() }() // the connection breaks off
			s.ServeHTTP(w, r.WithContext(ctx))
		})
		time.Sleep(300 * time.Second)
		if len(s.Jobs()) != 0 && s.Jobs()[0].Protocol != "http" {
			t.Errorf("jobs %+v", s.Jobs())
		}
		cancel()
		wg.Wait()
		if got := w.Body.Len(); got != 230*1000 { // four minutes less ten seconds, long done
			t.Errorf("%d bytes", got)
		}
		first, _ := ReadBody(w.Body.Bytes())
		if first.Number != 10 || first.Rep != "stream" || first.Session != "m" {
			t.Errorf("begins with %v", first)
		}
		if w.Header().Get("Content-Type") != "audio/mpeg" {
			t.Errorf("type %q", w.Header().Get("Content-Type"))
		}
	})
}

func TestStreamIsThePlayback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Reap: 20 * time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequest(http.MethodGet, transcoder+"start.mkv?path=/library/metadata/1&session=m&X-Plex-Token=owner-token&X-Plex-Client-Identifier=c", nil)
		w := httptest.NewRecorder()
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { _ = recover() }()
			s.ServeHTTP(w, r.WithContext(ctx))
		})
		time.Sleep(2 * time.Minute)
		if jobs := s.Jobs(); len(jobs) != 1 || jobs[0].Kind != "gpu" {
			t.Errorf("jobs %+v while it streams", jobs)
		}
		if rows := s.Playbacks(); len(rows) != 1 {
			t.Errorf("rows %+v while it streams", rows)
		}
		cancel()
		wg.Wait()
		time.Sleep(21 * time.Second)
		if len(s.Jobs()) != 0 || len(s.Playbacks()) != 0 {
			t.Error("outlives its viewer")
		}
	})
}

func TestKilledStreamBreaksOff(t *testing.T) {
	s := pms(t, Config{})
	resp, err := http.Get(s.URL() + "/video/:/transcode/universal/start?protocol=http&path=/library/metadata/1&session=m&X-Plex-Token=owner-token")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	time.AfterFunc(100*time.Millisecond, s.Forget)
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("ends as if it were complete")
	}
}

func TestParts(t *testing.T) {
	s := New(Config{SegmentSize: 1000, Database: "one"})
	it := s.item(Direct)
	ask := func(method, path, span string) *httptest.ResponseRecorder {
		return send(s, method, path, "Range", span, "X-Plex-Token", "owner-token", "X-Plex-Client-Identifier", "c")
	}
	w := ask("GET", it.partKey(), "bytes=5000-6999")
	if w.Code != 206 || w.Body.Len() != 2000 || w.Header().Get("Content-Range") != "bytes 5000-6999/600000" {
		t.Errorf("range: %d %v", w.Code, w.Header())
	}
	for n := range 2 {
		b, err := ReadBody(w.Body.Bytes()[n*1000:])
		if err != nil || b.Number != 5+n || b.Item != Direct || b.Session != "file" {
			t.Errorf("block %d is %v (%v)", n, b, err)
		}
	}
	whole := ask("GET", it.partKey(), "").Body.Bytes()
	if len(whole) != 600_000 || !bytes.Equal(whole[5000:7000], w.Body.Bytes()) {
		t.Error("ranges and whole disagree")
	}
	if w := ask("HEAD", it.partKey(), ""); w.Code != 200 || w.Header().Get("Content-Length") != "600000" || w.Body.Len() != 0 {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
	if got := ask("GET", fmt.Sprintf("/library/parts/%d/file.mkv", it.part), "bytes=0-9").Code; got != 206 {
		t.Errorf("old form: status %d", got)
	}
	other := New(Config{Database: "two"})
	if got := send(other, "GET", it.partKey(), "X-Plex-Token", "owner-token").Code; got != 404 {
		t.Errorf("part of another database: status %d", got)
	}
	clone := send(New(Config{SegmentSize: 1000, Database: "one", Name: "clone"}), "GET", it.partKey(), "X-Plex-Token", "owner-token")
	if !bytes.Equal(clone.Body.Bytes(), whole) {
		t.Error("clones have other files")
	}
}

func TestPartAfterADecisionToTranscode(t *testing.T) {
	s := New(Config{})
	const ids = "&X-Plex-Client-Identifier=c&X-Plex-Session-Identifier=x"
	decide(t, s, "path=/library/metadata/13&directPlay=0&protocol=hls"+ids)
	part := s.item(Direct).partKey() + "?X-Plex-Token=owner-token"
	if got := get(s, part+ids).Code; got != 503 {
		t.Errorf("status %d", got)
	}
	if got := get(s, part+"&X-Plex-Client-Identifier=c&X-Plex-Session-Identifier=y").Code; got != 200 {
		t.Errorf("ad hoc, without a decision: status %d", got)
	}
	decide(t, s, "path=/library/metadata/13&directPlay=1&protocol=hls"+ids)
	if got := get(s, part+ids).Code; got != 200 {
		t.Errorf("after a decision to play it: status %d", got)
	}
}

func TestChoiceIsPerServerAndUser(t *testing.T) {
	s := New(Config{UserTokens: []string{"guest"}})
	part := fmt.Sprintf("/library/parts/%d", s.item(Remux).part)
	if got := send(s, "PUT", part+"?audioStreamID=77&subtitleStreamID=88&X-Plex-Token=owner-token").Code; got != 200 {
		t.Fatalf("status %d", got)
	}
	body := func(s *Server, token, tsid string) Body {
		start := strings.Replace(startQuery("m3u8", Remux, tsid, tsid, tsid), "owner-token", token, 1)
		master := get(s, start)
		b, err := ReadBody(get(s, segmentPath(tsid, 0)).Body.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(master.Body.String(), "audio="+b.Audio+" subtitle="+b.Subtitle) {
			t.Errorf("start does not tell the choice: %s", master.Body)
		}
		return b
	}
	if b := body(s, "owner-token", "t1"); b.Audio != "77" || b.Subtitle != "88" {
		t.Errorf("owner gets %v", b)
	}
	if s.Jobs()[0].Kind != "gpu" {
		t.Error("a burnt subtitle leaves the video copied")
	}
	if b := body(s, "guest", "t2"); b.Audio == "77" || b.Subtitle != "0" {
		t.Errorf("guest gets %v", b)
	}
	if b := body(New(Config{}), "owner-token", "t3"); b.Audio == "77" || b.Subtitle != "0" {
		t.Errorf("another server gives %v", b)
	}
}
