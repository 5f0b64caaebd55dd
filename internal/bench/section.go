package main

import (
	"bytes"
	"fmt"
	"os"
)

// replaceSection writes text between the markers of a section of a Markdown
// file. What has no such section, or does not exist, gets one at its end.
func replaceSection(file, section string, text []byte) error {
	old, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("reading the former numbers: %w", err)
	}
	return os.WriteFile(file, between(old, section, text), 0o644)
}

func between(old []byte, section string, text []byte) []byte {
	begin := fmt.Appendf(nil, "<!-- begin %s -->\n", section)
	end := fmt.Appendf(nil, "<!-- end %s -->\n", section)
	from, to := bytes.Index(old, begin), bytes.Index(old, end)
	if from < 0 || to < from {
		if len(old) == 0 {
			old = []byte("# Benchmarks\n\nWritten by `./xcaddy.sh bench`.\n")
		}
		return bytes.Join([][]byte{old, []byte("\n"), begin, text, end}, nil)
	}
	return bytes.Join([][]byte{old[:from], begin, text, old[to:]}, nil)
}
