package main

import "testing"

func TestASectionIsReplacedAndNothingElse(t *testing.T) {
	for name, tc := range map[string]struct{ old, want string }{
		"no file": {"", "# Benchmarks\n\nWritten by `./xcaddy.sh bench`.\n\n<!-- begin b -->\nnew\n<!-- end b -->\n"},
		"no section": {
			"top\n<!-- begin a -->\n1\n<!-- end a -->\n",
			"top\n<!-- begin a -->\n1\n<!-- end a -->\n\n<!-- begin b -->\nnew\n<!-- end b -->\n",
		},
		"a section": {
			"top\n<!-- begin b -->\nold\n\nolder\n<!-- end b -->\nrest\n<!-- begin a -->\n1\n<!-- end a -->\n",
			"top\n<!-- begin b -->\nnew\n<!-- end b -->\nrest\n<!-- begin a -->\n1\n<!-- end a -->\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := between([]byte(tc.old), "b", []byte("new\n"))
			if string(got) != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
			if again := between(got, "b", []byte("new\n")); string(again) != tc.want {
				t.Errorf("once more it is\n%s", again)
			}
		})
	}
}
