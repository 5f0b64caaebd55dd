package section

import (
	"os"
	"path/filepath"
	"testing"
)

const (
	begin = "<!-- begin b -->\n"
	end   = "<!-- end b -->\n"
)

func TestReplace(t *testing.T) {
	others := "# Title\n\n<!-- begin a -->\n1\n<!-- end a -->\n"
	for name, tc := range map[string]struct{ old, want string }{
		"a new file":             {"", begin + "new\n" + end},
		"a file of others":       {others, others + "\n" + begin + "new\n" + end},
		"between other sections": {others + begin + "old\n\nolder\n" + end + "rest\n", others + begin + "new\n" + end + "rest\n"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "it.md")
			if tc.old != "" {
				if err := os.WriteFile(file, []byte(tc.old), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // written again it stays as it is
				if err := Replace(file, "b", "new\n"); err != nil {
					t.Fatal(err)
				}
				if got, _ := os.ReadFile(file); string(got) != tc.want {
					t.Fatalf("got\n%s\nwant\n%s", got, tc.want)
				}
			}
		})
	}
}

func TestASectionWithoutAnEndIsLeftAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "it.md")
	old := "a\n" + begin + "old\n"
	if err := os.WriteFile(file, []byte(old), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Replace(file, "b", "new"); err == nil {
		t.Error("there is no error: what follows it would be lost")
	}
	if got, _ := os.ReadFile(file); string(got) != old {
		t.Errorf("it became %q", got)
	}
}
