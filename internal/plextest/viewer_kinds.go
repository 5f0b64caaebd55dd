package plextest

import (
	"net/http"
	"net/url"
	"strings"
)

// ViewerKind is a kind of client [P §3.3].
type ViewerKind string

const (
	PlexWeb       ViewerKind = "plex-web"       // DASH, all in the query, a session per playback
	PlexWebMusic  ViewerKind = "plex-web-music" // the same, but decision and start differ in session
	PlexForKodi   ViewerKind = "plex-for-kodi"  // session is the client, no session identifier, headers
	OpenPHT       ViewerKind = "openpht"        // the same in the query; pings
	PlexKodi      ViewerKind = "plexkodiconnect"
	PlexConnect   ViewerKind = "plexconnect"
	MPVShim       ViewerKind = "plex-mpv-shim"
	Plezy         ViewerKind = "plezy"       // keeps its session over seeks and quality changes; pings
	PlexAPIRust   ViewerKind = "plex-api-rs" // session and transcodeSessionId
	PythonPlexAPI ViewerKind = "python-plexapi"
	Mobile        ViewerKind = "mobile" // official app since 2020: every id there is, in headers
	MusicHTTP     ViewerKind = "music-http"
	DirectPlay    ViewerKind = "direct-play"
)

// Kinds lists every kind of client.
func Kinds() []ViewerKind {
	return []ViewerKind{
		PlexWeb, PlexWebMusic, PlexForKodi, OpenPHT, PlexKodi, PlexConnect, MPVShim, Plezy,
		PlexAPIRust, PythonPlexAPI, Mobile, MusicHTTP, DirectPlay,
	}
}

// Item returns the ratingKey in [DefaultItems] of something this kind can play
// its way.
func (k ViewerKind) Item() string {
	switch k {
	case DirectPlay:
		return Direct
	case PlexWebMusic, MusicHTTP:
		return Track
	}
	return HEVC
}

// sessions is where a client takes its transcode session ids from.
type sessions int

const (
	perPlayback sessions = iota // random; another at a quality change
	perItem                     // random; kept whatever happens
	constant                    // the client identifier, for ever
	byServer                    // none: the server makes one
)

// place is where a client puts its X-Plex values.
type place int

const (
	inQuery place = iota
	inHeader
	inBoth
)

// habits is how a kind of client behaves.
type habits struct {
	protocol  string // dash, hls, http, or file for direct play
	media     string // first part of the transcoder's path
	sessions  sessions
	xsi       bool
	place     place
	browse    bool // makes a play queue and looks at the item before
	undecided bool // starts without a decision
	silent    bool // sends no timelines
	pings     bool
	stops     bool // sends stop besides the last timeline
	reissues  bool // seeks by a new decision and start

	product, platform, device string
}

func (k ViewerKind) habits() habits {
	h := habits{protocol: "hls", media: "video", stops: true}
	switch k {
	case PlexWeb, PlexWebMusic: // recorded: neither ping nor stop [P §3.2]
		h.protocol, h.xsi, h.browse, h.stops = "dash", true, true, false
		h.product, h.platform, h.device = "Plex Web", "Chrome", "Linux"
		if k == PlexWebMusic {
			h.media = "music"
		}
	case PlexForKodi:
		h.sessions, h.place = constant, inHeader
		h.product, h.platform, h.device = "Plex for Kodi", "Kodi", "CoreELEC"
	case OpenPHT:
		h.sessions, h.pings = constant, true
		h.product, h.platform, h.device = "OpenPHT", "OpenPHT", "Embedded"
	case PlexKodi:
		h.sessions, h.place = constant, inBoth
		h.product, h.platform, h.device = "PlexKodiConnect", "Kodi", "Raspberry Pi"
	case PlexConnect:
		h.sessions = constant
		h.product, h.platform, h.device = "PlexConnect", "iOS", "AppleTV"
	case MPVShim:
		h.xsi = true
		h.product, h.platform, h.device = "Plex MPV Shim", "Linux", "Desktop"
	case Plezy:
		h.sessions, h.xsi, h.pings, h.reissues = perItem, true, true, true
		h.product, h.platform, h.device = "Plezy", "Android", "Pixel"
	case PlexAPIRust:
		h.protocol, h.place = "dash", inHeader
		h.product, h.platform, h.device = "Plex API Rust", "Linux", "PC"
	case PythonPlexAPI:
		h.sessions, h.undecided, h.silent, h.stops = byServer, true, true, false
		h.platform = "Chrome"
	case Mobile:
		h.xsi, h.place = true, inHeader
		h.product, h.platform, h.device = "Plex for iOS", "iOS", "iPhone"
	case MusicHTTP:
		h.protocol, h.media, h.sessions, h.xsi, h.place = "http", "music", perItem, true, inHeader
		h.product, h.platform, h.device = "Plexamp", "Android", "Phone"
	case DirectPlay:
		h.protocol, h.xsi, h.browse, h.stops = "file", true, true, false
		h.product, h.platform, h.device = "Plex HTPC", "Windows", "PC"
	default:
		panic("plextest: no viewer is a " + string(k))
	}
	return h
}

// identify puts the viewer's X-Plex values where its kind puts them on control
// requests. Segments carry none: see segment [P §3.1].
func (v *Viewer) identify(what string, q url.Values, h http.Header) {
	values := [][2]string{
		{"X-Plex-Token", v.Token},
		{"X-Plex-Platform", v.habits.platform},
	}
	if v.Kind != PythonPlexAPI { // [P §3.3]: token and platform only
		values = append(values,
			[2]string{"X-Plex-Client-Identifier", v.CID},
			[2]string{"X-Plex-Product", v.habits.product},
			[2]string{"X-Plex-Device", v.habits.device},
			[2]string{"X-Plex-Device-Name", v.habits.device},
			[2]string{"X-Plex-Version", "1.0"},
		)
	}
	where := v.habits.place
	if v.habits.xsi {
		if v.Kind == Plezy && what == "timeline" { // [P §3.3]
			h.Set("X-Plex-Session-Identifier", v.XSI)
		} else {
			values = append(values, [2]string{"X-Plex-Session-Identifier", v.XSI})
		}
	}
	switch v.Kind {
	case PlexWeb, PlexWebMusic:
		values = append(values, [2]string{"X-Plex-Session-Id", v.launch})
	case Mobile:
		values = append(values,
			[2]string{"X-Plex-Session-Id", v.launch},
			[2]string{"X-Plex-Playback-Session-Id", v.PlaybackID},
			[2]string{"X-Plex-Playback-Id", v.PlaybackID + "-1"})
	}
	for _, nv := range values {
		if where != inHeader {
			q.Set(nv[0], nv[1])
		}
		if where != inQuery {
			h.Set(nv[0], nv[1])
		}
	}
}

// encode writes a query the way browsers' encodeURIComponent does, which is
// how Plex clients do.
func encode(q url.Values) string { return strings.ReplaceAll(q.Encode(), "+", "%20") }
