package plexlb

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// screen is what the commands print on.
type screen struct {
	io.Writer
	live bool // a terminal: in colour, and what is printed can be replaced
}

func newScreen(w io.Writer) screen {
	return screen{w, isTerminal(w)}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// clean takes out what could make a terminal do something: titles and ids are
// what clients say.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
}

// raw prints JSON, with all that is not printable escaped.
func (s screen) raw(raw []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(raw), "", "  "); err != nil {
		return err
	}
	_, err := fmt.Fprintln(s, escaped(b.String()))
	return err
}

// escaped is JSON text with its unprintable characters in the form \u009b; they
// can only be in strings.
func escaped(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r < utf8.RuneSelf-1, unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func (s screen) say(format string, args ...any) error {
	_, err := fmt.Fprintln(s, clean(fmt.Sprintf(format, args...)))
	return err
}

// The colours of a cell.
const (
	plain  = 39
	red    = 31
	green  = 32
	yellow = 33
	cyan   = 36
)

// table prints rows in columns, of which one may be coloured.
type table struct {
	*tabwriter.Writer
	live   bool
	column int
}

func (s screen) table(column int) table {
	return table{tabwriter.NewWriter(s, 0, 8, 2, ' ', 0), s.live, column}
}

func (t table) row(colour int, cells ...string) {
	for i := range cells {
		cells[i] = clean(cells[i])
	}
	if t.live {
		// Always as many bytes: they count as part of the width.
		cells[t.column] = fmt.Sprintf("\x1b[%dm%s\x1b[39m", colour, cells[t.column])
	}
	_, _ = fmt.Fprintln(t, strings.Join(cells, "\t"))
}

var stateColours = map[string]int{
	"up": green, "down": red, "unreachable": red, "drained": cyan, "draining": yellow,
	"maintenance": yellow, "shunned": red, "full": yellow,
	"confirmed": green, "reserved": yellow, "expired": yellow, "lost": red,
}

func colourOf(state string) int { return cmp.Or(stateColours[state], plain) }

func (s screen) servers(list []serverStatus) error {
	if len(list) == 0 {
		return s.say("there are no servers")
	}
	t := s.table(1)
	t.row(plain, "SERVER", "STATE", "LOAD", "WEIGHT", "GPU", "CPU", "COPY", "DIRECT", "IDLE", "LIMIT", "PLAYBACKS", "READ")
	for _, v := range list {
		state, limit := v.State, "-"
		if v.Draining && v.State != "draining" && v.State != "drained" {
			state += ", draining"
		}
		if wait := time.Until(v.MoveAt); wait > 0 {
			state += ", moves in " + short(about(wait))
		}
		if v.MaxTranscodes > 0 {
			limit = strconv.Itoa(v.MaxTranscodes)
		}
		t.row(colourOf(v.State), v.Name, state, decimal(v.Load), decimal(v.Weight),
			strconv.Itoa(v.Jobs.GPU), strconv.Itoa(v.Jobs.CPU), strconv.Itoa(v.Jobs.Copy), strconv.Itoa(v.Jobs.None),
			strconv.Itoa(v.IdleClients), limit, strconv.Itoa(v.Playbacks), v.Poll.String())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return s.degraded(list)
}

// degraded prints what is quietly wrong, if anything is.
func (s screen) degraded(list []serverStatus) error {
	t := s.table(1)
	some := false
	for _, v := range list {
		for _, d := range v.Degraded {
			if !some {
				some = true
				_, _ = fmt.Fprintln(s)
				t.row(plain, "SERVER", "DEGRADED", "FOR", "DETAIL")
			}
			t.row(yellow, v.Name, d.Reason, short(time.Since(d.Since)), d.Detail)
		}
	}
	return t.Flush()
}

func (p pollStatus) String() string {
	last := "never"
	if p.AgeSeconds != nil {
		last = short(p.AgeSeconds.duration()) + " ago"
	}
	if p.Failure != "" {
		return last + ", now " + p.Failure
	}
	return last
}

// sessions prints playbacks, at most as many as most says if that is not 0.
func (s screen) sessions(list []sessionStatus, most int) error {
	if len(list) == 0 {
		return s.say("nothing is playing")
	}
	more := 0
	if most > 0 && len(list) > most {
		list, more = list[:most], len(list)-most
	}
	t := s.table(3)
	t.row(plain, "SESSION", "SERVER", "KIND", "STATE", "AGE", "IDLE", "MOVES", "WHY", "CLIENT", "TITLE")
	for _, v := range list {
		t.row(colourOf(v.State), v.ID, v.Server, v.Kind, v.State, short(v.AgeSeconds.duration()), short(v.IdleSeconds.duration()),
			strconv.Itoa(len(v.Moves)), v.Why.Reason, cmp.Or(v.Client, "-"), cmp.Or(v.Title, v.Item))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if more > 0 {
		return s.say("and %d more", more)
	}
	return nil
}

// What the words of the API mean.
var reasonTexts = map[string]string{
	"least_load":    "the least load for its weight",
	"client_server": "where its device stays",
	"live_playback": "where its device was playing already",
	"adopted":       "the server said that it was playing it",
	"server_lost":   "its former server was not available",
	"overflow":      "all servers were at their limits; the least load for its weight",
	"hashed":        "where all go that look like it: it does not say who it is",
	"resumed":       "it was carried there, or begun anew where it was",
}

var causeTexts = map[string]string{
	"server_lost":  "its server was not available",
	"session_lost": "its server did not have the session any more",
	"hung":         "its server did not answer",
	"refused":      "its server refused it, or failed",
	"drained":      "its server was to be emptied",
	"operator":     "an operator moved it",
	"rebalanced":   "an operator had the load shared out",
}

// explain prints what there is to know about one playback.
func (s screen) explain(v *sessionStatus) error {
	t := s.table(0)
	line := func(what, value string) {
		if value != "" {
			t.row(plain, what, value)
		}
	}
	line("Session", v.ID)
	line("Title", v.Title)
	line("Item", v.Item)
	line("Client", v.Client)
	line("Transcode id", v.IDs.Transcode)
	line("Session id", v.IDs.Session)
	line("Playback id", v.IDs.Playback)
	line("Client id", v.IDs.Client)
	line("Server", fmt.Sprintf("%s (%s, %s)", v.Server, v.Kind, v.State))
	line("Age", fmt.Sprintf("%s, idle for %s", short(v.AgeSeconds.duration()), short(v.IdleSeconds.duration())))
	line("Can be moved", map[bool]string{true: "yes", false: "no"}[v.Movable])
	line("Why", reason(v.Why.Reason, reasonTexts)+", "+clock(v.Why.At))
	if v.FirstWhy != nil {
		line("Placed first", reason(v.FirstWhy.Reason, reasonTexts)+", "+clock(v.FirstWhy.At))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if err := s.candidates("", &v.Why); err != nil {
		return err
	}
	if v.FirstWhy != nil {
		if err := s.candidates("When it was placed first:", v.FirstWhy); err != nil {
			return err
		}
	}
	if len(v.Moves) == 0 {
		return nil
	}
	_, _ = fmt.Fprintln(s)
	t = s.table(3)
	t.row(plain, "MOVED", "FROM", "TO", "BECAUSE")
	for _, m := range v.Moves {
		t.row(plain, clock(m.At), m.From, m.To, reason(m.Cause, causeTexts))
	}
	return t.Flush()
}

// candidates prints the table that a choice was made from, if there is one.
func (s screen) candidates(title string, w *whyStatus) error {
	if len(w.Table) == 0 {
		return nil
	}
	_, _ = fmt.Fprintln(s)
	if title != "" {
		_, _ = fmt.Fprintln(s, title)
	}
	head := []string{"SERVER", "LOAD", "COST", "WEIGHT", "SCORE", ""}
	expected := slices.ContainsFunc(w.Table, func(r rowStatus) bool { return r.Expected > 0 })
	if expected {
		head = slices.Insert(head, 2, "EXPECTED")
	}
	t := s.table(len(head) - 1)
	t.row(plain, head...)
	for _, r := range w.Table {
		verdict, colour := r.Excluded, yellow
		if r.Server == w.Server {
			verdict, colour = strings.TrimSuffix("chosen, "+verdict, ", "), green
		}
		cells := []string{r.Server, decimal(r.Load), decimal(r.Cost), decimal(r.Weight), decimal(r.Score), verdict}
		if expected {
			cells = slices.Insert(cells, 2, decimal(r.Expected))
		}
		t.row(colour, cells...)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if w.More > 0 {
		return s.say("and %d more", w.More)
	}
	return nil
}

// moves prints what a rebalancing did.
func (s screen) moves(done *rebalanceStatus) error {
	if len(done.Moves) == 0 {
		return s.say("no move lowers the highest load")
	}
	t := s.table(3)
	t.row(plain, "SESSION", "FROM", "TO", "RESULT")
	for _, m := range done.Moves {
		colour, result := green, "moved"
		switch {
		case m.Error != "":
			colour, result = red, m.Error
		case done.DryRun:
			colour, result = plain, "would be moved"
		}
		t.row(colour, m.Session, m.From, m.To, result)
	}
	return t.Flush()
}

var levelColours = map[string]int{LevelError: red, LevelWarning: yellow, LevelInfo: cyan}

// checkup prints what the doctor found, and in the last line how much.
func (s screen) checkup(c *checkup) error {
	counts := make(map[string]int)
	for _, f := range c.Findings {
		counts[f.Level]++
		level := f.Level
		if s.live {
			level = fmt.Sprintf("\x1b[%dm%s\x1b[39m", cmp.Or(levelColours[level], plain), clean(level))
		}
		about := cmp.Or(f.Server, "all")
		if _, err := fmt.Fprintf(s, "%s  %s  %s\n  %s\n  → %s\n\n", level, clean(about), clean(f.Check), clean(f.What), clean(f.Remedy)); err != nil {
			return err
		}
	}
	servers := plural(len(c.Checked), "server")
	if len(c.Findings) == 0 {
		return s.say("nothing found on %s", servers)
	}
	var parts []string
	for _, level := range levels {
		if n := counts[level]; n > 0 {
			parts = append(parts, plural(n, map[string]string{LevelInfo: "note"}[level], level))
		}
	}
	return s.say("%s on %s", strings.Join(parts, ", "), servers)
}

// plural counts with the first word that is not empty.
func plural(n int, words ...string) string {
	word := cmp.Or(words...)
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

func reason(word string, texts map[string]string) string {
	if text := texts[word]; text != "" {
		return word + ": " + text
	}
	return word
}

func clock(t time.Time) string { return t.Local().Format(time.DateTime) }

func decimal(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

// short writes a duration for a table.
func short(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
}
