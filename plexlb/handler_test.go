package plexlb

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"testing"
)

// glass is an empty body that shows who reads it.
type glass struct{ seen *string }

func (g glass) Read([]byte) (int, error) {
	*g.seen = string(debug.Stack())
	return 0, io.EOF
}

func (glass) Close() error { return nil }

// A write that is a GET has a body that is not there. Nobody may look for it in
// a goroutine, nor may it be announced.
func TestBodiesThatAreNotThere(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	sent := make(chan http.Header, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		h := r.Header.Clone()
		for _, coding := range r.TransferEncoding {
			h.Add("Transfer-Encoding", coding)
		}
		sent <- h
		_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
	}()
	r, err := http.NewRequest(http.MethodGet, "http://"+ln.Addr().String()+"/:/scrobble?key=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	r = sentOnce(r)
	stack := ""
	r.Body = glass{&stack}
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if stack == "" || strings.Contains(stack, "probeRequestBody") {
		t.Errorf("the body was read by %s", stack)
	}
	if h := <-sent; h.Get("Transfer-Encoding") != "" || h.Get("Content-Length") != "" {
		t.Errorf("a body is announced: %v", h)
	}
}
