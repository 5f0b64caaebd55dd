package plexlb

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// limited counts how often a limit is set.
type limited struct {
	probe
	limits []time.Time
}

func (l *limited) SetWriteDeadline(at time.Time) error {
	l.limits = append(l.limits, at)
	return nil
}

// The limit of a day is set now and then, but for HTTP/2, and the usual one is in
// force again at the end.
func TestAPauseIsAllowed(t *testing.T) {
	const parts = limitEvery + 10
	for name, tc := range map[string]struct {
		clear bool
		want  int // for all parts and the end
	}{"HTTP/1.1": {false, 3}, "HTTP/2": {true, 2 * parts}} {
		t.Run(name, func(t *testing.T) {
			client := &limited{probe: probe{header: make(http.Header)}}
			writer := &caddyhttp.IdleTimeoutWriter{
				ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: client},
				Ctrl:                  http.NewResponseController(client),
				Deadline:              caddyhttp.IdleDeadline{Start: time.Now(), Timeout: time.Minute},
				Logger:                zap.NewNop(), ClearBetweenWrites: tc.clear,
			}
			l := &Lease{pause: pause{writer: writer, restore: writer.Override(longestPause, 0, 0)}}
			l.status, l.ResponseWriter = http.StatusOK, writer
			for range parts {
				if _, err := l.Write([]byte("film")); err != nil {
					t.Fatal(err)
				}
			}
			if in := time.Until(client.limits[0]); in < longestPause-time.Minute {
				t.Errorf("the client may pause for %v", in)
			}
			l.pause.end()
			if len(client.limits) != tc.want {
				t.Errorf("limits were set %d times, want %d", len(client.limits), tc.want)
			}
			if in := time.Until(client.limits[len(client.limits)-1]); in > time.Minute {
				t.Errorf("in the end it may pause for %v", in)
			}
		})
	}
}
