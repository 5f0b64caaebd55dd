package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Between these lies what this command writes.
const (
	sectionBegin = "<!-- peers: begin -->"
	sectionEnd   = "<!-- peers: end -->"
)

// replaceSection puts text between the markers of a file, or at its end if it
// has none.
func replaceSection(file, text string) error {
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	whole, err := withSection(string(old), text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(whole), 0o644)
}

func withSection(old, text string) (string, error) {
	text = sectionBegin + "\n" + strings.TrimSpace(text) + "\n" + sectionEnd + "\n"
	before, rest, found := strings.Cut(old, sectionBegin)
	if !found {
		if old != "" {
			old = strings.TrimRight(old, "\n") + "\n\n"
		}
		return old + text, nil
	}
	_, after, found := strings.Cut(rest, sectionEnd)
	if !found {
		return "", fmt.Errorf("%s has no %s after it: add it where the section ends", sectionBegin, sectionEnd)
	}
	return before + text + strings.TrimPrefix(after, "\n"), nil
}
