//go:build unix

package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// expected is what Caddy may complain about in such a house: servers that do
// not answer, viewers who hang up, configs that are wrong.
var expected = regexp.MustCompile(`^(` + strings.Join([]string{
	"warn plexlb: (server is down|server is degraded)",
	"warn plexlb: playback lost",                       // which is looked at one by one
	"warn plexlb: playback stays on a draining server", // for some seconds, if two others refuse it
	"warn plexlb.poller: cannot read sessions; the last reading stays in force",
	"warn http.handlers.reverse_proxy: aborting with incomplete response",
	"error http.log.error: the playback could not be resumed in time", // which is looked at one by one
	"error http.log.error: (dial tcp |read tcp |EOF|a request that may have been carried out is not repeated|not every server could be asked for the session|" +
		"the playback is a stream, which its player has to begin again|the playback's server is not available|no upstreams available|.*(context canceled|connection (refused|reset by peer)|server closed idle connection|transport connection broken))",
	"error admin.api: request error",
	"error admin: stopping current admin endpoint",           // while somebody is being answered there
	"error events: context canceled; event handling stopped", // of a config that is replaced just as its check finds a server up or down; the next finds it as well
	"warn http: HTTP/[23] skipped because it requires TLS",
	"warn <nil>: Caddyfile input is not formatted",
	"warn (http.auto_https|admin|caddyfile|config.adapter.caddyfile|tls|pki).*",
}, "|") + `)`)

// brief is a line of the log without what is the same in all.
func brief(line logged) string {
	text := fmt.Sprintf("%s %v", said(line).Format("15:04:05.000"), line["msg"])
	for _, name := range slices.Sorted(maps.Keys(line)) {
		switch name {
		case "ts", "msg", "level", "logger", "session":
		default:
			text += fmt.Sprintf(" %s=%.200s", name, fmt.Sprint(line[name]))
		}
	}
	return text
}

// said is when a line of the log was.
func said(line logged) time.Time {
	at, _ := line["ts"].(float64)
	return time.UnixMicro(int64(at * 1e6))
}

// said reads Caddy's log, which has ended: there is nothing in it but what is
// expected, no token, and nothing was lost but what cannot be carried.
func (s *soak) said() {
	s.t.Helper()
	n, lost := make(map[string]int), 0
	lines := bufio.NewScanner(bytes.NewReader(s.caddy.said.Bytes()))
	lines.Buffer(nil, 4<<20) // junk is told as it came
	for lines.Scan() {
		if strings.Contains(lines.Text(), token) {
			s.t.Errorf("a token: %s", lines.Text())
		}
		line := make(logged)
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			n["error : no line of a log"]++ // which kill has shown if it is bad
			continue
		}
		level, message := fmt.Sprint(line["level"]), fmt.Sprint(line["msg"])
		if nth, ok := s.tally.suspects[fmt.Sprint(line["session"])]; ok && nth < len(s.tally.wrong) {
			s.tally.wrong[nth] += "\n\tCaddy: " + brief(line)
		}
		if level != "warn" && level != "error" {
			continue
		}
		what := fmt.Sprintf("%s %v: %s", level, line["logger"], message)
		if !expected.MatchString(what) {
			s.t.Errorf("Caddy said: %.2000s", lines.Text())
		}
		n[what]++
		switch message {
		case "the playback could not be resumed in time":
			// Three servers are always well. It takes some eight seconds to find
			// that one hangs, though, and twice that if it went on at one that
			// hangs next.
			if at := said(line); s.faults.suffering(at.Add(-16*time.Second), at, "hung") < 2 {
				s.t.Errorf("Caddy said: %.2000s; there were %s", lines.Text(), s.faults.between(at.Add(-time.Minute), at)+s.strain.slowness(at.Add(-16*time.Second), at))
			}
			continue
		case "playback lost":
			lost++
		default:
			continue
		}
		if at, server := said(line), fmt.Sprint(line["server"]); !s.faults.during(at.Add(-time.Second), at, server) {
			s.t.Errorf("a stream was lost without a fault of its server: %s; its viewer saw\n%s", lines.Text(), s.tally.streams[fmt.Sprint(line["session"])])
		}
		if kind := s.tally.ids[fmt.Sprint(line["session"])]; kind != plextest.MusicHTTP {
			s.t.Errorf("a playback of %q was lost, which could have been carried: %s", kind, lines.Text())
		}
	}
	if err := lines.Err(); err != nil {
		s.t.Errorf("reading Caddy's log: %v", err)
	}
	for _, what := range slices.Sorted(maps.Keys(n)) {
		s.t.Logf("  %6d × %s", n[what], what)
	}
	s.t.Logf("%d playbacks were lost; all that may be are streams without segments, with their servers", lost)
}
