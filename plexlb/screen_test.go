package plexlb

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestClean(t *testing.T) {
	for given, want := range map[string]string{
		"Amélie – Le Fabuleux Destin": "Amélie – Le Fabuleux Destin",
		"\x1b[2J\x1b]0;owned\x07Film": "[2J]0;ownedFilm",
		"a\tb\nc\rd":                  "a b c d",
		"C1 \u009b31m and \u0085":     "C1 31m and  ",
		"\u202egnp.exe":               "gnp.exe",
		"del\x7f":                     "del",
		"broken \xff":                 "broken \ufffd",
		"日本 🎬":                        "日本 🎬",
	} {
		if got := clean(given); got != want {
			t.Errorf("clean(%q) = %q, want %q", given, got, want)
		}
	}
}

func FuzzPrintedJSONIsTheSame(f *testing.F) {
	f.Add("a\x1b\u009b\u202e\x7f\U000e0001\U0001f3ac\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		raw, err := json.Marshal(map[string]string{"title": s})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := (screen{Writer: &b}).raw(raw); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(b.String(), "\x1b\x7f\u0085\u009b\u202e\U000e0001") {
			t.Errorf("%q is printed as %q", s, &b)
		}
		var before, after map[string]string
		if json.Unmarshal(raw, &before) != nil || json.Unmarshal(b.Bytes(), &after) != nil || before["title"] != after["title"] {
			t.Errorf("%q is printed as %q", s, &b)
		}
	})
}

// Colours take no room.
func TestColouredTablesAreAligned(t *testing.T) {
	list := []serverStatus{{Name: "a", State: "up"}, {Name: "longer", State: "maintenance"}, {Name: "c", State: "unheard of"}}
	var plain, coloured bytes.Buffer
	if err := (screen{Writer: &plain}).servers(list); err != nil {
		t.Fatal(err)
	}
	if err := (screen{Writer: &coloured, live: true}).servers(list); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(coloured.String(), "\x1b[32mup\x1b[39m") {
		t.Errorf("up is not green: %q", &coloured)
	}
	if got := regexp.MustCompile("\x1b\\[..m").ReplaceAllString(coloured.String(), ""); got != plain.String() {
		t.Errorf("without its colours it is\n%s\nwant\n%s", got, &plain)
	}
}

func TestBare(t *testing.T) {
	for item, want := range map[string]string{
		"/library/metadata/1":                                 "/library/metadata/1",
		"/library/metadata/1?X-Plex-Token=secret":             "/library/metadata/1",
		"http://127.0.0.1:32400/library/1?a=b&x-plex-token=s": "http://127.0.0.1:32400/library/1",
		"/library/metadata/1%3FX-Plex-Token%3Dsecret":         "/library/metadata/1%3F",
		"/library/metadata/1;X-PLEX-TOKEN=secret":             "/library/metadata/1;",
		"": "",
	} {
		if got := bare(item); got != want {
			t.Errorf("bare(%q) = %q, want %q", item, got, want)
		}
	}
}

func TestLeft(t *testing.T) {
	for want, s := range map[string]serverStatus{
		"nothing is left there":                                     {OldestSeconds: 7},
		"3 left, longest 41 min":                                    {Playbacks: 3, OldestSeconds: 41*60 + 30},
		"1 left, longest 2 h 5 min":                                 {Playbacks: 1, OldestSeconds: 125 * 60},
		"2 left (2 of them past plexlb)":                            {Others: 2},
		"1 left, longest less than a minute, to be moved in 29 min": {Playbacks: 1, MoveAt: time.Now().Add(29*time.Minute + 30*time.Second)},
	} {
		if got := left(&s); got != want {
			t.Errorf("left() = %q, want %q", got, want)
		}
	}
}

func TestCheckupIsPrinted(t *testing.T) {
	c := &checkup{Checked: []string{"plex1"}, Findings: []Finding{
		{LevelError, "plex1", CheckUnreachable, "It is \x1b[2Jgone.", "Look."},
		{LevelWarning, "", CheckNoServers, "None.", "Some."},
		{LevelWarning, "plex1", CheckRelay, "On.", "Off."},
		{LevelInfo, "plex1", CheckPreferences, "Some.", "None."},
	}}
	const body = `error  plex1  unreachable
  It is [2Jgone.
  → Look.

warning  all  no_servers
  None.
  → Some.

warning  plex1  relay_on
  On.
  → Off.

info  plex1  preferences_unknown
  Some.
  → None.

1 error, 2 warnings, 1 note on 1 server
`
	for name, tc := range map[string]struct {
		c    *checkup
		live bool
		want string
	}{
		"findings":  {c, false, body},
		"in colour": {c, true, strings.NewReplacer("error ", "\x1b[31merror\x1b[39m ", "warning ", "\x1b[33mwarning\x1b[39m ", "info ", "\x1b[36minfo\x1b[39m ", "1 error,", "1 error,").Replace(body)},
		"nothing":   {&checkup{Checked: []string{"a", "b", "c"}}, false, "nothing found on 3 servers\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := (screen{Writer: &b, live: tc.live}).checkup(tc.c); err != nil {
				t.Fatal(err)
			}
			if b.String() != tc.want {
				t.Errorf("printed\n%q, want\n%q", &b, tc.want)
			}
		})
	}
}
