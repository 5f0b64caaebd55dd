package plextest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// hub hands notifications to the clients of this server [P §3.8].
type hub struct {
	mu        sync.Mutex
	listeners map[chan notification][]string // each with the events it wants; nil for all
}

// notification is something new, which each way of listening writes in its own
// form.
type notification struct {
	event string
	about *element
}

// sent is the form of an event stream: the member is an object [P §3.8].
func (n notification) sent() []byte {
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", n.event, n.about.json())
}

// queueLength is how far a listener may fall behind before it misses events.
const queueLength = 1024

func (h *hub) join(filters []string) chan notification {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listeners == nil {
		h.listeners = make(map[chan notification][]string)
	}
	ch := make(chan notification, queueLength)
	h.listeners[ch] = filters
	return ch
}

func (h *hub) leave(ch chan notification) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.listeners, ch)
}

func (h *hub) tell(event string, doc func() *element) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var n notification
	for ch, filters := range h.listeners {
		if filters != nil && !slices.Contains(filters, event) {
			continue
		}
		if n.about == nil {
			n = notification{event, doc()}
		}
		select {
		case ch <- n:
		default:
		}
	}
}

// tellRow tells of a playback's state; here the member is an object, with
// numbers that are strings [P §3.8]. The lock is held.
func (s *Server) tellRow(r *row) {
	s.hub.tell("playing", func() *element {
		e := newElement("PlaySessionStateNotification").
			set("sessionKey", strconv.Itoa(r.key)).
			set("clientIdentifier", r.cid).
			set("guid", "").
			set("ratingKey", r.item.ratingKey).
			set("url", "").
			set("key", r.item.key()).
			set("viewOffset", int(r.offset.Milliseconds())).
			set("state", r.state)
		if n, err := strconv.Atoi(r.queue); err == nil {
			e.set("playQueueItemID", n)
		}
		if r.job != nil {
			e.set("transcodeSession", r.job.tsid)
		}
		return e
	})
}

// tellJob tells of a transcode. The lock is held.
func (s *Server) tellJob(event string, j *job, now time.Time) {
	s.hub.tell(event, func() *element { return s.describeJob(j, "/transcode/sessions/", now) })
}

// phase changes when there is something new to tell of a transcode.
type phase struct{ gpu, unsettled, throttled, complete bool }

func (s *Server) phase(j *job, now time.Time) phase {
	return phase{j.gpu, s.unsettled(j, now), s.throttled(j), j.complete}
}

// serveEvents is the notification stream [P §3.8].
func (s *Server) serveEvents(a *ask) {
	var filters []string
	if f := a.query("filters"); f != "" {
		filters = strings.Split(f, ",")
	}
	events := s.hub.join(filters)
	defer s.hub.leave(events)

	a.w.Header().Set("Content-Type", "text/event-stream")
	a.w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(a.w)
	_ = out.Flush()

	// Time makes news too: it is looked at here, as nobody else waits for it.
	look := time.NewTicker(250 * time.Millisecond)
	defer look.Stop()
	ping := time.NewTicker(10 * time.Second)
	defer ping.Stop()
	life := s.lifetime()
	for {
		var message []byte
		select {
		case n := <-events:
			message = n.sent()
		case <-look.C:
			s.mu.Lock()
			s.sweep(time.Now())
			s.mu.Unlock()
			continue
		case <-ping.C:
			message = []byte("event: ping\ndata: {}\n\n")
		case <-a.r.Context().Done():
			return
		case <-life.Done():
			return
		}
		if _, err := a.w.Write(message); err != nil {
			return
		}
		_ = out.Flush()
	}
}
