package main

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// frame is everything there is to see at one moment.
type frame struct {
	elapsed, length time.Duration
	stay, kill      bool
	url             string
	servers         []row
	latest          []placement // the last at the end
	tally           tally
}

// row is one server.
type row struct {
	name   string
	weight float64
	count
	down    bool
	peak    float64 // the highest load so far
	sum     float64 // of loads, one per look
	due     float64 // of weights, one per look while it was up
	visited bool    // by strangers, now or before
}

// look notes what the server does now.
func (r *row) look(c count, down bool) {
	r.count, r.down = c, down
	r.peak = max(r.peak, c.load())
	r.sum += c.load()
	if !down {
		r.due += r.weight
	}
	r.visited = r.visited || c.past > 0
}

// perWeight is how full the server is.
func (r row) perWeight() float64 { return r.load() / r.weight }

// style is how a piece of a line looks, in the numbers terminals know.
type style string

const (
	normal style = ""
	bold   style = "1"
	faint  style = "2"
	red    style = "1;31"
	green  style = "32"
	yellow style = "33"
)

type span struct {
	style style
	text  string
}

// line is one line of the picture.
type line []span

func text(format string, args ...any) line { return line{{normal, fmt.Sprintf(format, args...)}} }

// cut returns the line as a terminal of that width shows it, without colours
// if there shall be none.
func (l line) cut(width int, colours bool) string {
	var b strings.Builder
	for _, s := range l {
		t := []rune(s.text)
		t = t[:min(len(t), width)]
		width -= len(t)
		if len(t) == 0 {
			continue
		}
		if colours && s.style != normal {
			fmt.Fprintf(&b, "\x1b[%sm%s\x1b[0m", s.style, string(t))
			continue
		}
		b.WriteString(string(t))
	}
	return b.String()
}

func (l line) width() int {
	n := 0
	for _, s := range l {
		n += utf8.RuneCountInString(s.text)
	}
	return n
}

// glyphs is what bars are made of.
type glyphs struct{ own, past, rest string }

var (
	blocks  = glyphs{"█", "▒", "·"}
	letters = glyphs{"#", "=", "."}
)

// bar draws loads of own and past the balancer on a scale of full.
func (g glyphs) bar(width int, own, past, full float64) line {
	if width <= 0 || full <= 0 {
		return nil
	}
	cells := func(x float64) int {
		n := int(math.Round(x / full * float64(width)))
		if n == 0 && x > 0 {
			n = 1
		}
		return min(n, width)
	}
	all := cells(own + past)
	mine := min(cells(own), all)
	return line{
		{green, strings.Repeat(g.own, mine)},
		{yellow, strings.Repeat(g.past, all-mine)},
		{faint, strings.Repeat(g.rest, width-all)},
	}
}

// scale is what a full bar stands for.
func (f frame) scale() float64 {
	full := 5.0
	for _, r := range f.servers {
		full = max(full, math.Ceil(r.peak/r.weight))
	}
	return full
}

// widest is as wide as the picture gets, and narrowest as narrow.
const (
	widest    = 130
	narrowest = 60
)

// lines draws the picture, height lines or less.
func (f frame) lines(width, height int, g glyphs) []line {
	width = max(narrowest, min(width, widest))
	out := []line{f.title(width), {{normal, "Status page: "}, {bold, f.page()}}}
	out = append(out, f.table(width, g)...)
	out = append(out,
		line{},
		line{{faint, "A GPU transcode is a load of 1, a CPU one 2, a copy 0.1, direct play 0.05."}},
		line{},
	)
	end := []line{nil, f.totals()}
	out = append(out, f.placements(width, height-len(out)-len(end))...)
	return append(out, end...)
}

// page is where Caddy shows the same to browsers.
func (f frame) page() string { return f.url + "/plexlb/" }

func (f frame) title(width int) line {
	l := line{{bold, "plexlb"}, {normal, fmt.Sprintf(" balances %d viewers over %d Plex servers", f.tally.viewers, len(f.servers))}}
	for _, r := range f.servers {
		if r.down {
			l = append(l, span{red, ", " + r.name + " is down"})
		}
	}
	at := clock(f.elapsed) + " of " + clock(f.length)
	if f.stay {
		at = clock(f.elapsed) + ", Ctrl-C ends"
	}
	return append(l, span{normal, fmt.Sprintf("%*s", max(1, width-l.width()), at)})
}

// clock writes minutes and seconds.
func clock(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// table is one line per server, and one that explains what came past the
// balancer.
func (f frame) table(width int, g glyphs) []line {
	const rest = len("plex1   weight  ") + len(" 99.99   load  GPU  CPU  copy  direct  moved in")
	w := max(width-rest, len("load / weight")-6)
	out := []line{{{bold, fmt.Sprintf("%-6s  %6s  %-*s  %5s  %3s  %3s  %4s  %6s  %8s",
		"server", "weight", w+6, "load / weight", "load", "GPU", "CPU", "copy", "direct", "moved in")}}}
	past := ""
	for _, r := range f.servers {
		if o := f.tally.down(r.name); o != nil {
			out = append(out, append(text("%-6s  %6g  ", r.name, r.weight),
				span{red, "killed " + clock(o.at.Sub(f.tally.begin))}, span{normal, " " + o.String()}))
			continue
		}
		stranger := min(float64(r.past)*gpuCost, r.load())
		l := text("%-6s  %6g  ", r.name, r.weight)
		l = append(l, g.bar(w, (r.load()-stranger)/r.weight, stranger/r.weight, f.scale())...)
		l = append(l, text(" %5.2f  %5.2f  %3d  %3d  %4d  %6d  ", r.perWeight(), r.load(), r.gpu, r.cpu, r.copy, r.direct)...)
		in := f.tally.movedTo(r.name)
		s := span{normal, fmt.Sprintf("%8d", in)}
		if in > 0 {
			s.style = yellow
		}
		out = append(out, append(l, s))
		if r.past > 0 {
			past = fmt.Sprintf(" %d of %s's transcodes came past the balancer", r.past, r.name)
		}
	}
	if past == "" {
		return append(out, line{})
	}
	return append(out, line{{normal, strings.Repeat(" ", 16)}, {yellow, g.past}, {normal, past}})
}

// placements is the list of the latest, as many as fit.
func (f frame) placements(width, height int) []line {
	const fixed = len(" time  PlexKodiConnect  direct plex1   because...")
	scores := 0
	for _, r := range f.servers {
		scores += len(r.name) + 1
	}
	w := min(16, max(0, width-fixed-scores))
	head := fmt.Sprintf("%5s  %-15s %-*.*s %-6s %-6s", "time", "client", w, w, "plays", "work", "on")
	for _, r := range f.servers {
		head += " " + r.name
	}
	out := []line{
		{{faint, fmt.Sprintf("%*s", len(head), "load / weight if it went to")}},
		{{bold, head + "  because"}},
	}
	list := f.latest[max(0, len(f.latest)-max(0, height-len(out))):]
	for _, p := range list {
		l := text("%5s  ", clock(p.at))
		if p.note != "" {
			s := span{yellow, p.note}
			if p.alarm {
				s.style = red
			}
			out = append(out, append(l, s))
			continue
		}
		l = append(l, text("%-15s %-*.*s %-6s ", p.client, w, w, p.title, p.work)...)
		if p.from != "" {
			waited := "waited " + wait(p.wait)
			out = append(out, append(l, span{yellow, fmt.Sprintf("%-6s", p.server)},
				text(" %-*s  %s", scores-1, waited, p.reason)[0]))
			continue
		}
		l = append(l, span{green, fmt.Sprintf("%-6s", p.server)})
		for i, r := range f.servers {
			s := span{normal, strings.Repeat(" ", len(r.name)+1)}
			if p.scores != nil {
				s = span{faint, fmt.Sprintf(" %*.2f", len(r.name), p.scores[i])}
				switch {
				case math.IsInf(p.scores[i], 1):
					s.text = fmt.Sprintf(" %*s", len(r.name), "down")
				case i == p.chosen && p.misplaced():
					s.style = yellow
				case i == p.chosen:
					s.style = green
				}
			}
			l = append(l, s)
		}
		out = append(out, append(l, text("  %s", p.reason)...))
	}
	for len(out) < height {
		out = append(out, nil)
	}
	return out[:max(0, height)]
}

// totals is the last line.
func (f frame) totals() line {
	t := f.tally
	l := text("playbacks %d   segments %d   ", t.playbacks, t.segments)
	l = append(l, span{alarm(t.lost), fmt.Sprintf("lost %d", t.lost)})
	l = append(l, text("   longest wait %s   ", wait(t.longest))...)
	return append(l, span{alarm(t.errors + t.strayed), fmt.Sprintf("errors %d", t.errors+t.strayed)})
}

// alarm is the style of a number that should be zero.
func alarm(n int) style {
	if n > 0 {
		return red
	}
	return normal
}

// compact is the servers in one plain line.
func (f frame) compact() string {
	var b strings.Builder
	b.WriteString("load / weight:")
	for i, r := range f.servers {
		if i > 0 {
			b.WriteString(",")
		}
		if o := f.tally.down(r.name); o != nil {
			fmt.Fprintf(&b, " %s down", r.name)
			continue
		}
		fmt.Fprintf(&b, " %s %.2f (%s", r.name, r.perWeight(), r.count)
		if n := f.tally.movedTo(r.name); n > 0 {
			fmt.Fprintf(&b, "; %d moved in", n)
		}
		b.WriteString(")")
	}
	return b.String()
}

// String lists what there is, with words.
func (c count) String() string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{c.gpu, "GPU"}, {c.cpu, "CPU"}, {c.copy, "copy"}, {c.direct, "direct"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	if len(parts) == 0 {
		return "idle"
	}
	return strings.Join(parts, " + ")
}
