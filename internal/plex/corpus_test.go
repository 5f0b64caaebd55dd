package plex

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The recorded answers of real servers lie outside of the repository, in the
// folder that PLEX_SAMPLES names. TestSamples says of each what it means.

// sampleDir returns the folder of recorded answers.
func sampleDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PLEX_SAMPLES")
	if dir == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("PLEX_SAMPLES must name the folder of recorded answers")
		}
		t.Skip("PLEX_SAMPLES does not name the folder of recorded answers")
	}
	return dir
}

func readSample(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(sampleDir(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sampleType is the Content-Type of a recorded answer.
func sampleType(name string) string {
	switch filepath.Ext(name) {
	case ".json":
		return "application/json"
	case ".xml":
		return "text/xml;charset=utf-8"
	case ".html":
		return "text/html"
	}
	return "text/event-stream"
}

// recordedSession is what matters of a session.
type recordedSession struct {
	key, id, client, user, state, transcode string
	work                                    Work
}

var recordedSessions = map[string][]recordedSession{
	"status-sessions.empty.json": {},
	"status-sessions.empty.xml":  {},
	"status-sessions.android-no-transcodesession.xml": {
		{"1", "session_id_1", "1234567890123456-com-plexapp-android", "User 1", "playing", "none", Copy},
	},
	"status-sessions.hw-vaapi-throttled.json": {{"1", "abc", "abc", "Sebastian", "playing", "abc", GPU}},
	"status-sessions.paused-video-copy.xml": {
		{"1", "2894294r2jf2038fj3098jgf3gt", "72483785378573857385", "example_usr", "paused", "example-session", Copy},
	},
	"status-sessions.sw-transcode.json": {{"9", "", "", "", "playing", "", CPU}},
	"status-sessions.track-directplay.xml": {
		{"3", "rxiscwekkvkpukgi3pm9nklp", "k5y3j33nmvjvd0uhvnd9zi2x", "APlexUser", "playing", "none", None},
	},
}

var recordedTranscodes = map[string][]Transcode{
	"transcode-sessions.empty.json": {},
	"transcode-sessions.music-copy.json": {{ID: "dfghtybntbretybrtyb", Progress: 2.5999999046325685, Speed: 1.2000000476837159,
		Context: "streaming", AudioDecision: "copy", Protocol: "dash", Container: "mp4", HwRequested: true}},
	"transcode-sessions.qsv.xml": {{ID: "qucs2leop3yzm0sng4urq1o0", Progress: 1.2999999523162842, Speed: 6.4000000953674316,
		Context: "streaming", SourceVideoCodec: "h264", VideoDecision: "transcode", AudioDecision: "transcode", Protocol: "dash",
		Container: "mp4", VideoCodec: "h264", Width: 1280, Height: 720, HwRequested: true, HwDecoding: "dxva2", HwEncoding: "qsv",
		StartedAt: time.UnixMilli(1611533677031)}},
	"transcodesession-object.nvenc-throttled.json": {{ID: "08sasi0sog15wpujup3m7hyf", Throttled: true, Progress: 59.599998474121094,
		Context: "streaming", SourceVideoCodec: "h264", VideoDecision: "transcode", AudioDecision: "transcode", SubtitleDecision: "copy",
		Protocol: "http", Container: "mkv", VideoCodec: "h264", HwRequested: true, HwDecoding: "nvdec", HwEncoding: "nvenc",
		HwFullPipeline: true, StartedAt: time.UnixMilli(1698175767611)}},
}

var recordedWork = map[string]Work{
	"transcode-sessions.music-copy.json":           Copy,
	"transcode-sessions.qsv.xml":                   GPU,
	"transcodesession-object.nvenc-throttled.json": GPU,
}

var recordedDecisions = map[string]struct {
	verdict Verdict
	work    Work
}{
	"decision.offline-refused-directplay-ok.json": {Verdict{General: 1000, DirectPlay: 1000,
		GeneralText: "Direct play OK.", DirectPlayText: "Direct play OK.", Part: "directplay"}, None},
	"decision.video-dash-transcode.json": {Verdict{General: 1001, DirectPlay: 3000, Transcode: 1001,
		GeneralText:    "Direct play not available; Conversion OK.",
		DirectPlayText: "App cannot direct play this item. Direct play is disabled.",
		TranscodeText:  "Direct play not available; Conversion OK.", Part: "transcode", Video: "transcode"}, GPU},
}

var recordedEvents = map[string][]Event{
	"eventsource.playing-update-ping.txt": {
		{Type: "playing", SessionKey: "45", Client: "4b453df1-8fb1-4aee-bfb9-3ea219fce481", State: "paused"},
		{Type: "transcodeSession.update", TranscodeID: "3gk8278lyxrc905hn8jgrgfr", Transcode: &Transcode{
			ID: "3gk8278lyxrc905hn8jgrgfr", Progress: 1.2999999523162842, Speed: 23.600000381469728, Context: "streaming",
			SourceVideoCodec: "h264", VideoDecision: "copy", AudioDecision: "transcode", Protocol: "dash", Container: "mp4",
			VideoCodec: "h264", Width: 1920, Height: 1080, HwRequested: true, StartedAt: time.UnixMilli(1704824487957)}},
	},
	"ws-playing.json": {{Type: "playing", SessionKey: "29", Client: "ytgcp5ywyn8xzsyp6yybukey", State: "playing"}},
}

// recordedElsewhere are answers this package does not read.
var recordedElsewhere = map[string]bool{
	"INDEX.md":                              true,
	"media-providers.free.json":             true,
	"metadata.movie-1036.json":              true,
	"playqueue.xml":                         true,
	"plextv-api-v2-resources.json":          true,
	"pms-log.same-client-kills-session.txt": true,
	"start.m3u8":                            true,
	"start.mpd":                             true,
	"statistics-resources.xml":              true,
	"timeline-response.json":                true,
}

func TestSamples(t *testing.T) {
	files, err := os.ReadDir(sampleDir(t))
	if err != nil {
		t.Fatal(err)
	}
	known := len(recordedSessions) + len(recordedTranscodes) + len(recordedDecisions) + len(recordedEvents) + len(recordedElsewhere)
	if want := known + 5; len(files) != want { // identity, preferences, root, unauthorized and the trace
		t.Errorf("%d files, want %d", len(files), want)
	}
	for _, file := range files {
		name := file.Name()
		t.Run(name, func(t *testing.T) {
			if want, ok := recordedSessions[name]; ok {
				testRecordedSessions(t, name, want)
			} else if want, ok := recordedTranscodes[name]; ok {
				testRecordedTranscodes(t, name, want)
			} else if want, ok := recordedDecisions[name]; ok {
				v, err := ReadDecision(sampleType(name), "", readSample(t, name))
				if err != nil {
					t.Fatal(err)
				}
				if v != want.verdict || v.Work() != want.work || v.Refused() || v.DirectPlays() != (want.work == None) {
					t.Errorf("read %+v, works %v; want %+v, %v", v, v.Work(), want.verdict, want.work)
				}
			} else if want, ok := recordedEvents[name]; ok {
				testRecordedEvents(t, name, want)
			} else if name == "identity.json" {
				got, err := newServer(t, body(sampleType(name), string(readSample(t, name)))).Identity(t.Context())
				if want := (Identity{"623cbfe8a679d4d8c68a6ffe3608aca44e8da703", "1.18.5.2309-f5213a238", true}); err != nil || got != want {
					t.Errorf("it is %+v, want %+v, error %v", got, want, err)
				}
			} else if name == "prefs.json" {
				testRecordedPreferences(t, readSample(t, name))
			} else if name == "root.xml" {
				if err := newServer(t, body(sampleType(name), string(readSample(t, name)))).Root(t.Context()); err != nil {
					t.Error(err)
				}
			} else if name == "unauthorized-401.body.html" {
				testRecordedRefusal(t, readSample(t, name))
			} else if name == "trace.plexweb-dash.json" {
				testRecordedTrace(t, readSample(t, name))
			} else if !recordedElsewhere[name] {
				t.Error("a new file: say what it means, or that it is not for us")
			}
		})
	}
}

func testRecordedSessions(t *testing.T, name string, want []recordedSession) {
	got, err := newServer(t, body(sampleType(name), string(readSample(t, name)))).Sessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d sessions, want %d", len(got), len(want))
	}
	for i, s := range got {
		transcode := "none"
		if s.Transcode != nil {
			transcode = s.Transcode.ID
		}
		if g := (recordedSession{s.Key, s.ID, s.Client, s.User, s.State, transcode, s.Work()}); g != want[i] {
			t.Errorf("session %+v, want %+v", g, want[i])
		}
		if s.Title == "" || s.RatingKey == "" || s.Type == "" || s.PlayerTitle == "" || s.Live {
			t.Errorf("session %+v", s)
		}
	}
}

func testRecordedTranscodes(t *testing.T, name string, want []Transcode) {
	doc := string(readSample(t, name))
	if strings.HasPrefix(name, "transcodesession-object.") {
		doc = `{"MediaContainer":{"size":1,"TranscodeSession":[` + doc + `]}}`
	}
	got, err := newServer(t, body(sampleType(name), doc)).Transcodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read\n%+v, want\n%+v", got, want)
	}
	for _, tr := range got {
		if tr.Work() != recordedWork[name] {
			t.Errorf("works %v, want %v", tr.Work(), recordedWork[name])
		}
	}
}

func testRecordedEvents(t *testing.T, name string, want []Event) {
	stream := string(readSample(t, name))
	if strings.HasPrefix(name, "ws-") {
		stream = "data: " + stream // one frame
	}
	var got []Event
	err := newServer(t, body("text/event-stream", stream)).Events(t.Context(), func(e Event) { got = append(got, e) })
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("heard\n%+v, want\n%+v", got, want)
	}
}

// testRecordedPreferences reads those of a server, with a secret among them.
func testRecordedPreferences(t *testing.T, doc []byte) {
	const hidden = `"id": "PlexOnlineMail"`
	if !strings.Contains(string(doc), hidden) {
		t.Fatal("the sample has another form")
	}
	got, err := newServer(t, body("application/json", string(doc))).Preferences(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := Preferences{
		PrefHardware: "false", PrefEncoders: "true", PrefRemuxOnly: "false", PrefTranscodes: "4", PrefRelay: "true",
		PrefPublished: "true", PrefAccessURLs: "https://example.com", PrefWithoutAuth: "", PrefSecure: "1", PrefLAN: "",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read\n%v, want\n%v", got, want)
	}
	if unknown := got.Unknown(); unknown != nil {
		t.Errorf("of a whole answer %v are not known", unknown)
	}
}

// testRecordedRefusal gives the body of a 401 with its status, and then, as a
// proxy in between might, with 200.
func testRecordedRefusal(t *testing.T, doc []byte) {
	for code, want := range map[int]error{http.StatusUnauthorized: ErrUnauthorized, http.StatusOK: ErrNotPMS} {
		c := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(code)
			w.Write(doc)
		})
		if _, err := c.Sessions(t.Context()); !errors.Is(err, want) {
			t.Errorf("with status %d: error %v, want %v", code, err, want)
		}
	}
}

func testRecordedTrace(t *testing.T, doc []byte) {
	var trace struct {
		Requests []struct {
			Method, Target string
			Headers        map[string]string
		}
	}
	if err := json.Unmarshal(doc, &trace); err != nil {
		t.Fatal(err)
	}
	const transcode, session, client = "5xsq5lodh1aivk9p54mmy448", "83rdtmgdmn9hl047mk4rac6w", "ecwh71kj68l3di7yloaa65v0"
	seen := map[Kind]int{}
	for _, asked := range trace.Requests {
		u, err := url.ParseRequestURI(asked.Target)
		if err != nil {
			t.Fatal(err)
		}
		want := Request{Token: "REDACTED", IDs: IDs{Client: client}}
		switch path := u.Path; {
		case path == "/playQueues":
			want.Kind, want.Writes = Local, true
		case path == "/photo/:/transcode":
			want.Kind, want.IDs = Artwork, IDs{}
		case path == "/library/metadata/1":
			want.Kind = Browse
		case path == "/status/sessions":
			want.Kind = Local
		case path == "/video/:/transcode/universal/decision":
			want.Kind, want.Transcode, want.Session = Decision, transcode, session
		case path == "/video/:/transcode/universal/start.mpd":
			want.Kind, want.Transcode, want.Session = Start, transcode, session
		case path == "/:/timeline":
			want.Kind, want.Writes, want.Session = Timeline, true, session
			want.Paused = strings.Contains(u.RawQuery, "&state=paused&")
		case strings.HasPrefix(path, "/video/:/transcode/universal/session/"+transcode+"/"):
			want = Request{Kind: Segment, IDs: IDs{Transcode: transcode}}
		default:
			t.Errorf("a new request: say what %s means", path)
			continue
		}
		r := &http.Request{Method: asked.Method, URL: u, Header: http.Header{}}
		for name, value := range asked.Headers {
			r.Header.Set(name, value)
		}
		if got := Identify(r); got != want {
			t.Errorf("%s %s is\n%+v, want\n%+v", asked.Method, u.Path, got, want)
		}
		seen[want.Kind]++
	}
	if len(trace.Requests) == 0 || seen[Segment] == 0 || seen[Timeline] == 0 || seen[Start] != 1 || seen[Decision] != 1 {
		t.Errorf("the trace holds %v", seen)
	}
}
