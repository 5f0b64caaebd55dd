package main

import "testing"

func TestWithSection(t *testing.T) {
	for name, tc := range map[string]struct{ old, want string }{
		"a new file":             {"", sectionBegin + "\nnew\n" + sectionEnd + "\n"},
		"a file of others":       {"# Title\n", "# Title\n\n" + sectionBegin + "\nnew\n" + sectionEnd + "\n"},
		"between other sections": {"a\n" + sectionBegin + "\nold\n" + sectionEnd + "\nb\n", "a\n" + sectionBegin + "\nnew\n" + sectionEnd + "\nb\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := withSection(tc.old, "new\n")
			if err != nil || got != tc.want {
				t.Errorf("withSection() = %q, %v; want %q", got, err, tc.want)
			}
			if again, err := withSection(got, "new"); err != nil || again != got {
				t.Errorf("written again it is %q, %v", again, err)
			}
		})
	}
	if got, err := withSection("a\n"+sectionBegin+"\nold\n", "new"); err == nil {
		t.Errorf("a section without an end became %q: what follows it would be lost", got)
	}
}
