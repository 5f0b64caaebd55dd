package main

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// segments are what a viewer saw, one a second, each answered at once.
func segments(at time.Time, servers ...string) (list []plextest.Observation) {
	for n, s := range servers {
		o := plextest.Observation{
			What: "segment", Asked: fmt.Sprint(n), Server: s,
			At: at.Add(time.Duration(n)*time.Second + time.Millisecond), Duration: 10 * time.Millisecond,
		}
		if s == "" {
			o.Err = errors.New("no answer")
		}
		list = append(list, o)
	}
	return list
}

func TestJudge(t *testing.T) {
	begin := time.Unix(1_000_000, 0)
	loss := begin.Add(2500 * time.Millisecond)
	slow := segments(begin, "plex2", "plex2", "plex2", "plex1", "plex1", "plex1", "plex1")
	slow[3].At, slow[3].Duration = begin.Add(2*time.Second), 4*time.Second // was on its way
	again := segments(begin, "plex2", "plex2", "plex2", "", "plex3", "plex3", "plex3", "plex3")
	again[4].Asked = again[3].Asked // the first attempt failed
	for name, tc := range map[string]struct {
		saw          []plextest.Observation
		hit, carried int
		wait         time.Duration
	}{
		"on another server":                {segments(begin, "plex1", "plex1", "plex1", "plex1", "plex1", "plex1"), 0, 0, 0},
		"goes on elsewhere":                {segments(begin, "plex2", "plex2", "plex2", "plex1", "plex1", "plex1"), 1, 1, 10 * time.Millisecond},
		"a segment took long":              {slow, 1, 1, 4 * time.Second},
		"a segment came with a second try": {again, 1, 1, 1010 * time.Millisecond},
		"ends":                             {segments(begin, "plex2", "plex2", "plex2"), 1, 0, 0},
		"gets nothing any more":            {segments(begin, "plex2", "plex2", "plex2", "", "", "", "", ""), 1, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var f failover
			f.judge(tc.saw, loss)
			if f.hit != tc.hit || f.carried != tc.carried {
				t.Errorf("hit %d, carried %d; want %d and %d", f.hit, f.carried, tc.hit, tc.carried)
			}
			if tc.carried == 1 && (len(f.waits) != 1 || f.waits[0] != tc.wait) {
				t.Errorf("waited %v, want %v", f.waits, tc.wait)
			}
		})
	}
}

func TestNoteOfPictures(t *testing.T) {
	at := time.Unix(1_000_000, 0)
	var v visits
	v.note(at, 2*time.Second, true, false)
	v.note(at.Add(time.Second), 10*time.Millisecond, false, false)
	v.note(at.Add(2*time.Second), 10*time.Millisecond, true, false)
	if !v.lastBad.Equal(at.Add(time.Second)) || v.failed != 1 || v.cut != 0 || v.longest != 2*time.Second {
		t.Errorf("%+v", &v)
	}
	v.note(at.Add(3*time.Second), 5*time.Second, false, true)
	if !v.lastBad.Equal(at.Add(3*time.Second)) || v.failed != 1 || v.cut != 1 || v.longest != 5*time.Second {
		t.Errorf("after one that was cut off: %+v", &v)
	}
}
