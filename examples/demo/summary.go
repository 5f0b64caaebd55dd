package main

import (
	"fmt"
	"time"
)

// summary is what is said at the end: the last frame, in words.
type summary struct{ frame }

func (s summary) lines() []line {
	t := s.tally
	out := []line{
		{{bold, "plexlb"}, {normal, fmt.Sprintf(" after %s: %d playbacks, %d segments", clock(s.elapsed), t.playbacks, t.segments)}},
		nil,
		{{bold, "server  weight  starts  share of load  share by weight  highest load  / weight"}},
	}
	weights, loads, past := 0.0, 0.0, false
	for _, r := range s.servers {
		weights += r.weight
		loads += r.sum
	}
	for _, r := range s.servers {
		name := r.name
		if r.visited {
			name, past = name+"*", true
		}
		out = append(out, text("%-6s  %6g  %6d  %13s  %15s  %12.2f  %8.2f", name, r.weight, t.starts[r.name],
			percent(r.sum, loads), percent(r.weight, weights), r.peak, r.peak/r.weight))
	}
	if past {
		out = append(out, line{{faint, "* with transcodes that came past the balancer"}})
	}
	out = append(out, nil)
	fact := func(st style, what, format string, args ...any) {
		out = append(out, line{{normal, fmt.Sprintf("%-18s", what)}, {st, fmt.Sprintf(format, args...)}})
	}
	fact(alarm(t.moved), "changed server", "%d", t.moved)
	fact(alarm(t.errors), "errors", "%d", t.errors)
	fact(alarm(t.misplaced), "misplaced starts", "%s", s.misplaced())
	fact(normal, "longest wait", "%v for a segment", t.slowest.Round(time.Millisecond))
	return out
}

func (s summary) misplaced() string {
	t := s.tally
	m := fmt.Sprintf("%d of %d", t.misplaced, t.judged)
	if t.misplaced > 0 {
		m += fmt.Sprintf(", by up to %.2f", t.excess)
	}
	if n := t.playbacks - t.judged; n > 0 {
		m += fmt.Sprintf("; %d came too close together to judge", n)
	}
	return m
}

func percent(part, whole float64) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*part/whole)
}

// problems are what went wrong, not all of it if that is much.
func (s summary) problems() []string {
	const most = 5
	all := s.tally.problems
	if len(all) <= most {
		return all
	}
	return append(all[:most:most], fmt.Sprintf("and %d more", len(all)-most))
}
