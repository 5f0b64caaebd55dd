package plex

import "strings"

// Work says what a playback costs the server it is on.
type Work uint8

// The kinds of work, from the cheapest up.
const (
	None Work = iota // direct play: the file as it is
	Copy             // remux, audio conversion or a finished transcode: no video is encoded
	CPU              // video encoded in software
	GPU              // video encoded in hardware, or too young to tell
)

// String returns the work as one lowercase word.
func (w Work) String() string {
	switch w {
	case None:
		return "none"
	case Copy:
		return "copy"
	case CPU:
		return "cpu"
	case GPU:
		return "gpu"
	}
	return "unknown"
}

// isTranscode reads the decision about a stream or part. The words vary a
// little: transcode, transcoding [P §1.6].
func isTranscode(decision string) bool {
	const word = "transcod"
	decision = strings.TrimSpace(decision)
	return len(decision) >= len(word) && strings.EqualFold(decision[:len(word)], word)
}
