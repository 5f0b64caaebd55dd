package plex

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const secret = "s3cret-t0ken"

// newServer returns a client of a server that answers so.
func newServer(t *testing.T, answer http.HandlerFunc) *Client {
	t.Helper()
	srv := httptest.NewServer(answer)
	t.Cleanup(srv.Close)
	return &Client{URL: srv.URL, Token: secret, HTTP: srv.Client()}
}

// ask puts every question there is and returns the errors.
func ask(ctx context.Context, c *Client) map[string]error {
	_, identity := c.Identity(ctx)
	_, sessions := c.Sessions(ctx)
	_, transcodes := c.Transcodes(ctx)
	_, transcode := c.Transcode(ctx, "abc")
	_, greeting := c.Greet(ctx)
	_, preferences := c.Preferences(ctx)
	return map[string]error{
		"Identity":   identity,
		"Sessions":   sessions,
		"Transcodes": transcodes,
		"Transcode":  transcode,
		"Events":     c.Events(ctx, func(Event) {}),
		"Stop":       c.Stop(ctx, "abc"),

		"Greet":       greeting,
		"Preferences": preferences,
		"Root":        c.Root(ctx),
	}
}

func body(contentType, s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		io.WriteString(w, s)
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(code)
		io.WriteString(w, "<html><body><h1>"+http.StatusText(code)+"</h1></body></html>")
	}
}

func TestClientErrors(t *testing.T) {
	const sessions = `{"MediaContainer":{"size":1,"Metadata":[{"sessionKey":"1"}]}}`
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   error
		reason string
	}{
		"bad token":                      {status(401), ErrUnauthorized, "unauthorized"},
		"somebody else's token":          {status(403), ErrForbidden, "forbidden"},
		"maintenance":                    {status(503), ErrMaintenance, "maintenance"},
		"server error":                   {status(500), StatusError{500}, "status"},
		"odd status":                     {status(418), StatusError{418}, "status"},
		"maintenance said in a body":     {body("text/xml", `<Response code="503" title="Maintenance" status="migrating"/>`), ErrMaintenance, "maintenance"},
		"maintenance said in JSON":       {body("application/json", `{"Response":{"code":503}}`), ErrMaintenance, "maintenance"},
		"server error said in a body":    {body("text/xml", `<Response code="500" status="Database error"/>`), StatusError{500}, "status"},
		"no error said in a body":        {body("text/xml", `<Response code="200" status="OK"/>`), ErrNotPMS, "not_pms"},
		"web page":                       {body("text/html", "<!DOCTYPE html><html><head><title>Welcome</title></head><body><p>hi<br></body></html>"), ErrNotPMS, "not_pms"},
		"web page that is called JSON":   {body("application/json", "<html>welcome"), ErrNotPMS, "not_pms"},
		"text":                           {body("text/plain", "hello"), ErrNotPMS, "not_pms"},
		"empty answer":                   {body("text/plain", ""), ErrNotPMS, "not_pms"},
		"empty JSON":                     {body("application/json", ""), ErrTruncated, "truncated"},
		"empty object":                   {body("application/json", "{}"), ErrNotPMS, "not_pms"},
		"empty list":                     {body("application/json", "[]"), ErrNotPMS, "not_pms"},
		"null":                           {body("application/json", "null"), ErrNotPMS, "not_pms"},
		"container that is null":         {body("application/json", `{"MediaContainer":null}`), ErrNotPMS, "not_pms"},
		"container that is a word":       {body("application/json", `{"MediaContainer":"x"}`), ErrNotPMS, "not_pms"},
		"another XML document":           {body("text/xml", `<rss><channel/></rss>`), ErrNotPMS, "not_pms"},
		"a session list in another root": {body("text/xml", `<Video sessionKey="1"/>`), ErrNotPMS, "not_pms"},
		"malformed JSON":                 {body("application/json", `{"MediaContainer":{size:0}}`), ErrNotPMS, "not_pms"},
		"malformed XML":                  {body("text/xml", `<MediaContainer size=0></MediaContainer>`), ErrNotPMS, "not_pms"},
		"half a JSON document":           {body("application/json", sessions[:len(sessions)-3]), ErrTruncated, "truncated"},
		"half a JSON number":             {body("application/json", `{"MediaContainer":{"size":1`), ErrTruncated, "truncated"},
		"half an XML document":           {body("text/xml", `<MediaContainer size="0"><Vid`), ErrTruncated, "truncated"},
		"deeply nested XML":              {body("text/xml", `<MediaContainer size="0">`+strings.Repeat("<a>", 100000)), ErrNotPMS, "not_pms"},
		"deeply nested JSON, cut":        {body("application/json", `{"MediaContainer":{"a":`+strings.Repeat("[", 200000)), ErrTruncated, "truncated"},
		"connection cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, sessions)
		}, ErrTruncated, "truncated"},
		"too large": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"MediaContainer":{"size":0,"x":"`)
			chunk := []byte(strings.Repeat("x", 1<<20))
			for range 64 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, ErrTooLarge, "too_large"},
		"a compression bomb": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			zw := gzip.NewWriter(w)
			chunk := []byte(strings.Repeat(" ", 1<<20))
			for range 64 {
				if _, err := zw.Write(chunk); err != nil {
					return
				}
			}
			zw.Close()
		}, ErrTooLarge, "too_large"},
		"too many items": {body("application/json", `{"MediaContainer":{"Metadata":[`+strings.Repeat("{},", 600000)+`{}]}}`), ErrTooLarge, "too_large"},
		"compressed by name only": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, sessions)
		}, ErrNotPMS, "not_pms"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere?X-Plex-Token="+secret, http.StatusFound)
		}, ErrNotPMS, "not_pms"},
	} {
		t.Run(name, func(t *testing.T) {
			for question, err := range ask(t.Context(), newServer(t, tc.answer)) {
				if question == "Stop" && !strings.Contains(name, "token") {
					continue // reads no body
				}
				if question == "Events" && tc.reason != "unauthorized" && tc.reason != "forbidden" && tc.reason != "maintenance" {
					continue // reads another one
				}
				if question == "Events" && strings.Contains(name, "said in") {
					continue
				}
				if !errors.Is(err, tc.want) {
					t.Errorf("%s: error %v, want %v", question, err, tc.want)
				}
				if got := Reason(err); got != tc.reason {
					t.Errorf("%s: reason %s, want %s", question, got, tc.reason)
				}
				if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "127.0.0.1") {
					t.Errorf("%s: error tells too much: %v", question, err)
				}
			}
		})
	}
}

func TestClientOutOfReach(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	hangInBody := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"MediaContainer":`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	for name, tc := range map[string]struct {
		client *Client
		want   error
		reason string
	}{
		"hanging server":            {newServer(t, hang), context.DeadlineExceeded, "timeout"},
		"server hanging in a body":  {newServer(t, hangInBody), context.DeadlineExceeded, "timeout"},
		"nobody listens":            {&Client{URL: closed.URL, Token: secret}, nil, "refused"},
		"URL that is none":          {&Client{URL: "http://[" + secret, Token: secret}, nil, "unreachable"},
		"token that cannot be sent": {&Client{URL: closed.URL, Token: secret + "\n"}, nil, "unreachable"},
		"credentials in the URL":    {&Client{URL: strings.Replace(closed.URL, "http://", "http://user:"+secret+"@", 1)}, nil, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := tc.client.Sessions(ctx)
			if tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			if got := Reason(err); got != tc.reason {
				t.Errorf("reason %s of %v, want %s", got, err, tc.reason)
			}
			for question, err := range ask(ctx, tc.client) {
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("%s: error holds the token: %v", question, err)
				}
			}
		})
	}
	t.Run("the client's own timeout", func(t *testing.T) {
		c := newServer(t, hang)
		c.HTTP.Timeout = 20 * time.Millisecond
		if _, err := c.Sessions(t.Context()); Reason(err) != "timeout" {
			t.Errorf("reason %s of %v", Reason(err), err)
		}
	})
	t.Run("asked to stop asking", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for question, err := range ask(ctx, newServer(t, hang)) {
			if !errors.Is(err, context.Canceled) || Reason(err) != "canceled" {
				t.Errorf("%s: error %v", question, err)
			}
		}
	})
}

func TestReasonOfNothing(t *testing.T) {
	if got := Reason(nil); got != "" {
		t.Errorf("success has the reason %q", got)
	}
	if got := Reason(&net.DNSError{IsTimeout: true}); got != "timeout" {
		t.Errorf("a slow name server has the reason %q", got)
	}
	if got := Reason(io.ErrClosedPipe); got != "unreachable" {
		t.Errorf("a broken pipe has the reason %q", got)
	}
}

func TestClientAsks(t *testing.T) {
	const transcode = `{"MediaContainer":{"size":1,"TranscodeSession":[{"key":"/transcode/sessions/a b?","speed":2}]}}`
	var asked *http.Request
	c := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r
		switch r.URL.Path {
		case "/identity":
			w.Header().Set("Content-Type", "text/xml;charset=utf-8")
			io.WriteString(w, `<MediaContainer size="0" claimed="1" machineIdentifier="m" version="1.43"/>`)
		case "/status/sessions":
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(gzipped(t, `{"MediaContainer":{"size":1,"Metadata":[{"sessionKey":"1"}]}}`))
		default:
			io.WriteString(w, transcode)
		}
	})
	ctx := t.Context()
	check := func(t *testing.T, err error, uri string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if asked.Method != http.MethodGet || asked.RequestURI != uri {
			t.Errorf("asked %s %s, want GET %s", asked.Method, asked.RequestURI, uri)
		}
		if asked.Header.Get("X-Plex-Token") != secret || asked.Header.Get("Accept") != "application/json" {
			t.Errorf("asked with %v", asked.Header)
		}
	}
	t.Run("who it is", func(t *testing.T) {
		id, err := c.Identity(ctx)
		check(t, err, "/identity")
		if want := (Identity{"m", "1.43", true}); id != want {
			t.Errorf("it is %+v, want %+v", id, want)
		}
	})
	for name, disable := range map[string]bool{"decompressed by Go": false, "decompressed by us": true} {
		t.Run("what players do, "+name, func(t *testing.T) {
			c.HTTP.Transport.(*http.Transport).DisableCompression = disable
			sessions, err := c.Sessions(ctx)
			check(t, err, "/status/sessions")
			if len(sessions) != 1 || sessions[0].Key != "1" {
				t.Errorf("read %+v", sessions)
			}
		})
	}
	t.Run("what is converted", func(t *testing.T) {
		ts, err := c.Transcodes(ctx)
		check(t, err, "/transcode/sessions")
		if len(ts) != 1 || ts[0].ID != "a b?" {
			t.Errorf("read %+v", ts)
		}
	})
	t.Run("one transcode", func(t *testing.T) {
		tr, err := c.Transcode(ctx, "a b?")
		check(t, err, "/transcode/sessions/a%20b%3F")
		if tr.Speed != 2 {
			t.Errorf("read %+v", tr)
		}
	})
	t.Run("another than asked for", func(t *testing.T) {
		if _, err := c.Transcode(ctx, "a/b"); !errors.Is(err, ErrNotFound) || asked.RequestURI != "/transcode/sessions/a%2Fb" {
			t.Errorf("asked %s, error %v", asked.RequestURI, err)
		}
	})
	t.Run("to stop one", func(t *testing.T) {
		check(t, c.Stop(ctx, "a&b=c"), "/video/:/transcode/universal/stop?session=a%26b%3Dc")
	})
	t.Run("nothing about ids that are paths", func(t *testing.T) {
		asked = nil
		for _, id := range []string{"", ".", ".."} {
			if _, err := c.Transcode(ctx, id); !errors.Is(err, ErrNotFound) {
				t.Errorf("%q: error %v", id, err)
			}
		}
		if err := c.Stop(ctx, ""); err == nil || asked != nil {
			t.Errorf("asked %v, error %v", asked, err)
		}
	})
	t.Run("without a token if there is none", func(t *testing.T) {
		c.Token = ""
		if _, err := c.Identity(ctx); err != nil || len(asked.Header["X-Plex-Token"]) != 0 {
			t.Errorf("asked with %v, error %v", asked.Header, err)
		}
	})
}

func TestClientTranscodeWithoutKey(t *testing.T) {
	for name, tc := range map[string]struct {
		body string
		want Transcode
		err  error
	}{
		"one that does not say its id": {`{"MediaContainer":{"size":1,"TranscodeSession":[{"speed":2}]}}`, Transcode{ID: "a", Speed: 2}, nil},
		"two that do not say":          {`{"MediaContainer":{"size":2,"TranscodeSession":[{},{}]}}`, Transcode{}, ErrNotFound},
		"the right one of several":     {`{"MediaContainer":{"size":2,"TranscodeSession":[{"key":"b"},{"key":"a","speed":1}]}}`, Transcode{ID: "a", Speed: 1}, nil},
		"none":                         {`{"MediaContainer":{"size":0}}`, Transcode{}, ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := newServer(t, body("application/json", tc.body)).Transcode(t.Context(), "a")
			if got != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("got %+v, error %v; want %+v, %v", got, err, tc.want, tc.err)
			}
		})
	}
}

func TestClientStop(t *testing.T) {
	if err := newServer(t, status(404)).Stop(t.Context(), "gone"); err != nil {
		t.Errorf("stopping what is gone: %v", err)
	}
	if err := newServer(t, status(500)).Stop(t.Context(), "a"); !errors.Is(err, StatusError{500}) {
		t.Errorf("a server that fails: %v", err)
	}
	if err := newServer(t, func(http.ResponseWriter, *http.Request) {}).Stop(t.Context(), "a"); err != nil {
		t.Errorf("an empty answer: %v", err)
	}
}

func TestClientNotFound(t *testing.T) {
	_, err := newServer(t, status(404)).Transcode(t.Context(), "gone")
	if !errors.Is(err, ErrNotFound) || Reason(err) != "not_found" {
		t.Errorf("error %v", err)
	}
}

func TestClientNeverFollows(t *testing.T) {
	var reached bool
	other := newServer(t, func(http.ResponseWriter, *http.Request) { reached = true })
	c := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.RequestURI, http.StatusTemporaryRedirect)
	})
	for question, err := range ask(t.Context(), c) {
		if !errors.Is(err, ErrNotPMS) {
			t.Errorf("%s: error %v", question, err)
		}
	}
	if reached {
		t.Error("the token went to another host")
	}
	if c.HTTP.CheckRedirect != nil {
		t.Error("the operator's HTTP client was changed")
	}
}

func TestClientEvents(t *testing.T) {
	const playing = "event: playing\ndata: {\"PlaySessionStateNotification\":{\"state\":\"paused\"}}\n\n"
	t.Run("heard at once", func(t *testing.T) {
		var asked *http.Request
		c := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			asked = r
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			io.WriteString(w, playing)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		c.HTTP.Timeout = 20 * time.Millisecond // of questions, not of streams
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var heard []Event
		err := c.Events(ctx, func(e Event) {
			heard = append(heard, e)
			time.Sleep(50 * time.Millisecond)
			cancel()
		})
		if !errors.Is(err, context.Canceled) || len(heard) != 1 || heard[0].State != "paused" {
			t.Errorf("heard %+v, error %v", heard, err)
		}
		if asked.RequestURI != "/:/eventsource/notifications" || asked.Header.Get("X-Plex-Token") != secret ||
			asked.Header.Get("Accept") != "text/event-stream" {
			t.Errorf("asked %s with %v", asked.RequestURI, asked.Header)
		}
	})
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"ends in good order":     {body("text/event-stream", playing), nil},
		"type not told":          {body("", playing), nil},
		"web page":               {body("text/html", "<html>"), ErrNotPMS},
		"answer of another kind": {body("application/json", "{}"), ErrNotPMS},
		"not allowed":            {status(401), ErrUnauthorized},
		"not there":              {status(404), ErrNotFound},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, playing)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, ErrTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			err := newServer(t, tc.answer).Events(t.Context(), func(Event) {})
			if !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}
}
