package plextest

import (
	"cmp"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what kind of server the stand-in is. The zero value is a good
// one: a GPU, no limits, a small library.
type Config struct {
	// Shown in bodies and in the response header X-Plextest-Server, which no
	// real PMS sends. Default: pms.
	Name string

	// Default: derived from the name.
	MachineIdentifier string

	// Default: 1.43.3.10861.
	Version string

	// The owner's token, which the session lists, preferences and the like
	// need. Default: owner-token.
	Token string

	// Tokens of shared users, who may play and browse and nothing else.
	UserTokens []string

	// Without a GPU every transcode is software.
	NoHardware bool

	// Maker of the GPU: nvidia, vaapi, qsv or mf. Default: nvidia.
	GPU string

	// How many hardware encoders the GPU opens; one more falls back to
	// software [P §8.2]. Zero means no limit.
	GPULimit int

	// How many video transcodes the server accepts; one more is refused at
	// the decision [P §8.4], and a start in spite of it is answered 500.
	// Zero means no limit.
	TranscodeLimit int

	// How long after its start a session shows up in /status/sessions
	// [P §1.8]. Default: 400ms; negative for none.
	Lag time.Duration

	// How long a GPU transcode looks like a software one that has not begun
	// [P §1.6]. Default: 1s; negative for none.
	Unsettled time.Duration

	// A transcode without segment or ping for this long is killed [P §4.3].
	// Default: 180s.
	Reap time.Duration

	// How long an ended session stays in /status/sessions. Default: 0.
	Linger time.Duration

	// The encoder pauses when it is this far ahead of the viewer [P §8.3].
	// Default: 60s.
	ThrottleAhead time.Duration

	// How fast a GPU encodes, as a multiple of real time. Software takes four
	// times as long, a remux a third. Default: 20.
	Speed float64

	// How long an encoder takes from its launch to its first work.
	// Default: 20ms; negative for none.
	Startup time.Duration

	// Length of a segment. Default: 1s.
	SegmentDuration time.Duration

	// Bytes of a segment. Default: 16 KiB.
	SegmentSize int

	// What segments hold, the same for all items. Default: a line that says
	// whose they are, and nothing to look at.
	Media Media

	// The library; ratingKeys count from 1. Default: [DefaultItems].
	Items []Item

	// Servers of the same database agree on part and stream ids; servers of
	// different ones never do [P §7]. Default: one that all stand-ins share.
	Database string

	// A stopped timeline ends whatever its client plays, be it another
	// playback than the one it names: the worse answer to [P §9.5].
	StopByClient bool
}

func (c Config) withDefaults() Config {
	c.Name = cmp.Or(c.Name, "pms")
	sum := sha1.Sum([]byte("machine " + c.Name))
	c.MachineIdentifier = cmp.Or(c.MachineIdentifier, hex.EncodeToString(sum[:]))
	c.Version = cmp.Or(c.Version, "1.43.3.10861-5a2b7c1d9")
	c.Token = cmp.Or(c.Token, "owner-token")
	c.GPU = cmp.Or(c.GPU, "nvidia")
	c.Lag = max(0, cmp.Or(c.Lag, 400*time.Millisecond))
	c.Unsettled = max(0, cmp.Or(c.Unsettled, time.Second))
	c.Reap = cmp.Or(c.Reap, 180*time.Second)
	c.ThrottleAhead = cmp.Or(c.ThrottleAhead, 60*time.Second)
	c.Speed = cmp.Or(c.Speed, 20)
	c.Startup = max(0, cmp.Or(c.Startup, 20*time.Millisecond))
	c.SegmentDuration = cmp.Or(c.SegmentDuration, time.Second)
	c.SegmentSize = max(512, cmp.Or(c.SegmentSize, 16<<10)) // room for the line that names it
	if c.Items == nil {
		c.Items = DefaultItems()
	}
	return c
}

// Server is one PMS. It can be used as an [http.Handler] or served by itself
// with [Server.Start].
type Server struct {
	cfg      Config
	items    []*item
	switches switches
	log      journal
	hub      hub
	uploads  uploads

	preferences preferences

	machine        atomic.Value // string
	version        atomic.Value // string
	transcodeLimit atomic.Int64
	noHardware     atomic.Bool

	mu        sync.Mutex // guards what a PMS holds in memory and in its database
	rows      map[int]*row
	byClient  map[string][]*row
	jobs      map[string]*job
	lastKey   int
	decisions map[string]decision
	ended     map[string]string // Session.id of terminated sessions → reason
	transient map[string]access
	optimizer []string
	choices   map[choiceKey]choice
	watched   map[watchKey]watched
	queues    map[int]*queue
	lastQueue int
	bypassed  int
	swept     time.Time

	netMu    sync.Mutex // guards how the server is reached
	http     *http.Server
	listener net.Listener
	served   chan struct{}
	conns    map[net.Conn]struct{}
	life     context.Context // ends with the process this server pretends to be
	die      context.CancelFunc
}

// New returns a server that is ready to answer.
func New(cfg Config) *Server {
	cfg = cfg.withDefaults()
	if _, ok := gpus[cfg.GPU]; !ok {
		panic("plextest: nobody makes a GPU called " + cfg.GPU)
	}
	s := &Server{
		cfg:       cfg,
		items:     newItems(cfg),
		choices:   make(map[choiceKey]choice),
		watched:   make(map[watchKey]watched),
		queues:    make(map[int]*queue),
		lastQueue: firstQueue(cfg.Name),
	}
	s.machine.Store(cfg.MachineIdentifier)
	s.version.Store(cfg.Version)
	s.preferences.values = goodPreferences()
	s.transcodeLimit.Store(int64(cfg.TranscodeLimit))
	s.noHardware.Store(cfg.NoHardware)
	s.switches.identityInMaintenance.Store(true)
	s.life, s.die = context.WithCancel(context.Background())
	s.forget()
	return s
}

// Start serves on a free port of 127.0.0.1.
func (s *Server) Start() error { return s.StartOn("127.0.0.1:0") }

// StartOn serves on addr. A closed server may be started again, like a process
// that comes back: its sessions are gone.
func (s *Server) StartOn(addr string) error {
	s.netMu.Lock()
	defer s.netMu.Unlock()
	if s.http != nil {
		return errors.New("plextest: server is already started")
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("plextest: %w", err)
	}
	if s.life.Err() != nil {
		s.life, s.die = context.WithCancel(context.Background())
	}
	s.listener = ln
	s.conns = make(map[net.Conn]struct{})
	s.served = make(chan struct{})
	s.http = &http.Server{
		Handler:     s,
		IdleTimeout: 20 * time.Second, // [P §6.4]
		ConnState:   s.track,
	}
	go func(srv *http.Server, done chan struct{}) {
		defer close(done)
		_ = srv.Serve(ln)
	}(s.http, s.served)
	return nil
}

// Addr returns host:port, of the last listener if the server is closed.
func (s *Server) Addr() string {
	s.netMu.Lock()
	defer s.netMu.Unlock()
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// URL returns the base URL, without a slash at its end.
func (s *Server) URL() string { return "http://" + s.Addr() }

// Close ends the server as a killed process ends: connections break, waiting
// requests are dropped, sessions are forgotten.
func (s *Server) Close() {
	s.netMu.Lock()
	srv, served := s.http, s.served
	s.http = nil
	s.die()
	s.netMu.Unlock()
	s.forgetNow()
	if srv == nil {
		return
	}
	_ = srv.Close()
	s.dropConns()
	<-served
}

// track knows every connection, hijacked ones too, so that a death can break
// them all.
func (s *Server) track(c net.Conn, state http.ConnState) {
	s.netMu.Lock()
	defer s.netMu.Unlock()
	switch state {
	case http.StateNew:
		s.conns[c] = struct{}{}
	case http.StateClosed:
		delete(s.conns, c)
	}
}

func (s *Server) dropConns() {
	s.netMu.Lock()
	conns := s.conns
	s.conns = make(map[net.Conn]struct{})
	s.netMu.Unlock()
	for c := range conns {
		_ = c.Close()
	}
}

func (s *Server) lifetime() context.Context {
	s.netMu.Lock()
	defer s.netMu.Unlock()
	return s.life
}

// hardware reports whether transcodes may use a GPU.
func (s *Server) hardware() bool { return !s.noHardware.Load() }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := s.newAsk(w, r)
	h := w.Header()
	h.Set("X-Plextest-Server", s.cfg.Name)
	h.Set("X-Plex-Protocol", "1.0")
	h.Set("Access-Control-Allow-Origin", cmp.Or(r.Header.Get("Origin"), "*")) // [P §6.4]
	h.Set("Cache-Control", "no-cache")
	if ahead := time.Duration(s.switches.ahead.Load()); ahead != 0 {
		h.Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
	}
	if r.ProtoMajor == 1 {
		h.Set("Keep-Alive", "timeout=20") // [P §6.4]
	}
	if !s.interfere(a) {
		s.route(a)
	}
}

// route picks the endpoint. It walks the raw path: a PMS sees /:/ and //
// literally [P §6.4].
func (s *Server) route(a *ask) {
	if a.r.Method == http.MethodOptions { // pre-flight [P §6.4]
		h := a.w.Header()
		h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE, OPTIONS")
		h.Set("Access-Control-Allow-Headers", cmp.Or(a.r.Header.Get("Access-Control-Request-Headers"), "*"))
		a.w.WriteHeader(http.StatusOK)
		return
	}

	// What needs no token.
	switch {
	case a.is("identity"):
		s.serveIdentity(a)
		return
	case a.is("web"): // [P §2]
		a.w.Header().Set("Location", "http://"+a.r.Host+"/web/index.html")
		a.page(http.StatusMovedPermanently, "Moved Permanently")
		return
	case a.under("web"):
		a.page(http.StatusOK, "Plex")
		return
	case a.under("*", ":", "transcode", "universal", "session", "*", "*"),
		a.under("*", ":", "transcode", "universal", "dash", "*", "*"):
		s.serveSegment(a)
		return
	}

	if a.who == nobody {
		s.unauthorized(a)
		return
	}
	switch {
	case a.under("status", "sessions"), a.under("transcode", "sessions"):
		s.serveSessions(a)
	case a.is(":", "prefs"):
		s.servePrefs(a)
	case a.under("*", ":", "transcode", "universal", "*"):
		s.serveUniversal(a)
	case a.is("photo", ":", "transcode"):
		s.servePhoto(a)
	case a.is(""):
		s.serveRoot(a)
	case a.is("media", "providers"):
		s.serveProviders(a)
	case a.is("security", "token"):
		s.serveTransientToken(a)
	case a.is(":", "timeline"):
		s.serveTimeline(a)
	case a.is(":", "progress"), a.is(":", "scrobble"), a.is(":", "unscrobble"), a.is(":", "rate"):
		s.serveMark(a)
	case a.is(":", "eventsource", "notifications"):
		s.serveEvents(a)
	case a.is(":", "websockets", "notifications"), a.is(":", "websocket", "notifications"): // [P §3.8]
		s.serveWebSocket(a)
	case a.under("playQueues"):
		s.servePlayQueues(a)
	case a.under("library", "parts", "*"):
		s.servePart(a)
	case a.under("library"):
		s.serveLibrary(a)
	case a.under("hubs"), a.is("activities"):
		a.answer(container(0))
	default:
		a.page(http.StatusNotFound, "Not Found")
	}
}

// serveIdentity needs no token [P §2].
func (s *Server) serveIdentity(a *ask) {
	c := container(0)
	c.set("claimed", true)
	c.set("machineIdentifier", s.machineIdentifier())
	c.set("version", s.version.Load().(string))
	a.answer(c)
}

// serveRoot tells about the server [P §2].
func (s *Server) serveRoot(a *ask) {
	c := container(0)
	s.describe(c)
	for _, key := range []string{"library", "playQueues", "transcode", "web"} {
		c.add(newElement("Directory").set("count", 1).set("key", key).set("title", key))
	}
	a.answer(c.count())
}

// serveProviders tells the same and lists features [P §2].
func (s *Server) serveProviders(a *ask) {
	c := container(0)
	s.describe(c)
	p := newElement("MediaProvider").
		set("identifier", "com.plexapp.plugins.library").
		set("title", "Library").set("types", "video,audio,photo").set("protocols", "stream,download")
	for key, typ := range map[string]string{"/library/sections": "content", "/:/timeline": "timeline", "/playQueues": "playqueue"} {
		p.add(newElement("Feature").set("key", key).set("type", typ))
	}
	a.answer(c.add(p).count())
}

func (s *Server) describe(c *element) {
	s.mu.Lock()
	s.sweep(time.Now())
	active := s.videoTranscodes("")
	s.mu.Unlock()
	c.set("allowSync", true).
		set("claimed", true).
		set("companionProxy", true).
		set("eventStream", true).
		set("friendlyName", s.cfg.Name).
		set("livetv", 7).
		set("machineIdentifier", s.machineIdentifier()).
		set("myPlex", true).
		set("myPlexMappingState", "mapped").
		set("myPlexSigninState", "ok").
		set("myPlexSubscription", true).
		set("myPlexUsername", "owner@example.org").
		set("platform", "Linux").
		set("requestParametersInCookie", true).
		set("transcoderActiveVideoSessions", active).
		set("transcoderVideo", true).
		set("transcoderVideoBitrates", "64,96,208,320,720,1500,2000,3000,4000,8000,10000,12000,20000").
		set("updatedAt", 1770650883).
		set("version", s.version.Load().(string))
}

// serveTransientToken issues a token that dies with the process and is known
// to it alone [P §6.3].
func (s *Server) serveTransientToken(a *ask) {
	token := "transient-" + newUUID()
	s.mu.Lock()
	s.transient[token] = a.who
	s.mu.Unlock()
	a.answer(container(0).set("token", token))
}

// unauthorized refuses as a PMS does: HTML, and at / a script that leads
// browsers to the web client [P §1.1].
func (s *Server) unauthorized(a *ask) {
	a.w.Header().Set("Connection", "close")
	script := ""
	if a.is("") {
		script = "<script>window.location = 'web/index.html';</script>"
	}
	a.html(http.StatusUnauthorized, script, "401 Unauthorized", "Unauthorized")
}

// admin lets the owner through and answers everybody else [P §1.1].
func (s *Server) admin(a *ask) bool {
	if a.who == owner {
		return true
	}
	a.page(http.StatusForbidden, "Forbidden")
	return false
}

func (s *Server) machineIdentifier() string {
	if s.switches.poll.Load() == int32(PollOtherServer) {
		return "0000000000000000000000000000000000000000"
	}
	return s.machine.Load().(string)
}
