//go:build unix

package integration

import (
	"bufio"
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
// not answer, viewers who hang up, configs that are wrong. That a playback could
// not be resumed in time is not among it: three servers are always well.
var expected = regexp.MustCompile(`^(` + strings.Join([]string{
	"warn plexlb: (server is down|server is degraded)",
	"warn plexlb: playback lost",                       // which is looked at one by one
	"warn plexlb: playback stays on a draining server", // for some seconds, if two others refuse it
	"warn plexlb.poller: cannot read sessions; the last reading stays in force",
	"warn http.handlers.reverse_proxy: aborting with incomplete response",
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
	for lines := bufio.NewScanner(strings.NewReader(s.caddy.said.String())); lines.Scan(); {
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
		if n[what]++; message != "playback lost" {
			continue
		}
		lost++
		if at, server := said(line), fmt.Sprint(line["server"]); !s.faults.during(at.Add(-time.Second), at, server) {
			s.t.Errorf("a stream was lost without a fault of its server: %s", lines.Text())
		}
		if kind := s.tally.ids[fmt.Sprint(line["session"])]; kind != plextest.MusicHTTP {
			s.t.Errorf("a playback of %q was lost, which could have been carried: %s", kind, lines.Text())
		}
	}
	for _, what := range slices.Sorted(maps.Keys(n)) {
		s.t.Logf("  %6d × %s", n[what], what)
	}
	s.t.Logf("%d streams without segments were lost with their servers, and nothing else", lost)
}
