package players

import (
	"testing"
	"time"
)

// A film goes on at a server that encodes in another way: with other hardware,
// or another version of PMS. Segments of TS say how they are encoded, those of
// fMP4 do not.
func TestPlayersGoOnWithAnotherEncoder(t *testing.T) {
	for name, change := range map[string]func(e *encoder){
		"of another profile": func(e *encoder) {
			e.codec = "avc1.64001E"
			e.h264 = []string{"-x264-params", "cabac=1:8x8dct=1:ref=3:bframes=2:b-adapt=0"}
		},
		"of another size": func(e *encoder) { e.size = "640x360" },
		"of another clock and sound": func(e *encoder) {
			e.clock, e.hertz, e.shifted = 90000, 44100, ".013"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := usual
			change(&other)
			h := newHouse(t, other, usual)
			all := append(viewers(h.playInBrowser(t)), h.playNative(t))
			h.settle(t, all...)
			for _, v := range all {
				v.Picture("before")
				v.begin()
			}
			h.Plex[1].Close()
			time.Sleep(buffer + 15*time.Second)
			for _, v := range all {
				v.Picture("after")
				note("i", "its server is killed, the next encoder is "+name, v, v.report())
				check(t, v, event{moves: true, stall: smooth, errors: troubled})
			}
		})
	}
}
