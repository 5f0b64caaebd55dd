// Package section keeps parts of a Markdown file up to date, each written by a
// command of its own.
package section

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Replace puts text between the markers of a section of a file. A file that
// does not have it, or does not exist, gets it at its end.
func Replace(file, name, text string) error {
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	whole, err := with(string(old), name, text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(whole), 0o644)
}

func with(old, name, text string) (string, error) {
	begin, end := "<!-- begin "+name+" -->\n", "<!-- end "+name+" -->\n"
	text = begin + strings.TrimSpace(text) + "\n" + end
	before, rest, found := strings.Cut(old, begin)
	if !found {
		if old != "" {
			old = strings.TrimRight(old, "\n") + "\n\n"
		}
		return old + text, nil
	}
	_, after, found := strings.Cut(rest, end)
	if !found {
		return "", fmt.Errorf("%q has no %q after it: add it where the section ends", begin, end)
	}
	return before + text + after, nil
}
