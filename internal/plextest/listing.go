package plextest

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// serveSessions answers the owner's questions about sessions [P §1, §2].
func (s *Server) serveSessions(a *ask) {
	if !s.admin(a) {
		return
	}
	switch {
	case a.is("status", "sessions"):
		a.answer(s.statusSessions())
	case a.is("status", "sessions", "background"):
		a.answer(s.backgroundSessions())
	case a.is("status", "sessions", "terminate"):
		s.terminate(a)
	case a.is("transcode", "sessions"):
		a.answer(s.transcodeSessions(""))
	case a.is("transcode", "sessions", "*"):
		id := a.parts[2]
		if a.r.Method == http.MethodDelete { // [P §2]
			now := time.Now()
			s.mu.Lock()
			j := s.live(id, now)
			if j != nil {
				s.endJob(j, now)
			}
			s.mu.Unlock()
			if j == nil {
				a.page(http.StatusNotFound, "Not Found")
				return
			}
			a.w.WriteHeader(http.StatusNoContent)
			return
		}
		doc := s.transcodeSessions(id)
		if len(doc.kids) == 0 {
			a.page(http.StatusNotFound, "Not Found")
			return
		}
		a.answer(doc)
	default:
		a.page(http.StatusNotFound, "Not Found")
	}
}

// statusSessions is what has a player, some time after it began [P §1.8]. An
// empty list has no member Metadata [P §1.2].
func (s *Server) statusSessions() *element {
	now := time.Now()
	c := container(0)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(now)
	for _, key := range slices.Sorted(maps.Keys(s.rows)) {
		if r := s.rows[key]; now.Sub(r.since) >= s.cfg.Lag {
			c.add(s.describeRow(r, now))
		}
	}
	return c.count()
}

func (s *Server) describeRow(r *row, now time.Time) *element {
	e := r.item.head().
		set("sessionKey", strconv.Itoa(r.key)).
		set("viewOffset", int(r.offset.Milliseconds()))

	// A transcode reports what it delivers, direct play the file [P §1.4].
	var media *element
	switch {
	case r.kind == playsTranscode && r.job != nil:
		media = r.job.media()
	default:
		media = r.item.ownMedia(true).set("selected", true)
		part := media.kids[0]
		if r.kind == playsDirect {
			part.set("decision", "directplay")
			for _, stream := range part.kids {
				stream.set("location", "direct")
			}
		}
	}

	id, name := 1, "Owner"
	if r.who == user {
		id = 2 + slices.Index(s.cfg.UserTokens, r.token)
		name = "Guest " + strconv.Itoa(id)
	}
	u := newElement("User").object().set("id", strconv.Itoa(id)).set("title", name)
	p := newElement("Player").object().
		set("address", r.address).
		setIf("device", r.device).
		setIf("machineIdentifier", r.cid). // [P §1.5]
		setIf("platform", r.platform).
		setIf("product", r.product).
		set("state", r.state).
		setIf("title", r.title).
		set("local", true).set("relayed", false).set("secure", false).
		set("userID", id) // a number here, a string there [P §1.7]
	rest := []*element{u, p}
	if sid := sessionID(r.xsi, r.cid); sid != "" && (r.decided || r.kind == playsTranscode) { // [P §1.5]
		rest = append(rest, newElement("Session").object().
			set("id", sid).set("bandwidth", 8000).set("location", "lan"))
	}
	if j := r.job; j != nil && (s.transcoding(r) || !r.ended.IsZero()) {
		rest = append(rest, s.describeJob(j, "/transcode/sessions/", now).object())
	}

	// Some versions put Media first, some last [P §1.2].
	if r.key%2 == 0 {
		return e.add(rest...).add(media)
	}
	return e.add(media).add(rest...)
}

// transcodeSessions is every encoder, downloads too, under its bare key
// [P §2]; with an id, that one.
func (s *Server) transcodeSessions(id string) *element {
	now := time.Now()
	c := container(0)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(now)
	for _, tsid := range slices.Sorted(maps.Keys(s.jobs)) {
		if id == "" || id == tsid {
			c.add(s.describeJob(s.jobs[tsid], "", now))
		}
	}
	return c.count()
}

// backgroundSessions is the optimizer's work [P §1.6].
func (s *Server) backgroundSessions() *element {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := container(0)
	for _, id := range s.optimizer {
		c.add(newElement("TranscodeJob").
			set("key", "/status/sessions/background/"+id).set("type", "media.optimize").
			set("title", "Optimizing").set("ratingKey", s.longestFilm().ratingKey).
			set("progress", 12.5).set("speed", 4.0).set("remaining", 600))
	}
	return c.count()
}

// describeJob is a TranscodeSession [P §1.6]. The lock is held.
func (s *Server) describeJob(j *job, prefix string, now time.Time) *element {
	s.advance(j, now)
	whole := j.item.Duration
	progress := 100 * float64(j.made) / float64(whole)
	speed := s.speed(j)
	throttled := s.throttled(j)
	begun := now.After(j.at) || j.made > j.from
	unsettled := s.unsettled(j, now)
	switch {
	case unsettled || !begun:
		progress, speed, throttled = 0, 0, false
	case throttled || j.complete:
		speed = 0
	}
	context := "streaming"
	if j.static {
		context = "static"
	}
	e := newElement("TranscodeSession").
		set("key", prefix+j.tsid).
		set("throttled", throttled).
		set("complete", j.complete).
		set("progress", float64(float32(progress))).
		set("size", -22).
		set("speed", float64(float32(speed))).
		set("error", false).
		set("duration", int(whole.Milliseconds()))
	if speed > 0 {
		e.set("remaining", int((whole-j.made).Seconds()/speed))
	}
	e.set("context", context)
	if j.video != "" {
		e.set("sourceVideoCodec", j.item.Codec)
	}
	e.set("sourceAudioCodec", j.item.sourceAudio()).
		setIf("videoDecision", j.video).
		set("audioDecision", j.audio).
		setIf("subtitleDecision", j.subtitle).
		set("protocol", j.protocol).
		set("container", j.container)
	if j.video != "" {
		e.set("videoCodec", "h264")
	}
	e.set("audioCodec", j.audioCodec()).set("audioChannels", 2)
	if j.video != "" {
		e.set("width", 1920).set("height", 1080)
	}
	s.describeHardware(e, j, unsettled)
	return e.
		set("timeStamp", float64(j.started.UnixMicro())/1e6).
		set("maxOffsetAvailable", j.made.Seconds()).
		set("minOffsetAvailable", j.from.Seconds())
}

// Interfaces and titles by maker of the GPU [P §1.6].
var gpus = map[string]struct{ decoder, decoderTitle, encoder, encoderTitle, vendor string }{
	"nvidia": {"nvdec", "NVIDIA (NVDEC)", "nvenc", "NVIDIA (NVENC)", "NVIDIA ()"},
	"vaapi":  {"vaapi", "Intel (VA API)", "vaapi", "Intel (VA API)", "Intel ()"},
	"qsv":    {"dxva2", "Windows (DXVA2)", "qsv", "Intel (QuickSync)", "Intel ()"},
	"mf":     {"", "", "mf", "Windows (Media Foundation)", "Windows ()"},
}

// describeHardware tells the truth about the GPU in the end only, and
// transcodeHwRequested never does [P §1.6].
func (s *Server) describeHardware(e *element, j *job, unsettled bool) {
	g := gpus[s.cfg.GPU]
	switch {
	case j.kind() == "copy":
		e.set("transcodeHwRequested", s.hardware())
	case unsettled:
		e.set("transcodeHwRequested", false).
			set("transcodeHwDecodingTitle", g.vendor).
			set("transcodeHwEncodingTitle", g.vendor)
	case j.kind() == "cpu":
		e.set("transcodeHwRequested", s.hardware()).
			set("transcodeHwDecodingTitle", "").
			set("transcodeHwEncoding", "").
			set("transcodeHwEncodingTitle", "")
	default:
		e.set("transcodeHwRequested", true).
			setIf("transcodeHwDecoding", g.decoder).
			set("transcodeHwEncoding", g.encoder).
			setIf("transcodeHwDecodingTitle", g.decoderTitle).
			set("transcodeHwEncodingTitle", g.encoderTitle)
		if g.decoder != "" {
			e.set("transcodeHwFullPipeline", g.decoder != "dxva2")
		}
	}
}
