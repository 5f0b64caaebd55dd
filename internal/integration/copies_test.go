package integration

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plex"
	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// The primary is told how playbacks on other servers stand: of each the newest,
// soon, and no more often than it helps.
func TestTimelinesAreCopied(t *testing.T) {
	servers := stand(t, 2, func(_ int, cfg *plextest.Config) { cfg.MachineIdentifier = "one-and-the-same" })
	primary, other := servers[0], servers[1]
	config := site(servers, replicated)
	b := load(t, config)
	primary.AddBypass(6) // so that playbacks go to the other
	eventually(t, "plex1 is seen to be busy", 5*time.Second, func() bool { return b.server("plex1").Load > 5 })

	// tell sends a timeline; what it says may be in a body.
	tell := func(t *testing.T, session, item, state string, at int, body ...string) {
		t.Helper()
		method := http.MethodGet
		if body != nil {
			method = http.MethodPost
		}
		r, err := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("%s/:/timeline?ratingKey=%s&key=%%2Flibrary%%2Fmetadata%%2F%s&state=%s&time=%d&duration=600000"+
			"&X-Plex-Session-Identifier=x-%s&X-Plex-Client-Identifier=c-%s&X-Plex-Token=%s", b.URL, item, item, state, at, session, session, token),
			strings.NewReader(strings.Join(body, "")))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if at := res.Header.Get("X-Plextest-Server"); res.StatusCode != http.StatusOK || at != "plex2" {
			t.Fatalf("timeline: %s from %q, want plex2", res.Status, at)
		}
	}
	heard := func(s *plextest.Server, session string) (all []plextest.Entry) {
		for _, e := range s.Log() {
			if e.Path == "/:/timeline" && e.XSI == "x-"+session {
				all = append(all, e)
			}
		}
		return all
	}
	said := func(s *plextest.Server, session string) (all []string) {
		for _, e := range heard(s, session) {
			all = append(all, fmt.Sprint(plex.Query(e.Query, "ratingKey"), " ", plex.Query(e.Query, "state"), " ", plex.Query(e.Query, "time")))
		}
		return all
	}
	hears := func(t *testing.T, session, what string) {
		t.Helper()
		eventually(t, "the primary hears "+what, 10*time.Second, func() bool { return slices.Contains(said(primary, session), what) })
	}

	t.Run("more than one a second", func(t *testing.T) {
		b.begin("many")
		began := time.Now()
		tell(t, "many", "1", "playing", 1000)
		hears(t, "many", "1 playing 1000")
		for n := range 39 {
			tell(t, "many", "1", "playing", 1001+n)
		}
		hears(t, "many", "1 playing 1039")
		all := said(primary, "many")
		if most := 2 + int(time.Since(began)/time.Second); len(all) > most || all[0] != "1 playing 1000" || all[len(all)-1] != "1 playing 1039" {
			t.Errorf("the primary heard %q, want the first, the last, and at most %d in all", all, most)
		}
		if all := said(other, "many"); len(all) != 40 {
			t.Errorf("the server of the playback heard %d timelines, want 40", len(all))
		}
	})

	t.Run("what is new is told at once", func(t *testing.T) {
		for try := range 5 { // a busy machine may be slow
			session := fmt.Sprint("new", try)
			b.begin(session)
			tell(t, session, "1", "playing", 1000)
			hears(t, session, "1 playing 1000")
			tell(t, session, "1", "playing", 1001)
			tell(t, session, "1", "stopped", 1002)
			hears(t, session, "1 stopped 1002")
			all := heard(primary, session)
			if len(all) == 2 && all[1].At.Sub(all[0].At) < 700*time.Millisecond {
				return
			}
		}
		t.Error("a playback that stopped was told when the interval was over")
	})

	t.Run("slow primary", func(t *testing.T) {
		b.begin("slow")
		b.begin("reloaded")
		primary.SetDelay(2 * time.Second)
		defer primary.SetDelay(0)
		tell(t, "slow", "1", "playing", 1000)
		hears(t, "slow", "1 playing 1000")
		tell(t, "slow", "1", "playing", 1001)
		tell(t, "slow", "2", "playing", 1)
		tell(t, "slow", "1", "stopped", 1002)
		tell(t, "slow", "3", "playing", 1)
		tell(t, "reloaded", "1", "playing", 1000)
		tell(t, "reloaded", "1", "paused", 1001)
		if err := b.reload(config); err != nil {
			t.Fatal(err)
		}
		tell(t, "reloaded", "1", "stopped", 1002)
		hears(t, "slow", "3 playing 1")
		hears(t, "reloaded", "1 stopped 1002")
		want := []string{"1 playing 1000", "2 playing 1", "1 stopped 1002", "3 playing 1"}
		if all := said(primary, "slow"); !slices.Equal(all, want) {
			t.Errorf("the primary heard %q, want %q", all, want)
		}
		time.Sleep(3 * time.Second) // for what might come after
		if all := said(primary, "reloaded"); all[len(all)-1] != "1 stopped 1002" {
			t.Errorf("over a reload the primary heard %q, want the end at last", all)
		}
	})

	t.Run("what bodies say", func(t *testing.T) {
		b.begin("bodies")
		for n := range 4 {
			tell(t, "bodies", "1", "playing", 1000, fmt.Sprint("time=", n))
		}
		eventually(t, "the primary hears all", 5*time.Second, func() bool { return len(heard(primary, "bodies")) == 4 })
	})
}
