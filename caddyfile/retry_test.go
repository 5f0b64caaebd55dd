package caddyfile

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/plexlb/caddy-plexlb/internal/plex"
	"github.com/plexlb/caddy-plexlb/plexlb"
)

// retried returns what the directive has reverse_proxy retry.
func retried(t testing.TB) func(*http.Request) bool {
	t.Helper()
	proxy := new(reverseproxy.Handler)
	if err := fill(proxy, nil, []*plexlb.Server{{Name: "plex1", Address: "docker1"}}, false); err != nil {
		t.Fatal(err)
	}
	if n := len(proxy.LoadBalancing.RetryMatchRaw); n != 1 {
		t.Fatalf("%d matcher sets, want 1", n)
	}
	var methods caddyhttp.MatchMethod
	var kinds plexlb.Match
	for name, raw := range proxy.LoadBalancing.RetryMatchRaw[0] {
		to := any(&methods)
		if name == "plex" {
			to = &kinds
		}
		if err := json.Unmarshal(raw, to); err != nil {
			t.Fatal(err)
		}
	}
	return func(r *http.Request) bool {
		kind, err := kinds.MatchWithError(r)
		if err != nil {
			t.Fatal(err)
		}
		return kind && methods.Match(r)
	}
}

func request(method, target string) *http.Request {
	path, query, _ := strings.Cut(target, "?")
	return &http.Request{Method: method, URL: &url.URL{Path: path, RawQuery: query}, Header: make(http.Header)}
}

// A request that may have changed something on a server that did not answer is
// not sent to another.
func TestRetriesNeverWrite(t *testing.T) {
	matches := retried(t)
	targets := map[string]bool{ // and whether a GET is retried
		"/video/:/transcode/universal/decision?session=a":        true,
		"/video/:/transcode/universal/start.m3u8?session=a":      true,
		"/video/:/transcode/universal/session/a/base/00001.ts":   true,
		"/video/:/transcode/universal/subtitles?session=a":       true,
		"/video/:/transcode/universal/ping?session=a":            false,
		"/video/:/transcode/universal/stop?session=a":            false,
		"/video/:/transcode/universal/fallback?session=a":        false,
		"/video/:/transcode/session/a/b/seglist":                 false,
		"/video/:/transcode/session/a/b/progress":                false,
		"/library/parts/42/1700000000/file.mkv":                  true,
		"/library/parts/42":                                      true,
		"/library/metadata/1":                                    true,
		"/library/metadata/1/thumb/1700000000":                   true,
		"/photo/:/transcode?url=%2Flibrary%2Fmetadata%2F1%2Fart": true,
		"/library/sections/1/all":                                true,
		"/library/sections/1/refresh":                            false,
		"/library/sections/all/refresh/":                         false,
		"/library/sections/1/analyze":                            false,
		"/library/sections/1/emptyTrash":                         false,
		"/library/metadata/1/refresh":                            false,
		"/library/metadata/1/match":                              false,
		"/library/optimize":                                      false,
		"/:/timeline?state=playing":                              false,
		"/:/progress?key=1&time=2":                               false,
		"/:/scrobble?key=1":                                      false,
		"//:/scrobble?key=1":                                     false,
		"/:/unscrobble?key=1":                                    false,
		"/:/rate?key=1&rating=8":                                 false,
		"/status/sessions":                                       true,
		"/status/sessions/terminate?sessionId=a":                 false,
		"/security/token?type=delegation":                        false,
		"/livetv/dvrs/1/channels/2/tune":                         false,
		"/player/playback/pause":                                 false,
		"/playQueues/1":                                          true,
		"/hubs":                                                  true,
		"/":                                                      true,
	}
	for target, want := range targets {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "get", ""} {
			want := want && (method == "GET" || method == "HEAD")
			r := request(method, target)
			if got := matches(r); got != want {
				t.Errorf("%s %s: retried %t, want %t", method, target, got, want)
			}
			if matches(r) && plex.Identify(r).Writes {
				t.Errorf("%s %s: retried and writes", method, target)
			}
		}
	}
}

func FuzzRetriesNeverWrite(f *testing.F) {
	matches := retried(f)
	f.Add("GET", "/:/scrobble?key=1")
	f.Add("HEAD", "/library/sections/1/refresh")
	f.Add("GET", "/video/:/transcode/universal/stop?session=a")
	f.Add("PUT", "/library/parts/42?audioStreamID=1")
	f.Fuzz(func(t *testing.T, method, target string) {
		if r := request(method, target); matches(r) && (plex.Identify(r).Writes || method != "GET" && method != "HEAD") {
			t.Errorf("%s %s: retried and writes", method, target)
		}
	})
}
