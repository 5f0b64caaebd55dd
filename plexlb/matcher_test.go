package plexlb

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func TestMatch(t *testing.T) {
	for request, want := range map[string]string{
		"GET /video/:/transcode/universal/decision?session=a":      "start",
		"GET /video/:/transcode/universal/start.m3u8?session=a":    "start",
		"GET /music/:/transcode/universal/start.mp3":               "start",
		"GET /video/:/transcode/universal/session/a/base/00001.ts": "segment",
		"GET /video/:/transcode/universal/subtitles?session=a":     "segment",
		"GET /library/parts/42/1700000000/file.mkv":                "part",
		"HEAD /library/parts/42/1700000000/file.mkv":               "part",
		"GET /:/timeline?state=playing":                            "timeline",
		"POST /:/timeline?state=stopped":                           "timeline",
		"GET /video/:/transcode/universal/ping?session=a":          "control",
		"GET /video/:/transcode/universal/stop?session=a":          "control",
		"GET /library/sections/1/all":                              "browse",
		"GET /photo/:/transcode?url=x":                             "browse",
		"GET /playQueues/1":                                        "browse",
		"OPTIONS /library/sections/1/refresh":                      "browse",
		"GET /nothing/we/know":                                     "browse",
		"GET /:/scrobble?key=1":                                    "write",
		"GET /library/sections/1/refresh":                          "write",
		"PUT /library/parts/42?audioStreamID=1":                    "write",
		"POST /playQueues?uri=x":                                   "write",
		"DELETE /library/metadata/1":                               "write",
	} {
		method, target, _ := strings.Cut(request, " ")
		r := httptest.NewRequest(method, target, nil)
		for _, kind := range Kinds {
			got, err := Match{kind}.MatchWithError(r)
			if err != nil || got != (kind == want) {
				t.Errorf("%s matches %s: %t, %v; it is %s", request, kind, got, err, want)
			}
		}
		if got, _ := Match(Kinds).MatchWithError(r); !got {
			t.Errorf("%s is of no kind", request)
		}
		others := slices.DeleteFunc(slices.Clone(Kinds), func(k string) bool { return k == want })
		if got, _ := Match(others).MatchWithError(r); got {
			t.Errorf("%s is %s and matches the other kinds", request, want)
		}
	}
}

func TestMatchFromCaddyfile(t *testing.T) {
	var m Match
	if err := m.UnmarshalCaddyfile(caddyfile.NewTestDispenser("plex start segment\nplex part")); err != nil {
		t.Fatal(err)
	}
	if want := (Match{"start", "segment", "part"}); !slices.Equal(m, want) {
		t.Errorf("matches %v, want %v", m, want)
	}
	for input, want := range map[string]string{
		"plex":                    "needs a kind of request",
		"plex watch":              `unknown kind "watch": use one or more of start, segment`,
		"plex start {\n part\n}":  "plex takes no block",
		"plex start\nplex Part\n": `unknown kind "Part"`,
	} {
		err := new(Match).UnmarshalCaddyfile(caddyfile.NewTestDispenser(input))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %s", input, err, want)
		}
	}
}
