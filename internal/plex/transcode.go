package plex

import (
	"fmt"
	"strings"
	"time"
)

// Transcode is a conversion a server has under way or has finished
// [P §1.6]. It is there for everything that is not played directly, also when
// no video is encoded.
type Transcode struct {
	// ID is the transcode session id without the path some answers put in
	// front of it. It can be empty.
	ID string

	Throttled bool    // far enough ahead; the encoder waits, at speed 0
	Complete  bool    // all converted; the encoder has ended
	Failed    bool    // the server calls it an error
	Progress  float64 // percent; -1 for live TV
	Speed     float64 // times real time

	// Context is streaming, or static for downloads, captures and offline jobs.
	Context string

	SourceVideoCodec string
	VideoDecision    string // copy or transcode; empty without video
	AudioDecision    string
	SubtitleDecision string // also burn
	Protocol         string // hls, dash or http
	Container        string
	VideoCodec       string // the target
	Width, Height    int    // of the target

	// HwRequested says that the server would like hardware for the job. It is
	// no evidence that it uses any [P §10.1].
	HwRequested    bool
	HwDecoding     string // the decoder's API, empty in software
	HwEncoding     string // the encoder's API, empty in software
	HwFullPipeline bool

	StartedAt time.Time // zero if not told
}

// Work returns what the transcode costs, by the rule of [P §1.6].
func (t Transcode) Work() Work {
	switch {
	case t.Complete, !isTranscode(t.VideoDecision):
		return Copy
	case t.HwEncoding != "", t.HwDecoding != "", t.HwFullPipeline:
		return GPU
	case t.Young():
		return GPU // not to be taken for more than it may become
	}
	return CPU
}

// Young reports whether it is not told yet if there is hardware for the
// transcode: in the first seconds that is not filled in.
func (t Transcode) Young() bool {
	return !t.Complete && isTranscode(t.VideoDecision) && t.HwEncoding == "" && t.HwDecoding == "" && !t.HwFullPipeline &&
		t.Progress == 0 && t.Speed == 0 && !t.Throttled
}

// transcodePrefix stands before the id in some answers [P §10.5].
const transcodePrefix = "/transcode/sessions/"

// transcodeID returns the bare id of a TranscodeSession's key.
func transcodeID(key string) string {
	return strings.TrimPrefix(key, transcodePrefix)
}

// readTranscode reads a TranscodeSession.
func readTranscode(n *node) Transcode {
	t := Transcode{
		ID:               transcodeID(n.text("key")),
		Throttled:        n.boolean("throttled"),
		Complete:         n.boolean("complete"),
		Failed:           n.boolean("error"),
		Progress:         n.number("progress"),
		Speed:            n.number("speed"),
		Context:          n.text("context"),
		SourceVideoCodec: n.text("sourceVideoCodec"),
		VideoDecision:    n.text("videoDecision"),
		AudioDecision:    n.text("audioDecision"),
		SubtitleDecision: n.text("subtitleDecision"),
		Protocol:         n.text("protocol"),
		Container:        n.text("container"),
		VideoCodec:       n.text("videoCodec"),
		Width:            n.integer("width"),
		Height:           n.integer("height"),
		HwRequested:      n.boolean("transcodeHwRequested"),
		HwDecoding:       strings.TrimSpace(n.text("transcodeHwDecoding")),
		HwEncoding:       strings.TrimSpace(n.text("transcodeHwEncoding")),
		HwFullPipeline:   n.boolean("transcodeHwFullPipeline"),
	}
	if at := n.number("timeStamp"); at > 0 && at < 1<<40 {
		t.StartedAt = time.UnixMilli(int64(at * 1000))
	}
	return t
}

// readTranscodes reads the answer of /transcode/sessions.
func readTranscodes(container *node) ([]Transcode, error) {
	items := container.all("TranscodeSession")
	if err := believe(container, items); err != nil {
		return nil, err
	}
	ts := make([]Transcode, 0, len(items))
	for _, item := range items {
		ts = append(ts, readTranscode(item))
	}
	return ts, nil
}

// believe checks that an empty list is meant to be one. The size is otherwise
// not to be trusted [P §1.2], but a container that holds nothing we know and
// does not say that it is empty is a poll that failed, not a quiet server.
func believe(container *node, items []*node) error {
	if len(items) == 0 && strings.TrimSpace(container.text("size")) != "0" {
		return fmt.Errorf("%w: an empty list that does not say so", ErrNotPMS)
	}
	return nil
}
