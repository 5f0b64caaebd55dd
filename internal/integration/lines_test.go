package integration

import (
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// Each placement is one line at debug, each move one at info, each loss one at
// warn, as they are counted and told by events.
func TestOneLineForEachPlacementMoveAndLoss(t *testing.T) {
	for mode, more := range map[string]string{"separate": "", "replicated": replicated} {
		t.Run(mode, func(t *testing.T) {
			var in inbox
			hook := httptest.NewServer(&in)
			t.Cleanup(hook.Close)
			file := filepath.Join(t.TempDir(), "caddy.log")
			m := &managed{admin: freeAddr(t), servers: stand(t, 2, func(_ int, cfg *plextest.Config) {
				cfg.MachineIdentifier, cfg.Database = "clone", "clone"
			})}
			config := strings.Replace(m.config(more, ""), "log {\n\t\toutput discard\n\t}",
				"log {\n\t\tlevel DEBUG\n\t\toutput file "+file+"\n\t\tformat json\n\t}\n\tevents {\n\t\ton plexlb.session_moved plexlb_webhook "+
					hook.URL+"\n\t\ton plexlb.session_lost plexlb_webhook "+hook.URL+"\n\t}", 1)
			m.balancer = load(t, config)
			a := invite(t, m.URL, 12, plextest.PlexWeb, plextest.Mobile, plextest.MusicHTTP, plextest.DirectPlay, plextest.Plezy, plextest.OpenPHT)
			a.play(27 * time.Second)
			time.Sleep(time.Second)
			if mode == "replicated" {
				for i, v := range a.viewers[:2] {
					to := map[string]string{"plex1": "plex2", "plex2": "plex1"}[a.at()[i]]
					if err := m.app().Move(t.Context(), v.TSID, to); err != nil {
						t.Error(err)
					}
				}
				m.servers[0].Forget() // some are begun anew where they are
				time.Sleep(2 * time.Second)
			}
			m.servers[1].Close()
			a.wg.Wait() // in mode separate, what was there is lost after fifteen seconds
			time.Sleep(2 * time.Second)

			events := func(name string) int { return len(in.of(name)) }
			lines := readLog(t, file)
			for what, tc := range map[string]struct {
				level, message string
				fields         []string
				want           int
			}{
				"placements": {"debug", "playback placed", []string{"session", "server", "reason", "kind"},
					int(scrape(t, m.admin).sum("placements_total") - scrape(t, m.admin).sum("placements_total", `reason="resumed"`))},
				"moves":  {"info", "playback moved to another server", []string{"session", "from", "to", "cause"}, events("session_moved")},
				"losses": {"warn", "playback lost", []string{"session", "server", "cause", "why"}, events("session_lost")},
			} {
				n := 0
				for _, line := range lines {
					if line["msg"] != tc.message {
						continue
					}
					n++
					for _, field := range tc.fields {
						if s, _ := line[field].(string); s == "" || len(s) > 256 {
							t.Errorf("%s: %s is %q in %v", what, field, s, line)
						}
					}
					if line["level"] != tc.level {
						t.Errorf("%s: at level %v", what, line["level"])
					}
				}
				if n != tc.want {
					t.Errorf("%s: %d lines, want %d", what, n, tc.want)
				}
				if n == 0 && (what != "moves" || mode == "replicated") {
					t.Errorf("%s: there were none", what)
				}
			}
			if moved := m.ledger().Counts().Moves; mode == "replicated" && sumOf(moved[:]) != events("session_moved") {
				t.Errorf("%v moves are counted, and %d told", moved, events("session_moved"))
			}
		})
	}
}

func sumOf(counts []uint64) (n int) {
	for _, c := range counts {
		n += int(c)
	}
	return n
}
