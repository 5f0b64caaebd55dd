package plexlb

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// lazy is a body without anything in it, on a machine that has no time for it.
type lazy struct{ empty }

func (lazy) Read([]byte) (int, error) {
	time.Sleep(300 * time.Millisecond)
	return 0, io.EOF
}

// A write with nothing in it arrives as one without a body, however long it
// takes to see that there is nothing. Go would look for 200 ms, and then send
// chunks while it goes on looking.
func TestSentOnceHasNoBody(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 || len(r.TransferEncoding) > 0 || r.Header.Get("Trailer") != "" {
			t.Errorf("it arrives with a length of %d, encoded as %q", r.ContentLength, r.TransferEncoding)
		}
	}))
	defer server.Close()
	client := server.Client()
	for range 2 { // on one connection
		r, err := http.NewRequest(http.MethodGet, server.URL+"/:/scrobble", nil)
		if err != nil {
			t.Fatal(err)
		}
		r = sentOnce(r)
		r.Body = lazy{}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
}
