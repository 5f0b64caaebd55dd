package plexlb

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// Lease is what is known of one request between the handler, which makes it,
// and the selection policy, which finds it in the response writer. It holds
// the request's playback and client in the ledger until it ends.
type Lease struct {
	caddyhttp.ResponseWriterWrapper
	answer

	app     *App
	request plex.Request
	query   cluster.Query
	hold    cluster.Hold
	labels  *labels

	server      *cluster.Server   // to which the request was sent last
	attempts    int               // how often in a row
	reason      cluster.Reason    // why there
	tried       []*cluster.Server // which the request shall not try again
	proxy       *Proxy            // whose policy was asked last
	asked       int               // how often
	elsewhere   bool              // other servers could have taken it
	failed      bool              // the proxy gave up
	segment     bool              // path-only: nothing is held unless it is placed
	placed      bool              // it went through Place
	news        string            // what that led to, as it is logged
	borrowed    bool              // no handler will end it
	probing     bool              // its answer is for us, not for the client
	attempted   bool              // it was sent on at least once
	interrupted bool              // before it was sent: its playback has to be resumed first
	takenBack   bool              // after it was sent: its server hangs
	returned    bool              // the proxy did not panic in the middle of an answer
	clientGone  bool              // writing to the client failed
	ending      bool              // it ends a playback at the operator's wish
	terminated  bool              // the answer says that its playback was ended

	wait       wait
	path       string              // of a segment
	front      []byte              // what a segment gets in front
	frontOf    *cluster.Server     // if it comes from there
	given      *bytes.Buffer       // a header as the client gets it, else nil
	before     []field             // the header before any answer
	resumption *cluster.Resumption // of which the request is a part
	recording  *recording          // of a decision or start
	begun      func(accepted bool) // lets resumptions fly again that wait for a start
	over       func()              // of a request that ends its playback

	resumptions uint64 // the ledger's count when the request was sent

	who   uint64          // of a client that names no transcode
	ctx   context.Context // of the request
	pause pause           // of the client
	early *early          // of an answer; the same for ever
}

// leases are reused: a segment's costs as little as it can.
var leases = sync.Pool{New: func() any {
	return &Lease{wait: wait{shard: leaseCount.Add(1) % waitingShards}, early: new(early)}
}}

func takeLease(app *App, w http.ResponseWriter) *Lease {
	l := leases.Get().(*Lease)
	l.app = app
	l.ResponseWriter = w
	l.keepHeader()
	return l
}

// LeaseOf finds the lease behind a response writer, nil if there is none.
func LeaseOf(w http.ResponseWriter) *Lease {
	for w != nil {
		if l, ok := w.(*Lease); ok {
			return l
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil
		}
		w = u.Unwrap()
	}
	return nil
}

// leaseVar is where a policy without a handler keeps its lease between the
// attempts of a request.
const leaseVar = "plexlb.lease"

// Borrow makes a lease for a policy in front of which there is no handler. It
// places and pins, but learns nothing from the answers: what it pins has to be
// confirmed by the servers' reports.
func (a *App) Borrow(r *http.Request) *Lease {
	if l, ok := caddyhttp.GetVar(r.Context(), leaseVar).(*Lease); ok {
		return l
	}
	a.borrowed.Do(func() {
		a.logger.Warn("least_transcodes has no plexlb_session in front of it, and so sees no answers: " +
			"what it places is confirmed by the servers' reports only, and clients that send no session id are not recognised")
	})
	l := &Lease{app: a, borrowed: true}
	if id := plex.SegmentID(r); id != "" {
		l.beginSegment(id)
	} else {
		l.begin("", r)
		l.giveBack()
	}
	caddyhttp.SetVar(r.Context(), leaseVar, l)
	return l
}

// giveBack lets go of what a borrowed lease holds, as nobody will tell when
// its request ends.
func (l *Lease) giveBack() {
	if l.borrowed {
		server := l.hold.Server
		l.app.state.ledger.Settle(&l.query, &l.hold, cluster.Unwatched, time.Now())
		l.hold = cluster.Hold{Server: server}
	}
}

// begin finds out what the request is and where it belongs. The request that
// it returns may have got a transcode id of ours.
func (l *Lease) begin(site string, r *http.Request) *http.Request {
	l.ctx = r.Context()
	l.request = plex.Identify(r)
	l.ask(site, r)
	if l.query.Role == cluster.Start && l.query.Transcode == "" && !l.borrowed {
		r = l.nameTranscode(r)
	}
	if l.query.Role == cluster.Start && !l.borrowed {
		l.recording = record(r, site, l.request.Token)
	}
	l.hold = l.app.state.ledger.Find(&l.query, time.Now())
	if l.hold.Server != nil {
		l.reason = cluster.Pinned
	}
	l.labels = describe(r, l)
	return r
}

// findAgain is for a request that has waited: its playback may have been carried
// or lost meanwhile, and what the request leads to comes after that.
func (l *Lease) findAgain() {
	led := l.app.state.ledger
	led.Settle(&l.query, &l.hold, cluster.Abandoned, time.Now())
	l.hold, l.reason = led.Find(&l.query, time.Now()), 0
	if l.hold.Server != nil {
		l.reason = cluster.Pinned
	}
	l.labels.correct(l.hold.Server, l.reason)
}

// beginSegment is begin for a segment.
func (l *Lease) beginSegment(id string) {
	st := l.app.state
	l.segment = true
	l.request.Kind = plex.Segment
	l.query.Role = cluster.Follow
	l.query.Transcode = id
	if l.hold.Server = st.ledger.FindSegment(id); l.hold.Server != nil {
		l.reason = cluster.Pinned
	}
}

// endSegment resets what beginSegment and the policy have set.
func (l *Lease) endSegment() {
	if l.placed || l.status >= 400 || len(l.tried) > 0 {
		l.end()
		return
	}
	l.stopWaiting() // unless it has: the proxy panics when a player hangs up
	l.early.bodyFollows()
	l.pause.end()
	l.ResponseWriter, l.labels, l.server, l.hold.Server = nil, nil, nil, nil
	l.query.Transcode, l.query.Role, l.reason = "", 0, 0
	l.request.Kind, l.segment, l.status, l.failed = 0, false, 0, false
	l.interrupted, l.takenBack, l.clientGone, l.attempted, l.attempts = false, false, false, false, 0
	l.ctx, l.pause, l.path = nil, pause{}, ""
	l.front, l.frontOf, l.given = nil, nil, nil
	leases.Put(l)
}

// ask puts the request in the ledger's terms.
func (l *Lease) ask(site string, r *http.Request) {
	q := &l.query
	q.IDs = cluster.IDs(l.request.IDs)
	q.Site = site
	q.Writes = l.request.Writes
	q.Look = r.Method == http.MethodOptions || open(r.URL.Path)
	q.Role = role(l.request.Kind, r.URL.Path)
	switch {
	case strings.HasPrefix(r.URL.Path, "/status/sessions/terminate"):
		// For the server that plays it, whoever asks.
		q.Role, l.ending = cluster.Inquire, true
		if p, ok := l.app.state.ledger.Explain(plex.Query(r.URL.RawQuery, "sessionId")); ok {
			q.IDs = p.IDs
			q.Client = "" // it is not the player that asks
		}
	case r.Method == http.MethodDelete && q.Role == cluster.Inquire && q.Transcode != "":
		l.ending = true
	}
	replicated := l.app.Mode == ModeReplicated
	switch q.Role {
	case cluster.Start:
		q.Work = cluster.GPU // unless the decision says otherwise
		if l.request.Music {
			q.Work = cluster.Copy
		}
		q.Item = believed(plex.Query(r.URL.RawQuery, "path"))
		q.Begins = l.request.Kind == plex.Start
	case cluster.Stream:
		q.Begins = true
	case cluster.Follow:
		if l.request.Stopped {
			q.Item = believed(plex.Query(r.URL.RawQuery, "key"))
		}
	}
	if replicated && q.Role == cluster.Artwork {
		// Not the query of the whole URL: it holds the token, and sizes
		// that differ by screen are cached side by side.
		q.Alias = hash(r.URL.Path, plex.Query(r.URL.RawQuery, "url"))
	} else if q.Client == "" || !replicated {
		q.Alias = hash(l.request.Token, clientIP(r), r.UserAgent())
	}
}

// maxItem bounds what a playback remembers of what it plays, in bytes. Paths of
// real items have thirty, and those of playlists and the like a few hundred.
const maxItem = 1 << 10

// believed cuts an item: a client could fill memory with one, and every status
// page's connection.
func believed(item string) string {
	if len(item) > maxItem {
		return strings.ToValidUTF8(item[:maxItem], "")
	}
	return item
}

// role says what a kind of request means for where it goes [P §5].
func role(k plex.Kind, path string) cluster.Role {
	switch k {
	case plex.Decision, plex.Start:
		return cluster.Start
	case plex.Part:
		return cluster.Stream
	case plex.Segment, plex.Subtitles, plex.Ping, plex.Stop, plex.Fallback, plex.Callback, plex.Timeline:
		return cluster.Follow
	case plex.Artwork:
		return cluster.Artwork
	case plex.Local:
		// A client that looks for its own session [P §5].
		if inquires(path) {
			return cluster.Inquire
		}
	}
	return cluster.Visit
}

// open reports whether a server answers the path to anybody, so that an answer
// does not mean that the one who asks was let in [P §2].
func open(path string) bool {
	return path == "/identity" || path == "/web" || strings.HasPrefix(path, "/web/") ||
		path == "/favicon.ico" || path == "/robots.txt" || path == "/crossdomain.xml"
}

// inquires reports whether a request asks what the server is playing.
func inquires(path string) bool {
	return strings.HasPrefix(path, "/status/sessions") || strings.HasPrefix(path, "/transcode/sessions")
}

func clientIP(r *http.Request) string {
	if ip, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok {
		return ip
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	return host
}

// hash is FNV-1a over strings, each closed by a byte that none of them holds.
func hash(parts ...string) uint64 {
	h := uint64(14695981039346656037)
	for _, s := range parts {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211
	}
	return h
}

// nameTranscode gives a request without a transcode id one of ours, so that its
// segments can be known: PMS would make one up and tell it in the playlist
// only [P §3.1]. The query is kept as it is, to the letter.
func (l *Lease) nameTranscode(r *http.Request) *http.Request {
	l.who = hash(l.request.Token, l.request.Session, l.request.Playback, l.request.Client, clientIP(r), r.UserAgent(), l.query.Item)
	id, near := l.app.state.sessions.name(l.who, time.Now())
	l.query.Transcode, l.query.Near = id, near
	u := *r.URL
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += "session=" + id
	r2 := new(http.Request)
	*r2 = *r
	r2.URL = (*url.URL)(&u)
	return r2
}

// Server returns where the request belongs, nil if that is to be decided or
// its attempts there failed.
func (l *Lease) Server() *cluster.Server {
	if l.server != nil {
		return l.retry()
	}
	if l.resumption != nil {
		return l.resumption.To
	}
	return l.hold.Server
}

// retry is for a request that the proxy brings back. What is pinned goes to the
// same server once more, as long as Caddy finds it healthy: one broken
// connection is no reason to move a viewer. What no server has accepted yet
// goes elsewhere, if there is anything elsewhere that it could mean.
func (l *Lease) retry() *cluster.Server {
	pinned := l.segment || l.hold.Settled()
	if l.app.Mode != ModeReplicated {
		pinned = pinned || l.hold.Known()
	} else if l.query.Role == cluster.Visit || l.query.Role == cluster.Artwork {
		pinned = false
	}
	if pinned && !l.hasTried(l.hold.Server) && (l.attempts < mostAttempts || l.app.Mode != ModeReplicated) {
		return l.hold.Server
	}
	l.shun()
	return nil
}

// mostAttempts is how often in a row a request is sent to the server that has
// its playback, before that is taken for lost.
const mostAttempts = 2

// Follows reports whether the request cannot go elsewhere before its playback
// has been resumed there.
func (l *Lease) Follows() bool {
	switch {
	case l.borrowed:
		return false
	case l.resumption != nil:
		return l.resumption.To != nil && l.request.Kind == plex.Start
	case l.segment:
		return l.hold.Server != nil
	case l.query.Role == cluster.Follow:
		return l.hold.Playback() != nil
	}
	return l.query.Role == cluster.Stream && l.hold.Settled() && l.hold.Playback() != nil &&
		l.app.state.ledger.Origin(l.hold.Playback()) != nil
}

// Interrupt ends the attempt before anything is sent: the handler has to resume
// the playback first. Whatever upstream the policy returns is not asked.
func (l *Lease) Interrupt() {
	l.interrupted = true
	l.wait.cancel()
}

// shun keeps the request from the server that it went to.
func (l *Lease) shun() {
	if l.server != nil && !l.hasTried(l.server) {
		l.tried = append(l.tried, l.server)
	}
}

// hasTried reports whether the request failed on s and shall not go there again.
func (l *Lease) hasTried(s *cluster.Server) bool { return slices.Contains(l.tried, s) }

// Exclude marks the candidates that the request shall not try again, and
// returns how many of them could have been.
func (l *Lease) Exclude(candidates []cluster.Candidate) (n int) {
	if len(l.tried) == 0 {
		return 0
	}
	for i := range candidates {
		if c := &candidates[i]; c.Out == cluster.In && l.hasTried(c.Server) {
			c.Out = cluster.Tried
			n++
		}
	}
	return n
}

// Weighs reports whether the policy should look beyond the server to which the
// request is pinned: a start can be tried on another one.
func (l *Lease) Weighs() bool { return l.query.Role == cluster.Start && len(l.tried) == 0 }

// Elsewhere notes that other servers could have taken the request.
func (l *Lease) Elsewhere() { l.elsewhere = true }

// Go notes that the request goes to the server to which it is pinned. It
// returns false if that turns out not to be available.
func (l *Lease) Go(s *cluster.Server, u *reverseproxy.Upstream) bool {
	if !l.sent(u) {
		return false
	}
	l.awaitStop(s)
	l.server = s
	l.attempts++
	if !l.placed {
		l.reason = cluster.Pinned
	}
	return true
}

// sent has the request wait for the upstream's answer.
func (l *Lease) sent(u *reverseproxy.Upstream) bool {
	if l.wait.cancel == nil {
		return true
	}
	// In this order: what is found down after the look is taken back.
	l.app.state.waiting.add(l, u)
	return u.Available()
}

// Place has the ledger choose among the candidates, which are the servers of the
// pool, and returns the index of the one it chose, -1 if there is none.
func (l *Lease) Place(candidates []cluster.Candidate, pool reverseproxy.UpstreamPool) int {
	ledger := l.app.state.ledger
	var i int
	if l.resumption != nil {
		i, l.reason = ledger.Choose(l.resumption, candidates, time.Now())
	} else {
		i, l.reason = ledger.Place(&l.query, &l.hold, candidates, time.Now())
		l.placed = true
		l.noteNews()
	}
	l.server, l.attempts = nil, 1
	if i >= 0 {
		l.server = candidates[i].Server
		l.sent(pool[i])
		l.awaitStop(l.server)
	}
	l.labels.correct(l.server, l.reason)
	if l.borrowed {
		l.tellNews()
	}
	l.giveBack()
	return i
}

// What a placement led to, as it is logged. A client is placed in mode separate.
const (
	playbackPlaced = "playback placed"
	clientPlaced   = "client placed"
	clientMoved    = "client moved to another server"
)

// noteNews notes what the placement led to. With a failed attempt before it, it
// is one all the same.
func (l *Lease) noteNews() {
	switch {
	case l.hold.Placed():
		l.news = playbackPlaced
	case !l.hold.Housed():
	case l.reason == cluster.ServerLost:
		l.news = clientMoved
	default:
		l.news = clientPlaced
	}
}

// tellNews logs what the placement led to, if it has led to anything. To be
// called when it is known how the server answers, as an answer may last for
// hours.
func (l *Lease) tellNews() {
	if l.news == "" {
		return
	}
	level := zapcore.DebugLevel
	if l.news == clientMoved {
		level = zapcore.InfoLevel
	}
	c := l.app.logger.Check(level, l.news)
	l.news = ""
	if c == nil {
		return
	}
	name := ""
	if l.server != nil {
		name = l.server.Name()
	}
	c.Write(
		zap.String("session", l.query.Called()),
		zap.String("server", name),
		zap.Stringer("reason", l.reason),
		zap.Stringer("kind", l.request.Kind),
		zap.Int("status", l.status),
	)
}

// owner reports whether the request carries the token that a playback was begun
// with, which no server may be there to look at, and whether that is known.
func (l *Lease) owner(p *cluster.Playback) (is, known bool) {
	rec, known := l.app.state.ledger.Origin(p).(*recording)
	return known && rec.token == l.request.Token, known
}

// tellBegun tells those who wait for a start whether it was accepted.
func (l *Lease) tellBegun(accepted bool) {
	if l.begun != nil {
		l.begun(accepted)
		l.begun = nil
	}
}

// end gives back what the request held and draws the conclusions.
func (l *Lease) end() {
	l.stopWaiting()
	l.tellNews()
	if l.broken() {
		l.app.lose(l.hold.Playback(), l.server, "a stream without segments ends with its connection", cluster.LostServer)
	}
	l.settle()
	if l.over != nil {
		l.over()
	}
	l.early.bodyFollows()
	l.pause.end()
	clear(l.tried)
	clear(l.before)
	body := l.body
	body.Reset()
	if body.Cap() > maxKept {
		body = bytes.Buffer{}
	}
	*l = Lease{answer: answer{body: body}, tried: l.tried[:0], before: l.before[:0], wait: wait{shard: l.wait.shard}, early: l.early}
	leases.Put(l)
}

// maxKept is how large a buffer for an answer may be to be used again, in bytes:
// answers to timelines are small.
const maxKept = 4 << 10

// broken reports whether the server broke off an answer that was the playback.
// It also does that when the client stops, or begins again, at another place
// say, and we may hear of that before the client hangs up.
func (l *Lease) broken() bool {
	return !l.returned && !l.clientGone && l.request.Kind == plex.Start && l.status == http.StatusOK &&
		l.ctx.Err() == nil && l.recording != nil && l.recording.Endless() && l.hold.Playback() != nil && !l.superseded()
}

// superseded reports whether the client has begun something since, or is about
// to, or to stop: its server ends what it played before.
func (l *Lease) superseded() bool {
	led := l.app.state.ledger
	flights := &l.app.state.flights
	return flights.ending(l.hold.Playback()) || led.Superseded(&l.hold) || slices.ContainsFunc(flights.beginning(), func(p *cluster.Playback) bool {
		return led.SameClient(p, l.hold.Playback())
	})
}

// settle tells the ledger what became of the request.
func (l *Lease) settle() {
	led := l.app.state.ledger
	now := time.Now()
	outcome := l.outcome()
	if outcome == cluster.Accepted && l.who != 0 {
		l.app.state.sessions.remember(l.who, l.query.Transcode, l.request.Kind == plex.Decision, now)
	}
	if outcome == cluster.Accepted && l.verdict != nil {
		led.Decided(&l.hold, cluster.Work(l.verdict.Work()), now)
	}
	ended := l.request.Kind == plex.Stop || l.request.Stopped
	// PMS may say 404 to a stop that worked [P §2].
	if ended && (outcome == cluster.Accepted || l.request.Kind == plex.Stop && l.status == http.StatusNotFound) {
		led.Stopped(&l.query, now)
	}
	if outcome == cluster.Accepted && l.query.Role == cluster.Start {
		if l.recording != nil {
			led.Keep(&l.hold, l.request.Kind == plex.Decision, l.recording)
		} else {
			led.Keep(&l.hold, l.request.Kind == plex.Decision, nil)
		}
	}
	if l.terminated || l.ending && outcome == cluster.Accepted {
		led.End(&l.hold, now)
	}
	led.Settle(&l.query, &l.hold, outcome, now)
}

// outcome sums up the answer.
func (l *Lease) outcome() cluster.Outcome {
	switch {
	case l.refused:
		return cluster.Rejected
	case l.status == statusClientClosed:
		return cluster.Abandoned
	case l.status == 0 && !l.failed:
		return cluster.Abandoned // it panicked before there was an answer
	case l.status == 0 && l.server == nil:
		return cluster.Rejected // nobody was asked
	case l.status == 0 || l.status >= 500 || l.held:
		return cluster.Failed // what is still held was cut off in the middle
	case l.status >= 400, l.status >= 300 && l.query.Role == cluster.Visit:
		return cluster.Rejected // a redirect is for anybody
	}
	return cluster.Accepted
}

// statusClientClosed is what Caddy's proxy writes when the client has left.
const statusClientClosed = 499
