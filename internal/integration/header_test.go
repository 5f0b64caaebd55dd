package integration

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// encoded is a film whose header says who has encoded it, and whose segments
// say who and what they are. Its sound is the same everywhere.
type encoded struct{ by atomic.Value }

func encodedBy(name string) *encoded {
	m := new(encoded)
	m.by.Store(name)
	return m
}

func (m *encoded) Header(rep string) []byte {
	if rep == "1" {
		return []byte("header of the sound|")
	}
	return fmt.Appendf(nil, "header of %s|", m.by.Load())
}

func (m *encoded) Segment(rep string, n int) []byte {
	return fmt.Appendf(nil, "segment %d of %s by %s", n, rep, m.by.Load())
}

func (m *encoded) Codecs(rep string) string {
	return map[string]string{"0": "avc1.640028", "1": "mp4a.40.2"}[rep]
}

// What players decode with: after a playback went on from another encoder its
// segments bring that one's header with them, if the player has another.
func TestSegmentsOfAnotherEncoder(t *testing.T) {
	const folder = "/video/:/transcode/universal/session/headers/"
	for name, tc := range map[string]struct{ here, there string }{
		"of another make": {"one", "two"},
		"of the same":     {"one", "one"},
	} {
		t.Run(name, func(t *testing.T) {
			media := []*encoded{encodedBy(tc.there), encodedBy(tc.here)}
			servers := stand(t, 2, func(i int, cfg *plextest.Config) { cfg.Media = media[i] })
			b := load(t, site(servers, replicated, 1, 1000))
			get := func(path string) string {
				t.Helper()
				res, err := http.Get(b.URL + path)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				if err != nil || res.StatusCode != http.StatusOK {
					t.Fatalf("%s: %s: %v", path, res.Status, err)
				}
				return string(body)
			}
			expect := func(path, want string) {
				t.Helper()
				if got := get(folder + path); got != want {
					t.Errorf("%s is %q, want %q", path, got, want)
				}
			}
			// changed is what goes in front of segments of an encoder that is
			// not that of the player's header.
			changed := func(by, has string) string {
				if by == has {
					return ""
				}
				return "header of " + by + "|"
			}
			ask := "?path=%2Flibrary%2Fmetadata%2F1&protocol=dash&session=headers&X-Plex-Client-Identifier=device&X-Plex-Token=" + token
			get("/video/:/transcode/universal/decision" + ask)
			get("/video/:/transcode/universal/start.mpd" + ask)
			expect("0/header", "header of "+tc.here+"|")
			expect("1/header", "header of the sound|")
			expect("0/0.m4s", "segment 0 of 0 by "+tc.here)

			addr := servers[1].Addr()
			servers[1].Close()
			expect("0/1.m4s", changed(tc.there, tc.here)+"segment 1 of 0 by "+tc.there)
			expect("0/2.m4s", changed(tc.there, tc.here)+"segment 2 of 0 by "+tc.there)
			expect("1/1.m4s", "segment 1 of 1 by "+tc.there)
			expect("base/00001.ts", "segment 1 of base by "+tc.there)

			// Back where it was, the player has the other header still.
			if err := servers[1].StartOn(addr); err != nil {
				t.Fatal(err)
			}
			servers[0].Close()
			expect("0/3.m4s", changed(tc.here, tc.there)+"segment 3 of 0 by "+tc.here)

			// Who fetches the header has it.
			expect("0/header", "header of "+tc.here+"|")
			expect("0/4.m4s", "segment 4 of 0 by "+tc.here)

			// The same server may have been brought up to date.
			media[1].by.Store("three")
			servers[1].Restart()
			expect("0/5.m4s", changed("three", tc.here)+"segment 5 of 0 by three")
			expect("1/5.m4s", "segment 5 of 1 by three")
		})
	}
}
