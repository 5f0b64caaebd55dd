package plextest

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Ratings keys of [DefaultItems], one for each thing that can happen.
const (
	HEVC   = "1"  // to 8: films that need a video transcode
	Remux  = "9"  // to 12: films whose video is copied
	Direct = "13" // to 16: films that play as they are
	Track  = "17" // to 20: music
)

// Item is something to play.
type Item struct {
	Title      string
	Type       string        // movie, episode or track; default movie
	Codec      string        // of the video: hevc is transcoded, h264 copied; default hevc
	DirectPlay bool          // clients can play the file as it is
	Duration   time.Duration // default 10m
}

// DefaultItems returns twenty items; see [HEVC], [Remux], [Direct] and [Track].
func DefaultItems() []Item {
	var items []Item
	for n := 1; n <= 20; n++ {
		switch {
		case n <= 8:
			items = append(items, Item{Title: fmt.Sprintf("Big Film %d", n)})
		case n <= 12:
			items = append(items, Item{Title: fmt.Sprintf("Old Film %d", n), Codec: "h264"})
		case n <= 16:
			items = append(items, Item{Title: fmt.Sprintf("Easy Film %d", n), Codec: "h264", DirectPlay: true})
		default:
			items = append(items, Item{Title: fmt.Sprintf("Song %d", n), Type: "track", DirectPlay: true, Duration: 4 * time.Minute})
		}
	}
	return items
}

// item is an Item with the ids of one database.
type item struct {
	Item
	ratingKey string
	guid      string // the same everywhere [P §7]
	media     int
	part      int
	size      int64
	segments  int
	block     int // bytes of a segment
}

// changestamp is the time of the file, the same for all copies [P §7].
const changestamp = 1677272892

func newItems(cfg Config) []*item {
	h := fnv.New32a()
	_, _ = io.WriteString(h, cfg.Database)
	base := (1 + int(h.Sum32()%20000)) * 100_000 // row ids of one database [P §7]
	items := make([]*item, len(cfg.Items))
	for i, it := range cfg.Items {
		it.Type = cmp.Or(it.Type, "movie")
		it.Duration = cmp.Or(it.Duration, 10*time.Minute)
		if it.Type != "track" {
			it.Codec = cmp.Or(it.Codec, "hevc")
		}
		sum := sha1.Sum([]byte(it.Title))
		segments := int((it.Duration + cfg.SegmentDuration - 1) / cfg.SegmentDuration)
		items[i] = &item{
			Item:      it,
			ratingKey: strconv.Itoa(i + 1),
			guid:      "plex://" + it.Type + "/" + hex.EncodeToString(sum[:12]),
			media:     base + 10*(i+1),
			part:      base + 10*(i+1) + 1,
			size:      int64(segments) * int64(cfg.SegmentSize),
			segments:  segments,
			block:     cfg.SegmentSize,
		}
	}
	return items
}

// Streams of a part follow it: video, two audio, one subtitle.
func (it *item) video() int    { return it.part + 1 }
func (it *item) audio() int    { return it.part + 2 }
func (it *item) subtitle() int { return it.part + 4 }

func (it *item) track() bool { return it.Type == "track" }

func (it *item) container() string {
	if it.track() {
		return "mp3"
	}
	return "mkv"
}

func (it *item) partKey() string {
	return fmt.Sprintf("/library/parts/%d/%d/file.%s", it.part, changestamp, it.container())
}

func (it *item) key() string { return "/library/metadata/" + it.ratingKey }

func (s *Server) item(ratingKey string) *item {
	n, err := strconv.Atoi(ratingKey)
	if err != nil || n < 1 || n > len(s.items) {
		return nil
	}
	return s.items[n-1]
}

// itemAt finds the item a path=, key= or uri= speaks of.
func (s *Server) itemAt(path string) *item {
	_, id, ok := strings.Cut(path, "/library/metadata/")
	if !ok {
		return nil
	}
	id, _, _ = strings.Cut(id, "/")
	return s.item(id)
}

func (s *Server) itemOfPart(id string) *item {
	for _, it := range s.items {
		if strconv.Itoa(it.part) == id {
			return it
		}
	}
	return nil
}

// head is the element of an item, with what every answer says about it.
func (it *item) head() *element {
	name := "Video"
	if it.track() {
		name = "Track"
	}
	section, title := it.section()
	e := newElement(name).as("Metadata").
		set("addedAt", 1770650883).
		set("duration", int(it.Duration.Milliseconds())).
		set("guid", it.guid).
		set("key", it.key()).
		set("librarySectionID", section).
		set("librarySectionKey", "/library/sections/"+section).
		set("librarySectionTitle", title).
		set("ratingKey", it.ratingKey).
		set("thumb", it.key()+"/thumb/"+strconv.Itoa(changestamp)).
		set("title", it.Title).
		set("type", it.Type).
		set("updatedAt", changestamp)
	if it.Type == "episode" {
		e.set("grandparentTitle", "A Series").set("parentTitle", "Season 1")
	}
	return e
}

func (it *item) section() (id, title string) {
	switch it.Type {
	case "track":
		return "3", "Music"
	case "episode":
		return "2", "Series"
	}
	return "1", "Films"
}

// metadata is the item as the library tells it: numbers for ids, and
// optimizedForStreaming now 1, now true [P §1.7].
func (s *Server) metadata(it *item, token string) *element {
	section, _ := it.section()
	id, _ := strconv.Atoi(section)
	seen := s.watchedOf(token, it)
	return it.head().set("librarySectionID", id).
		set("viewCount", seen.count).
		set("viewOffset", int(seen.offset.Milliseconds())).
		add(it.ownMedia(false)).
		add(newElement("Guid").set("id", "imdb://tt"+it.ratingKey+"000001"))
}

// ownMedia is the file in its own form [P §1.4]. Sessions and decisions quote
// ids, the library does not [P §1.7].
func (it *item) ownMedia(quoted bool) *element {
	id := func(n int) any {
		if quoted {
			return strconv.Itoa(n)
		}
		return n
	}
	ms := int(it.Duration.Milliseconds())
	media := newElement("Media").
		set("id", id(it.media)).set("duration", ms).set("bitrate", 20_000).
		set("audioChannels", 6).set("audioCodec", it.sourceAudio()).set("container", it.container()).
		set("optimizedForStreaming", 1)
	part := newElement("Part").
		set("id", id(it.part)).set("key", it.partKey()).set("duration", ms).
		set("file", "/media/"+it.Title+"."+it.container()).set("size", int(it.size)).
		set("container", it.container()).set("hasThumbnail", "1").set("optimizedForStreaming", true)
	if !it.track() {
		media.set("videoCodec", it.Codec).set("videoResolution", "4k").set("width", 3840).set("height", 2160)
		part.add(newElement("Stream").set("id", id(it.video())).set("streamType", 1).
			set("codec", it.Codec).set("displayTitle", "4K ("+strings.ToUpper(it.Codec)+")"))
	}
	for n := range 2 {
		part.add(newElement("Stream").set("id", id(it.audio()+n)).set("streamType", 2).
			set("codec", it.sourceAudio()).set("channels", 6).set("selected", n == 0))
	}
	if !it.track() {
		part.add(newElement("Stream").set("id", id(it.subtitle())).set("streamType", 3).
			set("codec", "srt").set("key", "/library/streams/"+strconv.Itoa(it.subtitle())))
	}
	return media.add(part)
}

func (it *item) sourceAudio() string {
	if it.track() {
		return "mp3"
	}
	return "truehd"
}

// serveLibrary answers browsing.
func (s *Server) serveLibrary(a *ask) {
	switch {
	case a.is("library", "sections"):
		c := container(0)
		for _, it := range s.items {
			id, title := it.section()
			if !slices.ContainsFunc(c.kids, func(e *element) bool { return e.attrs[0].value == id }) {
				c.add(newElement("Directory").set("key", id).set("title", title))
			}
		}
		a.answer(c.count())
	case a.is("library", "sections", "*", "all"), a.is("library", "all"): // [P §7]
		guid := a.query("guid")
		c := container(0)
		for _, it := range s.items {
			section, _ := it.section()
			if (guid == "" || guid == it.guid) && (len(a.parts) == 2 || a.parts[2] == section) {
				c.add(s.metadata(it, a.token))
			}
		}
		a.answer(c.count())
	case a.is("library", "metadata", "*"):
		it := s.item(a.parts[2])
		if it == nil {
			a.page(http.StatusNotFound, "Not Found")
			return
		}
		a.answer(container(0).set("allowSync", true).add(s.metadata(it, a.token)).count())
	case a.is("library", "metadata", "*", "thumb", "*"), a.is("library", "metadata", "*", "art", "*"):
		s.servePicture(a)
	case a.is("library", "metadata", "*", "posters") && (a.r.Method == http.MethodPost || a.r.Method == http.MethodPut):
		s.serveUpload(a)
	case a.is("library", "streams", "*"):
		a.text(http.StatusOK, "text/plain;charset=utf-8", []byte("1\n00:00:01,000 --> 00:00:02,000\nA line.\n"))
	default:
		a.page(http.StatusNotFound, "Not Found")
	}
}

// servePhoto scales a picture. Its token comes in the query, because images
// are asked for by browsers themselves [P §3.4].
func (s *Server) servePhoto(a *ask) {
	if s.access(a.query("X-Plex-Token")) == nobody {
		s.unauthorized(a)
		return
	}
	if a.query("url") == "" {
		a.page(http.StatusBadRequest, "Bad Request")
		return
	}
	s.servePicture(a)
}

func (s *Server) servePicture(a *ask) {
	a.w.Header().Set("Cache-Control", "max-age=86400") // cacheable [P §3.4]
	a.text(http.StatusOK, "image/png", picture())
}

var picture = sync.OnceValue(func() []byte {
	img := image.NewGray(image.Rect(0, 0, 2, 2))
	img.SetGray(1, 1, color.Gray{Y: 200})
	var b bytes.Buffer
	_ = png.Encode(&b, img)
	return b.Bytes()
})

// choice is the audio and subtitle stream somebody picked.
type choice struct{ audio, subtitle string }

// choiceKey says whose: choices are stored per server and user, for a part,
// and read by the transcoder [P §3.2].
type choiceKey struct{ token, part string }

// servePart serves a file, or stores a choice of streams about it.
func (s *Server) servePart(a *ask) {
	it := s.itemOfPart(a.parts[2])
	if it == nil { // also the id of another database [P §7]
		a.page(http.StatusNotFound, "Not Found")
		return
	}
	switch a.r.Method {
	case http.MethodPut:
		s.choose(a, a.parts[2])
		a.w.WriteHeader(http.StatusOK)
	case http.MethodGet, http.MethodHead:
		if len(a.parts) != 5 && len(a.parts) != 4 { // with and without changestamp [P §3.5]
			a.page(http.StatusNotFound, "Not Found")
			return
		}
		s.serveFile(a, it)
	default:
		a.page(http.StatusMethodNotAllowed, "Method Not Allowed")
	}
}

func (s *Server) choose(a *ask, part string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := choiceKey{a.token, part}
	c := s.choices[key]
	if v := a.query("audioStreamID"); v != "" {
		c.audio = v
	}
	if v := a.query("subtitleStreamID"); v != "" {
		c.subtitle = v
	}
	s.choices[key] = c
}

// chosen returns the streams a playback of this item gets. The lock is held.
func (s *Server) chosen(token string, it *item) choice {
	c := s.choices[choiceKey{token, strconv.Itoa(it.part)}]
	if c.audio == "" {
		c.audio = strconv.Itoa(it.audio())
	}
	if c.subtitle == "" {
		c.subtitle = "0" // none
	}
	return c
}

// serveFile is direct play: ranges of the file, a playback in itself
// [P §3.5].
func (s *Server) serveFile(a *ask, it *item) {
	if a.query("download") != "1" {
		done, status := s.playDirect(a, it)
		if status != http.StatusOK {
			a.page(status, http.StatusText(status))
			return
		}
		defer done()
	}
	a.w.Header().Set("Content-Type", map[bool]string{false: "video/x-matroska", true: "audio/mpeg"}[it.track()])
	http.ServeContent(a.w, a.r, "", time.Unix(changestamp, 0), &file{item: it})
}

// file is the content of a part: blocks of a segment's size, each of which
// begins with a line that says which it is. All copies of a file are equal, so
// the line names the item and not the server.
type file struct {
	item *item
	at   int64
}

func (f *file) Read(p []byte) (int, error) {
	if f.at >= f.item.size {
		return 0, io.EOF
	}
	n := f.at / int64(f.item.block)
	block := Body{Session: "file", Rep: "part", Number: int(n), Item: f.item.ratingKey}.bytes(f.item.block)
	copied := copy(p, block[f.at%int64(f.item.block):])
	f.at += int64(copied)
	return copied, nil
}

func (f *file) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += f.item.size
	}
	f.at = offset
	return offset, nil
}

// watchKey says who watched what; watched, how far [P §5].
type watchKey struct{ token, ratingKey string }

type watched struct {
	offset time.Duration
	count  int
}

func (s *Server) watchedOf(token string, it *item) watched {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watched[watchKey{token, it.ratingKey}]
}

// serveMark is the family that writes by GET [P §3.6].
func (s *Server) serveMark(a *ask) {
	it := s.item(a.query("key"))
	if it == nil {
		a.page(http.StatusBadRequest, "Bad Request")
		return
	}
	s.mu.Lock()
	key := watchKey{a.token, it.ratingKey}
	w := s.watched[key]
	switch a.parts[1] {
	case "scrobble":
		w = watched{count: w.count + 1}
	case "unscrobble":
		w = watched{}
	case "progress":
		if ms, ok := a.number("time"); ok {
			w.offset = time.Duration(ms) * time.Millisecond
		}
	}
	s.watched[key] = w
	s.mu.Unlock()
	a.w.WriteHeader(http.StatusOK)
}
