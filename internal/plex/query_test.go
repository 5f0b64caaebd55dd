package plex

import "testing"

func TestQuery(t *testing.T) {
	for name, tc := range map[string]struct{ raw, name, want string }{
		"only member":                 {"path=a", "path", "a"},
		"middle member":               {"x=1&path=a&y=2", "path", "a"},
		"decoded":                     {"path=%2Flibrary%2Fmetadata%2F1", "path", "/library/metadata/1"},
		"plus is a space":             {"title=a+b", "title", "a b"},
		"any letter case":             {"PATH=a", "path", "a"},
		"any letter case asked for":   {"path=a", "PATH", "a"},
		"first of several":            {"path=a&path=b", "path", "a"},
		"first, though without value": {"path&path=b", "path", ""},
		"absent":                      {"x=1&y=2", "path", ""},
		"empty query":                 {"", "path", ""},
		"empty value":                 {"path=&x=1", "path", ""},
		"longer name":                 {"pathology=a", "path", ""},
		"name in a value":             {"x=path=a", "path", ""},
		"digits of every kind":        {"path=%6f%4F%F0%9f%98%80", "path", "oO😀"},
		"not a digit, just after 9":   {"path=%3:", "path", ""},
		"badly encoded":               {"path=%2", "path", ""},
		"badly encoded digits":        {"path=%g0", "path", ""},
		"semicolon stays":             {"path=a;b&c=d", "path", "a;b"},
		"equals sign stays":           {"path=a=b", "path", "a=b"},
		"raw ampersands":              {"&&path=a&&", "path", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Query(tc.raw, tc.name); got != tc.want {
				t.Errorf("Query(%q, %q) = %q, want %q", tc.raw, tc.name, got, tc.want)
			}
		})
	}
}

func TestEightBytesAtATime(t *testing.T) {
	text := []byte("&'&%&&''")
	if got, want := equal8(word(string(text)), '&'), uint64(0x0000808000800080); got != want {
		t.Errorf("equal8 found %016x, want %016x", got, want)
	}
	for c := range 256 {
		s := "abcdefg" + string([]byte{byte(c)})
		if got, want := hasControl(s), c < ' ' || c == 0x7f; got != want {
			t.Errorf("hasControl with %#02x is %v", c, got)
		}
		if got, want := hasControl(s[7:]), c < ' ' || c == 0x7f; got != want {
			t.Errorf("hasControl with %#02x alone is %v", c, got)
		}
	}
}
