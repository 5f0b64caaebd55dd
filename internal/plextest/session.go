package plextest

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"
)

// row is one entry of now playing.
type row struct {
	key      int // sessionKey [P §1.3]
	cid, xsi string
	item     *item
	kind     string
	who      access
	token    string
	product  string
	platform string
	device   string
	title    string
	address  string
	queue    string // playQueueItemID
	state    string
	offset   time.Duration
	decided  bool // there was a decision, so there is a Session [P §1.5]
	kept     bool
	job      *job

	since time.Time
	seen  time.Time // last sign of the viewer
	open  int       // answers in progress
	ended time.Time // zero while it plays
}

// Kinds of rows.
const (
	playsTranscode = "transcode"
	playsDirect    = "direct"
	playsTimeline  = "timeline" // nothing but timelines [P §3.6]
)

// forget is a new process's empty memory. The lock is held, or nobody else is
// there yet.
func (s *Server) forget() {
	s.rows = make(map[int]*row)
	s.byClient = make(map[string][]*row)
	s.jobs = make(map[string]*job)
	s.decisions = make(map[string]decision)
	s.ended = make(map[string]string)
	s.transient = make(map[string]access)
	s.optimizer = nil
	s.lastKey = 0 // [P §1.3]
	s.swept = time.Time{}
}

func (s *Server) forgetNow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		close(j.gone)
	}
	s.forget()
}

// sweepNowAndThen is sweep for requests that come by the thousand. The lock is
// held.
func (s *Server) sweepNowAndThen(now time.Time) {
	if now.Sub(s.swept) >= 50*time.Millisecond {
		s.sweep(now)
	}
}

// sweep ends what is over by now. The lock is held.
func (s *Server) sweep(now time.Time) {
	s.swept = now
	for _, j := range s.jobs {
		s.advance(j, now)
		if s.due(j, now) { // [P §4.3]
			s.endJob(j, now)
			continue
		}
		if phase := s.phase(j, now); phase != j.phase {
			j.phase = phase
			s.tellJob("transcodeSession.update", j, now)
		}
	}
	for key, r := range s.rows {
		switch {
		case !r.ended.IsZero():
			if now.Sub(r.ended) >= s.cfg.Linger {
				delete(s.rows, key)
			}
		case !r.kept && !s.transcoding(r) && r.open == 0 && now.Sub(r.seen) >= s.cfg.Reap:
			s.endRow(r, now)
		}
	}
}

// transcoding reports whether a row has a living transcode.
func (s *Server) transcoding(r *row) bool {
	return r.job != nil && s.jobs[r.job.tsid] == r.job
}

// begin is a client that starts to play an item. It plays one thing at a time:
// whatever else it played on this server ends here [P §4.4]. The same playback
// going on, with another quality say, keeps its row. The lock is held.
func (s *Server) begin(a *ask, it *item, now time.Time) *row {
	var same *row
	if a.cid == "" && a.xsi != "" {
		same = s.find(a, it)
	}
	if a.cid != "" {
		for _, r := range slices.Clone(s.byClient[a.cid]) {
			if same == nil && r.item == it && (r.xsi == a.xsi || r.kind == playsDirect && (r.xsi == "" || a.xsi == "")) {
				same = r
				continue
			}
			s.endRow(r, now)
		}
	}
	if same == nil {
		same = s.newRow(a, it, now)
	}
	same.seen = now
	_, same.decided = s.decisions[playbackKey(a)]
	return same
}

func (s *Server) newRow(a *ask, it *item, now time.Time) *row {
	s.lastKey++
	r := &row{
		key:      s.lastKey,
		cid:      a.cid,
		xsi:      a.xsi,
		item:     it,
		who:      a.who,
		token:    a.token,
		product:  a.plex("X-Plex-Product"),
		platform: a.plex("X-Plex-Platform"),
		device:   a.plex("X-Plex-Device"),
		title:    cmp.Or(a.plex("X-Plex-Device-Name"), a.plex("X-Plex-Device")),
		address:  a.address(),
		state:    "playing",
		since:    now,
		seen:     now,
	}
	s.rows[r.key] = r
	if r.cid != "" {
		s.byClient[r.cid] = append(s.byClient[r.cid], r)
	}
	return r
}

// endRow ends a playback, its transcode included. The lock is held.
func (s *Server) endRow(r *row, now time.Time) {
	if !r.ended.IsZero() {
		return
	}
	r.ended = now
	if s.transcoding(r) {
		s.endJob(r.job, now)
	}
	if others := slices.DeleteFunc(s.byClient[r.cid], func(o *row) bool { return o == r }); len(others) > 0 {
		s.byClient[r.cid] = others
	} else {
		delete(s.byClient, r.cid)
	}
	if s.cfg.Linger == 0 {
		delete(s.rows, r.key)
	}
	if r.state != "stopped" {
		r.state = "stopped"
		s.tellRow(r)
	}
}

// playDirect is a request for a file. It is a playback and ends the client's
// others [P §3.5, §4.4]. It returns what to do when the file is sent.
func (s *Server) playDirect(a *ask, it *item) (done func(), status int) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepNowAndThen(now)
	if d, ok := s.decisions[playbackKey(a)]; ok && d.item == it && !d.direct {
		return nil, http.StatusServiceUnavailable // it was decided to transcode [P §3.5]
	}
	if a.cid == "" && a.xsi == "" {
		return func() {}, http.StatusOK
	}
	before := s.lastKey
	r := s.begin(a, it, now)
	if s.transcoding(r) {
		s.endJob(r.job, now)
	}
	r.kind, r.job = playsDirect, nil
	r.open++
	if s.lastKey != before {
		s.tellRow(r)
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		r.open--
		r.seen = time.Now()
	}, http.StatusOK
}

// serveTimeline notes where a viewer is. It accepts everything: a playback
// nobody here knows gets a row of its own [P §3.6]. It does not keep a
// transcode alive [P §4.3].
func (s *Server) serveTimeline(a *ask) {
	position, _ := a.number("time")
	duration, known := a.number("duration")
	state := a.query("state")
	if state == "" || known && position > duration {
		a.page(http.StatusBadRequest, "Bad Request")
		return
	}
	it := s.item(a.query("ratingKey"))
	if it == nil {
		it = s.itemAt(a.query("key"))
	}
	offset := time.Duration(position) * time.Millisecond

	now := time.Now()
	s.mu.Lock()
	s.sweepNowAndThen(now)
	r := s.find(a, it)
	switch {
	case state == "stopped":
		if r != nil {
			r.state, r.offset = state, offset
			s.tellRow(r)
			s.endRow(r, now)
		}
		if s.cfg.StopByClient && a.cid != "" {
			for _, other := range slices.Clone(s.byClient[a.cid]) {
				s.endRow(other, now)
			}
		}
	case r == nil && it != nil && (a.cid != "" || a.xsi != ""):
		r = s.newRow(a, it, now)
		r.kind, r.state, r.offset = playsTimeline, state, offset
		s.tellRow(r)
	case r != nil:
		changed := r.state != state
		r.state, r.offset, r.seen = state, offset, now
		r.queue = a.query("playQueueItemID")
		if changed {
			s.tellRow(r)
		}
	}
	var w watched
	if it != nil {
		key := watchKey{a.token, it.ratingKey}
		w = s.watched[key]
		w.offset = offset
		s.watched[key] = w
	}
	reason, terminated := s.ended[sessionID(a.xsi, a.cid)]
	delete(s.ended, sessionID(a.xsi, a.cid))
	s.mu.Unlock()

	c := container(0).set("playbackState", "progress").set("skipCount", 0).
		set("viewCount", w.count).set("viewOffset", int(offset.Milliseconds()))
	if terminated { // how a client learns of it [P §3.6]
		c.set("terminationCode", 2006).set("terminationText", reason)
	}
	a.answer(c)
}

// find returns the playback a timeline speaks of: by its session identifier,
// or, where the client has none, what the client plays of that item. The lock
// is held.
func (s *Server) find(a *ask, it *item) *row {
	rows := s.byClient[a.cid]
	if a.cid == "" {
		rows = slices.Collect(maps.Values(s.rows))
	}
	for _, r := range rows {
		if r.ended.IsZero() && r.xsi == a.xsi && (a.xsi != "" || a.cid != "" && (it == nil || r.item == it)) {
			return r
		}
	}
	// A file fetched without identifier, a timeline with one.
	for _, r := range rows {
		if a.cid != "" && r.kind == playsDirect && (r.xsi == "" || a.xsi == "") && r.item == it {
			return r
		}
	}
	return nil
}

// sessionID is the id /status/sessions/terminate takes: the session
// identifier, for clients without one probably their own [P §1.5].
func sessionID(xsi, cid string) string { return cmp.Or(xsi, cid) }

// terminate ends a playback for the owner [P §2].
func (s *Server) terminate(a *ask) {
	id := a.query("sessionId")
	if id == "" {
		a.page(http.StatusForbidden, "Forbidden")
		return
	}
	now := time.Now()
	s.mu.Lock()
	found := false
	for _, r := range s.rows {
		if r.ended.IsZero() && sessionID(r.xsi, r.cid) == id {
			s.endRow(r, now)
			found = true
		}
	}
	if found {
		s.ended[id] = cmp.Or(a.query("reason"), "The server owner has ended this stream.")
	}
	s.mu.Unlock()
	if !found {
		a.page(http.StatusNotFound, "Not Found")
		return
	}
	a.w.WriteHeader(http.StatusOK)
}

// Playback is a row of now playing, as it really is.
type Playback struct {
	CID   string
	XSI   string
	Item  string // ratingKey
	Kind  string // transcode, direct, or timeline where there is nothing else
	State string
	TSID  string // of its living transcode
}

// Playbacks returns what plays, whether or not the session list shows it yet,
// oldest first.
func (s *Server) Playbacks() []Playback {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(time.Now())
	var out []Playback
	for _, key := range slices.Sorted(maps.Keys(s.rows)) {
		r := s.rows[key]
		if !r.ended.IsZero() {
			continue
		}
		p := Playback{CID: r.cid, XSI: r.xsi, Item: r.item.ratingKey, Kind: r.kind, State: r.state}
		if s.transcoding(r) {
			p.TSID = r.job.tsid
		}
		out = append(out, p)
	}
	return out
}

// Sending is how many answers of direct play are under way.
func (s *Server) Sending() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rows {
		n += r.open
	}
	return n
}

// AddBypass starts n video transcodes whose viewers came past the balancer and
// watch until EndBypass. It returns their transcode session ids. They are
// hardware ones as long as the GPU has room, and no limit refuses them.
func (s *Server) AddBypass(n int) []string { return s.addKept(n, false) }

// AddDownload starts n video transcodes nobody watches; only
// /transcode/sessions tells of them [P §1.6]. EndBypass ends them.
func (s *Server) AddDownload(n int) []string { return s.addKept(n, true) }

func (s *Server) addKept(n int, static bool) []string {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.longestFilm()
	ids := make([]string, n)
	for i := range ids {
		s.bypassed++
		id := fmt.Sprintf("bypass-%s-%d", s.cfg.Name, s.bypassed)
		j := &job{tsid: id, cid: id + "-client", xsi: id + "-playback", static: static, kept: true}
		j.plan = plan{item: it, protocol: "hls", container: "mpegts", video: "transcode", audio: "transcode",
			choice: s.chosen("", it), code: 1001}
		if !static {
			s.lastKey++
			j.row = &row{key: s.lastKey, cid: j.cid, xsi: j.xsi, item: it, kind: playsTranscode, who: owner,
				product: "Plex for Apple TV", platform: "tvOS", device: "AppleTV", title: "Next door", address: "127.0.0.1",
				state: "playing", decided: true, kept: true, job: j, since: now, seen: now}
			s.rows[j.row.key] = j.row
			s.byClient[j.cid] = append(s.byClient[j.cid], j.row)
		}
		s.launch(j, now)
		if j.row != nil {
			s.tellRow(j.row)
		}
		ids[i] = id
	}
	return ids
}

// longestFilm is what people watch past the balancer, so that its end does not
// end the test.
func (s *Server) longestFilm() *item {
	films := slices.DeleteFunc(slices.Clone(s.items), (*item).track)
	if len(films) == 0 {
		films = s.items
	}
	return slices.MaxFunc(films, func(x, y *item) int { return cmp.Compare(x.Duration, y.Duration) })
}

// EndBypass ends what AddBypass, AddDownload or AddOptimizer started, by id;
// without ids all of it.
func (s *Server) EndBypass(ids ...string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	all := len(ids) == 0
	for _, j := range s.jobs {
		if !j.kept || !all && !slices.Contains(ids, j.tsid) {
			continue
		}
		if j.row != nil {
			s.endRow(j.row, now)
		}
		s.endJob(j, now)
	}
	s.optimizer = slices.DeleteFunc(s.optimizer, func(id string) bool { return all || slices.Contains(ids, id) })
}

// AddOptimizer starts n jobs of the optimizer, which use the GPU and show up
// nowhere but in /status/sessions/background [P §1.6].
func (s *Server) AddOptimizer(n int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, n)
	for i := range ids {
		s.bypassed++
		ids[i] = fmt.Sprintf("optimizer-%s-%d", s.cfg.Name, s.bypassed)
	}
	s.optimizer = append(s.optimizer, ids...)
	return ids
}
