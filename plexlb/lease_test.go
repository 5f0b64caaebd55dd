package plexlb

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
)

// Nothing of a request is left in its lease for the next one.
func TestUsedLeasesAreAsNew(t *testing.T) {
	app := waitingApp(t)
	for name, tc := range map[string]struct {
		use func(l *Lease)
		end func(l *Lease)
	}{
		"a timeline whose answer was held back": {func(l *Lease) {
			l.begin("", httptest.NewRequest(http.MethodGet, "/:/timeline?state=playing&session=s&X-Plex-Client-Identifier=c&X-Plex-Token=t", nil))
			l.WriteHeader(http.StatusOK)
			_, _ = l.Write([]byte("<MediaContainer/>"))
			l.returned, l.terminated, l.failed, l.takenBack = true, true, true, true
		}, (*Lease).end},
		"a start that failed": {func(l *Lease) {
			l.begin("", httptest.NewRequest(http.MethodGet, "/video/:/transcode/universal/start.m3u8?path=x&X-Plex-Client-Identifier=c", nil))
			l.server, l.attempts = new(cluster.Server), 2
			l.shun()
			l.WriteHeader(http.StatusServiceUnavailable)
			_, _ = l.Write([]byte("full"))
			l.setAside()
			l.interrupted, l.elsewhere, l.proxy, l.asked = true, true, new(Proxy), 3
		}, (*Lease).end},
		"a segment": {func(l *Lease) {
			l.ctx, l.path = context.Background(), "/video/:/transcode/universal/session/s/base/header"
			l.beginSegment("s")
			l.given = new(bytes.Buffer)
			l.front = []byte("header")
			l.WriteHeader(http.StatusOK)
			_, _ = l.Write([]byte("film"))
			l.clientGone, l.takenBack, l.interrupted, l.failed, l.attempted, l.attempts = true, true, true, true, true, 1
		}, (*Lease).endSegment},
		"a segment whose body does not come": {func(l *Lease) {
			l.ctx, l.path = context.Background(), "/video/:/transcode/universal/session/s/base/00001.ts"
			l.beginSegment("s")
			l.WriteHeader(http.StatusOK)
		}, (*Lease).endSegment},
		"a segment that is not there": {func(l *Lease) {
			l.ctx, l.path = context.Background(), "/video/:/transcode/universal/session/s/base/00001.ts"
			l.beginSegment("s")
			l.WriteHeader(http.StatusNotFound)
			_, _ = l.Write([]byte("not found"))
		}, (*Lease).endSegment},
	} {
		t.Run(name, func(t *testing.T) {
			l := takeLease(app, &probe{header: http.Header{"Server": {"Caddy"}}})
			tc.use(l)
			tc.end(l)
			if l.body.Len() > 0 {
				t.Errorf("%q is left of the answer", l.body.String())
			}
			if len(l.tried) > 0 {
				t.Errorf("%d servers are left that shall not be tried", len(l.tried))
			}
			if e := l.early; e.armed || e.writer != nil {
				t.Error("its header is flushed once more")
			}
			// Their memory is kept; the others are set anew for each attempt.
			l.body, l.tried, l.before = bytes.Buffer{}, nil, nil
			v := reflect.ValueOf(l).Elem()
			for i := range v.NumField() {
				switch name := v.Type().Field(i).Name; name {
				case "app", "resumptions", "wait", "early":
				default:
					if !v.Field(i).IsZero() {
						t.Errorf("%s is left: %v", name, v.Field(i))
					}
				}
			}
		})
	}
}
