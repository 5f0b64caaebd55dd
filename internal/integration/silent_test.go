package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
	"github.com/plexlb/caddy-plexlb/plexlb"
)

// logged is one line of Caddy's log.
type logged map[string]any

// readLog returns the lines that a log has so far.
func readLog(t *testing.T, file string) (lines []logged) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		line := make(logged)
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Fatalf("%v: %s", err, s.Text())
		}
		lines = append(lines, line)
	}
	return lines
}

// counted counts lines with a message, by what they say in some fields.
func counted(lines []logged, level, message string, fields ...string) map[string]int {
	n := make(map[string]int)
	for _, line := range lines {
		if line["msg"] != message || line["level"] != level {
			continue
		}
		said := make([]string, len(fields))
		for i, field := range fields {
			said[i] = fmt.Sprint(line[field])
		}
		n[strings.Join(said, ": ")]++
	}
	return n
}

// Each kind of silent trouble is one log line and one event when it begins and
// one of each when it is over, whatever is reloaded in between, and a metric
// meanwhile.
func TestSilentTroubleIsToldOnce(t *testing.T) {
	var in inbox
	hook := httptest.NewServer(&in)
	t.Cleanup(hook.Close)
	m := &managed{admin: freeAddr(t), servers: stand(t, 6, func(i int, cfg *plextest.Config) {
		switch i {
		case 0:
			cfg.GPULimit = 1
		case 1:
			cfg.NoHardware, cfg.Speed = true, 2 // half of real time in software
		}
	})}
	file := filepath.Join(t.TempDir(), "caddy.log")
	side := freeAddr(t)
	var servers strings.Builder
	for i, s := range m.servers {
		fmt.Fprintf(&servers, "\tserver plex%d %s {\n\t\tmax_transcodes 1\n", i+1, s.Addr())
		if i == 4 {
			servers.WriteString("\t\tmachine_identifier the-right-one\n")
			s.SetIdentity("the-right-one")
		}
		servers.WriteString("\t}\n")
	}
	config := func(n int) string {
		c := m.with("plexlb {\n\ttoken "+token+"\n\tpoll_interval 300ms\n\tpoll_timeout 1s\n"+servers.String()+"}\n"+
			"events {\n\ton plexlb.server_degraded plexlb_webhook "+hook.URL+"\n}\n",
			"\tplexlb\n", fmt.Sprintf("http://%s {\n\tplexlb plex6\n\trespond /%d 204\n}\n", side, n))
		return strings.Replace(c, "log {\n\t\toutput discard\n\t}", "log {\n\t\toutput file "+file+"\n\t\tformat json\n\t}", 1)
	}
	m.balancer = load(t, config(0))

	const all = "plex1, plex2, plex3, plex4, plex5, plex6"
	type trouble struct {
		reason, server string // as it is told
		begin, end     func()
	}
	plex := m.servers
	play := func(seed uint64) error {
		v := plextest.NewViewer(plextest.MPVShim, "http://"+side, token, fmt.Sprint(seed), seed)
		defer v.Close()
		defer func() { _ = v.Stop(t.Context()) }()
		return v.Start(t.Context())
	}
	troubles := []trouble{
		// In this order: what is not read any more must be full before.
		{plexlb.AllFull, all, func() {
			for _, s := range plex {
				s.AddBypass(1)
			}
		}, func() {
			for _, s := range plex {
				s.EndBypass()
			}
		}},
		{plexlb.PollStale, "plex3", func() { plex[2].SetPoll(plextest.PollHTML) }, func() { plex[2].SetPoll(plextest.PollGood) }},
		{plexlb.GPUFallback, "plex1", func() { plex[0].AddBypass(1) }, func() {}}, // it ends with the second transcode
		{plexlb.SlowTranscode, "plex2", func() {}, func() {}},                     // so does this with the only one
		{plexlb.Shunned, "plex6", func() {
			plex[5].FailStarts(500)
			for seed := range uint64(3) {
				if play(1+seed) == nil {
					t.Error("a start that was to fail did not")
				}
			}
		}, func() {
			plex[5].FailStarts(0)
			if err := play(9); err != nil { // tried by somebody all the same, it works
				t.Error(err)
			}
		}},
		{plexlb.TokenRejected, "plex4", func() { plex[3].SetPoll(plextest.Poll403) }, func() { plex[3].SetPoll(plextest.PollGood) }},
		{plexlb.IdentityChanged, "plex5", func() {
			plex[4].SetIdentity("a-wrong-one")
			plex[4].SetPoll(plextest.PollEmpty) // as it was away meanwhile
			time.Sleep(time.Second)
			plex[4].SetPoll(plextest.PollGood)
		}, func() { plex[4].SetIdentity("the-right-one") }},
	}
	reasons := make(map[string]bool)
	for _, tr := range troubles {
		reasons[tr.reason] = true
	}
	series := scrape(t, m.admin).values["server_degraded"]
	if len(series) != len(plex)*len(reasons) {
		t.Errorf("%d series of %d reasons", len(series), len(reasons))
	}
	for label := range series {
		if m := regexp.MustCompile(`reason="(\w+)"`).FindStringSubmatch(label); len(m) < 2 || !reasons[m[1]] {
			t.Errorf("%s is not tried", label)
		}
	}

	told := func(begins bool) map[string]int {
		n := make(map[string]int)
		for _, e := range in.of("server_degraded", "degraded", fmt.Sprint(begins)) {
			if e.Data["detail"] == "" {
				t.Errorf("without detail: %v", e.Data)
			}
			n[fmt.Sprint(e.Data["reason"], ": ", e.Data["server"])]++
		}
		return n
	}
	want := make(map[string]int)
	for i, tr := range troubles {
		want[tr.reason+": "+tr.server] = 1
		if tr.reason == plexlb.TokenRejected {
			// These two are not read, either: they are not to be stale as well.
			time.Sleep(12 * time.Second)
		}
		tr.begin()
		if i == 0 {
			eventually(t, "all are full", 10*time.Second, func() bool { return maps.Equal(told(true), want) })
		}
	}
	eventually(t, "all begins are told", 35*time.Second, func() bool { return maps.Equal(told(true), want) })

	metrics := func() []string {
		var on []string
		for label, v := range scrape(t, m.admin).values["server_degraded"] {
			switch {
			case v == 1:
				on = append(on, label)
			case v != 0:
				t.Errorf("%s is %v", label, v)
			}
		}
		slices.Sort(on)
		return on
	}
	var wantOn []string
	for _, tr := range troubles {
		for _, server := range strings.Split(tr.server, ", ") {
			wantOn = append(wantOn, fmt.Sprintf("reason=%q,server=%q", tr.reason, server))
		}
	}
	slices.Sort(wantOn)
	if on := metrics(); !slices.Equal(on, wantOn) {
		t.Errorf("the metric is 1 for\n%v, want\n%v", on, wantOn)
	}
	for n := range 2 {
		if err := m.reload(config(n + 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond)
	}
	if on := metrics(); !slices.Equal(on, wantOn) {
		t.Errorf("after reloads it is 1 for\n%v, want\n%v", on, wantOn)
	}
	if len(told(false)) != 0 {
		t.Errorf("said to be over: %v", told(false))
	}

	for _, tr := range slices.Backward(troubles) {
		tr.end()
	}
	eventually(t, "all ends are told", 25*time.Second, func() bool { return maps.Equal(told(false), want) })
	if on := metrics(); len(on) > 0 {
		t.Errorf("all is well, and the metric is 1 for %v", on)
	}
	if got := told(true); !maps.Equal(got, want) {
		t.Errorf("told to begin: %v, want each once: %v", got, want)
	}
	lines := readLog(t, file)
	if got := counted(lines, "warn", "server is degraded", "reason", "server"); !maps.Equal(got, want) {
		t.Errorf("logged to begin: %v, want each once: %v", got, want)
	}
	if got := counted(lines, "info", "server is no longer degraded", "reason", "server"); !maps.Equal(got, want) {
		t.Errorf("logged to end: %v, want each once: %v", got, want)
	}
}
