package integration

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// pause is longer than Caddy waits for a client that reads or says nothing,
// which is a minute.
const pause = 75 * time.Second

// bigFiles are too large for all buffers between a server and its client, and so
// are streams: films have 48 MB and last six seconds.
func bigFiles(_ int, cfg *plextest.Config) {
	cfg.SegmentSize, cfg.SegmentDuration = bigBlock, 10*time.Millisecond
	cfg.Items = plextest.DefaultItems()
	for i := range cfg.Items {
		cfg.Items[i].Duration = 6 * time.Second
	}
}

const bigBlock = 80 << 10

// A viewer pauses: the player stops reading, or there is nothing to tell. More
// than a minute later everything goes on where it was.
func TestLongPausesOverTLS(t *testing.T) {
	over2 := again(t)
	servers := stand(t, 2, bigFiles)
	b := loadTLS(t, servers, replicated, "")
	afterwards := make(map[string]func(*testing.T))
	if !xconnect {
		b.pausedParts(t, servers, afterwards)
		b.pausedStreams(t, afterwards)
		afterwards["WebSocket by HTTP/2"] = over2
	}
	for version, dial := range dials() {
		l := dial(t, b, fmt.Sprintf("silent-%d", version))
		afterwards[fmt.Sprintf("WebSocket by HTTP/%d", version)] = func(t *testing.T) {
			l.t = t
			l.hears(servers[0], fmt.Sprintf("after-pause-%d", version))
			l.answers()
		}
	}
	time.Sleep(pause)
	for name, test := range afterwards {
		t.Run(name, test)
	}
}

// pausedParts begins to play a file directly, over each version of HTTP, and
// says how to go on.
func (b *encrypted) pausedParts(t *testing.T, servers []*plextest.Server, afterwards map[string]func(*testing.T)) {
	path := part(t, servers[0], plextest.Direct)
	res, err := http.DefaultClient.Do(request(t, http.MethodGet, servers[0].URL()+path, "reader", nil))
	if err != nil {
		t.Fatal(err)
	}
	want := sha256.New()
	size, err := io.Copy(want, res.Body)
	res.Body.Close()
	if err != nil || size < 45<<20 {
		t.Fatalf("file of %d bytes: %v", size, err)
	}
	for _, version := range versions {
		res, err := b.client(t, version).Do(request(t, http.MethodGet, b.URL+path, fmt.Sprintf("paused-%d", version), nil))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		got := sha256.New()
		before, err := io.CopyN(got, res.Body, 1<<20)
		if err != nil {
			t.Fatalf("HTTP/%d: after %d bytes: %v", version, before, err)
		}
		afterwards[fmt.Sprintf("direct play by HTTP/%d", version)] = func(t *testing.T) {
			after, err := io.Copy(got, res.Body)
			if err != nil || before+after != size || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
				t.Errorf("%d of %d bytes: %v", before+after, size, err)
			}
		}
	}
}

// pausedStreams does the same for transcodes that are one long answer.
func (b *encrypted) pausedStreams(t *testing.T, afterwards map[string]func(*testing.T)) {
	for _, version := range versions {
		session := fmt.Sprintf("stream-%d", version)
		res, err := b.client(t, version).Do(request(t, http.MethodGet,
			b.URL+"/video/:/transcode/universal/start?protocol=http&path=/library/metadata/"+plextest.HEVC+"&session="+session, session, nil))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		server := res.Header.Get("X-Plexlb-Server")
		block := make([]byte, bigBlock)
		next := func(n int) error {
			if _, err := io.ReadFull(res.Body, block); err != nil {
				return err
			}
			got, err := plextest.ReadBody(block)
			if err == nil && (got.Number != n || got.Session != session || got.Server != server) {
				err = fmt.Errorf("%v instead of block %d of %s at %s", got, n, session, server)
			}
			return err
		}
		if err := next(0); err != nil {
			t.Fatal(err)
		}
		afterwards[fmt.Sprintf("stream by HTTP/%d", version)] = func(t *testing.T) {
			n := 1
			for err = next(n); err == nil; err = next(n) {
				n++
			}
			if n != 600 || err != io.EOF {
				t.Errorf("ends after %d of 600 blocks: %v", n, err)
			}
		}
	}
}

// listener is a client with a WebSocket for notifications.
type listener struct {
	t *testing.T
	*plextest.Socket
	server string // where it is
}

// hears waits for news of a device that begins to play at a server.
func (l *listener) hears(s *plextest.Server, device string) {
	l.t.Helper()
	told := make(chan error, 1)
	go func() {
		for {
			message, err := l.Receive()
			if err != nil || bytes.Contains(message, []byte(`"clientIdentifier":"`+device+`"`)) {
				told <- err
				return
			}
		}
	}()
	begins(l.t, s, device)
	select {
	case err := <-told:
		if err != nil {
			l.t.Errorf("the WebSocket has ended: %v", err)
		}
	case <-time.After(5 * time.Second):
		l.t.Error("nothing was told")
	}
}

// answers makes sure that the server hears the client.
func (l *listener) answers() {
	l.t.Helper()
	if err := l.Ping([]byte("there?")); err != nil {
		l.t.Fatal(err)
	}
	go func() { _, _ = l.Receive() }()
	select {
	case word := <-l.Pongs():
		if string(word) != "there?" {
			l.t.Errorf("pong %q", word)
		}
	case <-time.After(5 * time.Second):
		l.t.Error("the server does not hear the client")
	}
}

// begins lets a device play at a server, past the balancer.
func begins(t *testing.T, s *plextest.Server, device string) {
	t.Helper()
	status, _, _ := do(t, http.MethodGet, s.URL()+"/:/timeline?ratingKey=1&key=%2Flibrary%2Fmetadata%2F1&state=playing&time=0&duration=600000",
		"X-Plex-Token", token, "X-Plex-Client-Identifier", device)
	if status != http.StatusOK {
		t.Fatalf("timeline: %d", status)
	}
}

// Notifications are those of the primary, or of the device's server, and go on
// when Caddy gets another config.
func TestWebSocketsOverTLS(t *testing.T) {
	over2 := again(t)
	if over2 != nil {
		defer t.Run("HTTP/2", over2)
	}
	for version, dial := range dials() {
		name := fmt.Sprintf("HTTP/%d", version)
		t.Run(name+" in a replicated cluster", func(t *testing.T) {
			servers := stand(t, 3, nil)
			b := loadTLS(t, servers, replicated, "")
			servers[0].AddBypass(6) // there is more room elsewhere
			eventually(t, "the load is read", 5*time.Second, func() bool { return b.server("plex1").Load > 5 })
			l := dial(t, b, "living-room")
			if l.server != "plex1" {
				t.Errorf("the WebSocket is at %s", l.server)
			}
			l.hears(servers[0], "before")
			if err := b.reloadTLS(servers, replicated, "header_up X-Reloaded yes"); err != nil {
				t.Fatal(err)
			}
			l.hears(servers[0], "after")
			l.answers()
		})
		t.Run(name+" in separate libraries", func(t *testing.T) {
			servers := stand(t, 3, func(i int, cfg *plextest.Config) { cfg.Database = fmt.Sprint(i) })
			b := loadTLS(t, servers, "", "")
			client := b.client(t, 2)
			seen := make(map[string]bool)
			for i := range 6 {
				device := fmt.Sprintf("device-%d", i)
				res, err := client.Do(request(t, http.MethodGet, b.URL+"/library/sections", device, nil))
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				at := res.Header.Get("X-Plextest-Server")
				seen[at] = true
				if l := dial(t, b, device); l.server != at {
					t.Errorf("%s browses at %s and listens at %s", device, at, l.server)
				}
			}
			if len(seen) < 2 {
				t.Errorf("all devices are at %v: the test tests little", seen)
			}
		})
	}
}

// Events arrive as they happen, not when a buffer is full.
func TestEventStreamsOverTLS(t *testing.T) {
	servers := stand(t, 2, nil)
	b := loadTLS(t, servers, replicated, "")
	overEach(t, b, func(t *testing.T, client *http.Client, version int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		device := fmt.Sprintf("listener-%d", version)
		res, err := client.Do(request(t, http.MethodGet, b.URL+"/:/eventsource/notifications?filters=playing", device, nil).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if at := res.Header.Get("X-Plextest-Server"); at != "plex1" || res.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("a stream of %s at %s", res.Header.Get("Content-Type"), at)
		}
		lines := make(chan string)
		go func() {
			defer close(lines)
			for s := bufio.NewScanner(res.Body); s.Scan(); {
				select {
				case lines <- s.Text():
				case <-ctx.Done():
				}
			}
		}()
		for i := range 3 {
			player := fmt.Sprintf("player-%d-%d", version, i)
			begins(t, servers[0], player)
			for late := time.After(3 * time.Second); ; { // the stand-in's own ping would flush after ten
				select {
				case line, ok := <-lines:
					if !ok {
						t.Fatal("the stream has ended")
					}
					if !strings.Contains(line, player) {
						continue
					}
				case <-late:
					t.Fatalf("event %d is late", i)
				}
				break
			}
		}
	})
}

// A large file goes to the primary as it comes; nobody keeps it in between.
func TestUploadsOverTLS(t *testing.T) {
	const size = 100 << 20
	servers := stand(t, 3, nil)
	b := loadTLS(t, servers, replicated, "")
	servers[0].AddBypass(6) // there is more room elsewhere
	eventually(t, "the load is read", 5*time.Second, func() bool { return b.server("plex1").Load > 5 })
	uploads := 0
	overEach(t, b, func(t *testing.T, client *http.Client, version int) {
		for _, method := range []string{http.MethodPost, http.MethodPut} {
			body := &pattern{left: size}
			if method == http.MethodPut {
				body.left = 1 << 20
			}
			want := sha256.New()
			whole := body.left
			// The other half is sent when the server has begun to read, and not
			// before.
			before, during := heap(), uint64(0)
			body.half = func() {
				eventually(t, "the server has some of the file before all of it is sent", 10*time.Second, func() bool {
					u := servers[0].Uploads()
					return len(u) > uploads && u[uploads].Size > 0
				})
				during = heap()
			}
			r := request(t, method, b.URL+"/library/metadata/1/posters", "camera", io.TeeReader(body, want))
			r.ContentLength = whole
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if at := res.Header.Get("X-Plextest-Server"); res.StatusCode != http.StatusOK || at != "plex1" {
				t.Errorf("%s is answered %s by %q", method, res.Status, at)
			}
			list := servers[0].Uploads()
			if len(list) != uploads+1 {
				t.Fatalf("%d uploads, want %d", len(list), uploads+1)
			}
			if u := list[uploads]; u.Size != whole || u.Err != nil || !bytes.Equal(u.Sum[:], want.Sum(nil)) {
				t.Errorf("%s: %d of %d bytes arrived, or others: %v", method, u.Size, whole, u.Err)
			}
			uploads++
			// Client and stand-in are in this process and count as well.
			kept := (int64(during) - int64(before)) >> 20
			t.Logf("%s: %d MiB were kept in the middle of %d MiB", method, kept, whole>>20)
			if kept > 24 {
				t.Errorf("%s: %d MiB were kept in the middle of %d MiB", method, kept, whole>>20)
			}
		}
	})
	for _, s := range servers[1:] {
		if u := s.Uploads(); len(u) > 0 {
			t.Errorf("other servers got %+v", u)
		}
	}
}

// pattern is a file that takes no room.
type pattern struct {
	left int64
	read int64
	half func() // called when half of it is read
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if p.half != nil && p.read >= p.left {
		p.half()
		p.half = nil
	}
	n := copy(b[:min(int64(len(b)), p.left)], noise[p.read%int64(len(noise)):])
	p.read, p.left = p.read+int64(n), p.left-int64(n)
	return n, nil
}

// noise is what it repeats; a prime of bytes, so that no two blocks are equal.
var noise = func() []byte {
	b := make([]byte, 65_537)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}()

// Parts of a file, and what a player asks about it first, are answered as the
// server itself answers.
func TestRangesOverTLS(t *testing.T) {
	servers := stand(t, 2, nil)
	b := loadTLS(t, servers, replicated, "")
	path := part(t, servers[0], plextest.Direct)
	v := plextest.NewViewer(plextest.PlexWeb, servers[0].URL(), token, plextest.HEVC, 1)
	if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(request(t, http.MethodHead, servers[0].URL()+path, "asker", nil))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	modified := res.Header.Get("Last-Modified")
	requests := map[string]struct {
		method, path string
		header       []string
		status       int
	}{
		"the beginning":                 {http.MethodGet, path, []string{"Range", "bytes=0-99"}, 206},
		"the middle":                    {http.MethodGet, path, []string{"Range", "bytes=100000-299999"}, 206},
		"from somewhere to the end":     {http.MethodGet, path, []string{"Range", "bytes=1000000-"}, 206},
		"the last bytes":                {http.MethodGet, path, []string{"Range", "bytes=-500"}, 206},
		"several":                       {http.MethodGet, path, []string{"Range", "bytes=0-9,5000-5009,-10"}, 206},
		"past the end":                  {http.MethodGet, path, []string{"Range", "bytes=99999999999-"}, 416},
		"if it is still the same":       {http.MethodGet, path, []string{"Range", "bytes=10-19", "If-Range", modified}, 206},
		"if it were another":            {http.MethodGet, path, []string{"Range", "bytes=10-19", "If-Range", "Mon, 02 Jan 2006 15:04:05 GMT"}, 200},
		"all":                           {http.MethodGet, path, nil, 200},
		"what it is":                    {http.MethodHead, path, nil, 200},
		"what a part of it is":          {http.MethodHead, path, []string{"Range", "bytes=100-199"}, 206},
		"what a picture is":             {http.MethodHead, "/photo/:/transcode?url=%2Flibrary%2Fmetadata%2F1%2Fthumb%2F1&width=10&X-Plex-Token=" + token, nil, 200},
		"what a segment is":             {http.MethodHead, "/video/:/transcode/universal/session/" + v.TSID + "/0/header", nil, 200},
		"whether anybody is there":      {http.MethodHead, "/identity", nil, 200},
		"if it changed since yesterday": {http.MethodGet, path, []string{"If-Modified-Since", modified}, 304},
	}
	overEach(t, b, func(t *testing.T, client *http.Client, version int) {
		for name, q := range requests {
			ask := func(client *http.Client, base string) (*http.Response, []byte) {
				r := request(t, q.method, base+q.path, fmt.Sprintf("asker-%d", version), nil)
				for i := 0; i+1 < len(q.header); i += 2 {
					r.Header.Set(q.header[i], q.header[i+1])
				}
				res, err := client.Do(r)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				return res, body
			}
			got, body := ask(client, b.URL)
			want, rest := ask(http.DefaultClient, servers[0].URL())
			if got.StatusCode != q.status || want.StatusCode != q.status {
				t.Errorf("%s: %d, from the server itself %d; want %d", name, got.StatusCode, want.StatusCode, q.status)
			}
			if got.ContentLength != want.ContentLength || q.method == http.MethodHead && got.ContentLength <= 0 {
				t.Errorf("%s: length %d, from the server itself %d", name, got.ContentLength, want.ContentLength)
			}
			// Several ranges have a word of chance between them.
			kind, word, _ := strings.Cut(got.Header.Get("Content-Type"), "; boundary=")
			wantKind, wantWord, several := strings.Cut(want.Header.Get("Content-Type"), "; boundary=")
			if several {
				body, rest = bytes.ReplaceAll(body, []byte(word), nil), bytes.ReplaceAll(rest, []byte(wantWord), nil)
			}
			if kind != wantKind || several != (name == "several") {
				t.Errorf("%s: of type %q, from the server itself %q", name, got.Header.Get("Content-Type"), want.Header.Get("Content-Type"))
			}
			for _, field := range []string{"Content-Range", "Accept-Ranges", "Last-Modified", "Content-Encoding"} {
				if got.Header.Get(field) != want.Header.Get(field) {
					t.Errorf("%s: %s is %q, from the server itself %q", name, field, got.Header.Get(field), want.Header.Get(field))
				}
			}
			if !bytes.Equal(body, rest) || q.method == http.MethodHead && len(body) > 0 {
				t.Errorf("%s: a body of %d bytes, from the server itself %d", name, len(body), len(rest))
			}
		}
	})
}

// Somebody switches off in the middle. The server learns of it, nothing of it
// is left, and what else uses the connection goes on.
func TestSwitchingOffOverTLS(t *testing.T) {
	servers := stand(t, 2, bigFiles)
	b := loadTLS(t, servers, replicated, "")
	path := part(t, servers[0], plextest.Direct)
	uploads := 0
	overEach(t, b, func(t *testing.T, client *http.Client, version int) {
		open := func(ctx context.Context, device string) *http.Response {
			res, err := client.Do(request(t, http.MethodGet, b.URL+path, device, nil).WithContext(ctx))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, res.Body, 1<<20); err != nil {
				t.Fatal(err)
			}
			return res
		}
		stays := open(t.Context(), fmt.Sprintf("stays-%d", version))
		defer stays.Body.Close()
		ctx, cancel := context.WithCancel(t.Context())
		leaves := open(ctx, fmt.Sprintf("leaves-%d", version))
		if n := answering(servers); n != 2 {
			t.Fatalf("%d files are being sent, want 2", n)
		}
		cancel()
		leaves.Body.Close()
		eventually(t, "the server stops sending", 5*time.Second, func() bool { return answering(servers) == 1 })
		if _, err := io.CopyN(io.Discard, stays.Body, 16<<20); err != nil {
			t.Errorf("the other one: %v", err)
		}
		stays.Body.Close()
		eventually(t, "the server stops sending the other", 5*time.Second, func() bool { return answering(servers) == 0 })

		ctx, cancel = context.WithCancel(t.Context())
		body := &pattern{left: 10 << 20, half: cancel}
		r := request(t, http.MethodPost, b.URL+"/library/metadata/1/posters", "camera", body).WithContext(ctx)
		r.ContentLength = body.left
		if res, err := client.Do(r); err == nil {
			res.Body.Close()
			t.Errorf("half a file is answered %s", res.Status)
		}
		eventually(t, "the server knows that the file is not whole", 5*time.Second, func() bool {
			u := servers[0].Uploads()
			return len(u) > uploads && u[uploads].Done && u[uploads].Err != nil
		})
		uploads++
	})
}

// answering is how many files the servers are sending.
func answering(servers []*plextest.Server) (n int) {
	for _, s := range servers {
		n += s.Sending()
	}
	return n
}
