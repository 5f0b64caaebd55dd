package plextest

import (
	"encoding/xml"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func rows(t *testing.T, s *Server) []map[string]any {
	t.Helper()
	return list(tree(t, asOwner(s, "/status/sessions")), "Metadata")
}

func TestEmptyLists(t *testing.T) {
	s := New(Config{})
	for _, path := range []string{"/status/sessions", "/transcode/sessions", "/status/sessions/background"} {
		if got := asOwner(s, path).Body.String(); got != `{"MediaContainer":{"size":0}}` {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestSessionsLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Lag: 400 * time.Millisecond})
		get(s, startQuery("m3u8", "1", "T", "x", "c"))
		time.Sleep(399 * time.Millisecond)
		if got := len(rows(t, s)); got != 0 {
			t.Errorf("%d rows before the lag", got)
		}
		if got := asOwner(s, "/transcode/sessions/T").Code; got != 200 {
			t.Errorf("transcode: status %d", got)
		}
		time.Sleep(time.Millisecond)
		if got := len(rows(t, s)); got != 1 {
			t.Errorf("%d rows after it", got)
		}
	})
}

func TestEndedSessionsLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Lag: -1, Linger: 3 * time.Second})
		get(s, startQuery("m3u8", "1", "T", "x", "c"))
		get(s, timelineQuery("1", "stopped", "x", "c"))
		time.Sleep(2 * time.Second)
		if got := rows(t, s); len(got) != 1 || got[0]["TranscodeSession"] == nil {
			t.Errorf("rows %v", got)
		}
		if len(s.Playbacks()) != 0 || len(s.Jobs()) != 0 {
			t.Error("but it has ended")
		}
		time.Sleep(2 * time.Second)
		if got := rows(t, s); len(got) != 0 {
			t.Errorf("rows %v", got)
		}
	})
}

func TestTypesOfASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		get(s, startQuery("mpd", "1", "T", "x", "c")+"&X-Plex-Product=Plex%20Web&X-Plex-Platform=Chrome")
		time.Sleep(2 * time.Second)
		row := rows(t, s)[0]
		media := list(row, "Media")[0]
		part := list(media, "Part")[0]
		player := row["Player"].(map[string]any)
		session := row["TranscodeSession"].(map[string]any)
		for name, tc := range map[string]struct{ got, want any }{
			"sessionKey is a string":            {row["sessionKey"], "1"},
			"ratingKey is a string":             {row["ratingKey"], "1"},
			"librarySectionID is a string here": {row["librarySectionID"], "1"},
			"duration is a number":              {row["duration"], 600000.0},
			"optimizedForStreaming is 1":        {media["optimizedForStreaming"], 1.0},
			"or true":                           {part["optimizedForStreaming"], true},
			"hasThumbnail is a string":          {part["hasThumbnail"], "1"},
			"user id is a string":               {row["User"].(map[string]any)["id"], "1"},
			"user id is a number":               {player["userID"], 1.0},
			"machineIdentifier is the client":   {player["machineIdentifier"], "c"},
			"product":                           {player["product"], "Plex Web"},
			"Session.id is the identifier":      {row["Session"].(map[string]any)["id"], "x"},
			"the key has a prefix":              {session["key"], "/transcode/sessions/T"},
			"size is not known":                 {session["size"], -22.0},
			"flags are booleans":                {session["error"], false},
			"hardware was requested":            {session["transcodeHwRequested"], true},
			"decoder":                           {session["transcodeHwDecoding"], "nvdec"},
			"encoder":                           {session["transcodeHwEncoding"], "nvenc"},
			"pipeline":                          {session["transcodeHwFullPipeline"], true},
			"source":                            {session["sourceVideoCodec"], "hevc"},
			"protocol":                          {session["protocol"], "dash"},
			"delivered codec":                   {media["videoCodec"], "h264"},
			"delivered form has no file":        {part["file"], nil},
			"decision":                          {part["decision"], "transcode"},
		} {
			if tc.got != tc.want {
				t.Errorf("%s: %v, want %v", name, tc.got, tc.want)
			}
		}
		if _, ok := media["id"].(string); !ok {
			t.Errorf("Media.id is %T here", media["id"])
		}
		lib := list(tree(t, asOwner(s, "/library/metadata/1")), "Metadata")[0]
		if _, ok := list(lib, "Media")[0]["id"].(float64); !ok {
			t.Errorf("Media.id is %T in the library", list(lib, "Media")[0]["id"])
		}
		bare := list(tree(t, asOwner(s, "/transcode/sessions")), "TranscodeSession")
		if len(bare) != 1 || bare[0]["key"] != "T" {
			t.Errorf("transcodes %v", bare)
		}
	})
}

func TestGPUTranscodeSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Lag: -1, GPU: "vaapi", Unsettled: time.Second})
		get(s, startQuery("m3u8", "1", "T", "x", "c"))
		job := func() map[string]any { return rows(t, s)[0]["TranscodeSession"].(map[string]any) }
		time.Sleep(900 * time.Millisecond)
		j := job()
		if j["transcodeHwRequested"] != false || j["transcodeHwEncodingTitle"] != "Intel ()" || j["transcodeHwEncoding"] != nil ||
			j["progress"] != 0.0 || j["speed"] != 0.0 || j["videoDecision"] != "transcode" {
			t.Errorf("at first %v", j)
		}
		time.Sleep(100 * time.Millisecond)
		j = job()
		if j["transcodeHwRequested"] != true || j["transcodeHwEncoding"] != "vaapi" || j["progress"] == 0.0 {
			t.Errorf("then %v", j)
		}
	})
}

func TestHardwareAsTold(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg   Config
		start string
		want  map[string]any
	}{
		"qsv decodes by another interface": {Config{GPU: "qsv"}, startQuery("m3u8", HEVC, "T", "x", "c"),
			map[string]any{"transcodeHwDecoding": "dxva2", "transcodeHwEncoding": "qsv", "transcodeHwFullPipeline": false}},
		"mf encodes only": {Config{GPU: "mf"}, startQuery("m3u8", HEVC, "T", "x", "c"),
			map[string]any{"transcodeHwDecoding": nil, "transcodeHwEncoding": "mf", "transcodeHwFullPipeline": nil}},
		"software": {Config{NoHardware: true}, startQuery("m3u8", HEVC, "T", "x", "c"),
			map[string]any{"transcodeHwRequested": false, "transcodeHwEncoding": "", "transcodeHwEncodingTitle": "", "videoDecision": "transcode"}},
		"a remux requests what it does not use": {Config{}, startQuery("m3u8", Remux, "T", "x", "c"),
			map[string]any{"transcodeHwRequested": true, "transcodeHwEncoding": nil, "videoDecision": "copy", "audioDecision": "transcode"}},
		"so does music, which has no video": {Config{}, strings.Replace(startQuery("mpd", Track, "T", "x", "c"), "/video/", "/music/", 1),
			map[string]any{"transcodeHwRequested": true, "videoDecision": nil, "sourceVideoCodec": nil, "audioDecision": "copy"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(tc.cfg)
				get(s, tc.start)
				time.Sleep(2 * time.Second)
				j := list(tree(t, asOwner(s, "/transcode/sessions/T")), "TranscodeSession")[0]
				for name, want := range tc.want {
					if j[name] != want {
						t.Errorf("%s = %v, want %v", name, j[name], want)
					}
				}
			})
		})
	}
}

func TestPausedAndDirect(t *testing.T) {
	s := New(Config{Lag: -1})
	get(s, startQuery("m3u8", "1", "T", "x", "c"))
	get(s, timelineQuery("1", "paused", "x", "c"))
	get(s, s.item(Direct).partKey()+"?X-Plex-Token=owner-token&X-Plex-Client-Identifier=d&X-Plex-Session-Identifier=y")
	decide(t, s, "path=/library/metadata/17&directPlay=1&X-Plex-Client-Identifier=e")
	get(s, s.item(Track).partKey()+"?X-Plex-Token=owner-token&X-Plex-Client-Identifier=e")
	all := rows(t, s)
	if len(all) != 3 {
		t.Fatalf("%d rows", len(all))
	}
	if p := all[0]["Player"].(map[string]any); p["state"] != "paused" || all[0]["viewOffset"] != 5000.0 {
		t.Errorf("paused row %v", all[0])
	}
	adhoc, track := all[1], all[2]
	part := list(list(adhoc, "Media")[0], "Part")[0]
	if part["decision"] != "directplay" || part["file"] == nil || part["key"] == nil || list(part, "Stream")[0]["location"] != "direct" {
		t.Errorf("direct play %v", part)
	}
	if adhoc["TranscodeSession"] != nil || adhoc["Session"] != nil {
		t.Errorf("direct play without a decision has a Session: %v", adhoc)
	}
	if track["type"] != "track" || track["Session"] == nil {
		t.Errorf("direct play with a decision %v", track)
	}
}

func TestGuestsHaveNames(t *testing.T) {
	s := New(Config{Lag: -1, UserTokens: []string{"g1", "g2"}})
	get(s, strings.Replace(startQuery("m3u8", "1", "T", "x", "c"), "owner-token", "g2", 1))
	if u := rows(t, s)[0]["User"].(map[string]any); u["id"] != "3" {
		t.Errorf("user %v", u)
	}
}

func TestSessionsInXML(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		get(s, startQuery("m3u8", "1", "T", "x", "c"))
		get(s, s.item(Track).partKey()+"?X-Plex-Token=owner-token&X-Plex-Client-Identifier=d")
		time.Sleep(10 * time.Second)
		var doc struct {
			Size  string `xml:"size,attr"`
			Video []struct {
				TranscodeSession struct {
					Key       string `xml:"key,attr"`
					Throttled string `xml:"throttled,attr"`
					Hw        string `xml:"transcodeHwRequested,attr"`
				}
			}
			Track []struct {
				SessionKey string `xml:"sessionKey,attr"`
			}
		}
		w := get(s, "/status/sessions", "X-Plex-Token", "owner-token")
		if err := xml.Unmarshal(w.Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Size != "2" || len(doc.Video) != 1 || len(doc.Track) != 1 || doc.Track[0].SessionKey != "2" {
			t.Fatalf("document %+v", doc)
		}
		if ts := doc.Video[0].TranscodeSession; ts.Key != "/transcode/sessions/T" || ts.Throttled != "1" || ts.Hw != "1" {
			t.Errorf("transcode %+v", ts)
		}
		// Which comes first differs, as it does between versions.
		body := w.Body.String()
		video, track, _ := strings.Cut(body, "<Track")
		first := func(s string) string {
			if strings.Index(s, "<Media ") < strings.Index(s, "<User") {
				return "Media"
			}
			return "User"
		}
		if first(video) == first(track) {
			t.Error("elements come in one order")
		}
	})
}

func TestDownloadsHaveNoPlayer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Lag: -1})
		get(s, startQuery("m3u8", "1", "T", "x", "c"))
		get(s, startQuery("m3u8", "2", "D", "y", "c")+"&context=static")
		time.Sleep(2 * time.Second)
		if got := rows(t, s); len(got) != 1 {
			t.Errorf("%d rows", len(got))
		}
		transcodes := list(tree(t, asOwner(s, "/transcode/sessions")), "TranscodeSession")
		if len(transcodes) != 2 || transcodes[0]["context"] != "static" || transcodes[1]["context"] != "streaming" {
			t.Errorf("transcodes %v", transcodes)
		}
		time.Sleep(time.Minute)
		for _, j := range s.Jobs() {
			if j.TSID == "D" && !j.Complete {
				t.Error("a download is throttled")
			}
		}
	})
}
