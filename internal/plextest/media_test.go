package plextest

import (
	"fmt"
	"strings"
	"testing"
)

// named is a film whose segments are their names.
type named struct{}

func (named) Header(rep string) []byte { return []byte("header of " + rep) }

func (named) Segment(rep string, n int) []byte { return fmt.Appendf(nil, "%d of %s", n, rep) }

func (named) Codecs(rep string) string { return "codec-" + rep }

func TestMediaIsServedAsTheSessionsOwn(t *testing.T) {
	s := New(Config{Media: named{}})
	if w := get(s, segmentPath("T", 0)); w.Code != 404 {
		t.Errorf("a segment of no session: status %d", w.Code)
	}
	manifest := get(s, startQuery("mpd", HEVC, "T", "x", "c")).Body.String()
	for _, want := range []string{`mimeType="video/mp4" codecs="codec-0"`, `mimeType="audio/mp4" codecs="codec-1"`} {
		if !strings.Contains(manifest, want) {
			t.Errorf("manifest lacks %s:\n%s", want, manifest)
		}
	}
	for path, want := range map[string]string{
		"0/header":      "header of 0",
		"1/header":      "header of 1",
		"1/7.m4s":       "7 of 1",
		"base/00003.ts": "3 of base",
	} {
		if w := get(s, transcoder+"session/T/"+path); w.Code != 200 || w.Body.String() != want {
			t.Errorf("%s: status %d, %q", path, w.Code, w.Body)
		}
	}
	s.Forget()
	if w := get(s, segmentPath("T", 0)); w.Code != 404 {
		t.Errorf("a segment of a session that is gone: status %d", w.Code)
	}
}
