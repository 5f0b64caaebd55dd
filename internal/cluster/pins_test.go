package cluster

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"
)

func TestPinIsOneCacheLine(t *testing.T) {
	if n := unsafe.Sizeof(pin{}); n != 64 {
		t.Errorf("a pin has %d bytes", n)
	}
	if n := unsafe.Sizeof(pinShard{}); n != 64 {
		t.Errorf("a shard has %d bytes", n)
	}
}

func TestPinsAnswerAsAMapDoes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	x := newPins()
	want := make(map[string]*Playback)
	ids := make([]string, 5000)
	for i := range ids {
		ids[i] = fmt.Sprint(i, strings.Repeat("x", rng.IntN(50)))
	}
	for step := range 200_000 {
		id := ids[rng.IntN(len(ids))]
		// It fills up and empties again, so that shards grow and shrink.
		if rng.IntN(100) < 30+40*(step/50_000%2) {
			p := &Playback{server: &Server{}}
			x.put(id, p)
			want[id] = p
		} else {
			p := want[id]
			x.remove(id, &Playback{}) // somebody else's: stays
			if x.get(id) != p {
				t.Fatalf("step %d: %q was removed for another playback", step, id)
			}
			x.remove(id, p)
			delete(want, id)
		}
		id = ids[rng.IntN(len(ids))]
		if got := x.get(id); got != want[id] {
			t.Fatalf("step %d: get(%q) = %v, want %v", step, id, got, want[id])
		}
		if s := x.touch(id, 1); len(id) <= pinned && want[id] != nil && s != want[id].server {
			t.Fatalf("step %d: touch(%q) is the wrong server", step, id)
		}
	}
	n := 0
	x.each(func(string, *Playback, *Server) { n++ })
	if n != len(want) {
		t.Errorf("%d pins, want %d", n, len(want))
	}
	for id, p := range want {
		x.remove(id, p)
	}
	slots := 0
	for i := range x.shards {
		slots += len(x.shards[i].slots)
	}
	if slots > 8*len(x.shards) {
		t.Errorf("%d slots are kept for nothing", slots)
	}
}
