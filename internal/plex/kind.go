// Package plex speaks the protocol of Plex Media Server (PMS): it tells what a
// request asks for, reads what a server answers, and asks servers questions.
// It decides nothing and remembers nothing.
//
// Marks such as [P §3.3] in comments point to the section of plex-protocol.md
// that says where a fact about PMS comes from.
package plex

// Kind says what a request asks of a PMS [P §5].
type Kind uint8

// The kinds of request.
const (
	Browse       Kind = iota // a read that any server with the same library answers alike, and every read we do not know
	Artwork                  // a cacheable picture: photo transcoder, thumbs, arts, previews
	Decision                 // may this be played, and how; reserves, but starts no encoder [P §3.1]
	Start                    // the manifest that starts a transcode, or the endless stream itself
	Segment                  // playlists, init headers and segments of a running transcode
	Subtitles                // sidecar subtitles of a running transcode
	Ping                     // keeps a paused transcode alive [P §4.3]
	Stop                     // ends a transcode
	Fallback                 // hardware to software, in the middle of a transcode
	Part                     // a file, played directly or downloaded [P §3.5]
	Timeline                 // what a player is doing; writes the watch state [P §3.6]
	StreamChoice             // choice of audio and subtitles, stored on the server [P §3.2]
	Local                    // state of one process that is not a playback's: play queues, tuners, notifications
	Callback                 // an encoder reporting to its own server over loopback [P §3.1]
	Write                    // any other change
)

var kindNames = [...]string{
	Browse:       "browse",
	Artwork:      "artwork",
	Decision:     "decision",
	Start:        "start",
	Segment:      "segment",
	Subtitles:    "subtitles",
	Ping:         "ping",
	Stop:         "stop",
	Fallback:     "fallback",
	Part:         "part",
	Timeline:     "timeline",
	StreamChoice: "stream_choice",
	Local:        "local",
	Callback:     "callback",
	Write:        "write",
}

// String returns the kind as one lowercase word.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Class returns the coarser word operators match requests by: start, segment,
// part, timeline, control, browse or write.
func (q Request) Class() string {
	switch q.Kind {
	case Decision, Start:
		return "start"
	case Segment, Subtitles:
		return "segment"
	case Part:
		return "part"
	case Timeline:
		return "timeline"
	case Ping, Stop, Fallback, Callback:
		return "control"
	case Browse, Artwork:
		return "browse"
	case Local:
		if !q.Writes {
			return "browse"
		}
	}
	return "write"
}
