package integration

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
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// A viewer who leaves in the middle reaches us as a panic or a cancelled
// request.
func TestHangUpLeavesNothingBehind(t *testing.T) {
	servers := stand(t, 2, nil)
	b := load(t, strings.Replace(site(servers, replicated), "\tplexlb\n", "\tplexlb {\n\t\thealth_timeout 1m\n\t}\n", 1))
	for _, s := range servers {
		s.SetDelay(time.Minute)
	}
	ctx, hangUp := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			what := [...]string{"decision", "start.m3u8"}[i%2]
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf(
				"%s/video/:/transcode/universal/%s?path=%%2Flibrary%%2Fmetadata%%2F1&session=gone-%d&X-Plex-Client-Identifier=gone-%d&X-Plex-Token=%s", b.URL, what, i, i, token), nil)
			if res, err := http.DefaultClient.Do(r); err == nil {
				t.Errorf("status %d, want the request to be cut off", res.StatusCode)
				res.Body.Close()
			}
		})
	}
	// Not a moment before: what is cut off before it was read is read, and
	// may be answered, after the servers are fast again.
	eventually(t, "all are on their way", 10*time.Second, func() bool {
		playbacks, clients := b.ledger().Len()
		return playbacks == 20 && clients == 20
	})
	hangUp()
	wg.Wait()
	eventually(t, "nobody is remembered who was never answered", 3*time.Second, func() bool {
		playbacks, clients := b.ledger().Len()
		return playbacks == 0 && clients == 0
	})
	for _, s := range servers {
		s.SetDelay(0)
	}
	v := plextest.NewViewer(plextest.PlexWeb, b.URL, token, plextest.HEVC, 1)
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A stream that is cut off in the middle ends its request, not more.
	s := plextest.NewViewer(plextest.MusicHTTP, b.URL, token, plextest.Track, 2)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := v.Segment(t.Context(), 0); err != nil {
		t.Error(err)
	}
}

// An answer that is held back for a moment reaches the client as it was.
func TestAnswersArriveAsTheyAre(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 3<<20) // more than is held
	answers := map[string]http.HandlerFunc{
		"a decision that nobody can read": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, "what?")
		},
		"a decision larger than is held": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(big) },
		"a decision in pieces": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 5 {
				fmt.Fprintf(w, "piece %d\n", i)
				_ = http.NewResponseController(w).Flush()
			}
		},
		"an empty decision": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"a decision refused for the client's profile": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"MediaContainer":{"size":0,"generalDecisionCode":2000,"generalDecisionText":"Neither direct play nor conversion is available","transcodeDecisionCode":4005,"transcodeDecisionText":"Cannot convert this item. No conversion profile found for protocol http"}}`)
		},
		"a failure of every server": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Why", "disk")
			http.Error(w, "no disk", http.StatusInternalServerError)
		},
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			pms := func() *httptest.Server {
				s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if strings.HasPrefix(r.URL.Path, "/identity") {
						_, _ = io.WriteString(w, `<MediaContainer machineIdentifier="x"/>`)
						return
					}
					answer(w, r)
				}))
				t.Cleanup(s.Close)
				return s
			}
			one, two := pms(), pms()
			b := load(t, "{\nGLOBAL\nplexlb {\nmode replicated plex1\nserver plex1 "+one.Listener.Addr().String()+"\nserver plex2 "+two.Listener.Addr().String()+
				"\n}\n}\nHERE {\nheader X-Before us\nplexlb\n}\n")
			direct, err := http.Get(one.URL + "/video/:/transcode/universal/decision")
			if err != nil {
				t.Fatal(err)
			}
			want, _ := io.ReadAll(direct.Body)
			direct.Body.Close()
			for _, what := range []string{"decision", "start.mpd"} {
				status, header, body := b.get("/video/:/transcode/universal/" + what + "?path=x&session=" + what)
				if status != direct.StatusCode || body != string(want) {
					t.Errorf("%s: %d with %d bytes, want %d with %d", what, status, len(body), direct.StatusCode, len(want))
				}
				for _, key := range []string{"Content-Type", "X-Why"} {
					if got := header.Values(key); strings.Join(got, "|") != strings.Join(direct.Header.Values(key), "|") {
						t.Errorf("%s: %s is %q, want %q", what, key, got, direct.Header.Values(key))
					}
				}
				if got := header.Values("X-Before"); len(got) != 1 {
					t.Errorf("%s: what another directive has set is there as %q", what, got)
				}
			}
		})
	}
}

// The query that a client sent arrives to the letter, and an id is added only
// where there is none.
func TestRequestsArriveToTheLetter(t *testing.T) {
	servers := stand(t, 1, nil)
	b := load(t, site(servers, ""))
	for sent, want := range map[string]string{
		"/photo/:/transcode?url=%2Flibrary%2Fa%3Fb%3D%28c%29%26d&width=1":               "",
		"/video/:/transcode/universal/decision?path=%2Fx&session=mine&X=%28a%2Cb%29&&y": "",
		"/video/:/transcode/universal/decision?path=%2Fx&X-PLEX-Token=" + token:         "&session=plexlb-",
		"/video/:/transcode/universal/start.m3u8":                                       "session=plexlb-",
		"/library/sections/1/all?type=1;2&sort=a:b":                                     "",
	} {
		servers[0].ResetLog()
		b.get(sent)
		var got string
		for _, e := range servers[0].Log() {
			if e.Path != "/identity" && !strings.HasPrefix(e.Path, "/status") && !strings.HasPrefix(e.Path, "/transcode/s") && !strings.Contains(e.Path, "eventsource") {
				got = e.Path
				if e.Query != "" {
					got += "?" + e.Query
				}
			}
		}
		sent = strings.ReplaceAll(sent, token, "")
		if i := strings.Index(got, "X-PLEX-Token="); i >= 0 { // which the stand-in masks
			rest := got[i+len("X-PLEX-Token="):]
			if j := strings.Index(rest, "&"); j >= 0 {
				got = got[:i+len("X-PLEX-Token=")] + rest[j:]
			}
		}
		if want == "" && got != sent || want != "" && !strings.HasPrefix(strings.TrimPrefix(got, sent), want) && !strings.HasPrefix(strings.TrimPrefix(got, sent+"?"), want) {
			t.Errorf("sent %s\n got %s", sent, got)
		}
	}
}
