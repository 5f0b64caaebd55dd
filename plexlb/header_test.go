package plexlb

import (
	"crypto/sha256"
	"fmt"
	"testing"
)

func TestWhereHeadersAre(t *testing.T) {
	const universal = "/video/:/transcode/universal/"
	for path, want := range map[string]string{
		universal + "session/T/0/12.m4s":          universal + "session/T/0/header",
		universal + "session/T/base/00012.m4s":    universal + "session/T/base/header",
		universal + "dash/T/1/12.m4s":             universal + "dash/T/1/initial.mp4",
		universal + "session/T/base/00012.ts":     "",
		universal + "session/T/base/index.m3u8":   "",
		universal + "session/T/0/header":          "",
		universal + "session/T/vtt-base/0012.vtt": "",
	} {
		folder, header := headerOf(path)
		if header != want {
			t.Errorf("the header of %s is %q, want %q", path, header, want)
		}
		if header != "" && folderOfHeader(header) != folder {
			t.Errorf("%s is in %q, want %q", header, folderOfHeader(header), folder)
		}
		if folderOfHeader(path) != "" && path != universal+"session/T/0/header" {
			t.Errorf("%s is taken for a header", path)
		}
	}
}

// A client that asks for ever other headers fills no memory.
func TestHeadersAreBounded(t *testing.T) {
	var hs headers
	for i := range 100 {
		folder := fmt.Sprintf("/session/T/%d/", i)
		hs.give(folder, sha256.Sum256([]byte("one")))
		hs.compare(folder+"x/", 1, []byte("two"))
	}
	if len(hs.of) != maxRepresentations {
		t.Errorf("%d headers are kept, want %d", len(hs.of), maxRepresentations)
	}
}
