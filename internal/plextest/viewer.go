package plextest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Viewer is somebody who watches one thing with one client. Its methods are
// called one after the other; Observed and Servers at any time. The exported
// fields may be changed before Start.
type Viewer struct {
	Kind  ViewerKind
	Base  string // URL of the server or balancer, without a slash at its end
	Token string
	HTTP  *http.Client
	Item  string // ratingKey

	CID        string // X-Plex-Client-Identifier: the device
	XSI        string // X-Plex-Session-Identifier: the playback; empty where the client has none
	TSID       string // session: the transcode; of PythonPlexAPI once it has a playlist
	PlaybackID string // X-Plex-Playback-Session-Id

	Browse          bool          // make a play queue and look at the item first; default as the client does
	Quality         int           // kbps, 0 for the original's
	SegmentDuration time.Duration // learnt from playlists; default 1s
	TimelineEvery   time.Duration // default 10s [P §3.2]
	Patience        time.Duration // how long Play tries to get a segment; default 20s

	habits   habits
	rand     *rand.Rand
	launch   string // X-Plex-Session-Id: the start of the app, no playback [P §3.3]
	started  bool
	position int // segment last seen; Play reports it from aside, under mu
	queue    string
	segments []string // URLs of an HLS playlist
	template string   // of DASH segments
	count    int      // of DASH segments
	part     part
	stream   *stream

	mu       sync.Mutex
	observed []Observation
}

type part struct {
	id, key  string
	size     int64
	duration time.Duration
}

// stream is an answer that lasts as long as the playback.
type stream struct {
	body   io.ReadCloser
	lines  *bufio.Reader
	cancel context.CancelFunc
	next   int
	header Observation
}

// StatusError is an answer that is not the one a player wants.
type StatusError struct {
	What       string // as in Observation
	Status     int
	RetryAfter time.Duration
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: status %d", e.What, e.Status)
}

// RefusedError is a decision against playing [P §8.4].
type RefusedError struct {
	Code int // generalDecisionCode
	Text string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("decision: refused with %d: %s", e.Code, e.Text)
}

// ErrEnd is what there is beyond the last segment.
var ErrEnd = errors.New("plextest: end of the item")

// ErrWrong is an answer that is complete, and not what was asked for.
var ErrWrong = errors.New("plextest: wrong segment")

// NewViewer returns a viewer with a device of its own. Equal seeds give equal
// ids.
func NewViewer(kind ViewerKind, base, token, item string, seed uint64) *Viewer {
	h := fnv.New64a()
	_, _ = io.WriteString(h, string(kind))
	v := &Viewer{
		Kind:  kind,
		Base:  strings.TrimSuffix(base, "/"),
		Token: token,
		Item:  item,
		HTTP: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: 4,
			IdleConnTimeout:     15 * time.Second,
		}},
		SegmentDuration: time.Second,
		TimelineEvery:   10 * time.Second,
		Patience:        20 * time.Second,
		habits:          kind.habits(),
		rand:            rand.New(rand.NewPCG(seed, h.Sum64())),
	}
	v.Browse = v.habits.browse
	v.CID = v.random()
	v.launch = v.random()
	v.newPlayback()
	return v
}

// Next returns the viewer for another item on the same device. The old one can
// still be used, as a second tab is.
func (v *Viewer) Next(item string) *Viewer {
	n := &Viewer{
		Kind: v.Kind, Base: v.Base, Token: v.Token, HTTP: v.HTTP, Item: item, CID: v.CID,
		Browse: v.Browse, Quality: v.Quality, SegmentDuration: v.SegmentDuration,
		TimelineEvery: v.TimelineEvery, Patience: v.Patience,
		habits: v.habits, rand: v.rand, launch: v.launch,
	}
	n.newPlayback()
	return n
}

// Close drops the viewer's connections, as an app that crashes does. Stop is
// the polite way.
func (v *Viewer) Close() {
	v.hangUp()
	v.HTTP.CloseIdleConnections()
}

func (v *Viewer) newPlayback() {
	if v.habits.xsi {
		v.XSI = v.random()
	}
	v.PlaybackID = v.random()
	v.newTranscode()
}

func (v *Viewer) newTranscode() {
	switch v.habits.sessions {
	case perPlayback, perItem:
		v.TSID = v.random()
	case constant:
		v.TSID = v.CID
	case byServer:
		v.TSID = ""
	}
}

// random makes an id like Plex Web's: 24 letters and digits.
func (v *Viewer) random() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	var b [24]byte
	for i := range b {
		b[i] = letters[v.rand.IntN(len(letters))]
	}
	return string(b[:])
}

// Start goes from the item to the first playlist: it browses, has it decided,
// starts, and reads what it gets.
func (v *Viewer) Start(ctx context.Context) error {
	if v.Browse {
		if err := v.look(ctx); err != nil {
			return err
		}
	}
	if err := v.Decide(ctx); err != nil {
		return err
	}
	return v.Begin(ctx)
}

// look is what a client does before it plays [P §3.2].
func (v *Viewer) look(ctx context.Context) error {
	q := url.Values{
		"type": {"video"},
		"uri":  {"server://0000/com.plexapp.plugins.library/library/metadata/" + v.Item},
		"own":  {"1"},
	}
	r, err := v.do(ctx, call{what: "playqueue", method: http.MethodPost, path: "/playQueues", query: q, json: true})
	if err != nil {
		return err
	}
	var doc struct {
		MediaContainer struct {
			PlayQueueSelectedItemID json.Number `json:"playQueueSelectedItemID"`
		}
	}
	if err := json.Unmarshal(r.body, &doc); err != nil {
		return fmt.Errorf("playqueue: %w", err)
	}
	v.queue = doc.MediaContainer.PlayQueueSelectedItemID.String()

	// Browsers ask for pictures themselves: the token stands in the query, and
	// once more inside the picture's own URL [P §3.4].
	thumb := "/library/metadata/" + v.Item + "/thumb/1?X-Plex-Token=" + v.Token
	_, err = v.do(ctx, call{what: "photo", path: "/photo/:/transcode", anonymous: true,
		query: url.Values{"width": {"300"}, "height": {"450"}, "minSize": {"1"}, "url": {thumb}, "X-Plex-Token": {v.Token}}})
	if err != nil {
		return err
	}
	return v.inspect(ctx)
}

// inspect reads the item's file from the library.
func (v *Viewer) inspect(ctx context.Context) error {
	r, err := v.do(ctx, call{what: "metadata", path: "/library/metadata/" + v.Item, query: url.Values{"checkFiles": {"1"}}, json: true})
	if err != nil {
		return err
	}
	var doc struct {
		MediaContainer struct {
			Metadata []struct {
				Media []struct {
					Part []struct {
						ID       json.Number
						Key      string
						Size     int64
						Duration int64
					}
				}
			}
		}
	}
	if err := json.Unmarshal(r.body, &doc); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	for _, m := range doc.MediaContainer.Metadata {
		for _, media := range m.Media {
			for _, p := range media.Part {
				v.part = part{p.ID.String(), p.Key, p.Size, time.Duration(p.Duration) * time.Millisecond}
				return nil
			}
		}
	}
	return errors.New("metadata: the item has no part")
}

// ChooseStreams stores a choice of audio and subtitle, which the transcoder
// reads at the next start [P §3.2].
func (v *Viewer) ChooseStreams(ctx context.Context, audio, subtitle string) error {
	if v.part.id == "" {
		if err := v.inspect(ctx); err != nil {
			return err
		}
	}
	_, err := v.do(ctx, call{what: "streams", method: http.MethodPut, path: "/library/parts/" + v.part.id,
		query: url.Values{"audioStreamID": {audio}, "subtitleStreamID": {subtitle}, "allParts": {"1"}}})
	return err
}

// ask is the query of decision and start, the same for both [P §3.2].
func (v *Viewer) ask() url.Values {
	protocol := v.habits.protocol
	q := url.Values{
		"path":         {"/library/metadata/" + v.Item},
		"mediaIndex":   {"0"},
		"partIndex":    {"0"},
		"directPlay":   {"0"},
		"directStream": {"1"},
		"subtitles":    {"burn"},
		"location":     {"lan"},
		"fastSeek":     {"1"},
	}
	if protocol == "file" {
		protocol = "http"
		q.Set("directPlay", "1")
		q.Set("subtitles", "auto")
	}
	q.Set("protocol", protocol)
	switch v.Kind {
	case PlexWeb, PlexWebMusic:
		q.Set("hasMDE", "1")
		q.Set("X-Plex-Client-Profile-Extra", "add-limitation(scope=videoCodec&scopeName=*&type=upperBound&name=video.bitDepth&value=8&replace=true)")
	case PlexAPIRust:
		q.Set("transcodeSessionId", v.TSID) // [P §3.1]
	}
	if v.TSID != "" && v.habits.sessions != byServer {
		q.Set("session", v.TSID)
	}
	if v.Quality > 0 {
		name := "maxVideoBitrate"
		if v.habits.media == "music" {
			name = "musicBitrate"
		}
		q.Set(name, strconv.Itoa(v.Quality))
	}
	return q
}

// Decide asks how the item would be played.
func (v *Viewer) Decide(ctx context.Context) error {
	if v.habits.undecided {
		return nil
	}
	r, err := v.do(ctx, call{what: "decision", path: v.transcoder("decision"), query: v.ask(), json: v.Kind != PlexWeb && v.Kind != OpenPHT})
	if err != nil {
		return err
	}
	code, text, err := verdict(r)
	if err != nil {
		return fmt.Errorf("decision: %w", err)
	}
	if code == 0 || code >= 2000 || v.habits.protocol == "file" && code != 1000 {
		return &RefusedError{code, text}
	}
	return nil
}

func (v *Viewer) transcoder(name string) string {
	return "/" + v.habits.media + "/:/transcode/universal/" + name
}

// verdict reads a decision in either form.
func verdict(r *reply) (int, string, error) {
	if strings.Contains(r.header.Get("Content-Type"), "json") {
		var doc struct {
			MediaContainer struct {
				GeneralDecisionCode   int
				GeneralDecisionText   string
				TranscodeDecisionText string
			}
		}
		err := json.Unmarshal(r.body, &doc)
		c := doc.MediaContainer
		return c.GeneralDecisionCode, strings.TrimSpace(c.GeneralDecisionText + " " + c.TranscodeDecisionText), err
	}
	var doc struct {
		Code int    `xml:"generalDecisionCode,attr"`
		Text string `xml:"generalDecisionText,attr"`
		More string `xml:"transcodeDecisionText,attr"`
	}
	err := xml.Unmarshal(r.body, &doc)
	return doc.Code, strings.TrimSpace(doc.Text + " " + doc.More), err
}

// Begin starts what was decided.
func (v *Viewer) Begin(ctx context.Context) error { return v.begin(ctx, 0) }

func (v *Viewer) begin(ctx context.Context, offset int) error {
	v.started = true
	if v.Kind == PlexWebMusic {
		v.TSID = v.random() // recorded: another session than the decision's [P §3.3]
	}
	q := v.ask()
	switch v.habits.protocol {
	case "file":
		if v.part.key == "" {
			return v.inspect(ctx)
		}
		return nil
	case "http":
		if offset > 0 {
			seconds := (time.Duration(offset) * v.SegmentDuration).Seconds()
			q.Set("offset", strconv.FormatFloat(seconds, 'f', -1, 64))
		}
		return v.tune(ctx, q, offset)
	case "dash":
		r, err := v.do(ctx, call{what: "start", path: v.transcoder("start.mpd"), query: q})
		if err != nil {
			return err
		}
		return v.readMPD(ctx, string(r.body))
	}
	r, err := v.do(ctx, call{what: "start", path: v.transcoder("start.m3u8"), query: q})
	if err != nil {
		return err
	}
	return v.readMaster(ctx, string(r.body))
}

var (
	mediaAttr    = regexp.MustCompile(`media="([^"]+)"`)
	durationAttr = regexp.MustCompile(`<SegmentTemplate timescale="(\d+)" duration="(\d+)"`)
	lengthAttr   = regexp.MustCompile(`mediaPresentationDuration="PT(\d+)H(\d+)M([\d.]+)S"`)
	sessionPart  = regexp.MustCompile(`session/([^/]+)/`)
)

// readMPD learns where segments are and gets their headers.
func (v *Viewer) readMPD(ctx context.Context, mpd string) error {
	m := mediaAttr.FindStringSubmatch(mpd)
	if m == nil {
		return errors.New("start: not a manifest")
	}
	v.template = v.transcoder(m[1])
	if err := v.learnSession(m[1]); err != nil {
		return err
	}
	if d := durationAttr.FindStringSubmatch(mpd); d != nil {
		scale, _ := strconv.Atoi(d[1])
		length, _ := strconv.Atoi(d[2])
		if scale > 0 && length > 0 {
			v.SegmentDuration = time.Duration(length) * time.Second / time.Duration(scale)
		}
	}
	l := lengthAttr.FindStringSubmatch(mpd)
	if l == nil {
		return errors.New("start: manifest without a duration")
	}
	hours, _ := strconv.Atoi(l[1])
	minutes, _ := strconv.Atoi(l[2])
	seconds, _ := strconv.ParseFloat(l[3], 64)
	length := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute + time.Duration(seconds*1000+0.5)*time.Millisecond
	v.count = int((length + v.SegmentDuration - 1) / v.SegmentDuration)
	for _, rep := range v.representations() {
		path := strings.NewReplacer("$RepresentationID$", rep, "$Number$.m4s", "header").Replace(v.template)
		if err := v.segment(ctx, "header", path, rep, -1); err != nil {
			return err
		}
	}
	return nil
}

// readMaster follows the master playlist and learns where segments are.
func (v *Viewer) readMaster(ctx context.Context, master string) error {
	lines := uris(master)
	if len(lines) == 0 {
		return errors.New("start: not a playlist")
	}
	if err := v.learnSession(lines[0]); err != nil {
		return err
	}
	path := v.transcoder(lines[0])
	r, err := v.do(ctx, call{what: "playlist", path: path, asked: "playlist", anonymous: true})
	if err != nil {
		return err
	}
	base := path[:strings.LastIndex(path, "/")+1]
	v.segments = v.segments[:0]
	for _, u := range uris(string(r.body)) {
		v.segments = append(v.segments, base+u)
	}
	if len(v.segments) == 0 {
		return errors.New("playlist: no segments")
	}
	if _, rest, ok := strings.Cut(string(r.body), "#EXTINF:"); ok {
		number, _, _ := strings.Cut(rest, ",")
		if seconds, err := strconv.ParseFloat(number, 64); err == nil && seconds > 0 {
			v.SegmentDuration = time.Duration(seconds * float64(time.Second))
		}
	}
	return nil
}

// learnSession compares the session of a playlist with the viewer's own. A
// viewer without one takes it from there.
func (v *Viewer) learnSession(uri string) error {
	m := sessionPart.FindStringSubmatch(uri)
	if m == nil {
		return fmt.Errorf("start: no session in %q", uri)
	}
	id, err := url.PathUnescape(m[1])
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if v.habits.sessions == byServer {
		v.TSID = id
	}
	if id != v.TSID {
		return fmt.Errorf("start: playlist of session %q, want %q", id, v.TSID)
	}
	return nil
}

func uris(playlist string) []string {
	var out []string
	for line := range strings.Lines(playlist) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

// representations are fetched side by side: 1 is audio, 0 video [P §3.4].
func (v *Viewer) representations() []string {
	if v.habits.media == "music" {
		return []string{"1"}
	}
	return []string{"1", "0"}
}

// Segment gets segment n and checks it; of DASH, video and audio at once; of a
// file, that range; of a stream, whatever lies between as well.
func (v *Viewer) Segment(ctx context.Context, n int) error {
	if !v.started {
		return errors.New("plextest: viewer has not started")
	}
	var err error
	switch v.habits.protocol {
	case "dash":
		if n >= v.count {
			return ErrEnd
		}
		reps := v.representations()
		errs := make([]error, len(reps))
		var wg sync.WaitGroup
		for i, rep := range reps {
			wg.Go(func() {
				path := strings.NewReplacer("$RepresentationID$", rep, "$Number$", strconv.Itoa(n)).Replace(v.template)
				errs[i] = v.segment(ctx, "segment", path, rep, n)
			})
		}
		wg.Wait()
		err = errors.Join(errs...)
	case "hls":
		if n >= len(v.segments) {
			return ErrEnd
		}
		err = v.segment(ctx, "segment", v.segments[n], "base", n)
	case "http":
		err = v.listen(ctx, n)
	case "file":
		err = v.rangeOf(ctx, n)
	}
	if err == nil {
		v.mu.Lock()
		v.position = n
		v.mu.Unlock()
	}
	return err
}

// segment gets one and checks that it is the one asked for. It sends neither
// token nor X-Plex values, as players do [P §3.1].
func (v *Viewer) segment(ctx context.Context, what, path, rep string, n int) error {
	_, err := v.do(ctx, call{what: what, path: path, anonymous: true, asked: asked(rep, n), check: func(r *reply) (Body, error) {
		front, rest := cutHeader(r.body)
		b, err := v.check(rest, v.TSID, rep, n)
		if err == nil && front != nil {
			var h Body
			if h, err = v.check(front, v.TSID, rep, -1); err == nil && h.Server != b.Server {
				err = fmt.Errorf("%w: the header of %s is in front of a segment of %s", ErrWrong, h.Server, b.Server)
			}
		}
		return b, err
	}})
	return err
}

// cutHeader takes the header of its encoder off a segment that has it in front,
// which players bear.
func cutHeader(p []byte) (header, segment []byte) {
	b, err := ReadBody(p)
	if err != nil || b.Number >= 0 {
		return nil, p
	}
	i := bytes.Index(p, []byte("\n"))
	j := bytes.Index(p[i+1:], []byte(bodyMark))
	if i < 0 || j < 0 {
		return nil, p
	}
	return p[:i+1+j], p[i+1+j:]
}

// asked names a segment, so that attempts at the same one can be told apart
// from the next.
func asked(rep string, n int) string { return rep + "/" + strconv.Itoa(n) }

func (v *Viewer) check(p []byte, session, rep string, n int) (Body, error) {
	b, err := ReadBody(p)
	line, padding, _ := bytes.Cut(p, []byte{'\n'})
	switch {
	case err != nil:
		return b, fmt.Errorf("%w: %d bytes that begin with %.40q", ErrWrong, len(p), line)
	case len(bytes.Trim(padding, ".")) > 0:
		return b, fmt.Errorf("%w: more than one segment", ErrWrong)
	case b.Session != session || b.Rep != rep || b.Number != n || b.Item != v.Item:
		return b, fmt.Errorf("%w: %v; want session %s, rep %s, number %d, item %s", ErrWrong, b, session, rep, n, v.Item)
	}
	return b, nil
}

// rangeOf gets a range of the file [P §3.5].
func (v *Viewer) rangeOf(ctx context.Context, n int) error {
	count := int64((v.part.duration + v.SegmentDuration - 1) / v.SegmentDuration)
	if count == 0 || int64(n) >= count {
		return ErrEnd
	}
	length := v.part.size / count
	from := int64(n) * length
	_, err := v.do(ctx, call{what: "part", path: v.part.key, asked: asked("part", n), span: fmt.Sprintf("bytes=%d-%d", from, from+length-1), check: func(r *reply) (Body, error) {
		if r.status != http.StatusPartialContent || int64(len(r.body)) != length {
			return Body{}, fmt.Errorf("%w: status %d and %d bytes, want 206 and %d", ErrWrong, r.status, len(r.body), length)
		}
		return v.check(r.body, "file", "part", n)
	}})
	return err
}

// tune opens a stream [P §3.4].
func (v *Viewer) tune(ctx context.Context, q url.Values, from int) error {
	v.hangUp()
	// It outlives the call: the connection is the playback.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, cancel)()
	req, err := v.request(life, call{what: "start", path: v.transcoder("start.mp3"), query: q})
	if err != nil {
		cancel()
		return err
	}
	o := Observation{What: "start", At: time.Now()}
	resp, err := v.HTTP.Do(req)
	o.Duration = time.Since(o.At)
	if err == nil {
		o.fill(resp)
		if resp.StatusCode != http.StatusOK {
			err = statusError("start", resp)
			_ = resp.Body.Close()
		}
	}
	o.Err = err
	v.observe(o)
	if err != nil {
		cancel()
		return err
	}
	v.stream = &stream{body: resp.Body, lines: bufio.NewReader(resp.Body), cancel: cancel, next: from, header: o}
	return nil
}

// listen reads a stream up to block n.
func (v *Viewer) listen(ctx context.Context, n int) error {
	if v.stream == nil {
		return errors.New("segment: no stream")
	}
	s := v.stream
	if n < s.next {
		return fmt.Errorf("segment: block %d has gone by", n)
	}
	defer context.AfterFunc(ctx, s.cancel)()
	for s.next <= n {
		o := s.header
		o.What, o.Asked, o.At = "segment", asked("stream", s.next), time.Now()
		var err error
		o.Body, err = s.block()
		if err == nil {
			o.Body, err = v.check([]byte(o.Body.String()), v.TSID, "stream", s.next)
		}
		o.Duration, o.Err = time.Since(o.At), err
		v.observe(o)
		if err == io.EOF {
			err = ErrEnd
		}
		if err != nil {
			v.hangUp()
			return fmt.Errorf("segment: %w", err)
		}
		s.next++
	}
	return nil
}

// block reads the line that begins a block, past the padding of the last.
func (s *stream) block() (Body, error) {
	for {
		c, err := s.lines.ReadByte()
		if err != nil {
			return Body{}, err
		}
		if c != '.' {
			break
		}
	}
	_ = s.lines.UnreadByte()
	line, err := s.lines.ReadBytes('\n')
	if err != nil {
		return Body{}, err
	}
	return ReadBody(line)
}

func (v *Viewer) hangUp() {
	if v.stream != nil {
		v.stream.cancel()
		_ = v.stream.body.Close()
		v.stream = nil
	}
}

// Timeline tells where the viewer is: playing, paused, buffering or stopped.
// A client that sends none sends none.
func (v *Viewer) Timeline(ctx context.Context, state string) error {
	if v.habits.silent {
		return nil
	}
	v.mu.Lock()
	at := (time.Duration(v.position) * v.SegmentDuration).Milliseconds()
	v.mu.Unlock()
	q := url.Values{
		"ratingKey": {v.Item},
		"key":       {"/library/metadata/" + v.Item},
		"state":     {state},
		"time":      {strconv.FormatInt(at, 10)},
		"hasMDE":    {"1"},
	}
	if v.part.duration > 0 {
		q.Set("duration", strconv.FormatInt(v.part.duration.Milliseconds(), 10))
	}
	if v.queue != "" {
		q.Set("playQueueItemID", v.queue)
	}
	method := http.MethodGet
	if v.Kind == Mobile {
		method = http.MethodPost // as the vendor's documentation has it [P §3.6]
	}
	_, err := v.do(ctx, call{what: "timeline", method: method, path: "/:/timeline", query: q, json: true})
	return err
}

// Ping keeps a paused transcode [P §4.3].
func (v *Viewer) Ping(ctx context.Context) error {
	_, err := v.do(ctx, call{what: "ping", path: v.transcoder("ping"), query: url.Values{"session": {v.TSID}}})
	return err
}

// Stop ends the playback as the client does: most by a last timeline, many by
// stop as well, some by falling silent.
func (v *Viewer) Stop(ctx context.Context) error {
	v.hangUp()
	v.started = false
	err := v.Timeline(ctx, "stopped")
	if v.habits.stops {
		_, stopErr := v.do(ctx, call{what: "stop", path: v.transcoder("stop"), query: url.Values{"session": {v.TSID}}})
		if s := (*StatusError)(nil); errors.As(stopErr, &s) && s.Status == http.StatusNotFound {
			stopErr = nil // the timeline came first [P §10.34]
		}
		err = errors.Join(err, stopErr)
	}
	return err
}

// Seek goes to segment n: by just asking for it, or by a new start where the
// client does that [P §4.2].
func (v *Viewer) Seek(ctx context.Context, n int) error {
	switch {
	case v.habits.protocol == "http":
		if err := v.begin(ctx, n); err != nil {
			return err
		}
	case v.habits.reissues:
		if err := v.again(ctx); err != nil {
			return err
		}
	}
	return v.Segment(ctx, n)
}

// ChangeQuality has the item decided and started again at so many kbps: under
// a new session, or under the same where the client keeps it [P §4.2].
func (v *Viewer) ChangeQuality(ctx context.Context, kbps int) error {
	if v.habits.protocol == "file" {
		return errors.New("plextest: direct play has one quality only")
	}
	v.Quality = kbps
	if v.habits.sessions == perPlayback || v.habits.sessions == byServer {
		v.newTranscode()
	}
	return v.again(ctx)
}

func (v *Viewer) again(ctx context.Context) error {
	if err := v.Decide(ctx); err != nil {
		return err
	}
	return v.begin(ctx, v.position)
}

// call is one request to make.
type call struct {
	what, method, path string
	query              url.Values
	asked              string // see Observation
	span               string // Range
	json               bool
	anonymous          bool // without the viewer's X-Plex values
	check              func(*reply) (Body, error)
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

func (v *Viewer) request(ctx context.Context, c call) (*http.Request, error) {
	q := c.query
	if q == nil {
		q = url.Values{}
	}
	h := http.Header{}
	if !c.anonymous {
		v.identify(c.what, q, h)
	}
	if c.json {
		h.Set("Accept", "application/json")
	}
	if c.span != "" {
		h.Set("Range", c.span)
	}
	target := v.Base + c.path
	if len(q) > 0 {
		target += "?" + encode(q)
	}
	req, err := http.NewRequestWithContext(ctx, cmp.Or(c.method, http.MethodGet), target, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.what, err)
	}
	req.Header = h
	return req, nil
}

// do makes a request, reads the answer whole and notes what it saw.
func (v *Viewer) do(ctx context.Context, c call) (*reply, error) {
	req, err := v.request(ctx, c)
	if err != nil {
		return nil, err
	}
	o := Observation{What: c.what, Asked: c.asked, At: time.Now()}
	r, err := v.fetch(req, c, &o)
	o.Duration, o.Err = time.Since(o.At), err
	v.observe(o)
	return r, err
}

func (v *Viewer) fetch(req *http.Request, c call, o *Observation) (*reply, error) {
	resp, err := v.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.what, err)
	}
	defer resp.Body.Close()
	o.fill(resp)
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.what, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, statusError(c.what, resp)
	}
	r := &reply{resp.StatusCode, resp.Header, body}
	if c.check != nil {
		if o.Body, err = c.check(r); err != nil {
			return nil, fmt.Errorf("%s: %w", c.what, err)
		}
	}
	return r, nil
}

func (o *Observation) fill(resp *http.Response) {
	o.Status = resp.StatusCode
	o.Server = resp.Header.Get("X-Plextest-Server")
	o.Balancer = resp.Header.Get("X-Plexlb-Server")
	o.Reason = resp.Header.Get("X-Plexlb-Reason")
}

func statusError(what string, resp *http.Response) error {
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return &StatusError{what, resp.StatusCode, time.Duration(seconds) * time.Second}
}
