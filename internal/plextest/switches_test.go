package plextest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestPolls(t *testing.T) {
	s := pms(t, Config{})
	s.AddBypass(1)
	read := func(path string) (int, string, http.Header) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+path, nil)
		req.Header.Set("X-Plex-Token", "owner-token")
		req.Header.Set("Accept", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body), resp.Header
	}
	for name, tc := range map[string]struct {
		poll   Poll
		status int
		check  func(body string, h http.Header) bool
	}{
		"good":      {PollGood, 200, func(b string, _ http.Header) bool { return json.Valid([]byte(b)) }},
		"401":       {Poll401, 401, func(b string, _ http.Header) bool { return strings.Contains(b, "401") }},
		"403":       {Poll403, 403, func(b string, _ http.Header) bool { return strings.Contains(b, "403") }},
		"503":       {Poll503, 503, func(b string, _ http.Header) bool { return strings.Contains(b, `title="Maintenance"`) }},
		"html":      {PollHTML, 200, func(b string, h http.Header) bool { return h.Get("Content-Type") == "text/html" }},
		"truncated": {PollTruncated, 200, func(b string, _ http.Header) bool { return strings.HasPrefix(b, "{") && !json.Valid([]byte(b)) }},
		"huge":      {PollHuge, 200, func(b string, _ http.Header) bool { return len(b) >= 64<<20 && strings.HasSuffix(b, "}}") }},
		"empty":     {PollEmpty, 200, func(b string, _ http.Header) bool { return b == "" }},
		"wrong":     {PollWrongJSON, 200, func(b string, _ http.Header) bool { return b == "{}" }},
		"other":     {PollOtherServer, 200, func(b string, _ http.Header) bool { return strings.Contains(b, "another-session") }},
	} {
		t.Run(name, func(t *testing.T) {
			s.SetPoll(tc.poll)
			defer s.SetPoll(PollGood)
			for _, path := range []string{"/status/sessions", "/transcode/sessions"} {
				if tc.poll == PollHuge && path != "/status/sessions" {
					continue // once is enough
				}
				status, body, header := read(path)
				if status != tc.status || !tc.check(body, header) {
					t.Errorf("%s: status %d, %d bytes, %.100q", path, status, len(body), body)
				}
			}
			if status, _, _ := read("/"); status != 200 {
				t.Errorf("the rest of the server is ill too: %d", status)
			}
		})
	}
	s.SetPoll(PollOtherServer)
	if _, body, _ := read("/identity"); strings.Contains(body, s.cfg.MachineIdentifier) {
		t.Error("another server with the same identity")
	}
}

func TestPollHangs(t *testing.T) {
	s := pms(t, Config{})
	s.SetPoll(PollHang)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/status/sessions?X-Plex-Token=owner-token", nil)
	if _, err := http.DefaultClient.Do(req); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
	resp, err := http.Get(s.URL() + "/identity")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

func TestMaintenance(t *testing.T) {
	s := New(Config{})
	s.SetMaintenance(true)
	if w := asOwner(s, "/"); w.Code != 503 || !strings.Contains(w.Body.String(), `code="503" title="Maintenance"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, ok := range []bool{true, false} {
		s.SetMaintenanceIdentity(ok)
		if got := get(s, "/identity").Code; (got == 200) != ok {
			t.Errorf("identity: status %d", got)
		}
	}
	s.SetMaintenance(false)
	if got := asOwner(s, "/").Code; got != 200 {
		t.Errorf("status %d afterwards", got)
	}
}

func TestFailStarts(t *testing.T) {
	s := New(Config{})
	s.FailStarts(500)
	for _, name := range []string{"decision", "start.m3u8", "start"} {
		if got := asOwner(s, transcoder+name+"?path=/library/metadata/1").Code; got != 500 {
			t.Errorf("%s: status %d", name, got)
		}
	}
	if got := get(s, transcoder+"decision?path=/library/metadata/1").Code; got != 401 {
		t.Errorf("without a token: status %d", got)
	}
	if len(s.Jobs()) != 0 {
		t.Error("started all the same")
	}
	if got := asOwner(s, "/status/sessions").Code; got != 200 {
		t.Errorf("sessions: status %d", got)
	}
	s.FailStarts(0)
	if got := asOwner(s, transcoder+"start.m3u8?path=/library/metadata/1").Code; got != 200 {
		t.Errorf("status %d afterwards", got)
	}
}

func TestHangAndWake(t *testing.T) {
	s := pms(t, Config{})
	s.Hang(true)
	s.Hang(true)
	answered := make(chan error, 1)
	go func() {
		resp, err := http.Get(s.URL() + "/identity")
		if err == nil {
			err = resp.Body.Close()
		}
		answered <- err
	}()
	select {
	case <-answered:
		t.Fatal("answered")
	case <-time.After(200 * time.Millisecond):
	}
	s.Hang(false)
	s.Hang(false)
	if err := <-answered; err != nil {
		t.Errorf("a request that waited: %v", err)
	}
}

func TestDelay(t *testing.T) {
	s := pms(t, Config{})
	s.SetDelay(200 * time.Millisecond)
	begin := time.Now()
	resp, err := http.Get(s.URL() + "/identity")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if time.Since(begin) < 200*time.Millisecond {
		t.Error("no delay")
	}
}
