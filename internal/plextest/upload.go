package plextest

import (
	"crypto/sha256"
	"io"
	"net/http"
	"sync"
)

// Upload is a file that the server gets, or has got: a poster, say, of which
// PMS takes any size.
type Upload struct {
	Path string
	Size int64    // so far
	Sum  [32]byte // SHA-256, once it is whole
	Done bool     // the body came to its end or broke off
	Err  error    // why it broke off
}

// uploads keeps them in order of arrival.
type uploads struct {
	mu   sync.Mutex
	list []*Upload
}

// Uploads returns the files that the server got, and those that are coming.
func (s *Server) Uploads() []Upload {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	out := make([]Upload, len(s.uploads.list))
	for i, u := range s.uploads.list {
		out[i] = *u
	}
	return out
}

// serveUpload takes a file in.
func (s *Server) serveUpload(a *ask) {
	if !s.admin(a) {
		return
	}
	u := &Upload{Path: a.r.URL.EscapedPath()}
	s.uploads.mu.Lock()
	s.uploads.list = append(s.uploads.list, u)
	s.uploads.mu.Unlock()

	hash := sha256.New()
	_, err := io.Copy(hash, &counted{a.r.Body, s, u})
	s.uploads.mu.Lock()
	u.Done, u.Err = true, err
	if err == nil {
		hash.Sum(u.Sum[:0])
	}
	s.uploads.mu.Unlock()
	if err != nil {
		panic(http.ErrAbortHandler) // nobody is left to answer
	}
	a.w.WriteHeader(http.StatusOK)
}

// counted notes how much of an upload has come.
type counted struct {
	body   io.Reader
	server *Server
	upload *Upload
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	c.server.uploads.mu.Lock()
	c.upload.Size += int64(n)
	c.server.uploads.mu.Unlock()
	return n, err
}
