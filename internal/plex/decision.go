package plex

import (
	"bytes"
	"fmt"
	"strings"
)

// Verdict is a server's answer to whether and how something can be played,
// its decision [P §8.4]. The HTTP status is 200 for refusals, too. Codes are 0
// and texts empty where the answer has none.
type Verdict struct {
	General, DirectPlay, Transcode, MDE                 int
	GeneralText, DirectPlayText, TranscodeText, MDEText string

	Part  string // decision about the chosen part: directplay, transcode or empty
	Video string // decision about its video stream: copy, transcode or empty
}

// ReadDecision reads the body of a decision's answer, JSON or XML, compressed
// or not.
func ReadDecision(contentType, contentEncoding string, body []byte) (Verdict, error) {
	v, err := readDecision(contentType, contentEncoding, body)
	if err != nil {
		return Verdict{}, fmt.Errorf("reading decision: %w", err)
	}
	return v, nil
}

func readDecision(contentType, contentEncoding string, body []byte) (Verdict, error) {
	body, err := plain(contentEncoding, body)
	if err != nil {
		return Verdict{}, err
	}
	c, err := readContainer(contentType, body)
	if err != nil {
		return Verdict{}, err
	}
	v := Verdict{
		General:        c.integer("generalDecisionCode"),
		GeneralText:    c.text("generalDecisionText"),
		DirectPlay:     c.integer("directPlayDecisionCode"),
		DirectPlayText: c.text("directPlayDecisionText"),
		Transcode:      c.integer("transcodeDecisionCode"),
		TranscodeText:  c.text("transcodeDecisionText"),
		MDE:            c.integer("mdeDecisionCode"),
		MDEText:        c.text("mdeDecisionText"),
	}
	if v.General == 0 && v.DirectPlay == 0 && v.Transcode == 0 && v.MDE == 0 {
		return Verdict{}, fmt.Errorf("%w: no decision code", ErrNotPMS)
	}
	if items := c.all("Metadata", "Video", "Track", "Photo"); len(items) > 0 {
		part, video := selectedPart(items[0])
		v.Part, v.Video = part.text("decision"), video.text("decision")
	}
	return v, nil
}

// DirectPlays reports whether the file is played as it is.
func (v Verdict) DirectPlays() bool {
	return v.General == 1000
}

// Refused reports whether the server will not play this at all.
func (v Verdict) Refused() bool {
	return v.General >= 2000
}

// RefusedForCapacity reports whether the server refused because it has no room,
// so that another may accept. A refusal because of what the client can play is
// the same everywhere.
//
// The codes do not tell the two apart, but the texts do: a full server speaks
// of bandwidth, of its CPU or power, or of a limit. The text about direct play
// may always speak of profiles, as that is tried first; a conversion that fails
// for its profile (4005) fails on every server.
func (v Verdict) RefusedForCapacity() bool {
	conversion := strings.ToLower(v.GeneralText + "\n" + v.TranscodeText + "\n" + v.MDEText)
	if !v.Refused() || v.Transcode == 4005 || strings.Contains(conversion, "profile") {
		return false
	}
	text := conversion + "\n" + strings.ToLower(v.DirectPlayText)
	// a codec limitation is a word of client profiles
	text = strings.ReplaceAll(text, "limitation", "")
	for _, word := range []string{
		"bandwidth", "limit", "power", "cpu", "memory", "disk space", "capacity", "busy", "overload", "too many",
	} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// Work returns what the playback will cost. Whether in hardware is not known
// before the encoder runs, and is taken to be so.
func (v Verdict) Work() Work {
	switch {
	case v.DirectPlays(), v.Refused(), strings.EqualFold(v.Part, "directplay"):
		return None
	case isTranscode(v.Video):
		return GPU
	}
	return Copy
}

// Terminated reports whether the answer to a timeline says that the playback
// was ended at its server, by an operator or a limit [P §3.6].
func Terminated(contentType, contentEncoding string, body []byte) bool {
	const word = "terminationCode"
	body, err := plain(contentEncoding, body)
	if err != nil || !bytes.Contains(body, []byte(word)) { // nearly always: nothing to read then
		return false
	}
	c, err := readContainer(contentType, body)
	return err == nil && c.integer(word) != 0
}
