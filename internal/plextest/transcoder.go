package plextest

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// job is one transcode: an encoder, and what it has made so far.
type job struct {
	plan
	tsid, cid, xsi string
	row            *row // nil without a player
	static         bool // a download: no player, no throttling
	kept           bool // a viewer outside the test watches, always at now
	gpu            bool

	started time.Time
	touched time.Time // last segment or ping
	open    int       // answers in progress
	fetched int       // segments served
	offset  time.Duration
	gone    chan struct{} // closed at the end

	// The encoder is arithmetic: at the moment at it had made everything
	// between from and made, for a viewer at playhead.
	at                   time.Time
	from, made, playhead time.Duration
	complete             bool // all made, encoder gone [P §1.6]

	phase phase // as last told to listeners
}

// Kind is what a transcode costs: gpu, cpu or copy.
func (j *job) kind() string {
	switch {
	case j.video != "transcode":
		return "copy"
	case j.gpu:
		return "gpu"
	}
	return "cpu"
}

func (s *Server) speed(j *job) float64 {
	switch j.kind() {
	case "copy":
		return s.cfg.Speed * 3
	case "cpu":
		return s.cfg.Speed / 4
	}
	return s.cfg.Speed
}

// advance lets the encoder work until now. It runs at full speed until it is
// far enough ahead of the viewer, then stops [P §8.3].
func (s *Server) advance(j *job, now time.Time) {
	if j.kept {
		j.touched = now
		j.playhead = min(j.item.Duration, j.offset+now.Sub(j.started))
	}
	worked := now.Sub(j.at)
	if worked <= 0 || j.complete {
		return
	}
	j.at = now
	goal := j.item.Duration
	if !j.static {
		goal = min(goal, j.playhead+s.cfg.ThrottleAhead)
	}
	j.made = max(j.made, min(goal, j.made+time.Duration(float64(worked)*s.speed(j))))
	j.complete = j.made >= j.item.Duration && !j.kept
}

func (s *Server) throttled(j *job) bool {
	return !j.complete && !j.static && j.made >= j.playhead+s.cfg.ThrottleAhead
}

// unsettled is the first moment of a GPU transcode, in which it reports
// nothing [P §1.6].
func (s *Server) unsettled(j *job, now time.Time) bool {
	return j.kind() == "gpu" && now.Sub(j.started) < s.cfg.Unsettled
}

// position moves the viewer to segment n. Far from what there is, the encoder
// starts again there, under the same name [P §4.2].
func (s *Server) position(j *job, n int, now time.Time) {
	s.advance(j, now)
	at := time.Duration(n) * s.cfg.SegmentDuration
	j.playhead = at
	if at < j.from || at > j.made+10*s.cfg.SegmentDuration {
		if j.complete {
			j.complete = false
			j.gpu = s.freeGPU()
		}
		j.from, j.made, j.at = at, at, now.Add(s.cfg.Startup)
	}
}

// ready returns how long segment n takes; false if this encoder will not make
// it.
func (s *Server) ready(j *job, n int, now time.Time) (time.Duration, bool) {
	s.advance(j, now)
	begin := time.Duration(n) * s.cfg.SegmentDuration
	end := min(begin+s.cfg.SegmentDuration, j.item.Duration)
	if begin < j.from || begin > j.playhead+s.cfg.ThrottleAhead {
		return 0, false
	}
	if j.made >= end {
		return 0, true
	}
	return max(0, j.at.Sub(now)) + time.Duration(float64(end-j.made)/s.speed(j)) + time.Millisecond, true
}

// freeGPU reports whether a hardware encoder can be opened [P §8.2]. The lock
// is held.
func (s *Server) freeGPU() bool {
	if !s.hardware() {
		return false
	}
	busy := 0
	for _, j := range s.jobs {
		if j.kind() == "gpu" && !j.complete {
			busy++
		}
	}
	return s.cfg.GPULimit == 0 || busy < s.cfg.GPULimit
}

// launch starts an encoder. One of the same name is replaced [P §4.5]. The
// lock is held.
func (s *Server) launch(j *job, now time.Time) {
	if old := s.jobs[j.tsid]; old != nil {
		s.endJob(old, now)
		if old.row != nil && old.row != j.row {
			s.endRow(old.row, now)
		}
	}
	j.started, j.touched = now, now
	j.at = now.Add(s.cfg.Startup)
	j.from, j.made, j.playhead = j.offset, j.offset, j.offset
	j.gone = make(chan struct{})
	j.gpu = j.video == "transcode" && s.freeGPU()
	j.phase = s.phase(j, now)
	s.jobs[j.tsid] = j
	s.tellJob("transcodeSession.start", j, now)
}

// endJob kills an encoder. The lock is held.
func (s *Server) endJob(j *job, now time.Time) {
	select {
	case <-j.gone:
		return
	default:
	}
	close(j.gone)
	if s.jobs[j.tsid] == j {
		delete(s.jobs, j.tsid)
	}
	s.tellJob("transcodeSession.end", j, now)
}

// live finds the transcode of this name, unless its time has come [P §4.3].
// The lock is held.
func (s *Server) live(tsid string, now time.Time) *job {
	j := s.jobs[tsid]
	if j != nil && s.due(j, now) {
		s.endJob(j, now)
		return nil
	}
	return j
}

func (s *Server) due(j *job, now time.Time) bool {
	return !j.kept && j.open == 0 && now.Sub(j.touched) >= s.cfg.Reap && (!j.static || j.complete)
}

func isStart(name string) bool {
	return name == "start" || strings.HasPrefix(name, "start.")
}

// serveUniversal is the transcoder's control side [P §3.1].
func (s *Server) serveUniversal(a *ask) {
	switch name := a.parts[4]; {
	case len(a.parts) != 5:
		a.page(http.StatusNotFound, "Not Found")
	case name == "decision":
		s.serveDecision(a)
	case isStart(name):
		s.serveStart(a)
	case name == "ping":
		s.withJob(a, func(j *job, now time.Time) int {
			s.touch(j, now)
			return http.StatusOK
		})
	case name == "stop":
		s.withJob(a, func(j *job, now time.Time) int {
			s.endJob(j, now)
			return http.StatusOK
		})
	case name == "fallback": // [P §1.6]
		s.withJob(a, func(j *job, now time.Time) int {
			if j.kind() != "gpu" {
				return http.StatusPreconditionFailed
			}
			j.gpu = false
			s.tellJob("transcodeSession.update", j, now)
			return http.StatusOK
		})
	case name == "subtitles":
		s.withJob(a, func(j *job, now time.Time) int {
			s.touch(j, now)
			a.w.Header().Set("Content-Type", "text/vtt")
			_, _ = fmt.Fprintf(a.w, "WEBVTT\n\nNOTE %s\n", Body{Server: s.cfg.Name, Session: j.tsid, Rep: "subtitles",
				Item: j.item.ratingKey, Audio: j.choice.audio, Subtitle: j.choice.subtitle})
			return 0
		})
	default:
		a.page(http.StatusNotFound, "Not Found")
	}
}

// withJob does something to the transcode a request names. Unknown ones are
// 404 and harmless [P §4.1].
func (s *Server) withJob(a *ask, do func(*job, time.Time) int) {
	now := time.Now()
	s.mu.Lock()
	status := http.StatusNotFound
	if j := s.live(a.tsid(), now); j != nil {
		status = do(j, now)
	}
	s.mu.Unlock()
	switch status {
	case 0:
	case http.StatusOK:
		a.w.WriteHeader(status)
	default:
		a.page(status, http.StatusText(status))
	}
}

// touch keeps a transcode and its row alive. The lock is held.
func (s *Server) touch(j *job, now time.Time) {
	j.touched = now
	if j.row != nil {
		j.row.seen = now
	}
}

// serveStart launches a transcode and answers with its manifest, or with the
// stream itself. A session nobody here knows is simply made [P §4.5].
func (s *Server) serveStart(a *ask) {
	if malformed(a) {
		a.page(http.StatusBadRequest, "Bad Request")
		return
	}
	_, ext, _ := strings.Cut(a.parts[4], ".")
	protocol := map[string]string{"m3u8": "hls", "mpd": "dash", "": cmp.Or(a.query("protocol"), "http")}[ext]
	if protocol == "" {
		protocol = "http"
	}
	now := time.Now()
	s.mu.Lock()
	s.sweepNowAndThen(now)
	p := s.plan(a, protocol)
	if p.refused() {
		s.mu.Unlock()
		switch {
		case p.item == nil:
			a.page(http.StatusNotFound, "Not Found")
		case p.video == "": // no profile
			a.page(http.StatusBadRequest, "Bad Request")
		default: // too much to do [P §8.4]
			a.page(http.StatusInternalServerError, "Internal Server Error")
		}
		return
	}
	if p.direct { // asked for a transcode all the same
		p.direct, p.audio = false, "transcode"
		p.container = map[string]string{"dash": "mp4", "hls": "mpegts", "http": "mkv"}[protocol]
		if !p.audioOnly {
			p.video = "copy"
		}
	}
	j := &job{
		plan:   p,
		tsid:   cmp.Or(a.query("session"), newUUID()), // [P §3.1]
		cid:    a.cid,
		xsi:    a.xsi,
		static: a.query("context") == "static" || a.query("offlineTranscode") == "1",
	}
	if seconds, ok := a.number("offset"); ok && seconds > 0 {
		j.offset = min(p.item.Duration, time.Duration(seconds*1000+0.5)*time.Millisecond)
	}
	var began *row
	if !j.static {
		began = s.begin(a, p.item, now)
		if old := began.job; old != nil {
			s.endJob(old, now)
		}
		began.kind, began.job = playsTranscode, j
		j.row = began
	}
	s.launch(j, now)
	if began != nil {
		s.tellRow(began)
	}
	s.mu.Unlock()

	switch protocol {
	case "hls":
		a.text(http.StatusOK, "application/vnd.apple.mpegurl", s.master(j))
	case "dash":
		a.text(http.StatusOK, "application/dash+xml", s.mpd(j))
	default:
		s.serveStream(a, j)
	}
}

// body says what a segment of this transcode is.
func (s *Server) body(j *job, rep string, n int) Body {
	return Body{Server: s.cfg.Name, Session: j.tsid, Rep: rep, Number: n, Item: j.item.ratingKey,
		Audio: j.choice.audio, Subtitle: j.choice.subtitle, Quality: j.quality}
}

// master is the HLS playlist with one variant; its URL is relative [P §3.1].
func (s *Server) master(j *job) []byte {
	return fmt.Appendf(nil, "#EXTM3U\n## %s\n#EXT-X-STREAM-INF:PROGRAM-ID=1,BANDWIDTH=8000000,RESOLUTION=1920x1080,FRAME-RATE=24.000000\nsession/%s/base/index.m3u8\n",
		s.body(j, "master", -1), url.PathEscape(j.tsid))
}

// playlist lists every segment at once [P §3.4].
func (s *Server) playlist(j *job) []byte {
	var b strings.Builder
	length := s.cfg.SegmentDuration.Seconds()
	fmt.Fprintf(&b, "#EXTM3U\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-TARGETDURATION:%d\n#EXT-X-MEDIA-SEQUENCE:0\n", int(length+0.999))
	for n := range j.item.segments {
		fmt.Fprintf(&b, "#EXTINF:%.6f,\n%05d.ts\n", length, n)
	}
	b.WriteString("#EXT-X-ENDLIST\n")
	return []byte(b.String())
}

// mpd is a static manifest for the whole duration, numbers from 0, video and
// audio apart [P §3.4].
func (s *Server) mpd(j *job) []byte {
	var b strings.Builder
	d := j.item.Duration
	length := fmt.Sprintf("PT%dH%dM%.3fS", int(d.Hours()), int(d.Minutes())%60, (d % time.Minute).Seconds())
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="utf-8"?>
<!-- %s -->
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static" mediaPresentationDuration="%s" minBufferTime="PT10S">
<Period start="PT0S" id="0" duration="%s">
`, s.body(j, "mpd", -1), length, length)
	session := "session/" + url.PathEscape(j.tsid) + "/$RepresentationID$/"
	for id, mime := range []string{"video/mp4", "audio/mp4"} {
		if id == 0 && j.audioOnly {
			continue
		}
		fmt.Fprintf(&b, `<AdaptationSet segmentAlignment="true">
<SegmentTemplate timescale="1000" duration="%d" initialization="%sheader" media="%s$Number$.m4s" startNumber="0"/>
<Representation id="%d" mimeType="%s"%s bandwidth="8000000"/>
</AdaptationSet>
`, s.cfg.SegmentDuration.Milliseconds(), session, session, id, mime, s.codecs(strconv.Itoa(id)))
	}
	b.WriteString("</Period>\n</MPD>\n")
	return []byte(b.String())
}

// serveSegment serves what playlists and manifests point to. It needs no
// token: whoever knows the session may have its segments [P §3.1]. It never
// makes a session [P §4.1].
func (s *Server) serveSegment(a *ask) {
	rep, name := a.parts[6], ""
	switch len(a.parts) {
	case 8:
		name = a.parts[7]
	default:
		a.page(http.StatusNotFound, "Not Found")
		return
	}
	n, contentType := -1, "video/mp4"
	switch base, ext, _ := strings.Cut(name, "."); {
	case name == "index.m3u8":
	case name == "header", name == "initial.mp4":
	case ext == "ts" || ext == "m4s" || ext == "vtt":
		number, err := strconv.Atoi(base)
		if err != nil || number < 0 {
			a.page(http.StatusNotFound, "Not Found")
			return
		}
		n = number
		contentType = map[string]string{"ts": "video/mp2t", "m4s": "video/mp4", "vtt": "text/vtt"}[ext]
	default:
		a.page(http.StatusNotFound, "Not Found")
		return
	}

	life := s.lifetime()
	var positioned *job
	for {
		now := time.Now()
		s.mu.Lock()
		j := s.live(a.parts[5], now)
		if j == nil || n >= j.item.segments || s.beforeOffset(j, n) {
			s.mu.Unlock()
			a.page(http.StatusNotFound, "Not Found")
			return
		}
		s.touch(j, now)
		if name == "index.m3u8" {
			s.mu.Unlock()
			a.text(http.StatusOK, "application/vnd.apple.mpegurl", s.playlist(j))
			return
		}
		if n >= 0 && j != positioned {
			s.position(j, n, now)
			positioned = j
		}
		left, ok := time.Duration(0), true
		if n >= 0 {
			left, ok = s.ready(j, n, now)
		} else if j.made == j.from { // the header comes with the encoder's first work
			left = max(0, j.at.Sub(now))
		}
		if !ok { // a seek has overtaken this request [P §4.1]
			s.mu.Unlock()
			a.text(http.StatusOK, contentType, nil)
			return
		}
		if left <= 0 {
			if n >= 0 {
				j.fetched++
			}
			s.mu.Unlock()
			a.text(http.StatusOK, contentType, s.content(j, rep, n))
			return
		}
		j.open++
		s.mu.Unlock()

		// Held until there is something to send [P §4.1].
		t := time.NewTimer(left)
		left = 0
		select {
		case <-t.C:
		case <-j.gone:
		case <-a.r.Context().Done():
			left = -1
		case <-life.Done():
			left = -1
		}
		t.Stop()
		s.mu.Lock()
		j.open--
		s.mu.Unlock()
		if left < 0 {
			panic(http.ErrAbortHandler)
		}
	}
}

// beforeOffset reports whether this is segment 0 of a transcode that began
// shortly after it: 404 although the session lives [P §4.2].
func (s *Server) beforeOffset(j *job, n int) bool {
	return n == 0 && j.fetched == 0 && j.offset > 0 && j.offset <= 12*time.Second
}

// serveStream is the protocol http: one long answer, written as it is encoded
// and as the viewer needs it. The connection is the playback [P §3.4].
func (s *Server) serveStream(a *ask, j *job) {
	a.w.Header().Set("Content-Type", map[string]string{"mp3": "audio/mpeg"}[j.container])
	if j.container != "mp3" {
		a.w.Header().Set("Content-Type", "video/x-matroska")
	}
	a.w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(a.w)
	life := s.lifetime()

	s.mu.Lock()
	j.open++
	s.mu.Unlock()
	defer func() {
		now := time.Now()
		s.mu.Lock()
		j.open--
		s.touch(j, now)
		s.mu.Unlock()
	}()

	const burst = 5 // segments given at once
	begin := time.Now()
	start := int(j.offset / s.cfg.SegmentDuration)
	for n := start; n < j.item.segments; n++ {
		for {
			now := time.Now()
			s.mu.Lock()
			s.touch(j, now)
			j.playhead = max(j.playhead, time.Duration(n)*s.cfg.SegmentDuration)
			left, _ := s.ready(j, n, now)
			s.mu.Unlock()
			left = max(left, time.Until(begin.Add(time.Duration(n-start-burst)*s.cfg.SegmentDuration)))
			if left <= 0 {
				break
			}
			t := time.NewTimer(left)
			select {
			case <-t.C:
				continue
			case <-j.gone:
			case <-a.r.Context().Done():
			case <-life.Done():
			}
			t.Stop()
			panic(http.ErrAbortHandler)
		}
		select {
		case <-j.gone:
			panic(http.ErrAbortHandler)
		default:
		}
		if _, err := a.w.Write(s.body(j, "stream", n).bytes(s.cfg.SegmentSize)); err != nil {
			return
		}
		_ = out.Flush()
	}
}

// Job is one transcode, as it really is.
type Job struct {
	TSID     string
	CID      string
	XSI      string
	Item     string // ratingKey
	Kind     string // gpu, cpu or copy
	Protocol string
	Started  time.Time
	Complete bool // all made, encoder gone
	Static   bool // a download
	Segments int  // served so far
}

// Jobs returns the transcodes there are, oldest first.
func (s *Server) Jobs() []Job {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(now)
	out := make([]Job, 0, len(s.jobs))
	for _, j := range s.jobs {
		out = append(out, Job{TSID: j.tsid, CID: j.cid, XSI: j.xsi, Item: j.item.ratingKey, Kind: j.kind(),
			Protocol: j.protocol, Started: j.started, Complete: j.complete, Static: j.static, Segments: j.fetched})
	}
	slices.SortFunc(out, func(x, y Job) int {
		return cmp.Or(x.Started.Compare(y.Started), cmp.Compare(x.TSID, y.TSID))
	})
	return out
}
