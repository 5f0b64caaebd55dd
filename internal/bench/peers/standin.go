package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// standInCommand as the first argument makes this program a stand-in, so that
// there is no second one to build.
const standInCommand = "stand-in"

// token is the owner's, at all stand-ins.
const token = "owner-token"

// segmentSize is that of the segments whose cost is measured.
const segmentSize = 512 << 10

// standIn serves until standard input ends, so as not to outlive who started it.
func standIn(args []string) error {
	flags := flag.NewFlagSet(standInCommand, flag.ContinueOnError)
	name := flags.String("name", "plex1", "name shown in answers")
	fast := flags.Bool("fast", false, "answer the requests whose cost is measured from memory, for any session")
	if err := flags.Parse(args); err != nil {
		return err
	}
	pms := plextest.New(plextest.Config{
		Name: *name, Token: token, MachineIdentifier: "clone", Database: "clone", // mode replicated is for copies only
		SegmentDuration: segmentDuration, Reap: time.Hour,
	})
	var handler http.Handler = pms
	if *fast {
		handler = quick{pms, bytes.Repeat([]byte("0123456789abcdef"), segmentSize/16), bytes.Repeat([]byte(`{"title":"film"},`), 256)}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = ln.Close()
	}()
	if err := http.Serve(ln, handler); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// quick is a stand-in that takes little of the machine on which a proxy is
// measured.
type quick struct {
	pms              http.Handler
	segment, listing []byte
}

// ServeHTTP answers one request.
func (q quick) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	contentType, body := "text/xml;charset=utf-8", []byte(`<?xml version="1.0" encoding="UTF-8"?><MediaContainer size="0"/>`)
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/video/:/transcode/universal/session/") && strings.HasSuffix(path, ".ts"):
		contentType, body = "video/mp2t", q.segment
	case strings.HasPrefix(path, "/library/metadata/"):
		contentType, body = "application/json", q.listing
	case path == "/:/timeline":
	default:
		q.pms.ServeHTTP(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Plex-Protocol", "1.0")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cache-Control", "no-cache")
	_, _ = w.Write(body)
}
