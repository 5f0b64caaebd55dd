package plexlb

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// What can be wrong with a server that nobody notices: it plays on, only worse,
// or we know less of it than we think. Words of a fixed set, for labels.
const (
	// GPUFallback says that video is transcoded in software on a server that
	// has a GPU.
	GPUFallback = "gpu_fallback"

	// SlowTranscode says that a video transcode is slower than real time.
	SlowTranscode = "slow_transcode"

	// PollStale says that the server's sessions could not be read for long.
	PollStale = "poll_stale"

	// TokenRejected says that the server does not take the token.
	TokenRejected = "token_rejected"

	// IdentityChanged says that another server answers at the address.
	IdentityChanged = "identity_changed"

	// Shunned says that starts of several items and clients failed there.
	Shunned = "shunned"

	// AllFull says that this server and every other that could take a
	// playback is at its limit.
	AllFull = "all_full"
)

var degradations = []string{GPUFallback, SlowTranscode, PollStale, TokenRejected, IdentityChanged, Shunned, AllFull}

// Degradation is something that is quietly wrong with a server.
type Degradation struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Detail string    `json:"detail"`
}

const (
	// A degradation is over when nothing spoke for it for this long, or for
	// two readings if that is longer.
	calm = 10 * time.Second

	// Readings are stale after three intervals, or this if it is longer.
	staleAfter = 30 * time.Second

	// An encoder is not judged by its speed before this.
	runUp = 10 * time.Second

	// After a reload Caddy takes all servers for healthy until it has looked.
	// A server that was down before and of which nothing is heard is up after
	// this.
	doubt = time.Minute
)

// troubles are what is known to be wrong, by server address. They live through
// reloads, so that nothing is told twice.
type troubles struct {
	mu sync.Mutex
	by map[string]*trouble

	// That all servers are full is a state of them together, told once for
	// all; names are those of the servers when it began.
	full      findings
	fullNames string
}

// trouble is what is known to be wrong with one server.
type trouble struct {
	// Caddy's word on its health, and the app that has heard it.
	unhealthy bool
	heardBy   *App
	doubtful  time.Time // since when that app does not run any more

	down      bool      // as it was told
	downSince time.Time // or last seen to be
	maybeUp   time.Time
	drained   bool
	readSince time.Time // when somebody began to read it; zero: nobody does

	encoders encoders
	said     map[string]string // by the latest reading: detail by reason
	found    findings
}

// findings are degradations that were told, by reason.
type findings map[string]*finding

// finding is a degradation that was told.
type finding struct {
	since, last time.Time
	detail      string
}

// at returns the trouble of an address. To be called with the mutex held.
func (t *troubles) at(address string) *trouble {
	one := t.by[address]
	if one == nil {
		one = &trouble{said: make(map[string]string), found: make(findings)}
		if t.by == nil {
			t.by = make(map[string]*trouble)
		}
		t.by[address] = one
	}
	return one
}

// of returns whether a server is down, and what is quietly wrong with it.
func (t *troubles) of(address string) (down bool, found []Degradation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.by[address]
	if one == nil {
		return false, nil
	}
	for _, reason := range degradations {
		if f := one.found[reason]; f != nil {
			found = append(found, Degradation{reason, utc(f.since), f.detail})
		}
	}
	return one.down, found
}

// heard takes in Caddy's word on the health of an upstream.
func (t *troubles) heard(a *App, address string, healthy bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.at(address)
	one.unhealthy, one.heardBy, one.doubtful = !healthy, a, time.Time{}
}

// unread takes in that a reading failed.
func (t *troubles) unread(address, failure string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.at(address)
	switch failure {
	case "unauthorized":
		one.said[TokenRejected] = "the server does not know the token"
	case "forbidden":
		one.said[TokenRejected] = "the token is not the owner's"
	case otherServer:
		one.said[IdentityChanged] = "another server than the configured one answers"
	}
}

// read takes in a good reading.
func (t *troubles) read(address string, list []plex.Transcode, changed bool, every time.Duration, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.at(address)
	clear(one.said) // the token and the identity were good
	if changed {
		one.said[IdentityChanged] = "the server has another identity than when the config was loaded"
	}
	one.encoders.read(list, every, now, one.said)
}

// encoders are a server's video transcodes as readings show them.
type encoders struct {
	hardware bool // was in use once
	by       map[string]encoder
}

// encoder is one video transcode.
type encoder struct {
	first    time.Time // when it was first seen
	software int       // readings in a row that show it in software
	slow     int       // and that show it slow
	slowFrom time.Time
}

// read takes in a reading, and says what is wrong.
func (e *encoders) read(list []plex.Transcode, every time.Duration, now time.Time, said map[string]string) {
	wanted := e.hardware
	for _, t := range list {
		if t.HwEncoding != "" || t.HwDecoding != "" || t.HwFullPipeline {
			e.hardware = true
		}
		// Copies say that they want it as well [P §10.1].
		wanted = wanted || e.hardware || t.Work() == plex.CPU && t.HwRequested
	}
	old := e.by
	e.by = make(map[string]encoder)
	software, slow, slowest := 0, 0, 1.0
	for _, t := range list {
		work := t.Work()
		if t.ID == "" || work != plex.CPU && work != plex.GPU {
			continue
		}
		one, known := old[t.ID]
		if !known {
			one.first = now
		}
		if work == plex.CPU && wanted {
			one.software++
		} else {
			one.software = 0
		}
		switch live := t.Progress < 0; {
		case t.Throttled, t.Speed >= 1, live, t.Context == "static", now.Sub(one.first) < runUp:
			// Live TV comes at real time, and nobody waits for a download.
			one.slow = 0
		default:
			if one.slow++; one.slow == 1 {
				one.slowFrom = now
			}
		}
		if one.software >= 2 {
			software++
		}
		// Events bring readings close together.
		if one.slow >= 2 && now.Sub(one.slowFrom) >= every-every/4 {
			slow++
			slowest = min(slowest, t.Speed)
		}
		e.by[t.ID] = one
	}
	if software > 0 {
		said[GPUFallback] = fmt.Sprintf("video transcodes in software: %d", software)
	}
	if slow > 0 {
		said[SlowTranscode] = fmt.Sprintf("video transcodes slower than real time: %d, the slowest at %.1f", slow, slowest)
	}
}

// change is news of a server's health.
type change struct {
	server string
	event  string
	finding
	reason string
	begins bool
}

// update brings a finding up to date, and reports whether that is news.
func (all findings) update(reason, detail string, now time.Time, calm time.Duration) (c change, news bool) {
	f := all[reason]
	switch {
	case detail != "" && f == nil:
		f = &finding{since: now, last: now, detail: detail}
		all[reason] = f
		return change{event: serverDegradedEvent, reason: reason, finding: *f, begins: true}, true
	case detail != "":
		f.last, f.detail = now, detail
	case f != nil && now.Sub(f.last) >= calm:
		delete(all, reason)
		return change{event: serverDegradedEvent, reason: reason, finding: *f}, true
	}
	return c, false
}

// health brings up and down up to date. Caddy's word counts, which active health
// checks give. Until there is one, a server is down that was not available when
// last part of a choice, and up when it has been read since, or has been
// available for a while.
func (t *trouble) health(leader *App, v *cluster.ServerView, now time.Time) (news bool) {
	if t.unhealthy && t.heardBy != leader {
		if t.doubtful.IsZero() {
			t.doubtful = now
		}
		if v.Picture.Good.After(t.doubtful) || now.Sub(t.doubtful) > doubt {
			t.unhealthy = false
		}
	}
	answers := !v.Picture.Tried.IsZero() && v.Picture.Failure == ""
	passed := v.Down && !answers && t.heardBy != leader
	switch {
	case t.unhealthy || passed:
		t.maybeUp, t.downSince = time.Time{}, now
		news, t.down = !t.down, true
	case !t.down:
	case t.heardBy == leader, answers && v.Picture.Good.After(t.downSince):
		news, t.down = true, false
	case t.maybeUp.IsZero():
		t.maybeUp = now
	case now.Sub(t.maybeUp) >= calm:
		news, t.down = true, false
	}
	return news
}

// lookAtServers brings all that is known of the servers' health up to date, and
// tells what is new. To be called once a second.
func (a *App) lookAtServers(now time.Time) {
	if !a.state.leads(a) {
		return // another app does
	}
	led := a.state.ledger
	views := led.View(now)
	var census map[string]cluster.Census
	if slices.ContainsFunc(views, func(v cluster.ServerView) bool { return v.Draining }) {
		census = led.Census()
	}
	read := make(map[string]bool, len(views))
	for _, s := range led.Servers().List() {
		read[s.Address()] = a.reader(s) != nil
	}
	for _, c := range a.state.troubles.look(a, views, census, read, now) {
		a.tell(c, now)
	}
	a.tellMoves()
	a.state.live.show(a, now)
}

// look does the part of lookAtServers that needs the mutex.
func (t *troubles) look(a *App, views []cluster.ServerView, census map[string]cluster.Census, read map[string]bool, now time.Time) (news []change) {
	every := time.Duration(a.PollInterval)
	stale, pause := max(staleAfter, 3*every), max(calm, 2*every)
	t.mu.Lock()
	defer t.mu.Unlock()

	full := func(v *cluster.ServerView) bool {
		return v.MaxTranscodes > 0 && v.Jobs[cluster.GPU]+v.Jobs[cluster.CPU] >= v.MaxTranscodes
	}
	known := make(map[string]bool, len(views))
	allFull, usable := true, 0
	for i := range views {
		v := &views[i]
		known[v.Address] = true
		one := t.at(v.Address)
		if one.health(a, v, now) {
			event := serverUpEvent
			if one.down {
				event = serverDownEvent
			}
			news = append(news, change{server: v.Name, event: event})
		}
		if !one.down && !v.Draining && !v.Maintenance {
			usable++
			allFull = allFull && full(v)
		}
	}
	maps.DeleteFunc(t.by, func(address string, _ *trouble) bool { return !known[address] })

	for i := range views {
		v := &views[i]
		one := t.by[v.Address]
		c := census[v.Address]
		drained := v.Draining && c.Playbacks+c.Others == 0
		if drained && !one.drained {
			news = append(news, change{server: v.Name, event: serverDrainedEvent})
		}
		one.drained = drained

		if !read[v.Address] {
			clear(one.said) // nobody would take it back
		}
		said := maps.Clone(one.said)
		switch {
		case !read[v.Address]:
			one.readSince = time.Time{}
		case one.readSince.IsZero():
			one.readSince = now
		default:
			last := one.readSince
			if v.Picture.Good.After(last) {
				last = v.Picture.Good
			}
			if now.Sub(last) > stale {
				delete(said, GPUFallback) // nobody knows any more
				delete(said, SlowTranscode)
				said[PollStale] = "the sessions could not be read; the last good reading stays in force"
				if why := v.Picture.Failure; why != "" {
					said[PollStale] += " (" + why + ")"
				}
			}
		}
		if v.Shunned {
			said[Shunned] = "starts of several items and clients failed"
		}
		if allFull && usable > 0 && full(v) {
			said[AllFull] = "every server that could take a playback is at its max_transcodes"
		}
		for _, reason := range degradations {
			if c, ok := one.found.update(reason, said[reason], now, pause); ok && reason != AllFull {
				c.server = v.Name
				news = append(news, c)
			}
		}
	}
	return append(news, t.tellFull(views, now, pause)...)
}

// tellFull tells that all servers are full, or no longer, once for all.
func (t *troubles) tellFull(views []cluster.ServerView, now time.Time, pause time.Duration) []change {
	var names []string
	detail := ""
	for i := range views {
		if f := t.by[views[i].Address].found[AllFull]; f != nil {
			names, detail = append(names, views[i].Name), f.detail
		}
	}
	if t.full == nil {
		t.full = make(findings)
	}
	c, ok := t.full.update(AllFull, detail, now, 0) // each server has had its time to calm down
	if !ok {
		return nil
	}
	if c.begins {
		t.fullNames = strings.Join(names, ", ") // the same to its end
	}
	c.server = t.fullNames
	return []change{c}
}

// tell logs and emits one change.
func (a *App) tell(c change, now time.Time) {
	server := zap.String("server", c.server)
	data := map[string]any{"server": c.server}
	switch {
	case c.event == serverDownEvent:
		a.logger.Warn("server is down", server)
	case c.event == serverUpEvent:
		a.logger.Info("server is up again", server)
	case c.event == serverDrainedEvent:
		a.logger.Info("server is drained", server)
	case c.begins:
		a.logger.Warn("server is degraded", server, zap.String("reason", c.reason), zap.String("detail", c.detail))
	default:
		a.logger.Info("server is no longer degraded", server, zap.String("reason", c.reason),
			zap.Duration("lasted", now.Sub(c.since).Round(time.Second)))
	}
	if c.event == serverDegradedEvent {
		data["reason"], data["detail"], data["degraded"] = c.reason, c.detail, c.begins
	}
	a.emit(c.event, data)
}

// Degraded returns what is quietly wrong, by the names of the servers.
func (a *App) Degraded() map[string][]Degradation {
	all := make(map[string][]Degradation)
	for _, s := range a.state.ledger.Servers().List() {
		if _, found := a.state.troubles.of(s.Address()); len(found) > 0 {
			all[s.Name()] = found
		}
	}
	return all
}
