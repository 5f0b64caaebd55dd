package plex

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxBody bounds what is read of an answer, before and after decompression. A
// session takes some 15 KB of it [P §1.2].
const maxBody = 8 << 20

// readBody reads all of r, but no more than maxBody.
func readBody(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	switch {
	case len(body) > maxBody:
		return nil, ErrTooLarge
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, ErrTruncated
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		return nil, fmt.Errorf("%w: %v", ErrNotPMS, err)
	}
	return body, err
}

// plain undoes the compression of a body. PMS may compress unasked [P §6.4].
func plain(contentEncoding string, body []byte) ([]byte, error) {
	if len(body) > maxBody {
		return nil, ErrTooLarge
	}
	switch strings.ToLower(strings.TrimSpace(contentEncoding)) {
	case "", "identity":
		return body, nil
	case "gzip", "x-gzip":
	default:
		return nil, fmt.Errorf("%w: unknown content encoding", ErrNotPMS)
	}
	if len(body) == 0 {
		return body, nil
	}
	zr, err := gzip.NewReader(bytes.NewReader(body))
	if err == nil {
		body, err = readBody(zr)
	}
	switch {
	case err == nil, errors.Is(err, ErrTooLarge), errors.Is(err, ErrTruncated), errors.Is(err, ErrNotPMS):
		return body, err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, ErrTruncated
	}
	return nil, fmt.Errorf("%w: not gzip", ErrNotPMS)
}

// readContainer reads the MediaContainer out of an answer's body. Any other
// document is an error, so that it can never pass for an empty list.
func readContainer(contentType string, body []byte) (*node, error) {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	body = bytes.TrimLeft(body, " \t\r\n")
	contentType = strings.ToLower(contentType)
	var root *node
	var err error
	switch {
	case len(body) == 0:
		if strings.Contains(contentType, "json") || strings.Contains(contentType, "xml") {
			return nil, ErrTruncated
		}
		return nil, fmt.Errorf("%w: empty", ErrNotPMS)
	// The first byte settles what the Content-Type should have said [P §1.1]:
	// no JSON document of PMS begins as XML does, nor the other way round.
	case body[0] == '{':
		root, err = parseJSON(body)
	case body[0] == '<':
		root, err = parseXML(body)
	case strings.Contains(contentType, "html"):
		return nil, fmt.Errorf("%w: a web page", ErrNotPMS)
	default:
		return nil, fmt.Errorf("%w: neither JSON nor XML", ErrNotPMS)
	}
	if err != nil {
		return nil, err
	}
	if c := root.child("MediaContainer"); c != nil {
		return c, nil
	}
	// <Response code="503" title="Maintenance" …/> [P §2]
	if code := root.child("Response").integer("code"); code >= 300 {
		return nil, statusError(code)
	}
	return nil, fmt.Errorf("%w: no MediaContainer", ErrNotPMS)
}
