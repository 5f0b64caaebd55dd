package plexlb

import (
	"strings"
	"testing"
)

// What does not fit on the terminal would scroll it at every look.
func TestWatchFitsTheTerminal(t *testing.T) {
	const four = "one\ntwo\nthree\nfour\n"
	for name, tc := range map[string]struct {
		rows int
		want string
	}{
		"it fits":                     {5, "one|two|three|four|"},
		"one row too few":             {4, "one|two|and 2 lines more; this terminal has 4|"},
		"two rows":                    {2, "and 4 lines more; this terminal has 2|"},
		"nobody knows":                {0, "one|two|three|four|"},
		"a terminal that has no room": {1, "one|two|three|four|"},
	} {
		t.Run(name, func(t *testing.T) {
			got := inPlace(four, tc.rows)
			text, begins := strings.CutPrefix(got, "\x1b[?7l\x1b[H")
			text, ends := strings.CutSuffix(text, "\x1b[J\x1b[?7h")
			if text = strings.ReplaceAll(text, "\x1b[K\n", "|"); !begins || !ends || text != tc.want {
				t.Errorf("%q, want %s", got, tc.want)
			}
		})
	}
}
