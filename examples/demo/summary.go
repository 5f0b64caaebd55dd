package main

import "fmt"

// summary is what is said at the end: the last frame, in words.
type summary struct{ frame }

func (s summary) lines() []line {
	t := s.tally
	out := []line{
		{{bold, "plexlb"}, {normal, fmt.Sprintf(" after %s: %d playbacks, %d segments", clock(s.elapsed), t.playbacks, t.segments)}},
		nil,
		{{bold, "server  weight  starts  moved in  share of load  by weight  peak load  / weight"}},
	}
	due, loads, past := 0.0, 0.0, false
	for _, r := range s.servers {
		due += r.due
		loads += r.sum
	}
	for _, r := range s.servers {
		name := r.name
		if r.visited {
			name, past = name+"*", true
		}
		out = append(out, text("%-6s  %6g  %6d  %8d  %13s  %9s  %9.2f  %8.2f", name, r.weight, t.starts[r.name], t.movedTo(r.name),
			percent(r.sum, loads), percent(r.due, due), r.peak, r.peak/r.weight))
	}
	if past {
		out = append(out, line{{faint, "* with transcodes that came past the balancer"}})
	}
	if len(t.outages) > 0 {
		out = append(out, line{{faint, "by weight: what it should be, of the time when the server was up"}})
	}
	out = append(out, nil)
	fact := func(st style, what, format string, args ...any) {
		out = append(out, line{{normal, fmt.Sprintf("%-20s", what)}, {st, fmt.Sprintf(format, args...)}})
	}
	fact(alarm(t.lost), "segments lost", "%d", t.lost)
	fact(normal, "longest wait", "%s for a segment; players hold %v", wait(t.longest), buffer)
	had, moved, left, streams := 0, 0, 0, 0
	for _, o := range t.outages {
		had += o.had
		moved += o.movedAway()
		left += o.left
		streams += o.streams
	}
	if len(t.outages) > 0 {
		more := ""
		if left > 0 {
			more = fmt.Sprintf("; %s left first", number(left, "viewer"))
		}
		fact(alarm(had-moved-left), "playbacks moved", "%d of %d on %s when it was killed%s", moved, had, t.outages[0].server, more)
	}
	if streams > 0 {
		fact(normal, "", "(%d by its player, which began anew: a stream is one answer)", streams)
	}
	if t.cut > 0 {
		fact(normal, "", "(%s broke off and came at the next try)", number(t.cut, "answer"))
	}
	if t.unheard > 0 {
		fact(normal, "", "(%s to the dead server failed; players send the next)", number(t.unheard, "report"))
	}
	fact(alarm(t.strayed), "moved without need", "%d", t.strayed)
	fact(alarm(t.errors), "other errors", "%d", t.errors)
	fact(alarm(t.misplaced), "misplaced starts", "%s", s.misplaced())
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
