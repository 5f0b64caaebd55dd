package plexlb

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// Whatever loses a playback its session — its server died or hangs, PMS was
// restarted or has reaped it, an operator wants it elsewhere — one mechanism
// brings it back: decision and start are sent again, through the same proxy,
// and the requests that need it wait until that is done [P §4.5].

const (
	// patience is how long a request is held for its playback to be resumed.
	// Players wait for a segment for ten to twenty seconds.
	patience = 15 * time.Second

	// resumePause is between attempts to resume a playback.
	resumePause = 250 * time.Millisecond

	// listingLag is how long after its start a session may not be listed.
	listingLag = time.Second

	// mostPause is the longest pause between them.
	mostPause = time.Second

	// maxRounds bounds how often one request has its playback resumed.
	maxRounds = 3

	// retryAfter is when a request that could not be served may come again, in
	// seconds.
	retryAfter = "2"
)

// Why a playback was not resumed.
var (
	errLate    = errors.New("the playback could not be resumed in time")
	errLost    = errors.New("the playback cannot be carried to another server")
	errOver    = errors.New("the playback is over")
	errStream  = errors.New("the playback is a stream, which its player has to begin again")
	errUnknown = errors.New("it is not known what the playback was started with")
	errPresent = errors.New("the server still has the session")
	errWrites  = errors.New("a request that may have been carried out is not repeated")
	errTarget  = errors.New("the server cannot be used, is not behind the playback's site, or refuses it")
	errUnsure  = errors.New("not every server could be asked for the session")
	errYields  = errors.New("its client begins the playback anew")
)

// flight is one resumption, for which any number of requests may wait.
type flight struct {
	done   chan struct{}
	err    error
	ctx    context.Context
	cancel context.CancelCauseFunc
	stop   context.CancelFunc // of its time
	mover  bool               // made for an operator, and given up for a viewer who needs one
	flying bool               // starts of the playback's client have to wait
}

// starting are the starts of a playback that its client has under way.
type starting struct {
	n        int
	accepted bool
	done     chan struct{}
}

// flights are the resumptions under way. They keep out of the way of the
// client's own starts: which of two starts a server takes for the last is
// otherwise chance, and a device that uses one id for ever, or keeps it when the
// quality changes, would get what it played before.
type flights struct {
	mu     sync.Mutex
	of     map[*cluster.Playback]*flight
	starts map[*cluster.Playback]*starting
	ends   map[*cluster.Playback]int // requests under way that end a playback
}

// startPatience is how long a client's start waits for a resumption of what it
// is to replace; after that the resumption is given up.
const startPatience = 2 * time.Second

// begin is a start of a playback by its client: resumptions wait from now on
// until end is called, and the one under way is waited for.
func (f *flights) begin(ctx context.Context, p *cluster.Playback) (end func(accepted bool), waited bool) {
	f.mu.Lock()
	s := f.starts[p]
	if s == nil {
		s = &starting{done: make(chan struct{})}
		if f.starts == nil {
			f.starts = make(map[*cluster.Playback]*starting)
		}
		f.starts[p] = s
	}
	s.n++
	fl := f.of[p]
	waited = fl != nil && fl.flying
	f.mu.Unlock()
	if waited {
		late := time.AfterFunc(startPatience, func() { fl.cancel(errYields) })
		_ = fl.wait(ctx, nil)
		late.Stop()
	}
	return func(accepted bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		s.accepted = s.accepted || accepted
		if s.n--; s.n == 0 {
			delete(f.starts, p)
			close(s.done)
		}
	}, waited
}

// end notes that a request is under way that ends a playback, until over is
// called.
func (f *flights) end(p *cluster.Playback) (over func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ends == nil {
		f.ends = make(map[*cluster.Playback]int)
	}
	f.ends[p]++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.ends[p]--; f.ends[p] == 0 {
			delete(f.ends, p)
		}
	}
}

// ending reports whether a playback is about to be ended.
func (f *flights) ending(p *cluster.Playback) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ends[p] > 0
}

// beginning returns the playbacks of which a start is under way.
func (f *flights) beginning() []*cluster.Playback {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Keys(f.starts))
}

// takeOff waits for the starts that the playback's client has under way, and
// reports whether one was accepted meanwhile.
func (f *flights) takeOff(p *cluster.Playback, fl *flight) (begun bool) {
	for {
		f.mu.Lock()
		s := f.starts[p]
		fl.flying = s == nil
		f.mu.Unlock()
		if s == nil {
			return begun
		}
		select {
		case <-s.done:
			begun = begun || s.accepted
		case <-fl.ctx.Done():
			return begun
		}
	}
}

// join returns the playback's flight, and whether the caller has to fly it.
func (f *flights) join(p *cluster.Playback, mover bool) (fl *flight, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl = f.of[p]; fl != nil {
		return fl, false
	}
	if f.of == nil {
		f.of = make(map[*cluster.Playback]*flight)
	}
	fl = &flight{done: make(chan struct{}), mover: mover}
	// Not with the request's context: others wait for it as well.
	ctx, stop := context.WithTimeout(context.Background(), patience)
	fl.stop = stop
	fl.ctx, fl.cancel = context.WithCancelCause(ctx)
	f.of[p] = fl
	return fl, true
}

// land ends a flight.
func (f *flights) land(p *cluster.Playback, fl *flight, err error) {
	f.mu.Lock()
	delete(f.of, p)
	f.mu.Unlock()
	fl.err = err
	close(fl.done)
}

// wait waits for the flight to end.
func (fl *flight) wait(ctx context.Context, late <-chan time.Time) error {
	select {
	case <-fl.done:
		return fl.err
	case <-late:
		return errLate
	case <-ctx.Done():
		return ctx.Err()
	}
}

// chain is the way from a site's handler to the servers.
type chain struct {
	handler *Handler
	next    caddyhttp.Handler
	server  *caddyhttp.Server
}

// journey is what a flight does.
type journey struct {
	chain
	playback *cluster.Playback
	id       string            // the transcode that is asked for
	missing  bool              // its server says that it does not have it
	tried    []*cluster.Server // which are no use
	refused  bool              // by one of them
	charged  bool              // against what a lost session may cost
	mover    *cluster.Mover    // set when an operator wants it elsewhere
	cause    cluster.Cause     // else why it is made
}

// resume has the journey made, by this request or by another, and waits for it.
func (h *Handler) resume(ctx context.Context, j journey, late <-chan time.Time) error {
	fl, first := h.app.state.flights.join(j.playback, j.mover != nil)
	switch {
	case first:
		go func() {
			defer fl.stop()
			err := errLate // if it panics
			defer func() { h.app.state.flights.land(j.playback, fl, err) }()
			begun := h.app.state.flights.takeOff(j.playback, fl)
			switch {
			case begun && j.mover == nil:
				err = nil // its client has begun it anew
			case fl.ctx.Err() == nil:
				err = j.fly(fl.ctx)
			case j.mover != nil:
				err = errTarget
			}
		}()
	case fl.mover && j.mover == nil:
		fl.cancel(nil)
	}
	err := fl.wait(ctx, late)
	if errors.Is(err, errTarget) && !first && j.mover == nil {
		return h.resume(ctx, j, late) // what the operator wanted does not work
	}
	return err
}

// fly makes the journey.
func (j *journey) fly(ctx context.Context) (err error) {
	app := j.handler.app
	began := time.Now()
	from, _ := app.state.ledger.ServerOf(j.playback)
	err = j.seek(ctx, from)
	pause := resumePause
	for first := true; errors.Is(err, errLate) || errors.Is(err, errUnknown); first = false {
		if !first {
			if !sleep(ctx, pause) {
				break
			}
			pause = min(2*pause, mostPause)
			// The config may have been replaced.
			if way, ok := app.state.chains.of(j.handler.site); ok {
				j.chain = way
			}
		}
		if errors.Is(err, errUnknown) {
			if err = j.seek(ctx, from); !errors.Is(err, errLate) {
				break
			}
		}
		if at, _ := app.state.ledger.ServerOf(j.playback); at != from && j.mover == nil {
			err = nil // its client has begun it elsewhere
			break
		}
		err = j.replay(ctx)
	}
	switch {
	case j.mover != nil && err != nil && !errors.Is(err, errOver):
		j.count(from, from, err, time.Since(began))
		err = errTarget
	case err != nil && errors.Is(context.Cause(ctx), errYields):
		// It is not lost: its client says what becomes of it.
		j.count(from, from, err, time.Since(began))
		err = errLate
	case errors.Is(err, errUnknown):
		app.lose(j.playback, from, j.whyLost(), j.reason())
		err = errLate // another balancer may yet bring it back
	case errors.Is(err, errLost),
		// In separate mode there is no other server, and this was the time
		// for its own to come back.
		errors.Is(err, errLate) && !j.missing && app.Mode == ModeSeparate:
		err = errLost
		app.lose(j.playback, from, j.whyLost(), j.reason())
	case err == nil:
		to, _ := app.state.ledger.ServerOf(j.playback)
		j.count(from, to, nil, time.Since(began))
		// Of what went to another server a line is written with all moves.
		level := zap.DebugLevel
		if from == to {
			level = zap.InfoLevel
		}
		if c := app.logger.Check(level, "playback resumed"); c != nil {
			c.Write(zap.String("session", app.state.ledger.NameOf(j.playback)), zap.String("from", from.Name()), zap.String("to", to.Name()),
				zap.Stringer("cause", j.reason()), zap.Duration("took", time.Since(began)))
		}
	default:
		j.count(from, from, err, time.Since(began))
		if c := app.logger.Check(zap.DebugLevel, "playback not resumed"); c != nil {
			c.Write(zap.String("session", app.state.ledger.NameOf(j.playback)), zap.String("server", from.Name()),
				zap.Stringer("cause", j.reason()), zap.Error(err))
		}
	}
	return err
}

// lose gives a playback up, and says so once.
func (a *App) lose(p *cluster.Playback, s *cluster.Server, why string, cause cluster.Cause) {
	id := a.state.ledger.NameOf(p) // which the ledger may forget with it
	if !a.state.ledger.Lose(p, time.Now()) {
		return
	}
	name := ""
	if s != nil {
		name = s.Name()
	}
	a.tellLost(id, name, why, cause)
}

func (j *journey) whyLost() string {
	switch res := j.handler.app.state.ledger.Resume(j.playback, j.id); {
	case j.handler.app.Mode == ModeSeparate:
		return "mode separate: ids differ between servers"
	case res == nil || res.Start == nil && res.Decision == nil:
		return "its start did not pass through here, or was too long to keep"
	}
	return "it is a stream without segments or live TV, or the other servers refuse it"
}

// seek looks whether a server has the session already: another balancer may
// have resumed it. It returns nil if so, and errPresent if its own server has
// it and answers for it.
func (j *journey) seek(ctx context.Context, from *cluster.Server) error {
	app := j.handler.app
	led := app.state.ledger
	id := cmp.Or(j.id, led.TranscodeOf(j.playback))
	if j.mover != nil || id == "" {
		return errLate
	}
	except := append(j.handler.outside(), j.tried...)
	except = append(except, led.Stale(j.playback)...)
	if !j.missing {
		except = append(except, from)
	}
	for began := time.Now(); ; {
		found := app.ask(ctx, id, except)
		now := time.Now()
		switch {
		case found.server == from:
			led.Present(j.playback, now)
			return errPresent
		case found.server != nil:
			led.Found(j.playback, found.server, id, found.work, j.cause, now)
			return nil
		}
		// What was started just now, or through another balancer, may not be
		// listed yet [P §1.8].
		switch {
		case led.BegunBefore(j.playback, now.Add(-listingLag)),
			!j.missing && led.BegunBefore(j.playback, now),
			now.Sub(began) > listingLag, !sleep(ctx, resumePause):
			return errLate
		}
	}
}

// outside returns the servers that are not behind the handler's site.
func (h *Handler) outside() (list []*cluster.Server) {
	if len(h.Servers) == 0 {
		return nil
	}
	for _, s := range h.app.state.ledger.Servers().List() {
		if !slices.Contains(h.Servers, s.Name()) {
			list = append(list, s)
		}
	}
	return list
}

// replay sends decision and start again. It returns errLate if that may work
// later.
func (j *journey) replay(ctx context.Context) error {
	led := j.handler.app.state.ledger
	var res *cluster.Resumption
	if j.mover != nil {
		res = led.Move(*j.mover)
	} else {
		res = led.Resume(j.playback, j.id)
	}
	if res == nil {
		return errOver
	}
	if j.mover == nil {
		res.Cause = j.cause
	}
	if res.Start == nil && res.Decision == nil {
		return errUnknown
	}
	if id := started(res); id != "" && j.id == "" {
		res.Transcode = id
	}
	if j.cause == cluster.LostSession && !j.charged && j.mover == nil {
		if j.charged = true; !led.Again(j.playback, time.Now()) {
			return errPresent // this leads nowhere: its word stands
		}
	}
	decision, start := j.translate(res)
	if decision == nil {
		return errLost
	}

	l := takeLease(j.handler.app, &probe{header: make(http.Header)})
	defer l.end()
	l.resumption = res
	l.tried = append(l.tried, j.tried...)

	err := j.send(ctx, l, decision)
	if l.status == http.StatusOK && err == nil && j.handler.carry(ctx, l) {
		err = j.send(ctx, l, decision) // it knows the chosen language by now
	}
	if err != nil {
		return j.next(l, err)
	}
	l.read()
	if v := l.verdict; v != nil {
		if l.refused {
			return j.next(l, errLost)
		}
		res.Decided(led, cluster.Work(v.Work()), time.Now())
	}
	if !res.Direct {
		if start == nil {
			return errLost
		}
		if err := j.send(ctx, l, start); err != nil {
			res.Forsaken(led, time.Now()) // it may have begun all the same
			if ctx.Err() != nil {         // given up, and no fault of the server
				return errLate
			}
			return j.next(l, err)
		}
		if l.status >= 400 {
			return j.next(l, statusError(l.status))
		}
	}
	led.Resumed(res, time.Now()) // if not, it has ended or been carried by somebody else
	return nil
}

// started returns the transcode id of a playback's start, empty if that is not
// known. Others that it has are former ones, or not begun.
func started(res *cluster.Resumption) string {
	if rec, ok := res.Start.(*recording); ok {
		return plex.Query(rec.query, "session")
	}
	return ""
}

func statusError(status int) error {
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		return errLost // nobody else will let this user in
	}
	return errLate
}

// translate returns the requests to resume the playback with; the start is nil
// if there is none. This is where ids would be translated between servers with
// libraries of their own: in mode separate, a playback is resumed on its own
// server only.
func (j *journey) translate(res *cluster.Resumption) (decision, start *recording) {
	decision, _ = res.Decision.(*recording)
	start, _ = res.Start.(*recording)
	switch {
	case start != nil && start.Endless():
		return nil, nil
	case decision == nil || start != nil && plex.Query(decision.query, "path") != plex.Query(start.query, "path"):
		decision = start.as("decision", "")
	}
	if start == nil && !decision.Endless() {
		start = decision.start()
	}
	if start != nil && res.Transcode != "" {
		decision, start = decision.as("", res.Transcode), start.as("", res.Transcode)
	}
	return decision, start
}

// send sends a recording to where the resumption goes.
func (j *journey) send(ctx context.Context, l *Lease, rec *recording) (err error) {
	r := rec.request(ctx, j.server)
	l.answer = answer{}
	clear(l.Header())
	l.ctx, l.request, l.probing = r.Context(), plex.Identify(r), true
	l.server, l.attempts = nil, 0
	defer func() {
		// The proxy panics when an answer breaks off in the middle.
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				j.handler.logger.Error("sending a start again", zap.Any("panic", p), zap.Stack("stack"))
			}
			l.stopWaiting()
			err = errLate
		}
	}()
	err = l.attempt(r, j.chain.next)
	switch {
	case err == nil && (l.interrupted || l.takenBack || l.status == statusClientClosed):
		return errLate
	case err == nil && l.status >= 500:
		return statusError(l.status)
	}
	return err
}

// next has the next attempt go elsewhere, if there is anything else.
func (j *journey) next(l *Lease, err error) error {
	s := l.resumption.To
	l.resumption.Failed(j.handler.app.state.ledger, time.Now())
	j.refused = j.refused || errors.Is(err, errLost)
	switch {
	case j.mover != nil && (j.mover.To != nil || s == nil || len(j.tried) > 0):
		return errTarget
	case j.refused && (s == nil || j.handler.app.Mode == ModeSeparate):
		return errLost // by all that there are
	case s == nil:
		j.tried = nil // all may be tried again
	case j.handler.app.Mode == ModeReplicated:
		j.tried = append(j.tried, s)
		j.missing = false
	}
	return errLate
}

// send sends a request on, and again when what kept it from being answered has
// been healed.
func (h *Handler) send(l *Lease, r *http.Request, next caddyhttp.Handler) error {
	err := h.attempt(l, r, next)
	var late <-chan time.Time
	for round := 0; l.troubled(err) && r.Context().Err() == nil; round++ {
		if round == maxRounds {
			return h.giveUp(l, errLate)
		}
		if late == nil {
			timer := time.NewTimer(patience)
			defer timer.Stop()
			late = timer.C
		}
		if e := h.heal(l, r, next, late); e != nil {
			return h.giveUp(l, e)
		}
		l.startOver()
		err = h.attempt(l, r, next)
	}
	return err
}

// attempt sends the request on, for as long as the proxy is set to try; a segment
// with what its player needs to decode it.
func (h *Handler) attempt(l *Lease, r *http.Request, next caddyhttp.Handler) error {
	if l.segment {
		h.prepend(l, r, next)
	}
	l.resumptions = h.app.state.ledger.Resumptions()
	return h.persist(l, r, next)
}

// troubled reports whether the request got no answer, or one that says that its
// playback's session is lost.
func (l *Lease) troubled(err error) bool {
	switch {
	case l.interrupted, l.takenBack && (l.status == 0 || l.held):
		return true
	case !l.segment:
		return false
	case err != nil:
		return l.status == 0
	}
	return l.held && !l.beforeOffset()
}

// beforeOffset reports whether the request is for segment 0 of a playback that
// began later: that is 404 although the session lives [P §4.2].
func (l *Lease) beforeOffset() bool {
	if l.status != http.StatusNotFound {
		return false
	}
	last := l.path[strings.LastIndexByte(l.path, '/')+1:]
	last, _, _ = strings.Cut(last, ".")
	if last == "" || strings.Trim(last, "0") != "" {
		return false
	}
	led := l.app.state.ledger
	if p := led.PlaybackOf(l.query.Transcode); p != nil {
		if res := led.Resume(p, ""); res != nil {
			start, _ := res.Start.(*recording)
			return start != nil && start.offset()
		}
	}
	return false
}

// heal mends what kept the request from being answered. It returns nil if it
// can be sent again.
func (h *Handler) heal(l *Lease, r *http.Request, next caddyhttp.Handler, late <-chan time.Time) error {
	led := h.app.state.ledger
	if !l.interrupted && l.query.Writes {
		return errWrites
	}
	var p *cluster.Playback
	if l.segment {
		p = led.PlaybackOf(l.query.Transcode)
	} else {
		p = l.hold.Playback()
	}
	switch l.query.Role {
	case cluster.Follow, cluster.Stream:
	default:
		p = nil // another server will do
	}
	missing := l.held && l.status == http.StatusNotFound
	switch {
	case p == nil && missing:
		return errOver // nobody knows it
	case p == nil && l.segment:
		return errLate
	case p == nil:
		l.shun()
		return nil
	}
	if l.ends() {
		return errOver
	}
	if led.Endless(p) && !l.segment { // live TV has segments
		return errStream
	}
	if led.Lost(p) {
		return errLost
	}
	if _, goesOn := led.ServerOf(p); !goesOn {
		return errOver
	}
	if led.ResumedSince(p, l.resumptions) {
		l.follow(p) // what went wrong was before that
		return nil
	}
	if missing && !led.Missing(p, h.app.reader(l.server) != nil, time.Now()) {
		return errPresent // there is no such segment
	}
	if res := led.Resume(p, ""); res != nil && l.segment {
		if id := started(res); id != "" && id != l.query.Transcode {
			return errOver // a former transcode, which the present one has ended
		}
	}
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	j := journey{
		chain: chain{h, next, server}, playback: p,
		missing: missing, cause: l.cause(missing),
	}
	if l.segment {
		j.id = l.query.Transcode
	}
	if !missing {
		// Not there again: it hangs, or failed this request twice.
		if s := l.server; s != nil && (l.takenBack || l.hasTried(s) || l.held || h.app.Mode != ModeSeparate && l.status == 0) {
			j.tried = append(j.tried, s)
		}
		j.tried = append(j.tried, l.tried...)
	}
	if h.app.Mode == ModeSeparate {
		j.tried = nil // there is no other
	}
	err := h.resume(r.Context(), j, late)
	if s, _ := led.ServerOf(p); errors.Is(err, errPresent) && (s != l.server || led.ResumedSince(p, l.resumptions)) {
		err = nil // it was another server that did not have it, or it was resumed meanwhile
	}
	if err == nil {
		l.follow(p)
	}
	return err
}

// cause is why the request's playback has to be resumed.
func (l *Lease) cause(missing bool) cluster.Cause {
	switch {
	case l.interrupted:
		return cluster.LostServer
	case missing:
		return cluster.LostSession
	case l.takenBack:
		return cluster.Hung
	case l.held:
		return cluster.Refused
	}
	return cluster.LostServer
}

// follow has the request go where its playback is now.
func (l *Lease) follow(p *cluster.Playback) {
	s, _ := l.app.state.ledger.ServerOf(p)
	l.hold.Server = s
	l.tried = slices.DeleteFunc(l.tried, func(t *cluster.Server) bool { return t == s })
	l.labels.correct(l.hold.Server, cluster.Resumed)
}

// ends reports whether the request ends its playback.
func (l *Lease) ends() bool { return l.request.Kind == plex.Stop || l.request.Stopped }

// startOver makes room for another answer.
func (l *Lease) startOver() {
	l.answer = answer{first: l.first}
	l.putBack(l.before)
	l.server, l.attempts = nil, 0
}

// giveUp answers a request whose playback could not be resumed.
func (h *Handler) giveUp(l *Lease, err error) error {
	switch {
	case l.held && l.status == http.StatusNotFound && (errors.Is(err, errPresent) || errors.Is(err, errOver)):
		return nil // the server's own word stands
	case errors.Is(err, context.Canceled):
		l.held = false
		l.status = statusClientClosed
		l.ResponseWriter.WriteHeader(statusClientClosed)
		return nil
	}
	l.startOver()
	switch {
	case l.ends() && errors.Is(err, errOver) && (l.request.Kind == plex.Stop || h.app.Mode == ModeReplicated) && l.mayEnd():
		// It ends with its server, or is stopped there later; the watch state
		// is the primary's, which gets its copy.
		h.app.state.ledger.LeaveBehind(&l.hold, time.Now())
		l.server = l.hold.Server
		l.WriteHeader(http.StatusOK)
		return nil
	case errors.Is(err, errLost), errors.Is(err, errOver):
		if l.request.Kind == plex.Timeline && !l.request.Stopped {
			l.server = l.hold.Server
			return l.terminate()
		}
		// What players take for the end [P §10.23].
		return caddyhttp.Error(http.StatusNotFound, err)
	}
	l.Header().Set("Retry-After", retryAfter)
	return caddyhttp.Error(http.StatusServiceUnavailable, err)
}

// mayEnd reports whether a request may end its playback while no server is there
// to say whether it is let in.
func (l *Lease) mayEnd() bool {
	p := l.hold.Playback()
	if p == nil {
		return true
	}
	is, known := l.owner(p)
	return is || !known
}

// terminate tells a player that its playback is over, as a server does that was
// told to end it [P §3.6].
func (l *Lease) terminate() error {
	l.Header().Set("Content-Type", "text/xml;charset=utf-8")
	l.WriteHeader(http.StatusOK)
	_, err := l.Write([]byte(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" +
		`<MediaContainer size="0" terminationCode="2006" terminationText="The server that was playing this is gone."></MediaContainer>` + "\n"))
	return err
}
