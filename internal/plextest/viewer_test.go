package plextest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pms starts a stand-in for a test.
func pms(t *testing.T, cfg Config) *Server {
	t.Helper()
	s := New(cfg)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// viewer is one of its clients.
func viewer(t *testing.T, kind ViewerKind, s *Server, seed uint64) *Viewer {
	t.Helper()
	v := NewViewer(kind, s.URL(), "owner-token", kind.Item(), seed)
	t.Cleanup(v.Close)
	return v
}

func TestEveryKindPlays(t *testing.T) {
	for _, kind := range Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s := pms(t, Config{})
			v := viewer(t, kind, s, 1)
			if err := v.Start(ctx); err != nil {
				t.Fatal(err)
			}
			for n := range 8 {
				if err := v.Segment(ctx, n); err != nil {
					t.Fatal(err)
				}
			}
			if err := v.Timeline(ctx, "playing"); err != nil {
				t.Fatal(err)
			}

			jobs := s.Jobs()
			switch {
			case kind == DirectPlay:
				if len(jobs) != 0 {
					t.Errorf("direct play runs %d encoders", len(jobs))
				}
			case len(jobs) != 1:
				t.Errorf("one playback runs %d encoders", len(jobs))
			case jobs[0].TSID != v.TSID || jobs[0].Item != v.Item:
				t.Errorf("encoder %+v is not this playback's", jobs[0])
			}
			if rows := s.Playbacks(); len(rows) != 1 || rows[0].Kind == playsTimeline {
				t.Errorf("now playing = %+v, want this playback alone", rows)
			}
			if got := v.Servers(); !slices.Equal(got, []string{"pms"}) {
				t.Errorf("Servers() = %q", got)
			}

			if err := v.Seek(ctx, 100); err != nil {
				t.Errorf("seek: %v", err)
			}
			if kind != DirectPlay {
				before := v.TSID
				if err := v.ChangeQuality(ctx, 2000); err != nil {
					t.Fatalf("change of quality: %v", err)
				}
				if kept := before == v.TSID; kept != slices.Contains([]ViewerKind{PlexForKodi, OpenPHT, PlexKodi, PlexConnect, Plezy, MusicHTTP}, kind) {
					t.Errorf("session kept over a change of quality: %v", kept)
				}
				if err := v.Segment(ctx, 101); err != nil {
					t.Errorf("segment after a change of quality: %v", err)
				}
				want := 1
				if kind == PythonPlexAPI {
					want = 2 // nothing tells the server that it is the same viewer
				}
				if got := len(s.Jobs()); got != want {
					t.Errorf("%d encoders after a change of quality, want %d", got, want)
				}
			}

			if err := v.Stop(ctx); err != nil {
				t.Fatal(err)
			}
			if got := len(s.Jobs()); kind != PythonPlexAPI && got != 0 {
				t.Errorf("%d encoders after the end", got)
			}
			if got := len(s.Playbacks()); kind != PythonPlexAPI && got != 0 {
				t.Errorf("%d rows after the end", got)
			}
		})
	}
}

func TestWhatEachKindSends(t *testing.T) {
	for name, tc := range map[string]struct {
		kind              ViewerKind
		session, xsi, cid bool
		constant          bool // session is the client
		stops, pings      bool
	}{
		"plex web ends by timeline":        {PlexWeb, true, true, true, false, false, false},
		"kodi is its session":              {PlexForKodi, true, false, true, true, true, false},
		"openpht pings":                    {OpenPHT, true, false, true, true, true, true},
		"mpv shim has both ids":            {MPVShim, true, true, true, false, true, false},
		"plezy has both ids and pings":     {Plezy, true, true, true, false, true, true},
		"plex-api.rs has no playback id":   {PlexAPIRust, true, false, true, false, true, false},
		"python-plexapi is nobody":         {PythonPlexAPI, false, false, false, false, false, false},
		"official apps send all there is":  {Mobile, true, true, true, false, true, false},
		"music over http has a session id": {MusicHTTP, true, true, true, false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := pms(t, Config{SegmentDuration: 50 * time.Millisecond})
			v := viewer(t, tc.kind, s, 2)
			v.TimelineEvery = 100 * time.Millisecond
			if err := v.Play(t.Context(), 400*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			var stops, pings bool
			for _, e := range s.Log() {
				stops = stops || e.Path == "/"+v.habits.media+"/:/transcode/universal/stop"
				pings = pings || e.Path == "/"+v.habits.media+"/:/transcode/universal/ping"
				if !isStart(e.Path[lastSlash(e.Path)+1:]) {
					continue
				}
				if (e.TSID != "") != tc.session || (e.XSI != "") != tc.xsi || (e.CID != "") != tc.cid {
					t.Errorf("start carries session %q, XSI %q, CID %q", e.TSID, e.XSI, e.CID)
				}
				if tc.session && (e.TSID == e.CID) != tc.constant {
					t.Errorf("session %q, client %q", e.TSID, e.CID)
				}
			}
			if stops != tc.stops || pings != tc.pings {
				t.Errorf("stops %v, pings %v", stops, pings)
			}
		})
	}
}

// TestPlacesOfIds looks at the requests themselves.
func TestPlacesOfIds(t *testing.T) {
	for kind, want := range map[ViewerKind][2]string{ // of decision and timeline
		PlexWeb:     {"query", "query"},
		Plezy:       {"query", "header"},
		Mobile:      {"header", "header"},
		PlexForKodi: {"", ""},
	} {
		var got [2]string
		s := New(Config{})
		srv := newHTTPServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			place := ""
			switch {
			case r.URL.Query().Has("X-Plex-Session-Identifier"):
				place = "query"
			case r.Header.Get("X-Plex-Session-Identifier") != "":
				place = "header"
			}
			switch {
			case r.URL.Path == "/:/timeline":
				got[1] = place
			case r.URL.Path == transcoder+"decision":
				got[0] = place
			}
			s.ServeHTTP(w, r)
		}))
		v := NewViewer(kind, srv, "owner-token", HEVC, 21)
		if err := errors.Join(v.Start(t.Context()), v.Timeline(t.Context(), "playing")); err != nil {
			t.Error(err)
		}
		v.Close()
		if got != want {
			t.Errorf("%s: identifier in %q, want %q", kind, got, want)
		}
	}
}

func lastSlash(path string) int {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return i
		}
	}
	return -1
}

func TestSegmentsCarryNothing(t *testing.T) {
	s := pms(t, Config{})
	v := viewer(t, Mobile, s, 3)
	if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
		t.Fatal(err)
	}
	for _, e := range s.Log() {
		if e.TSID == v.TSID && e.Path != v.transcoder("start.m3u8") && e.Path != v.transcoder("decision") {
			if e.CID != "" || e.XSI != "" || e.Access != "" || e.Query != "" {
				t.Errorf("segment request %+v", e)
			}
		}
	}
}

func TestMusicOnPlexWebChangesSession(t *testing.T) {
	s := pms(t, Config{})
	v := viewer(t, PlexWebMusic, s, 4)
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	sessions := map[string]string{}
	for _, e := range s.Log() {
		sessions[e.Path] = e.TSID
		if e.TSID != "" && e.XSI != "" && e.XSI != v.XSI {
			t.Errorf("XSI %q, want %q", e.XSI, v.XSI)
		}
	}
	if sessions[v.transcoder("decision")] == sessions[v.transcoder("start.mpd")] {
		t.Error("decision and start share a session")
	}
}

func TestNextPlaybackOfTheDevice(t *testing.T) {
	for _, kind := range Kinds() {
		v := NewViewer(kind, "http://127.0.0.1:1", "", kind.Item(), 5)
		n := v.Next("2")
		if n.CID != v.CID {
			t.Errorf("%s: another device", kind)
		}
		if v.XSI != "" && n.XSI == v.XSI {
			t.Errorf("%s: XSI used twice", kind)
		}
		if constant := n.TSID == v.TSID; constant != (kind.habits().sessions == constantSession || kind == PythonPlexAPI) {
			t.Errorf("%s: session kept %v", kind, constant)
		}
		if n.Item != "2" || len(n.Observed()) != 0 {
			t.Errorf("%s: not a fresh playback", kind)
		}
	}
}

const constantSession = constant

func TestIdleConnectionsAreClosed(t *testing.T) {
	s := pms(t, Config{})
	if got := s.http.IdleTimeout; got != 20*time.Second {
		t.Errorf("idle connections stay for %v", got)
	}
}

func TestSeedsMakeIds(t *testing.T) {
	seen := map[string]ViewerKind{}
	for _, kind := range Kinds() {
		a, b := NewViewer(kind, "", "", "1", 7), NewViewer(kind, "", "", "1", 7)
		if a.CID != b.CID || a.TSID != b.TSID {
			t.Errorf("%s: equal seeds, other ids", kind)
		}
		if NewViewer(kind, "", "", "1", 8).CID == a.CID {
			t.Errorf("%s: seeds make no difference", kind)
		}
		if other, ok := seen[a.CID]; ok {
			t.Errorf("%s and %s share a device", kind, other)
		}
		seen[a.CID] = kind
	}
}

func TestViewerNoticesTheWrongSegment(t *testing.T) {
	s := pms(t, Config{})
	for name, spoil := range map[string]func(*Viewer){
		"of another session": func(v *Viewer) {
			other := viewer(t, MPVShim, s, 9)
			if err := other.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			v.segments = other.segments
		},
		"of another time": func(v *Viewer) { v.segments = v.segments[1:] },
		"of another film": func(v *Viewer) { v.Item = "2" },
	} {
		t.Run(name, func(t *testing.T) {
			v := viewer(t, MPVShim, s, 6)
			if err := v.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			spoil(v)
			if err := v.Segment(t.Context(), 0); err == nil {
				t.Error("no error")
			}
		})
	}
}

// bubble serves s inside a synctest bubble, over connections without a network.
func bubble(t *testing.T, s *Server, v *Viewer) {
	t.Helper()
	conns := make(pipes)
	srv := &http.Server{Handler: s}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(conns)
	}()
	v.HTTP = &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		conns <- server
		return client, nil
	}}}
	t.Cleanup(func() {
		v.Close()
		s.Close()
		close(conns)
		_ = srv.Close()
		<-done
	})
}

// pipes is a listener for net.Pipe.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func TestPlayTakesItsTime(t *testing.T) {
	for _, kind := range Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Config{})
				v := NewViewer(kind, "http://pms.example", "owner-token", kind.Item(), 10)
				bubble(t, s, v)
				begin := time.Now()
				if err := v.Play(t.Context(), time.Minute); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begin).Round(time.Second); took != time.Minute {
					t.Errorf("took %v", took)
				}
				if v.position < 63 || v.position > 66 {
					t.Errorf("a minute ended at segment %d, want 60 and the buffer", v.position)
				}
				timelines := 0
				for _, o := range v.Observed() {
					if o.What == "timeline" {
						timelines++
					}
				}
				if want := 7; timelines != want && timelines != want+1 && kind != PythonPlexAPI {
					t.Errorf("%d timelines in a minute, want %d and the last", timelines, want-1)
				}
				if got := len(s.Jobs()); got != 0 && kind != PythonPlexAPI {
					t.Errorf("%d encoders after the end", got)
				}
			})
		})
	}
}

func TestPlayEndsWithTheItem(t *testing.T) {
	for _, kind := range []ViewerKind{PlexWeb, MPVShim, MusicHTTP, DirectPlay} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Config{Items: []Item{{Title: "Short", DirectPlay: true, Duration: 10 * time.Second}}})
				v := NewViewer(kind, "http://pms.example", "owner-token", "1", 11)
				bubble(t, s, v)
				begin := time.Now()
				if err := v.Play(t.Context(), time.Minute); err != nil {
					t.Error(err)
				}
				if took := time.Since(begin); took > 12*time.Second || v.position != 9 {
					t.Errorf("took %v and ended at segment %d", took, v.position)
				}
			})
		})
	}
}

func TestPlayVanishesWithItsContext(t *testing.T) {
	s := pms(t, Config{})
	v := viewer(t, Mobile, s, 12)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := v.Play(ctx, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Play() = %v", err)
	}
	if len(s.Jobs()) != 1 {
		t.Error("a viewer who vanished stopped the encoder")
	}
}

func TestPatience(t *testing.T) {
	t.Run("a short maintenance is endured", func(t *testing.T) {
		s := pms(t, Config{SegmentDuration: 50 * time.Millisecond})
		v := viewer(t, MPVShim, s, 13)
		if err := v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.SetMaintenance(true)
		time.AfterFunc(300*time.Millisecond, func() { s.SetMaintenance(false) })
		if err := v.endure(t.Context(), 0); err != nil {
			t.Error(err)
		}
	})
	t.Run("a long one is not", func(t *testing.T) {
		s := pms(t, Config{})
		v := viewer(t, MPVShim, s, 14)
		v.Patience = 300 * time.Millisecond
		if err := v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.SetMaintenance(true)
		var status *StatusError
		if err := v.endure(t.Context(), 0); !errors.As(err, &status) || status.Status != http.StatusServiceUnavailable {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("404 is final", func(t *testing.T) {
		s := pms(t, Config{})
		v := viewer(t, MPVShim, s, 15)
		if err := v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Forget()
		begin := time.Now()
		var status *StatusError
		if err := v.endure(t.Context(), 0); !errors.As(err, &status) || status.Status != http.StatusNotFound {
			t.Errorf("err = %v", err)
		}
		if time.Since(begin) > 2*time.Second {
			t.Error("tried again")
		}
	})
	t.Run("a server that comes back with its port is found", func(t *testing.T) {
		s := pms(t, Config{SegmentDuration: 50 * time.Millisecond})
		v := viewer(t, MusicHTTP, s, 16)
		v.SegmentDuration = 50 * time.Millisecond // nothing tells it
		if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 3)); err != nil {
			t.Fatal(err)
		}
		addr := s.Addr()
		s.Close()
		time.AfterFunc(300*time.Millisecond, func() { _ = s.StartOn(addr) })
		if err := v.endure(t.Context(), 40); err != nil {
			t.Error(err)
		}
	})
}

func TestRefusalReachesTheViewer(t *testing.T) {
	s := pms(t, Config{TranscodeLimit: 1})
	if err := viewer(t, MPVShim, s, 17).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []ViewerKind{PlexWeb, Mobile} { // XML and JSON
		var refused *RefusedError
		if err := viewer(t, kind, s, 18).Start(t.Context()); !errors.As(err, &refused) || refused.Code < 2000 {
			t.Errorf("%s: err = %v", kind, err)
		}
	}
}

func TestChosenStreamsAreUsed(t *testing.T) {
	s := pms(t, Config{})
	v := viewer(t, Mobile, s, 19)
	if err := v.ChooseStreams(t.Context(), "777", "778"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v.Start(t.Context()), v.Segment(t.Context(), 0)); err != nil {
		t.Fatal(err)
	}
	seen := v.Observed()
	if b := seen[len(seen)-1].Body; b.Audio != "777" || b.Subtitle != "778" {
		t.Errorf("segment was made with %+v", b)
	}
	if got := v.Servers(); len(got) != 1 {
		t.Errorf("Servers() = %q", got)
	}
}

func TestObservedHeaders(t *testing.T) {
	s := New(Config{Name: "plex7"})
	balancer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Plexlb-Server", "seven")
		w.Header().Set("X-Plexlb-Reason", "least")
		s.ServeHTTP(w, r)
	})
	srv := newHTTPServer(t, balancer)
	v := NewViewer(PlexWeb, srv, "owner-token", HEVC, 20)
	defer v.Close()
	if err := v.Decide(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := v.Observed()[0]
	if o.What != "decision" || o.Status != 200 || o.Server != "plex7" || o.Balancer != "seven" || o.Reason != "least" || o.Duration <= 0 {
		t.Errorf("observed %+v", o)
	}
}

// A segment may have the header of its encoder in front of it, not that of
// another.
func TestHeaderInFront(t *testing.T) {
	s := pms(t, Config{Name: "plex1"})
	var from string
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		folder, name := path.Split(r.URL.Path)
		if name == "3.m4s" {
			parts := strings.Split(folder, "/")
			b := Body{Server: from, Session: parts[len(parts)-3], Rep: parts[len(parts)-2], Number: -1, Item: HEVC}
			_, _ = w.Write(b.bytes(600))
		}
		s.ServeHTTP(w, r)
	}))
	defer front.Close()
	v := NewViewer(PlexWeb, front.URL, "owner-token", HEVC, 1)
	defer v.Close()
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	from = "plex1"
	if err := v.Segment(t.Context(), 3); err != nil {
		t.Errorf("its own header in front: %v", err)
	}
	from = "plex2"
	if err := v.Segment(t.Context(), 3); !errors.Is(err, ErrWrong) {
		t.Errorf("another header in front: %v", err)
	}
}
