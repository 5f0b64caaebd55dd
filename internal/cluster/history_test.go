package cluster

import (
	"fmt"
	"testing"
	"time"
)

// The last moves are remembered, and the memory of a playback that never moves
// is not touched.
func TestTheLastMovesAreRemembered(t *testing.T) {
	now := time.Now()
	l := NewLedger(now)
	a, b := l.Admit("a:1", now), l.Admit("b:1", now)
	p := &Playback{pins: l.transcodes, server: a}
	if v := l.view(p); p.history != nil || v.History != nil {
		t.Errorf("before any move there are %v", v.History)
	}
	for i := range 20 {
		from, to := a, b
		if i%2 == 1 {
			from, to = b, a
		}
		p.noteMove(from, to, Cause(i%len(causes)), time.Duration(i)*time.Minute)
	}
	list := l.view(p).History
	if len(list) != mostMoves || cap(p.history) > 2*mostMoves {
		t.Fatalf("%d moves are remembered, in %d places", len(list), cap(p.history))
	}
	for i, m := range list {
		n := 20 - mostMoves + i
		want := fmt.Sprint(l.time(time.Duration(n)*time.Minute), map[int]string{0: "a:1b:1", 1: "b:1a:1"}[n%2], causes[n%len(causes)])
		if got := fmt.Sprint(m.At, m.From+m.To, m.Cause); got != want {
			t.Errorf("move %d is %s, want %s", i, got, want)
		}
	}
}
