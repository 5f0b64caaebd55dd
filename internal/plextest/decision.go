package plextest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// decision is what the server remembers of a decision: parts are served by it
// [P §3.5].
type decision struct {
	item   *item
	direct bool
}

// maxDecisions bounds what is remembered of clients that never play.
const maxDecisions = 20_000

// plan is how the server would deliver an item.
type plan struct {
	item      *item
	audioOnly bool
	direct    bool // the file itself will do
	protocol  string
	container string
	video     string // copy or transcode; empty without video
	audio     string
	subtitle  string // burn, or empty
	quality   int    // kbps asked for
	choice    choice

	code int    // general decision [P §8.4]
	text string // what stands in the way of a conversion
	why  int    // its code
}

// refused reports whether nothing can be delivered: 2000 and above [P §8.4].
func (p plan) refused() bool { return p.code >= 2000 }

// malformed reports what a PMS answers 400 to, on every server alike
// [P §8.4].
func malformed(a *ask) bool {
	if a.query("path") == "" {
		return true
	}
	if a.query("directPlay") == "1" && a.query("subtitles") == "burn" {
		return true
	}
	// A profile cut at one of its own, encoded, ampersands [P §10.33].
	extra := a.plex("X-Plex-Client-Profile-Extra")
	return strings.Count(extra, "(") != strings.Count(extra, ")")
}

// plan decides for a request. The lock is held.
func (s *Server) plan(a *ask, protocol string) plan {
	p := plan{protocol: protocol, code: 1001}
	p.item = s.itemAt(a.query("path"))
	if p.item == nil {
		p.code, p.why, p.text = 2004, 2004, "Could not construct decision request"
		return p
	}
	p.audioOnly = p.item.track() || a.parts[0] == "music" || a.parts[0] == "audio"
	p.choice = s.chosen(a.token, p.item)
	for _, name := range []string{"maxVideoBitrate", "videoBitrate", "musicBitrate", "maxAudioBitrate"} {
		if v, ok := a.number(name); ok {
			p.quality = int(v)
			break
		}
	}
	if p.item.DirectPlay && a.query("directPlay") == "1" && p.quality == 0 {
		p.direct, p.code = true, 1000
		return p
	}

	switch protocol {
	case "dash":
		p.container = "mp4"
	case "hls":
		p.container = "mpegts"
	case "http":
		p.container = "mkv"
		if p.audioOnly {
			p.container = "mp3"
		}
	default:
		p.code, p.why = 2000, 4005
		p.text = "Cannot convert this item. No conversion profile found for protocol " + protocol + "."
		return p
	}
	p.audio = "transcode"
	if p.audioOnly {
		if p.item.track() && p.quality == 0 {
			p.audio = "copy"
		}
		return p
	}
	p.video = "transcode"
	if p.choice.subtitle != "0" { // what is stored is burnt in [P §3.2]
		p.subtitle = "burn"
	} else if p.item.Codec == "h264" && a.query("directStream") != "0" && p.quality == 0 {
		p.video = "copy"
	}
	if limit := int(s.transcodeLimit.Load()); p.video == "transcode" && limit > 0 && s.videoTranscodes(a.cid) >= limit {
		// Code and words are not documented, only that they speak of it [P §8.4].
		p.code, p.why = 2000, 4008
		p.text = fmt.Sprintf("Cannot convert this item. The server's limit of %d simultaneous video transcodes has been reached.", limit)
	}
	return p
}

// videoTranscodes counts the encoders of video that run for other clients than
// this one, whose next playback ends its last. The lock is held.
func (s *Server) videoTranscodes(but string) int {
	n := 0
	for _, j := range s.jobs {
		if j.video == "transcode" && !j.complete && (but == "" || j.cid != but) {
			n++
		}
	}
	return n
}

// serveDecision tells how an item would be delivered. It starts nothing, and
// refuses with status 200 [P §8.4].
func (s *Server) serveDecision(a *ask) {
	if malformed(a) {
		a.page(http.StatusBadRequest, "Bad Request")
		return
	}
	protocol := a.query("protocol")
	if protocol == "" {
		protocol = "http"
	}
	s.mu.Lock()
	s.sweepNowAndThen(time.Now())
	p := s.plan(a, protocol)
	if key := playbackKey(a); key != "" && !p.refused() {
		if len(s.decisions) >= maxDecisions {
			clear(s.decisions)
		}
		s.decisions[key] = decision{p.item, p.direct}
	}
	s.mu.Unlock()
	a.answer(p.document(a))
}

// playbackKey is how a decision is found again: by the playback, or else by
// the client.
func playbackKey(a *ask) string {
	if a.xsi != "" {
		return "x" + a.xsi
	}
	if a.cid != "" {
		return "c" + a.cid
	}
	return ""
}

func (p plan) document(a *ask) *element {
	const converts = "Direct play not available; Conversion OK."
	c := container(0).set("allowSync", "1").set("identifier", "com.plexapp.plugins.library")
	if p.direct {
		const ok = "Direct play OK."
		c.set("directPlayDecisionCode", 1000).set("directPlayDecisionText", ok).
			set("generalDecisionCode", 1000).set("generalDecisionText", ok)
		if a.query("hasMDE") == "1" {
			c.set("mdeDecisionCode", 1000).set("mdeDecisionText", ok)
		}
	} else {
		reason := "Direct play is disabled."
		if a.query("directPlay") == "1" {
			reason = "No direct play profile exists."
		}
		c.set("directPlayDecisionCode", 3000).set("directPlayDecisionText", "App cannot direct play this item. "+reason).
			set("generalDecisionCode", p.code)
		if p.refused() {
			c.set("generalDecisionText", "Neither direct play nor conversion is available.").
				set("transcodeDecisionCode", p.why).set("transcodeDecisionText", p.text)
			return c
		}
		c.set("generalDecisionText", converts).
			set("transcodeDecisionCode", 1001).set("transcodeDecisionText", converts)
	}
	c.set("resourceSession", "{"+newUUID()+"}")
	media := p.item.ownMedia(true)
	media.kids[0].set("decision", "directplay")
	if !p.direct {
		media = p.media()
	}
	return c.add(p.item.head().add(media.set("selected", true))).count()
}

// media is the delivered form, without the file it is made from [P §1.4].
func (p plan) media() *element {
	it := p.item
	ms := int(it.Duration.Milliseconds())
	bitrate := p.quality
	if bitrate == 0 {
		bitrate = 8000
	}
	location := "segments-av"
	switch p.protocol {
	case "dash":
		location = "segments-"
	case "http":
		location = "embedded"
	}
	at := func(kind string) string {
		if location == "segments-" {
			return location + kind
		}
		return location
	}
	media := newElement("Media").
		set("id", strconv.Itoa(it.media)).set("bitrate", bitrate).set("container", p.container).
		set("duration", ms).set("audioChannels", 2).set("audioCodec", p.audioCodec()).
		set("optimizedForStreaming", 1).set("protocol", p.protocol).set("selected", true)
	part := newElement("Part").
		set("id", strconv.Itoa(it.part)).set("bitrate", bitrate).set("container", p.container).
		set("decision", "transcode"). // also when all is copied [P §1.4]
		set("duration", ms).set("hasThumbnail", "1").set("optimizedForStreaming", true).
		set("protocol", p.protocol).set("selected", true)
	if p.video != "" {
		media.set("videoCodec", "h264").set("videoResolution", "1080p").set("width", 1920).set("height", 1080)
		part.add(newElement("Stream").
			set("id", strconv.Itoa(it.video())).set("streamType", 1).set("codec", "h264").
			set("decision", p.video).set("displayTitle", "4K ("+strings.ToUpper(it.Codec)+")").
			set("frameRate", float64(float32(23.976))).set("location", at("video")))
	}
	part.add(newElement("Stream").
		set("id", p.choice.audio).set("streamType", 2).set("codec", p.audioCodec()).set("channels", 2).
		set("decision", p.audio).set("selected", true).set("location", at("audio")))
	if p.subtitle != "" {
		part.add(newElement("Stream").
			set("id", p.choice.subtitle).set("streamType", 3).set("codec", "srt").
			set("burn", "1").set("decision", p.subtitle).set("selected", true).set("location", at("video")))
	}
	return media.add(part)
}

func (p plan) audioCodec() string {
	switch {
	case p.audio == "copy":
		return p.item.sourceAudio()
	case p.protocol == "http" && p.audioOnly:
		return "mp3"
	}
	return "aac"
}
