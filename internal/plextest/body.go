package plextest

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Body is what the first line of a segment, of a block of a stream and of a
// block of a file says about it, so that a viewer notices the wrong one.
type Body struct {
	Server   string // empty in files, which are the same everywhere
	Session  string // TSID; "file" in files
	Rep      string // base, 0, 1, stream, part …
	Number   int    // -1 in headers
	Item     string // ratingKey
	Audio    string // chosen stream
	Subtitle string // chosen stream, 0 for none
	Quality  int    // kbps asked for, 0 for the original's
}

const bodyMark = "plextest"

// String returns the line, without its end.
func (b Body) String() string {
	e := url.QueryEscape
	return fmt.Sprintf("%s server=%s session=%s rep=%s number=%d item=%s audio=%s subtitle=%s quality=%d",
		bodyMark, e(b.Server), e(b.Session), e(b.Rep), b.Number, e(b.Item), e(b.Audio), e(b.Subtitle), b.Quality)
}

// bytes returns the line, padded to size.
func (b Body) bytes(size int) []byte {
	line := append([]byte(b.String()), '\n')
	if len(line) < size {
		line = append(line, bytes.Repeat([]byte{'.'}, size-len(line))...)
	}
	return line
}

// ReadBody reads the first line of a segment.
func ReadBody(p []byte) (Body, error) {
	line, _, _ := bytes.Cut(p, []byte{'\n'})
	fields := strings.Fields(string(line))
	if len(fields) == 0 || fields[0] != bodyMark {
		return Body{}, errors.New("plextest: not the body of a segment")
	}
	var b Body
	for _, f := range fields[1:] {
		name, value, _ := strings.Cut(f, "=")
		value, err := url.QueryUnescape(value)
		if err != nil {
			return Body{}, fmt.Errorf("plextest: body of a segment: %w", err)
		}
		switch name {
		case "server":
			b.Server = value
		case "session":
			b.Session = value
		case "rep":
			b.Rep = value
		case "number":
			b.Number, err = strconv.Atoi(value)
		case "item":
			b.Item = value
		case "audio":
			b.Audio = value
		case "subtitle":
			b.Subtitle = value
		case "quality":
			b.Quality, err = strconv.Atoi(value)
		}
		if err != nil {
			return Body{}, fmt.Errorf("plextest: body of a segment: %w", err)
		}
	}
	return b, nil
}
