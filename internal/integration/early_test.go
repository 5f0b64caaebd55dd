package integration

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Some players wait less long for a header than for the body: a server that has
// answered and is still encoding must not look like one that does not answer.
func TestAHeaderDoesNotWaitForItsBody(t *testing.T) {
	encoded := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/identity" {
			_, _ = io.WriteString(w, `<MediaContainer size="0" machineIdentifier="plex1"/>`)
			return
		}
		w.Header().Set("Content-Length", "9")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		for _, piece := range []string{"a ", "segment"} {
			select {
			case <-encoded:
				_, _ = io.WriteString(w, piece)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
			}
		}
	}))
	defer server.Close()
	b := load(t, "{\nGLOBAL\nplexlb {\nserver plex1 "+strings.TrimPrefix(server.URL, "http://")+"\n}\n}\nHERE {\nplexlb\n}\n")
	client := &http.Client{Transport: &http.Transport{ResponseHeaderTimeout: 5 * time.Second}}
	defer client.CloseIdleConnections()
	for what, path := range map[string]string{
		"segment": "/video/:/transcode/universal/session/abc/base/00001.ts",
		"file":    "/library/parts/1/2/file.mkv",
	} {
		began := time.Now()
		res, err := client.Get(b.URL + path + "?X-Plex-Token=" + token)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the header of a %s took %v", what, took)
		}
		late := time.AfterFunc(3*time.Second, func() {
			t.Errorf("the first piece of a %s waits for the next", what)
			res.Body.Close()
		})
		encoded <- struct{}{}
		piece := make([]byte, 2)
		if _, err := io.ReadFull(res.Body, piece); err != nil {
			t.Errorf("the first piece of a %s: %v", what, err)
		}
		late.Stop()
		encoded <- struct{}{}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		body = append(piece, body...)
		if string(body) != "a segment" || err != nil {
			t.Errorf("the body of a %s is %q, %v", what, body, err)
		}
	}
}
