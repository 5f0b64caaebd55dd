package plex

import "strings"

// place is what a path alone tells of a request, read as a GET.
type place struct {
	kind   Kind
	writes bool   // changes something even as a GET
	music  bool   // the transcoder's {type} is an audio one
	item   bool   // a part itself rather than something below it
	id     string // transcode session id in the path
}

// locate reads a path, decoded but not cleaned: PMS paths hold "/:/" and are
// never normalised [P §6.4]. Only leading slashes are forgiven, as clients
// that glue a base URL and a path together send two.
func locate(path string) place {
	for len(path) > 1 && path[1] == '/' {
		path = path[1:]
	}
	if len(path) < 2 || path[0] != '/' {
		return place{}
	}
	first, rest := path[1:], ""
	if i := strings.IndexByte(first, '/'); i >= 0 {
		first, rest = first[:i], first[i:]
	}
	const transcode = "/:/transcode"
	if strings.HasPrefix(rest, transcode) {
		return locateTranscode(first, rest[len(transcode):])
	}
	switch first {
	case ":":
		return locateColon(rest)
	case "library":
		return locateLibrary(rest)
	case "playlists":
		if isPicture(rest) {
			return place{kind: Artwork}
		}
	case "system":
		if second, _ := segment(rest); second == "bundle" {
			return place{kind: Artwork}
		}
	case "status":
		if second, rest := segment(rest); second == "sessions" {
			if third, _ := segment(rest); third == "terminate" {
				return place{kind: Write, writes: true}
			}
			return place{kind: Local}
		}
	case "transcode":
		p := place{kind: Local}
		if second, rest := segment(rest); second == "sessions" {
			p.id, _ = segment(rest)
		}
		return p
	case "playQueues", "downloadQueue", "sync", "clients", "activities":
		return place{kind: Local}
	case "livetv":
		return place{kind: Local, writes: lastSegment(rest) == "tune"}
	case "security":
		// answers every verb alike, and each answer is another token [P §5]
		return place{kind: Local, writes: true}
	case "player":
		// remote control: all but the polls make a player do something
		return place{kind: Local, writes: lastSegment(rest) != "poll"}
	}
	return place{}
}

// segmentOf reads a path of the usual form of segments, nothing forgiven. It
// says no more than locate would.
func segmentOf(path string) (typ, id string, ok bool) {
	const session, dash = "/:/transcode/universal/session/", "/:/transcode/universal/dash/"
	if strings.HasPrefix(path, "/video"+session) { // what nearly all of them are
		id = upToSlash(path[len("/video"+session):])
		return path[1:len("/video")], id, id != ""
	}
	end := 1 // of {type}, which is a few letters: a loop beats a search
	for end < len(path) && path[end] != '/' {
		end++
	}
	if end < 2 || end >= len(path) || path[0] != '/' {
		return "", "", false
	}
	switch rest := path[end:]; {
	case strings.HasPrefix(rest, session):
		id = upToSlash(rest[len(session):])
	case strings.HasPrefix(rest, dash):
		id = upToSlash(rest[len(dash):])
	}
	return path[1:end], id, id != ""
}

// isMusic reports whether a transcoder {type} is an audio one.
func isMusic(typ string) bool {
	return typ == "music" || typ == "audio"
}

// locateTranscode reads what follows /{type}/:/transcode [P §3.1]. The tail
// of segment paths has changed over time, so only the id in it matters.
func locateTranscode(typ, rest string) place {
	p := place{music: isMusic(typ)}
	word, rest := segment(rest)
	switch word {
	case "universal":
		word, rest = segment(rest)
		switch {
		case word == "decision":
			p.kind = Decision
		case word == "start" || strings.HasPrefix(word, "start."):
			p.kind = Start
		case word == "session" || word == "dash":
			p.kind = Segment
			p.id, _ = segment(rest)
		case word == "subtitles":
			p.kind = Subtitles
		case word == "ping":
			p.kind = Ping
		case word == "stop":
			p.kind, p.writes = Stop, true
		case word == "fallback":
			p.kind, p.writes = Fallback, true
		}
	case "session":
		p.kind, p.writes = Callback, true
		p.id, _ = segment(rest)
	default:
		if typ == "photo" {
			p.kind = Artwork
		}
	}
	return p
}

// locateColon reads what follows /: at the front of a path.
func locateColon(rest string) place {
	switch second, _ := segment(rest); second {
	case "timeline", "progress":
		return place{kind: Timeline, writes: true}
	case "scrobble", "unscrobble", "rate":
		return place{kind: Write, writes: true}
	case "websockets", "websocket", "eventsource": // both spellings exist [P §3.8]
		return place{kind: Local}
	case "resources":
		return place{kind: Artwork}
	}
	return place{}
}

// locateLibrary reads what follows /library.
func locateLibrary(rest string) place {
	if second, rest := segment(rest); second == "parts" {
		id, rest := segment(rest)
		if id == "" {
			return place{}
		}
		switch below, _ := segment(rest); below {
		case "":
			return place{kind: Part, item: true}
		case "indexes": // seek previews; fetching one is no playback
			return place{kind: Artwork}
		}
		return place{kind: Part}
	}
	switch lastSegment(rest) {
	case "refresh", "analyze", "optimize", "emptyTrash", "match", "unmatch", "split", "merge":
		// PMS takes nearly any verb for these [P §5 D]
		return place{kind: Write, writes: true}
	}
	if isPicture(rest) {
		return place{kind: Artwork}
	}
	return place{}
}

// isPicture reports whether the rest of a path is /{what}/{id}/{element}…
// or, for playlists, /{id}/{element}…, with an element that is one picture.
// The plurals (posters, arts) are lists of pictures to choose from.
func isPicture(rest string) bool {
	_, rest = segment(rest)
	for range 2 {
		var element string
		element, rest = segment(rest)
		switch element {
		case "thumb", "art", "banner", "poster", "background", "clearLogo", "squareArt",
			"backgroundSquare", "composite", "chapterImages":
			return true
		}
	}
	return false
}

// upToSlash returns s up to its first slash.
func upToSlash(s string) string {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		return s[:i]
	}
	return s
}

// segment splits the first segment that is not empty off a path.
func segment(path string) (first, rest string) {
	for path != "" && path[0] == '/' {
		path = path[1:]
	}
	first = upToSlash(path)
	return first, path[len(first):]
}

// lastSegment returns the last segment of a path that is not empty.
func lastSegment(path string) string {
	path = strings.TrimRight(path, "/")
	return path[strings.LastIndexByte(path, '/')+1:]
}
