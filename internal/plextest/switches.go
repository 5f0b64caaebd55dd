package plextest

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Poll is how the endpoints that tell about sessions answer.
type Poll int32

const (
	PollGood        Poll = iota // the truth
	Poll401                     // token refused
	Poll403                     // token of somebody else
	Poll503                     // maintenance page
	PollHTML                    // 200 and a web page
	PollTruncated               // 200 and half of the document
	PollHuge                    // 200 and 64 MB of valid JSON
	PollHang                    // accepted, never answered
	PollEmpty                   // 200 and no body
	PollWrongJSON               // 200 and {}
	PollOtherServer             // the answers of some other PMS; /identity and / change with it
)

// switches make a server misbehave. All may be flipped while it serves.
type switches struct {
	poll                  atomic.Int32
	maintenance           atomic.Bool
	identityInMaintenance atomic.Bool
	failStarts            atomic.Int32
	delay                 atomic.Int64
	ahead                 atomic.Int64

	mu   sync.Mutex
	hung chan struct{} // closed when the server comes round; nil while it is well
}

// SetPoll changes how sessions are reported.
func (s *Server) SetPoll(p Poll) { s.switches.poll.Store(int32(p)) }

// SetMaintenance makes the server answer 503 with the maintenance document
// [P §2]. /identity goes on, unless SetMaintenanceIdentity says otherwise.
func (s *Server) SetMaintenance(on bool) { s.switches.maintenance.Store(on) }

// SetMaintenanceIdentity says whether /identity answers 200 during
// maintenance, which nobody knows [P §9.1]. The default, true, is the harder
// one for a health check.
func (s *Server) SetMaintenanceIdentity(ok bool) { s.switches.identityInMaintenance.Store(ok) }

// SetIdentity changes the machineIdentifier.
func (s *Server) SetIdentity(machineIdentifier string) { s.machine.Store(machineIdentifier) }

// SetVersion changes the version of PMS.
func (s *Server) SetVersion(version string) { s.version.Store(version) }

// SetClock makes the server's clock be ahead, or behind if that is less than 0;
// the Date header of its answers tells.
func (s *Server) SetClock(ahead time.Duration) { s.switches.ahead.Store(int64(ahead)) }

// SetTranscodeLimit changes how many video transcodes are accepted; zero is
// any number.
func (s *Server) SetTranscodeLimit(n int) { s.transcodeLimit.Store(int64(n)) }

// FailStarts answers decisions and starts with an HTTP status; zero ends it.
func (s *Server) FailStarts(status int) { s.switches.failStarts.Store(int32(status)) }

// SetDelay makes every answer wait.
func (s *Server) SetDelay(d time.Duration) { s.switches.delay.Store(int64(d)) }

// Hang leaves every request unanswered, as a stopped process does. Requests
// still waiting when it ends are answered then.
func (s *Server) Hang(on bool) {
	sw := &s.switches
	sw.mu.Lock()
	defer sw.mu.Unlock()
	switch {
	case on && sw.hung == nil:
		sw.hung = make(chan struct{})
	case !on && sw.hung != nil:
		close(sw.hung)
		sw.hung = nil
	}
}

// Forget drops all sessions and leaves connections alone. What the database
// holds stays: play queues, stream choices, watch state.
func (s *Server) Forget() { s.forgetNow() }

// Restart is Forget for a new process: connections break as well, and
// transient tokens are worth nothing any more [P §6.3].
func (s *Server) Restart() {
	s.netMu.Lock()
	s.die()
	s.life, s.die = context.WithCancel(context.Background())
	s.netMu.Unlock()
	s.forgetNow()
	s.dropConns()
}

// interfere plays the part of a broken server. It reports whether the request
// is dealt with.
func (s *Server) interfere(a *ask) bool {
	sw := &s.switches
	for {
		sw.mu.Lock()
		hung := sw.hung
		sw.mu.Unlock()
		if hung == nil {
			break
		}
		wait(s, a, hung)
	}
	if d := time.Duration(sw.delay.Load()); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		wait(s, a, t.C)
	}
	if sw.maintenance.Load() && !(a.is("identity") && sw.identityInMaintenance.Load()) {
		s.maintenance(a)
		return true
	}
	if a.under("status", "sessions") || a.under("transcode", "sessions") {
		return s.interferePoll(a, Poll(sw.poll.Load()))
	}
	if status := int(sw.failStarts.Load()); status != 0 && a.who != nobody &&
		a.under("*", ":", "transcode", "universal", "*") && (a.parts[4] == "decision" || isStart(a.parts[4])) {
		a.page(status, http.StatusText(status))
		return true
	}
	return false
}

// maintenance is what a PMS says while it migrates its database [P §2].
func (s *Server) maintenance(a *ask) {
	a.text(http.StatusServiceUnavailable, "text/xml;charset=utf-8",
		[]byte(`<Response code="503" title="Maintenance" status="Plex Media Server is currently running database migrations."/>`))
}

func (s *Server) interferePoll(a *ask, p Poll) bool {
	switch p {
	case Poll401:
		s.unauthorized(a)
	case Poll403:
		a.page(http.StatusForbidden, "Forbidden")
	case Poll503:
		s.maintenance(a)
	case PollHTML:
		a.page(http.StatusOK, "Welcome")
	case PollTruncated:
		contentType, body := a.render(s.statusSessions())
		a.text(http.StatusOK, contentType, body[:len(body)/2])
	case PollHuge:
		a.w.Header().Set("Content-Type", "application/json")
		chunk := []byte(strings.Repeat("x", 64<<10))
		_, err := a.w.Write([]byte(`{"MediaContainer":{"size":1,"Metadata":[{"title":"`))
		for range 1024 {
			if err != nil {
				return true
			}
			_, err = a.w.Write(chunk)
		}
		_, _ = a.w.Write([]byte(`"}]}}`))
	case PollHang:
		wait[struct{}](s, a, nil)
	case PollEmpty:
		a.text(http.StatusOK, "application/json", nil)
	case PollWrongJSON:
		a.text(http.StatusOK, "application/json", []byte("{}"))
	case PollOtherServer:
		a.answer(container(1).add(newElement("Track").as("Metadata").
			set("ratingKey", "77").set("sessionKey", "3").set("type", "track").set("title", "A song of another house").
			add(newElement("Session").object().set("id", "another-session").set("bandwidth", 990).set("location", "lan"))))
	default:
		return false
	}
	return true
}

// wait returns when ch does. If the client leaves or the server dies before,
// it gives the request up without an answer.
func wait[T any](s *Server, a *ask, ch <-chan T) {
	select {
	case <-ch:
		return
	case <-a.r.Context().Done():
	case <-s.lifetime().Done():
	}
	panic(http.ErrAbortHandler)
}
