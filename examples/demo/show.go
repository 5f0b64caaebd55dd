package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// show is how the demo is seen. Its errors mean that nobody looks any more.
type show interface {
	tell([]placement) error // as they happen
	draw(frame) error       // twice a second
	close()
	print(lines []line)
}

// newShow returns a picture that is redrawn in place if out is a terminal that
// can do so, and plain lines otherwise.
func newShow(out *os.File) show {
	if _, _, ok := terminalSize(out); !ok || os.Getenv("TERM") == "dumb" || os.Getenv("NO_COLOR") != "" {
		return &plain{out: out}
	}
	g := letters
	if utf8Locale(os.Getenv) {
		g = blocks
	}
	return &picture{out: out, glyphs: g, size: func() (int, int) {
		width, height, _ := terminalSize(out)
		return width, height
	}}
}

// utf8Locale reports whether the terminal can be trusted with block letters.
func utf8Locale(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// plain prints a line for everything that happens.
type plain struct {
	out  io.Writer
	next time.Duration
}

// every is how often plain output tells about the servers.
const every = 5 * time.Second

func (p *plain) tell(news []placement) error {
	for _, n := range news {
		if _, err := fmt.Fprintf(p.out, "%5s  %s\n", clock(n.at), n.sentence()); err != nil {
			return err
		}
	}
	return nil
}

func (p *plain) draw(f frame) error {
	if p.next == 0 {
		p.next = every
		_, err := fmt.Fprintf(p.out, "plexlb balances viewers over %d Plex servers, behind Caddy at %s\n", len(f.servers), f.url)
		if err == nil {
			_, err = fmt.Fprintf(p.out, "status page: %s\n", f.page())
		}
		if f.kill && err == nil {
			_, err = fmt.Fprintf(p.out, "the servers are copies of each other; at %s one of them will be killed\n", clock(f.length/2))
		}
		return err
	}
	if f.elapsed < p.next {
		return nil
	}
	p.next += every
	_, err := fmt.Fprintf(p.out, "%5s  %s\n", clock(f.elapsed), f.compact())
	return err
}

func (p *plain) close() {}

func (p *plain) print(lines []line) {
	for _, l := range lines {
		_, _ = fmt.Fprintln(p.out, strings.TrimRight(l.cut(widest, false), " "))
	}
}

// picture redraws itself in place.
type picture struct {
	out    io.Writer
	size   func() (width, height int)
	glyphs glyphs
	latest []placement

	width, height int // as last drawn
	drawn         int // lines of it
}

// kept is how many placements a tall terminal could show.
const kept = 100

func (p *picture) tell(news []placement) error {
	p.latest = append(p.latest, news...)
	p.latest = p.latest[max(0, len(p.latest)-kept):]
	return nil
}

func (p *picture) draw(f frame) error {
	f.latest = p.latest
	width, height := p.size()
	var b strings.Builder
	switch {
	case p.drawn == 0:
		b.WriteString("\x1b[?25l") // no cursor
	case width != p.width || height != p.height:
		b.WriteString("\x1b[2J\x1b[H") // what wrapped cannot be taken back line by line
	default:
		fmt.Fprintf(&b, "\x1b[%dA\r", p.drawn)
	}
	p.width, p.height = width, height
	// One column and one line stay free, where the cursor rests.
	lines := f.lines(width-1, height-1, p.glyphs)
	lines = lines[:min(len(lines), max(0, height-1))]
	for _, l := range lines {
		b.WriteString(l.cut(width-1, true) + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	p.drawn = len(lines)
	_, err := io.WriteString(p.out, b.String())
	return err
}

// close takes the picture away and gives the cursor back.
func (p *picture) close() {
	if p.drawn > 0 {
		_, _ = fmt.Fprintf(p.out, "\x1b[%dA\r\x1b[J\x1b[?25h", p.drawn)
		p.drawn = 0
	}
}

func (p *picture) print(lines []line) {
	width, _ := p.size()
	for _, l := range lines {
		_, _ = fmt.Fprintln(p.out, l.cut(width, true))
	}
}
