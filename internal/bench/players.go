package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/bench/section"
)

// watched stands before the table of what players' tests measured: a format for
// the date, the processor, its cores, and Go's version.
const watched = `## What viewers see

%s, %s, %d cores, %s: ` + "`cd internal/e2e && go test -timeout 30m -count=3 -parallel 12 ./players`" + `. Players, servers and Caddy are on the same machine, at 127.0.0.1, over HTTPS.

hls.js and dash.js in Chromium, and ffmpeg, play a film from three copies of a server, which have encoded it each for itself. Every picture says which moment of the film it is and who sent it, so what is measured is what is shown. Players fetch 10 s ahead. *First picture* is from the viewer's wish to play, with the decision and the start; *longest stand-still* is the longest time without a new picture from the event on, for 25 s in most cases; *film left out* is the most that was skipped at once; *errors* are those that the player told of. Pictures come every 40 ms.

`

// runPlayers publishes what the players' tests have measured last.
func runPlayers(args []string) error {
	flags := flag.NewFlagSet("bench players", flag.ExitOnError)
	from := flags.String("from", "bin/players/measured.md", "the table that the players' tests have left")
	file := flags.String("write", "", "the Markdown file to update")
	_ = flags.Parse(args) // it exits by itself
	table, err := os.ReadFile(*from)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: measure first, with cd internal/e2e && go test -timeout 30m -count=3 -parallel 12 ./players", err)
	}
	if err != nil {
		return err
	}
	about, err := os.Stat(*from)
	if err != nil {
		return err
	}
	text := fmt.Sprintf(watched, about.ModTime().Format(time.DateOnly), processor(), runtime.NumCPU(), runtime.Version()) + strings.TrimSpace(string(table)) + "\n"
	if _, err := os.Stdout.WriteString(text); err != nil || *file == "" {
		return err
	}
	return section.Replace(*file, "players", text)
}
