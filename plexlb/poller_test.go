package plexlb

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// Servers say every few seconds that a playback goes on. Only news is a reason
// to read all sessions.
func TestEventsThatOnlyRepeat(t *testing.T) {
	playing := func(key, state, transcode string) plex.Event {
		return plex.Event{Type: "playing", SessionKey: key, State: state, TranscodeID: transcode}
	}
	p := &poller{}
	for _, c := range []struct {
		what  string
		event plex.Event
		want  bool
	}{
		{"the first", playing("1", "playing", "t"), false},
		{"again", playing("1", "playing", "t"), true},
		{"another session", playing("2", "playing", ""), false},
		{"the first again", playing("1", "playing", "t"), true},
		{"another state", playing("1", "paused", "t"), false},
		{"and back", playing("1", "playing", "t"), false},
		{"another transcode", playing("1", "playing", "u"), false},
		{"its end", playing("1", "stopped", "u"), false},
		{"without a name", playing("", "playing", ""), false},
		{"without a name again", playing("", "playing", ""), false},
	} {
		if got := p.repeats(c.event); got != c.want {
			t.Errorf("%s: repeats() = %v", c.what, got)
		}
	}
	for i := range 3 * maxRemembered {
		p.repeats(playing(strings.Repeat("x", i), "playing", ""))
		if len(p.playing) > maxRemembered {
			t.Fatalf("%d sessions are remembered", len(p.playing))
		}
	}
}

func TestShortened(t *testing.T) {
	for given, want := range map[string]string{
		"Film":                             "Film",
		"":                                 "",
		strings.Repeat("x", maxName):       strings.Repeat("x", maxName),
		strings.Repeat("x", maxName+1):     strings.Repeat("x", maxName) + "…",
		"x" + strings.Repeat("é", maxName): "x" + strings.Repeat("é", maxName/2-1) + "…",
	} {
		if got := shortened(given); got != want || !utf8.ValidString(got) {
			t.Errorf("shortened(%q) = %q", given, got)
		}
	}
}
