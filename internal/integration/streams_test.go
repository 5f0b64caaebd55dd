package integration

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// A client that stops, or begins again, at another place or with the next track,
// has its server end the stream that it had. That is no loss.
func TestStreamThatItsClientReplacesIsNotLost(t *testing.T) {
	for name, next := range map[string]string{
		"another place":      "&session=t0&X-Plex-Session-Identifier=x0&offset=40",
		"the next track":     "&session=t1&X-Plex-Session-Identifier=x1",
		"a track after that": "&session=t0&X-Plex-Session-Identifier=x1",
		"silence":            "",
	} {
		t.Run(name, func(t *testing.T) {
			servers := stand(t, 2, nil)
			b := load(t, site(servers, replicated))
			tune := func(more string) *http.Response {
				t.Helper()
				ask := "?path=%2Flibrary%2Fmetadata%2F" + plextest.Track + "&protocol=http&X-Plex-Client-Identifier=phone&X-Plex-Token=" + token + more
				if status, _, _ := b.get("/music/:/transcode/universal/decision" + ask); status != http.StatusOK {
					t.Fatalf("decision: status %d", status)
				}
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.URL+"/music/:/transcode/universal/start.mp3"+ask, nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { res.Body.Close() })
				if res.StatusCode != http.StatusOK {
					t.Fatalf("start: status %d", res.StatusCode)
				}
				return res
			}
			for round := range 5 {
				before := fmt.Sprintf("&session=t0&X-Plex-Session-Identifier=x0&round=%d", round)
				former := tune(before)
				if _, err := io.ReadFull(former.Body, make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
				if next == "" {
					_, _, _ = b.get("/:/timeline?state=stopped&ratingKey=" + plextest.Track + "&X-Plex-Client-Identifier=phone&X-Plex-Token=" + token + before)
					if _, err := io.Copy(io.Discard, former.Body); err == nil {
						t.Fatal("the stream came to its end: the test tests nothing")
					}
					continue
				}
				later := tune(next)
				if _, err := io.Copy(io.Discard, former.Body); err == nil {
					t.Fatal("the former stream came to its end: the test tests nothing")
				}
				if _, err := io.ReadFull(later.Body, make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(200 * time.Millisecond)
			if lost := b.ledger().Totals().Lost; lost > 0 {
				t.Errorf("%d streams count as lost", lost)
			}
		})
	}
}
