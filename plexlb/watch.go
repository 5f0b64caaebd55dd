package plexlb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

const (
	// waitPause is between looks at a server that is to become empty.
	waitPause = time.Second

	// waitPatience is how long the admin endpoint may be away meanwhile: it
	// is when a config is reloaded.
	waitPatience = 15 * time.Second
)

// wait waits until a server is empty, for ever if timeout is 0, and returns
// what it then looks like.
func (c *client) wait(name string, timeout time.Duration) (raw []byte, err error) {
	progress := newScreen(c.cmd.ErrOrStderr())
	began, heard := time.Now(), time.Now()
	said := ""
	if progress.live {
		defer func() { _, _ = fmt.Fprint(progress, "\r\x1b[K") }()
	}
	for {
		var s serverStatus
		raw, err = c.ask(http.MethodGet, serverPath(name), nil, &s)
		if _, refused := errors.AsType[refusal](err); refused || err != nil && time.Since(heard) > waitPatience {
			return nil, err
		}
		text := "Caddy does not answer"
		if err == nil {
			heard = time.Now()
			switch {
			case !s.Draining:
				return nil, fmt.Errorf("server %q takes new playbacks again: somebody has undone the drain", name)
			case s.empty():
				return raw, nil
			}
			text = left(&s)
		}
		if text != said {
			said = text
			if progress.live {
				_, _ = fmt.Fprint(progress, "\r\x1b[K"+clean(name+": "+text))
			} else {
				_ = progress.say("%s: %s", name, text)
			}
		}
		if timeout > 0 && time.Since(began) >= timeout {
			return nil, lateError{fmt.Errorf("server %q is not empty after %v: %s", name, timeout, said)}
		}
		pause := waitPause
		if timeout > 0 {
			pause = min(pause, max(0, timeout-time.Since(began)))
		}
		time.Sleep(pause)
	}
}

// empty reports whether the server can be taken away: of one that is down
// already, nobody can say what it plays past here.
func (s *serverStatus) empty() bool {
	gone := s.State == "down" || s.State == "unreachable"
	return s.Playbacks == 0 && (s.Others == 0 || gone)
}

// left says what a draining server still plays.
func left(s *serverStatus) string {
	if s.Playbacks+s.Others == 0 {
		return "nothing is left there"
	}
	text := fmt.Sprintf("%d left", s.Playbacks+s.Others)
	if s.Others > 0 {
		text += fmt.Sprintf(" (%d of them past plexlb)", s.Others)
	}
	if s.Playbacks > 0 {
		text += ", longest " + long(s.OldestSeconds.duration())
	}
	if wait := time.Until(s.MoveAt); wait > 0 {
		text += ", to be moved in " + long(about(wait))
	}
	return text
}

// about is a time that is yet to pass: 45 minutes just set are not 44.
func about(d time.Duration) time.Duration {
	if d > time.Minute {
		return d.Round(time.Minute)
	}
	return d
}

// long writes a duration for a sentence.
func long(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
}

// watchCommand shows servers and playbacks again and again, in one place on a
// terminal, and one below the other elsewhere.
func watchCommand(c *client, _ []string) error {
	every, _ := c.cmd.Flags().GetDuration("interval")
	most, _ := c.cmd.Flags().GetInt("lines")
	if every < 100*time.Millisecond || most < 1 {
		return usageError{errors.New("--interval must be at least 100ms, and --lines at least 1")}
	}
	live := c.screen.live && !c.json
	if live {
		_, _ = fmt.Fprint(c.screen, "\x1b[2J")
	}
	for first := true; ; first = false {
		var page bytes.Buffer
		err := c.page(screen{&page, live}, most)
		if err != nil {
			if _, refused := errors.AsType[refusal](err); refused || first {
				return err
			}
			page.Reset()
			if !c.json {
				_, _ = fmt.Fprintln(&page, clean(err.Error()))
			}
		}
		text := page.String()
		if live {
			text = inPlace(text, height(c.screen.Writer))
		}
		if _, err := fmt.Fprint(c.screen, text); err != nil {
			return err
		}
		time.Sleep(every)
	}
}

// inPlace has a terminal show text in place of what it shows, as much as fits
// into its rows if they are known: what is longer would scroll, and be shown
// once more each time. Lines are cut at the right edge for the same reason.
func inPlace(text string, rows int) string {
	const begin, end = "\x1b[?7l\x1b[H", "\x1b[J\x1b[?7h"
	lines := strings.SplitAfter(text, "\n")
	// The last row is the cursor's.
	if most := rows - 1; most > 0 && len(lines)-1 > most {
		cut := len(lines) - most
		lines = append(lines[:most-1:most-1], fmt.Sprintf("and %s more; this terminal has %d\n", plural(cut, "line"), rows))
	}
	return begin + strings.ReplaceAll(strings.Join(lines, ""), "\n", "\x1b[K\n") + end
}

// height is how many rows a terminal has, 0 if that is not known.
func height(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	_, rows, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return rows
}

// page prints one look at all that goes on.
func (c *client) page(s screen, most int) error {
	var servers struct {
		Servers []json.RawMessage `json:"servers"`
	}
	var sessions struct {
		Sessions []json.RawMessage `json:"sessions"`
	}
	if _, err := c.ask(http.MethodGet, "servers", nil, &servers); err != nil {
		return err
	}
	if _, err := c.ask(http.MethodGet, "sessions", nil, &sessions); err != nil {
		return err
	}
	if c.json {
		line, err := json.Marshal(map[string]any{"servers": servers.Servers, "sessions": sessions.Sessions})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(s, escaped(string(line)))
		return err
	}
	list := make([]serverStatus, len(servers.Servers))
	for i, raw := range servers.Servers {
		if err := json.Unmarshal(raw, &list[i]); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
	}
	var playing []sessionStatus
	for _, raw := range sessions.Sessions {
		var one sessionStatus
		if err := json.Unmarshal(raw, &one); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		if one.State != "ended" {
			playing = append(playing, one)
		}
	}
	if _, err := fmt.Fprintln(s, time.Now().Format(time.DateTime)); err != nil {
		return err
	}
	if err := s.servers(list); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(s)
	if err := s.sessions(playing, most); err != nil {
		return err
	}
	_, err := fmt.Fprintln(s)
	return err
}
