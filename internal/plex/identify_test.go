package plex

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestIdentifyKind(t *testing.T) {
	const tc = "/video/:/transcode/universal/"
	for name, tc := range map[string]struct {
		method, target string
		kind           Kind
		writes         bool
		class          string
	}{
		"decision":                          {"GET", tc + "decision?session=a", Decision, false, "start"},
		"decision with a slash at its end":  {"GET", tc + "decision/", Decision, false, "start"},
		"HLS start":                         {"GET", tc + "start.m3u8?session=a", Start, false, "start"},
		"DASH start":                        {"GET", tc + "start.mpd", Start, false, "start"},
		"endless video stream":              {"GET", tc + "start.mkv", Start, false, "start"},
		"start without extension":           {"GET", tc + "start", Start, false, "start"},
		"start is a whole word":             {"GET", tc + "starting", Browse, false, "browse"},
		"music start":                       {"GET", "/music/:/transcode/universal/start.mp3", Start, false, "start"},
		"any type of transcode":             {"GET", "/hologram/:/transcode/universal/start.mpd", Start, false, "start"},
		"media playlist":                    {"GET", tc + "session/abc/base/index.m3u8", Segment, false, "segment"},
		"TS segment":                        {"GET", tc + "session/abc/base/00000.ts", Segment, false, "segment"},
		"init header":                       {"GET", tc + "session/abc/1/header", Segment, false, "segment"},
		"legacy DASH segment":               {"GET", tc + "dash/abc/0/4.m4s", Segment, false, "segment"},
		"segment asked for its length":      {"HEAD", tc + "session/abc/0/4.m4s", Segment, false, "segment"},
		"session without tail":              {"GET", tc + "session/abc", Segment, false, "segment"},
		"session without id":                {"GET", tc + "session/", Segment, false, "segment"},
		"segment behind a doubled slash":    {"GET", "/" + tc + "session/abc/0/1.m4s", Segment, false, "segment"},
		"sidecar subtitles":                 {"GET", tc + "subtitles?session=a", Subtitles, false, "segment"},
		"ping":                              {"GET", tc + "ping?session=a", Ping, false, "control"},
		"stop":                              {"GET", tc + "stop?session=a", Stop, true, "control"},
		"fallback":                          {"POST", tc + "fallback?session=a", Fallback, true, "control"},
		"fallback by GET":                   {"GET", tc + "fallback?session=a", Fallback, true, "control"},
		"encoder's progress":                {"PUT", "/video/:/transcode/session/abc/0b7f/progress", Callback, true, "control"},
		"encoder's manifest":                {"POST", "/video/:/transcode/session/abc/0b7f/manifest", Callback, true, "control"},
		"encoder's segment list":            {"GET", "/video/:/transcode/session/abc/0b7f/seglist", Callback, true, "control"},
		"part":                              {"GET", "/library/parts/42/1700000000/file.mkv", Part, false, "part"},
		"part asked for its length":         {"HEAD", "/library/parts/42/1700000000/file.mkv", Part, false, "part"},
		"part of old clients":               {"GET", "/library/parts/42/file.mkv", Part, false, "part"},
		"part by id alone":                  {"GET", "/library/parts/42", Part, false, "part"},
		"part without id":                   {"GET", "/library/parts/", Browse, false, "browse"},
		"seek previews are no playback":     {"GET", "/library/parts/42/indexes/sd/10000", Artwork, false, "browse"},
		"choice of streams":                 {"PUT", "/library/parts/42?audioStreamID=7", StreamChoice, true, "write"},
		"choice of streams by POST":         {"POST", "/library/parts/42/?audioStreamID=7", StreamChoice, true, "write"},
		"deleting a part is no choice":      {"DELETE", "/library/parts/42", Write, true, "write"},
		"putting below a part is no choice": {"PUT", "/library/parts/42/1700000000/file.mkv", Write, true, "write"},
		"timeline":                          {"GET", "/:/timeline?state=playing", Timeline, true, "timeline"},
		"timeline by POST":                  {"POST", "/:/timeline?state=playing", Timeline, true, "timeline"},
		"progress":                          {"GET", "/:/progress?key=1&state=playing", Timeline, true, "timeline"},
		"scrobble":                          {"GET", "/:/scrobble?key=1", Write, true, "write"},
		"unscrobble":                        {"GET", "/:/unscrobble?key=1", Write, true, "write"},
		"rate":                              {"PUT", "/:/rate?key=1&rating=8", Write, true, "write"},
		"rate by GET":                       {"GET", "/:/rate?key=1&rating=8", Write, true, "write"},
		"preferences":                       {"GET", "/:/prefs", Browse, false, "browse"},
		"changing preferences":              {"PUT", "/:/prefs?FriendlyName=x", Write, true, "write"},
		"section refresh":                   {"GET", "/library/sections/1/refresh", Write, true, "write"},
		"refresh of all sections":           {"GET", "/library/sections/all/refresh/", Write, true, "write"},
		"item refresh":                      {"PUT", "/library/metadata/1/refresh", Write, true, "write"},
		"item refresh by GET":               {"GET", "/library/metadata/1/refresh", Write, true, "write"},
		"section analysis":                  {"GET", "/library/sections/1/analyze", Write, true, "write"},
		"item analysis":                     {"GET", "/library/metadata/1/analyze", Write, true, "write"},
		"optimize":                          {"GET", "/library/optimize", Write, true, "write"},
		"search for matches only reads":     {"GET", "/library/metadata/1/matches", Browse, false, "browse"},
		"terminate":                         {"GET", "/status/sessions/terminate?sessionId=a", Write, true, "write"},
		"terminate by POST":                 {"POST", "/status/sessions/terminate?sessionId=a", Write, true, "write"},
		"session list":                      {"GET", "/status/sessions", Local, false, "browse"},
		"background session list":           {"GET", "/status/sessions/background", Local, false, "browse"},
		"transcode list":                    {"GET", "/transcode/sessions", Local, false, "browse"},
		"one transcode":                     {"GET", "/transcode/sessions/abc", Local, false, "browse"},
		"killing a transcode":               {"DELETE", "/transcode/sessions/abc", Local, true, "write"},
		"making a play queue":               {"POST", "/playQueues?type=video", Local, true, "write"},
		"reading a play queue":              {"GET", "/playQueues/12", Local, false, "browse"},
		"moving in a play queue":            {"PUT", "/playQueues/12/items/3/move", Local, true, "write"},
		"download queue":                    {"GET", "/downloadQueue/1/item/2/media", Local, false, "browse"},
		"sync":                              {"GET", "/sync/items/1", Local, false, "browse"},
		"live session":                      {"GET", "/livetv/sessions/0b7f/1/index.m3u8", Local, false, "browse"},
		"tuning a channel":                  {"POST", "/livetv/dvrs/1/channels/2/tune", Local, true, "write"},
		"tuning a channel by GET":           {"GET", "/livetv/dvrs/1/channels/2/tune", Local, true, "write"},
		"notifications":                     {"GET", "/:/websockets/notifications", Local, false, "browse"},
		"notifications in the singular":     {"GET", "/:/websocket/notifications", Local, false, "browse"},
		"notifications over HTTP/2":         {"CONNECT", "/:/websockets/notifications", Local, false, "browse"},
		"event stream":                      {"GET", "/:/eventsource/notifications?filters=playing", Local, false, "browse"},
		"remote control":                    {"GET", "/player/playback/skipNext?commandID=3", Local, true, "write"},
		"remote control's long poll":        {"GET", "/player/timeline/poll?wait=1", Local, false, "browse"},
		"players":                           {"GET", "/clients", Local, false, "browse"},
		"activities":                        {"GET", "/activities", Local, false, "browse"},
		"ending an activity":                {"DELETE", "/activities/0b7f", Local, true, "write"},
		"transient token":                   {"GET", "/security/token?type=delegation&scope=all", Local, true, "write"},
		"photo transcoder":                  {"GET", "/photo/:/transcode?url=%2Flibrary%2Fmetadata%2F1%2Fart%2F2", Artwork, false, "browse"},
		"thumb":                             {"GET", "/library/metadata/1/thumb/1700000000", Artwork, false, "browse"},
		"art":                               {"GET", "/library/metadata/1/art/1700000000", Artwork, false, "browse"},
		"composite of a playlist":           {"GET", "/playlists/1/composite/1700000000", Artwork, false, "browse"},
		"chapter picture":                   {"GET", "/library/media/1/chapterImages/3", Artwork, false, "browse"},
		"list of posters":                   {"GET", "/library/metadata/1/posters", Browse, false, "browse"},
		"uploading a poster":                {"POST", "/library/metadata/1/posters?url=x", Write, true, "write"},
		"replacing a thumb":                 {"PUT", "/library/metadata/1/thumb", Write, true, "write"},
		"media flag":                        {"GET", "/system/bundle/media/flags/audioCodec/aac", Artwork, false, "browse"},
		"system agents":                     {"GET", "/system/agents", Browse, false, "browse"},
		"resource":                          {"GET", "/:/resources/movie.png", Artwork, false, "browse"},
		"status":                            {"GET", "/status", Browse, false, "browse"},
		"history":                           {"GET", "/status/sessions/history/all", Local, false, "browse"},
		"playlist":                          {"GET", "/playlists/1/items", Browse, false, "browse"},
		"old transcoder":                    {"GET", "/video/:/transcode/segmented/start.m3u8", Browse, false, "browse"},
		"identity":                          {"GET", "/identity", Browse, false, "browse"},
		"root":                              {"GET", "/", Browse, false, "browse"},
		"root with slashes":                 {"GET", "///", Browse, false, "browse"},
		"item":                              {"GET", "/library/metadata/1?checkFiles=1", Browse, false, "browse"},
		"subtitle file":                     {"GET", "/library/streams/566408", Browse, false, "browse"},
		"search":                            {"GET", "/hubs/search?query=refresh", Browse, false, "browse"},
		"web client":                        {"GET", "/web/index.html", Browse, false, "browse"},
		"unknown read":                      {"GET", "/nothing/we/know", Browse, false, "browse"},
		"unknown HEAD":                      {"HEAD", "/nothing/we/know", Browse, false, "browse"},
		"unknown change":                    {"POST", "/nothing/we/know", Write, true, "write"},
		"deleting an item":                  {"DELETE", "/library/metadata/1", Write, true, "write"},
		"made-up method":                    {"BREW", "/library/metadata/1", Write, true, "write"},
		"pre-flight of a decision starts nothing": {"OPTIONS", tc + "decision?session=a", Browse, false, "browse"},
		"pre-flight of a timeline ends nothing":   {"OPTIONS", "/:/timeline?state=stopped", Browse, false, "browse"},
		"pre-flight of a change":                  {"OPTIONS", "/playQueues", Browse, false, "browse"},
		"posting a decision is not repeated":      {"POST", tc + "decision?session=a", Decision, true, "start"},
		"encoded colon":                           {"GET", "/video/%3A/transcode/universal/decision", Decision, false, "start"},
	} {
		t.Run(name, func(t *testing.T) {
			q := Identify(newRequest(t, tc.method, tc.target))
			if q.Kind != tc.kind || q.Writes != tc.writes || q.Class() != tc.class {
				t.Errorf("%s %s is %v, writes %v, class %s; want %v, %v, %s", tc.method, tc.target,
					q.Kind, q.Writes, q.Class(), tc.kind, tc.writes, tc.class)
			}
			if q.Stopped {
				t.Error("taken for the end of a playback")
			}
		})
	}
}

func TestIdentifyIDs(t *testing.T) {
	long := strings.Repeat("x", maxID)
	for name, tc := range map[string]struct {
		target string
		header http.Header
		want   IDs
	}{
		"transcode in the path": {segmentTarget, nil, IDs{Transcode: "transcode0f0playback01ab"}},
		"transcode in a legacy DASH path": {"/video/:/transcode/universal/dash/abc/0/initial.mp4", nil,
			IDs{Transcode: "abc"}},
		"transcode in an encoder's path": {"/video/:/transcode/session/abc/0b7f/progress", nil, IDs{Transcode: "abc"}},
		"transcode in a server's list":   {"/transcode/sessions/abc", nil, IDs{Transcode: "abc"}},
		"path before query": {"/transcode/sessions/abc?session=other&transcodeSessionId=third", nil,
			IDs{Transcode: "abc"}},
		"nothing but the path of a segment": {segmentTarget + "?session=other&X-Plex-Client-Identifier=c",
			http.Header{"X-Plex-Session-Identifier": {"s"}}, IDs{Transcode: "transcode0f0playback01ab"}},
		"percent-encoded in the path": {"/video/:/transcode/universal/session/a%20b/0/1.m4s", nil, IDs{Transcode: "a b"}},
		"all in the query of Plex Web": {startTarget, nil, IDs{Transcode: "transcode0f0playback01ab",
			Session: webSession, Client: webClient}},
		"timeline of Plex Web has no transcode": {timelineTarget, nil,
			IDs{Session: webSession, Client: webClient}},
		"all in headers": {"/:/timeline", http.Header{"X-Plex-Session-Identifier": {"s"},
			"X-Plex-Playback-Session-Id": {"p"}, "X-Plex-Client-Identifier": {"c"}}, IDs{Session: "s", Playback: "p", Client: "c"}},
		"query in another letter case": {"/:/timeline?x-plex-session-identifier=s&X-PLEX-PLAYBACK-SESSION-ID=p" +
			"&x-Plex-Client-identifier=c&SESSION=t", nil, IDs{"t", "s", "p", "c"}},
		"query before header": {"/:/timeline?X-Plex-Client-Identifier=q",
			http.Header{"X-Plex-Client-Identifier": {"h"}}, IDs{Client: "q"}},
		"empty in the query, so the header": {"/:/timeline?X-Plex-Client-Identifier=",
			http.Header{"X-Plex-Client-Identifier": {"h"}}, IDs{Client: "h"}},
		"app launch is no playback": {"/:/timeline?X-Plex-Session-Id=launch",
			http.Header{"X-Plex-Session-Id": {"launch"}}, IDs{}},
		"session before transcodeSessionId": {"/:/timeline?transcodeSessionId=b&session=a", nil, IDs{Transcode: "a"}},
		"transcodeSessionId alone":          {"/:/timeline?transcodeSessionId=b", nil, IDs{Transcode: "b"}},
		"first of several":                  {"/:/timeline?session=a&session=b", nil, IDs{Transcode: "a"}},
		"first usable of several":           {"/:/timeline?session=&session=%0a&session=b", nil, IDs{Transcode: "b"}},
		"percent-encoded":                   {"/:/timeline?session=%7Ba%2Db%7d+c", nil, IDs{Transcode: "{a-b} c"}},
		"plus in a header is a plus": {"/:/timeline", http.Header{"X-Plex-Client-Identifier": {"a+b%20"}},
			IDs{Client: "a+b%20"}},
		"badly encoded":                    {"/:/timeline?session=%zz", nil, IDs{}},
		"encoding cut short":               {"/:/timeline?session=abc%4", nil, IDs{}},
		"value with equals signs":          {"/:/timeline?session=a=b=", nil, IDs{Transcode: "a=b="}},
		"semicolons separate nothing":      {"/:/timeline?a=1;session=b", nil, IDs{}},
		"nested in another value":          {"/:/timeline?url=%2Fx%3Fsession%3Db", nil, IDs{}},
		"name as the end of another":       {"/:/timeline?mysession=b&xX-Plex-Client-Identifier=c", nil, IDs{}},
		"name without value":               {"/:/timeline?session&X-Plex-Client-Identifier", nil, IDs{}},
		"empty members":                    {"/:/timeline?&&&session=a&&", nil, IDs{Transcode: "a"}},
		"last of all":                      {"/:/timeline?key=%2F1&session=a", nil, IDs{Transcode: "a"}},
		"longest id":                       {"/:/timeline?session=" + long, nil, IDs{Transcode: long}},
		"too long an id":                   {"/:/timeline?session=x" + long, nil, IDs{}},
		"longest id, encoded":              {"/:/timeline?session=" + strings.Repeat("%78", maxID), nil, IDs{Transcode: long}},
		"too long an id, encoded":          {"/:/timeline?session=" + strings.Repeat("%78", maxID+1), nil, IDs{}},
		"too long an id in the path":       {"/video/:/transcode/universal/session/x" + long + "/0/1.m4s?session=a", nil, IDs{Transcode: "a"}},
		"control character":                {"/:/timeline?session=a%0Ab", nil, IDs{}},
		"control character far in":         {"/:/timeline?session=12345678%7F", nil, IDs{}},
		"control character early":          {"/:/timeline?session=%0012345678", nil, IDs{}},
		"control character in the path":    {"/video/:/transcode/universal/session/a%00b/0/1.m4s", nil, IDs{}},
		"control character in a header":    {"/:/timeline", http.Header{"X-Plex-Client-Identifier": {"a\r\nb"}}, IDs{}},
		"letters beyond ASCII":             {"/:/timeline?session=%C3%A4hnlich", nil, IDs{Transcode: "ähnlich"}},
		"look-alike names (long s)":        {"/:/timeline?%C5%BFession=a", nil, IDs{}},
		"empty header":                     {"/:/timeline", http.Header{"X-Plex-Client-Identifier": {}}, IDs{}},
		"first of several headers":         {"/:/timeline", http.Header{"X-Plex-Client-Identifier": {"a", "b"}}, IDs{Client: "a"}},
		"ids of a pre-flight":              {"OPTIONS /:/timeline?session=a", nil, IDs{Transcode: "a"}},
		"ids of a pre-flight in the path":  {"OPTIONS " + segmentTarget, nil, IDs{Transcode: "transcode0f0playback01ab"}},
		"segment without id, but a query":  {"/video/:/transcode/universal/session//?session=a", nil, IDs{Transcode: "a"}},
		"segment with doubled slashes":     {"/video/:/transcode//universal/session//abc//0/1.m4s", nil, IDs{Transcode: "abc"}},
		"sessions of ping and stop":        {"/video/:/transcode/universal/ping?session=a", nil, IDs{Transcode: "a"}},
		"device's own id as the transcode": {"/video/:/transcode/universal/start.m3u8?session=c", http.Header{"X-Plex-Client-Identifier": {"c"}}, IDs{Transcode: "c", Client: "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			method, target, ok := strings.Cut(tc.target, " ")
			if !ok {
				method, target = http.MethodGet, tc.target
			}
			r := newRequest(t, method, target)
			r.Header = tc.header
			if got := Identify(r).IDs; got != tc.want {
				t.Errorf("ids of %s are %+v, want %+v", target, got, tc.want)
			}
		})
	}
}

func TestIdentifyState(t *testing.T) {
	for name, tc := range map[string]struct {
		target          string
		stopped, paused bool
	}{
		"playing":                      {"/:/timeline?state=playing", false, false},
		"paused":                       {"/:/timeline?state=paused", false, true},
		"stopped":                      {"/:/timeline?time=1&state=stopped&session=a", true, false},
		"stopped in capitals":          {"/:/timeline?STATE=Stopped", true, false},
		"stopped, encoded":             {"/:/timeline?state=%73topped", true, false},
		"first of several":             {"/:/timeline?state=stopped&state=paused", true, false},
		"only a timeline has a state":  {"/library/metadata/1?state=stopped", false, false},
		"not known":                    {"/:/timeline?state=dancing", false, false},
		"another name's end":           {"/:/timeline?estate=stopped", false, false},
		"stopped by the other address": {"/:/progress?state=stopped", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			q := Identify(newRequest(t, http.MethodGet, tc.target))
			if q.Stopped != tc.stopped || q.Paused != tc.paused {
				t.Errorf("stopped %v, paused %v; want %v, %v", q.Stopped, q.Paused, tc.stopped, tc.paused)
			}
		})
	}
}

func TestIdentifyToken(t *testing.T) {
	signed := strings.Repeat("t", 1000) // newer tokens are far longer than ids
	for name, tc := range map[string]struct {
		target, header, want string
	}{
		"in the query":                 {"/?X-Plex-Token=t", "", "t"},
		"in the query, lowercase":      {"/?x-plex-token=t", "", "t"},
		"in the header":                {"/", "h", "h"},
		"query before header":          {"/?X-Plex-Token=t", "h", "t"},
		"longer than an id":            {"/?X-Plex-Token=" + signed, "", signed},
		"not that of a nested picture": {"/photo/:/transcode?url=%2Fa%3FX-Plex-Token%3Dnested", "", ""},
		"too long":                     {"/?X-Plex-Token=" + strings.Repeat("t", maxToken+1), "", ""},
		"with a line break":            {"/?X-Plex-Token=a%0Ab", "", ""},
		"none, as players of segments": {segmentTarget, "", ""},
		"not read off segments at all": {segmentTarget + "?X-Plex-Token=t", "h", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRequest(t, http.MethodGet, tc.target)
			if tc.header != "" {
				r.Header.Set("x-plex-token", tc.header)
			}
			if got := Identify(r).Token; got != tc.want {
				t.Errorf("token %.20q…, want %.20q…", got, tc.want)
			}
		})
	}
}

func TestIdentifyMusic(t *testing.T) {
	for target, want := range map[string]bool{
		"/music/:/transcode/universal/start.mp3":           true,
		"/audio/:/transcode/universal/decision":            true,
		"/music/:/transcode/universal/session/abc/0/1.m4s": true,
		"/video/:/transcode/universal/session/abc/0/1.m4s": false,
		"/video/:/transcode/universal/start.mpd":           false,
		"/music/and/nothing/else":                          false,
	} {
		if got := Identify(newRequest(t, http.MethodGet, target)).Music; got != want {
			t.Errorf("Music of %s is %v, want %v", target, got, want)
		}
	}
}

func TestIdentifyOddRequests(t *testing.T) {
	for name, r := range map[string]*http.Request{
		"nothing in it": {},
		"empty URL":     {Method: http.MethodGet, URL: &url.URL{}},
		"star":          {Method: http.MethodGet, URL: &url.URL{Path: "*"}},
		"opaque":        {Method: http.MethodGet, URL: &url.URL{Opaque: "video/:/transcode"}},
		"no slash":      {Method: http.MethodGet, URL: &url.URL{Path: "video/:/transcode/universal/session/abc/0"}},
	} {
		t.Run(name, func(t *testing.T) {
			if q := Identify(r); q != (Request{}) {
				t.Errorf("read %+v out of nothing", q.IDs)
			}
		})
	}
}

func TestIdentifyAllocatesNothing(t *testing.T) {
	for _, target := range []string{segmentTarget, timelineTarget, startTarget} {
		r := newRequest(t, http.MethodGet, target)
		if n := testing.AllocsPerRun(100, func() { Identify(r) }); n != 0 {
			t.Errorf("%.40s… allocates %v times", target, n)
		}
	}
}

func TestKindNames(t *testing.T) {
	seen := map[string]bool{}
	for k := Browse; k <= Write; k++ {
		word := k.String()
		if word == "" || word == "unknown" || word != strings.ToLower(word) || seen[word] {
			t.Errorf("kind %d is called %q", k, word)
		}
		seen[word] = true
	}
	if got := (Write + 1).String(); got != "unknown" {
		t.Errorf("a kind that is none is called %q", got)
	}
}

// slowly returns the first usable id of that name, read the obvious way.
func slowly(query, name string) string {
	for member := range strings.SplitSeq(query, "&") {
		if n, value, ok := strings.Cut(member, "="); ok && len(n) == len(name) && strings.EqualFold(n, name) {
			if id := ident(value, true); id != "" {
				return id
			}
		}
	}
	return ""
}

// FuzzIdentify looks for requests that break what the rest of the house
// relies on.
func FuzzIdentify(f *testing.F) {
	for _, target := range []string{segmentTarget, timelineTarget, startTarget,
		"/library/parts/1/2/file.mkv?X-Plex-Client-Identifier=%41", "//:/:/transcode//universal/session//", "/%00"} {
		path, query, _ := strings.Cut(target, "?")
		f.Add("GET", path, query, "client", "session")
	}
	f.Add("GET", "/:/timeline", "a=b&session=1234567&&'&transcodeSessionId=x&x-plex-playback-session-id=%41&state=stopped&s", "", "")
	f.Add("OPTIONS", "/:/timeline", "state=stopped&session=%", "\x00", "")
	f.Add("PUT", "/library/parts/1", "transcodeSessionId=a&SESSION=%2b+", strings.Repeat("x", 300), "a")
	f.Fuzz(func(t *testing.T, method, path, query, client, session string) {
		r := &http.Request{
			Method: method,
			URL:    &url.URL{Path: path, RawQuery: query},
			Header: http.Header{"X-Plex-Client-Identifier": {client}, "X-Plex-Session-Identifier": {session}},
		}
		before := *r.URL
		q := Identify(r)
		if *r.URL != before {
			t.Fatal("the URL was changed")
		}
		if Identify(r) != q {
			t.Fatal("asked twice, answered differently")
		}
		for _, id := range []string{q.Transcode, q.Session, q.Playback, q.Client} {
			if len(id) > maxID || strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("%q passed for an id", id)
			}
		}
		if len(q.Token) > maxToken {
			t.Fatalf("a token of %d bytes", len(q.Token))
		}
		if q.Kind.String() == "unknown" || q.Class() == "" {
			t.Fatalf("kind %d", q.Kind)
		}
		if q.Class() == "write" && !q.Writes || q.Class() == "browse" && q.Writes {
			t.Fatalf("class %s, writes %v", q.Class(), q.Writes)
		}
		if id := ident(locate(path).id, false); id != "" && q.Transcode != id {
			t.Fatalf("the path says %q, we say %q", id, q.Transcode)
		}
		if typ, id, ok := segmentOf(path); ok {
			if p := locate(path); p.kind != Segment || p.id != id || p.music != isMusic(typ) {
				t.Fatalf("the short way says %q %q, the long way %+v", typ, id, p)
			}
		}
		if q.Kind == Segment && q.Transcode != "" && locate(path).id != "" {
			return // nothing else is read
		}
		want := IDs{
			Transcode: cmp.Or(ident(locate(path).id, false), slowly(query, "session"), slowly(query, "transcodeSessionId")),
			Session:   cmp.Or(slowly(query, "X-Plex-Session-Identifier"), ident(session, false)),
			Playback:  slowly(query, "X-Plex-Playback-Session-Id"),
			Client:    cmp.Or(slowly(query, "X-Plex-Client-Identifier"), ident(client, false)),
		}
		if q.IDs != want {
			t.Fatalf("read %+v, slowly %+v", q.IDs, want)
		}
		if method == http.MethodOptions && (q.Kind != Browse || q.Writes || q.Stopped) {
			t.Fatalf("a pre-flight as %v", q.Kind)
		}
	})
}

func newRequest(t testing.TB, method, target string) *http.Request {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Request{Method: method, URL: u, Header: http.Header{}}
}

const (
	segmentTarget = "/video/:/transcode/universal/session/transcode0f0playback01ab/1/0.m4s"

	// webTail has the members Plex Web appends to its requests, in its order
	// [P §3.2], with values of ours.
	webTail = "&X-Plex-Product=Plex%20Web&X-Plex-Version=4.200.0&X-Plex-Client-Identifier=" + webClient +
		"&X-Plex-Platform=Firefox&X-Plex-Platform-Version=130.0&X-Plex-Features=one-feature%2Canother-feature%2Cand-a-third" +
		"&X-Plex-Model=bundled&X-Plex-Device=Linux&X-Plex-Device-Name=Firefox&X-Plex-Device-Screen-Resolution=1600x800%2C1600x900" +
		"&X-Plex-Token=nobodys-token&X-Plex-Language=en&X-Plex-Session-Id=00000000-1111-2222-3333-444444444444"

	webClient  = "aaaabbbbccccddddeeeeffff"
	webSession = "gggghhhhiiiijjjjkkkkllll"

	timelineTarget = "/:/timeline?ratingKey=7&key=%2Flibrary%2Fmetadata%2F7&playbackTime=5000&playQueueItemID=3&state=playing&hasMDE=1" +
		"&context=source%3Ahub.home.continue&row=2&col=4&time=60000&duration=5400000" + webTail +
		"&X-Plex-Drm=widevine&X-Plex-Text-Format=plain&X-Plex-Provider-Version=7.0&X-Plex-Session-Identifier=" + webSession

	startTarget = "/video/:/transcode/universal/start.mpd?hasMDE=1&path=%2Flibrary%2Fmetadata%2F7&mediaIndex=0&partIndex=0&protocol=dash" +
		"&fastSeek=1&directPlay=0&directStream=1&subtitleSize=100&audioBoost=100&location=wan&addDebugOverlay=0&autoAdjustQuality=0" +
		"&directStreamAudio=1&mediaBufferSize=50000&session=transcode0f0playback01ab&subtitles=burn&Accept-Language=en" +
		"&X-Plex-Session-Identifier=" + webSession + "&X-Plex-Client-Profile-Extra=add-limitation%28scope%3DvideoCodec%26scopeName%3Dhevc" +
		"%26type%3DupperBound%26name%3Dvideo.width%26value%3D1920%29&X-Plex-Incomplete-Segments=1" + webTail
)

func BenchmarkIdentify(b *testing.B) {
	browser := http.Header{
		"Referer":          {"https://plex.example.com/web/index.html"},
		"User-Agent":       {"Mozilla/5.0"},
		"Accept":           {"application/json"},
		"Accept-Language":  {"es"},
		"X-Requested-With": {"XMLHttpRequest"},
	}
	for name, target := range map[string]string{
		"segment":  segmentTarget,
		"timeline": timelineTarget,
		"start":    startTarget,
	} {
		b.Run(name, func(b *testing.B) {
			r := newRequest(b, http.MethodGet, target)
			r.Header = browser
			b.ReportAllocs()
			for b.Loop() {
				Identify(r)
			}
		})
	}
}
