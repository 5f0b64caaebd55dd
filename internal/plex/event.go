package plex

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
)

// Event is a server's notice about a playback [P §3.8].
type Event struct {
	// Type is playing, or transcodeSession.start, .update or .end.
	Type string

	TranscodeID string // bare; empty for a direct play
	SessionKey  string // as in Session.Key; of playing only
	Client      string // X-Plex-Client-Identifier; of playing only
	State       string // playing, paused, buffering or stopped; of playing only

	Transcode *Transcode // of transcodeSession only
}

// maxEvent bounds an event and each line of it. Real ones have about 1 KB.
const maxEvent = 1 << 20

// Events listens to a server's event stream and calls handle for every notice
// about a playback, one at a time, until the stream ends or ctx does. A stream
// that ends in good order gives nil. A timeout of the HTTP client does not
// apply.
//
// A stream is heard on one server and tells of that server only. It makes
// news fresher; what it misses, the next reading of the sessions has.
func (c *Client) Events(ctx context.Context, handle func(Event)) error {
	if err := c.events(ctx, handle); err != nil {
		return fmt.Errorf("listening to events: %w", err)
	}
	return nil
}

func (c *Client) events(ctx context.Context, handle func(Event)) error {
	client := c.client()
	client.Timeout = 0
	req, err := c.request(ctx, "/:/eventsource/notifications")
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "identity") // a compressed stream comes late
	resp, err := client.Do(req)
	if err != nil {
		return bare(err)
	}
	defer resp.Body.Close()
	if err := statusError(resp.StatusCode); err != nil {
		return err
	}
	if typ, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); typ != "" && typ != "text/event-stream" {
		return fmt.Errorf("%w: no event stream", ErrNotPMS)
	}
	return readEvents(resp.Body, handle)
}

// readEvents reads a stream of server-sent events. An event that cannot be
// read is passed over.
func readEvents(r io.Reader, handle func(Event)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	var typ string
	var data strings.Builder
	dispatch := func() {
		for _, e := range eventsOf(typ, data.String()) {
			handle(e)
		}
		typ = ""
		data.Reset()
	}
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			dispatch()
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			typ = value
		case "data":
			if data.Len()+len(value) > maxEvent {
				return ErrTooLarge
			}
			data.WriteString(value)
			data.WriteByte('\n')
		}
	}
	dispatch() // if the stream was cut in the middle of it, it will not parse
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return ErrTooLarge
	case errors.Is(err, io.ErrUnexpectedEOF):
		return ErrTruncated
	default:
		return err
	}
}

// eventsOf reads the notices of one event. Streams send an object, WebSockets
// the same in a container and a list; both are understood.
func eventsOf(typ, data string) []Event {
	playing, transcode := typ == "playing", strings.HasPrefix(typ, "transcode")
	if !playing && !transcode && typ != "" && typ != "message" {
		return nil
	}
	data = strings.TrimSpace(data)
	if !strings.HasPrefix(data, "{") {
		return nil
	}
	root, err := parseJSON([]byte(data))
	if err != nil {
		return nil
	}
	if c := root.child("NotificationContainer"); c != nil {
		root = c
		if t := c.text("type"); t != "" {
			typ, transcode = t, strings.HasPrefix(t, "transcode")
		}
	}
	var events []Event
	for _, n := range root.all("PlaySessionStateNotification") {
		events = append(events, Event{
			Type:        "playing",
			TranscodeID: transcodeID(n.text("transcodeSession")),
			SessionKey:  n.text("sessionKey"),
			Client:      n.text("clientIdentifier"),
			State:       n.text("state"),
		})
	}
	if !transcode {
		typ = "transcodeSession.update"
	}
	for _, n := range root.all("TranscodeSession") {
		t := readTranscode(n)
		events = append(events, Event{Type: typ, TranscodeID: t.ID, Transcode: &t})
	}
	return events
}
