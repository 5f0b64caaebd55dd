package plex

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadEvents(t *testing.T) {
	const playing = "event: playing\ndata: {\"PlaySessionStateNotification\":{\"sessionKey\":\"4\",\"clientIdentifier\":\"c\",\"state\":\"paused\",\"transcodeSession\":\"a\"}}\n\n"
	isPlaying := Event{Type: "playing", TranscodeID: "a", SessionKey: "4", Client: "c", State: "paused"}
	isTranscode := func(typ string) Event {
		return Event{Type: typ, TranscodeID: "a", Transcode: &Transcode{ID: "a", Speed: 2}}
	}
	const transcode = `{"TranscodeSession":{"key":"/transcode/sessions/a","speed":"2"}}`
	for name, tc := range map[string]struct {
		stream io.Reader
		want   []Event
		err    error
	}{
		"playing":          {strings.NewReader(playing), []Event{isPlaying}, nil},
		"transcode starts": {strings.NewReader("event: transcodeSession.start\ndata: " + transcode + "\n\n"), []Event{isTranscode("transcodeSession.start")}, nil},
		"transcode ends, as older servers say it": {strings.NewReader("event: transcode.end\ndata: " + transcode + "\n\n"), []Event{isTranscode("transcode.end")}, nil},
		"pings and other news are passed over": {strings.NewReader("event: ping\ndata: {}\n\nevent: timeline\ndata: {\"TimelineEntry\":{}}\n\n" + playing),
			[]Event{isPlaying}, nil},
		"no blank line at the end":  {strings.NewReader(strings.TrimSpace(playing)), []Event{isPlaying}, nil},
		"cut in an event":           {strings.NewReader(playing + playing[:60]), []Event{isPlaying}, nil},
		"Windows line ends":         {strings.NewReader(strings.ReplaceAll(playing, "\n", "\r\n")), []Event{isPlaying}, nil},
		"no space after the colon":  {strings.NewReader(strings.ReplaceAll(playing, ": ", ":")), []Event{isPlaying}, nil},
		"comments and other fields": {strings.NewReader(":hello\nid: 4\nretry: 100\nodd\n" + playing), []Event{isPlaying}, nil},
		"data over several lines": {strings.NewReader("event: transcodeSession.update\ndata: {\"TranscodeSession\":\ndata: {\"key\":\"a\",\"speed\":2}}\n\n"),
			[]Event{isTranscode("transcodeSession.update")}, nil},
		"several notices in a list": {strings.NewReader("event: playing\ndata: {\"PlaySessionStateNotification\":[{\"state\":\"playing\",\"sessionKey\":1},{\"state\":\"stopped\"}]}\n\n"),
			[]Event{{Type: "playing", State: "playing", SessionKey: "1"}, {Type: "playing", State: "stopped"}}, nil},
		"in the container of WebSockets": {strings.NewReader("data: {\"NotificationContainer\":{\"type\":\"transcodeSession.end\",\"size\":1,\"TranscodeSession\":[{\"key\":\"a\",\"speed\":2}]}}\n\n"),
			[]Event{isTranscode("transcodeSession.end")}, nil},
		"unnamed":                           {strings.NewReader("data: " + transcode + "\n\n"), []Event{isTranscode("transcodeSession.update")}, nil},
		"not JSON":                          {strings.NewReader("event: playing\ndata: hello\n\nevent: playing\ndata: {\"a\n\n" + playing), []Event{isPlaying}, nil},
		"an event name does not carry over": {strings.NewReader("event: ping\n\n" + "data: " + transcode + "\n\n"), []Event{isTranscode("transcodeSession.update")}, nil},
		"endless line":                      {io.MultiReader(strings.NewReader(playing+"data: "), strings.NewReader(strings.Repeat("x", 2*maxEvent))), []Event{isPlaying}, ErrTooLarge},
		"endless event":                     {strings.NewReader(playing + strings.Repeat("data: "+strings.Repeat("x", 1000)+"\n", 2000)), []Event{isPlaying}, ErrTooLarge},
		"connection cut":                    {io.MultiReader(strings.NewReader(playing), iotest.ErrReader(io.ErrUnexpectedEOF)), []Event{isPlaying}, ErrTruncated},
		"connection broken":                 {io.MultiReader(strings.NewReader(playing), iotest.ErrReader(io.ErrClosedPipe)), []Event{isPlaying}, io.ErrClosedPipe},
		"one byte at a time":                {iotest.OneByteReader(strings.NewReader(playing + playing)), []Event{isPlaying, isPlaying}, nil},
		"nothing":                           {strings.NewReader(""), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []Event
			err := readEvents(tc.stream, func(e Event) { got = append(got, e) })
			if !errors.Is(err, tc.err) {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("heard\n%+v, want\n%+v", got, tc.want)
			}
		})
	}
}

// FuzzEvents looks for streams that upset the reader.
func FuzzEvents(f *testing.F) {
	f.Add("event: playing\ndata: {\"PlaySessionStateNotification\":{\"state\":\"paused\"}}\n\n")
	f.Add("data: {\"NotificationContainer\":{\"type\":\"playing\",\"PlaySessionStateNotification\":[{}]}}\r\n\r\n")
	f.Fuzz(func(t *testing.T, stream string) {
		err := readEvents(strings.NewReader(stream), func(e Event) {
			if e.Type != "playing" && !strings.HasPrefix(e.Type, "transcode") {
				t.Fatalf("an event of type %q", e.Type)
			}
			if (e.Type == "playing") != (e.Transcode == nil) {
				t.Fatalf("%q with transcode %v", e.Type, e.Transcode)
			}
		})
		if err != nil && !errors.Is(err, ErrTooLarge) {
			t.Fatal(err)
		}
	})
}
