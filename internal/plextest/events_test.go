package plextest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// listen follows the notifications of a server and returns them one by one.
func listen(t *testing.T, s *Server, query string) func() (event string, data map[string]any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/:/eventsource/notifications?X-Plex-Token=owner-token"+query, nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("type %q", got)
	}
	lines := bufio.NewScanner(resp.Body)
	return func() (event string, data map[string]any) {
		for lines.Scan() {
			switch line := lines.Text(); {
			case strings.HasPrefix(line, "event: "):
				event = line[len("event: "):]
			case strings.HasPrefix(line, "data: "):
				if err := json.Unmarshal([]byte(line[len("data: "):]), &data); err != nil {
					t.Fatal(err)
				}
			case line == "":
				return event, data
			}
		}
		t.Fatalf("stream ended: %v", lines.Err())
		return "", nil
	}
}

func TestEvents(t *testing.T) {
	s := pms(t, Config{Unsettled: 300 * time.Millisecond, Reap: time.Second})
	next := listen(t, s, "")
	get(s, startQuery("m3u8", "1", "T", "x", "c"))

	event, data := next()
	job, _ := data["TranscodeSession"].(map[string]any)
	if event != "transcodeSession.start" || job["key"] != "/transcode/sessions/T" {
		t.Errorf("%s %v", event, data)
	}
	event, data = next()
	play, _ := data["PlaySessionStateNotification"].(map[string]any) // an object
	if event != "playing" || play["sessionKey"] != "1" || play["clientIdentifier"] != "c" || play["transcodeSession"] != "T" || play["state"] != "playing" {
		t.Errorf("%s %v", event, data)
	}
	event, data = next() // time alone does it
	job, _ = data["TranscodeSession"].(map[string]any)
	if event != "transcodeSession.update" || job["transcodeHwEncoding"] != "nvenc" {
		t.Errorf("%s %v", event, data)
	}
	for event != "transcodeSession.end" { // nobody watches: it is reaped
		event, _ = next()
	}
	event, data = next()
	play, _ = data["PlaySessionStateNotification"].(map[string]any)
	if event != "playing" || play["state"] != "stopped" {
		t.Errorf("%s %v", event, data)
	}
}

func TestEventFilters(t *testing.T) {
	s := pms(t, Config{})
	next := listen(t, s, "&filters=playing")
	get(s, startQuery("m3u8", "1", "T", "x", "c"))
	get(s, timelineQuery("1", "paused", "x", "c"))
	get(s, timelineQuery("1", "stopped", "x", "c"))
	for _, want := range []string{"playing", "paused", "stopped"} {
		event, data := next()
		if state := data["PlaySessionStateNotification"].(map[string]any)["state"]; event != "playing" || state != want {
			t.Errorf("%s %v, want %s", event, state, want)
		}
	}
}

func TestEventPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/:/eventsource/notifications?X-Plex-Token=owner-token", nil).WithContext(ctx))
		if got := w.Body.String(); got != strings.Repeat("event: ping\ndata: {}\n\n", 2) {
			t.Errorf("25 seconds of nothing: %q", got)
		}
	})
}

func TestWebSocketIsAccepted(t *testing.T) {
	s := pms(t, Config{})
	conn := dialWebSocket(t, s)
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("read %d, %v: not idle", n, err)
	}
	if log := s.Log(); log[0].Status != http.StatusSwitchingProtocols {
		t.Errorf("log %+v", log[0])
	}
}

// Messages of a WebSocket have another form than those of an event stream.
func TestWebSocketTells(t *testing.T) {
	s := pms(t, Config{})
	conn := dialWebSocket(t, s)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	socket := NewSocket(conn)
	if err := errors.Join(socket.Ping([]byte("there?")), socket.Send([]byte(strings.Repeat("hello ", 30_000)))); err != nil {
		t.Fatal(err)
	}
	get(s, timelineQuery("1", "paused", "x", "c"))
	message, err := socket.Receive()
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		NotificationContainer struct {
			Type                         string
			Size                         int
			PlaySessionStateNotification []struct{ ClientIdentifier, State string }
		}
	}
	if err := json.Unmarshal(message, &m); err != nil {
		t.Fatalf("%v: %s", err, message)
	}
	if n := m.NotificationContainer; n.Type != "playing" || n.Size != 1 || len(n.PlaySessionStateNotification) != 1 ||
		n.PlaySessionStateNotification[0].ClientIdentifier != "c" || n.PlaySessionStateNotification[0].State != "paused" {
		t.Errorf("told %s", message)
	}
	if err := socket.Close(); err != nil {
		t.Fatal(err)
	}
	if m, err := socket.Receive(); err != io.EOF {
		t.Errorf("after the good-bye: %s, %v", m, err)
	}
	select {
	case pong := <-socket.Pongs():
		if string(pong) != "there?" {
			t.Errorf("pong %q", pong)
		}
	default:
		t.Error("the ping was not answered")
	}
}

func TestUploadIsNoted(t *testing.T) {
	s := pms(t, Config{UserTokens: []string{"user"}})
	send := func(token string, body io.Reader) *http.Response {
		req, _ := http.NewRequest(http.MethodPost, s.URL()+"/library/metadata/1/posters?X-Plex-Token="+token, body)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil
		}
		resp.Body.Close()
		return resp
	}
	if resp := send("owner-token", strings.NewReader("a poster")); resp == nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("refused: %v", resp)
	}
	if resp := send("user", strings.NewReader("a poster")); resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("of somebody else: %v", resp)
	}
	send("owner-token", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("gone"))))
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		u := s.Uploads()
		if len(u) == 2 && u[1].Done {
			if u[0].Size != 8 || u[0].Err != nil || u[0].Sum != sha256.Sum256([]byte("a poster")) || u[1].Size != 4 || u[1].Err == nil {
				t.Errorf("uploads %+v", u)
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("uploads %+v", u)
		}
	}
}

func TestASlowListenerHoldsNobodyUp(t *testing.T) {
	s := New(Config{})
	ch := s.hub.join(nil)
	defer s.hub.leave(ch)
	for range 2 * queueLength {
		get(s, timelineQuery("1", "playing", "x", "c"))
		get(s, timelineQuery("1", "stopped", "x", "c"))
	}
	if len(ch) != queueLength {
		t.Errorf("%d events wait", len(ch))
	}
}
