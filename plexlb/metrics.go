package plexlb

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
)

// others is the label of all servers together that no configuration names:
// dynamic upstreams come and go, and shall not leave a series each.
const others = "other"

// metrics are what is counted as it happens. Like all of the state they live
// through reloads, so that counters only grow. The rest is read from the ledger
// when somebody scrapes.
type metrics struct {
	polls    prometheus.Histogram
	failures *prometheus.CounterVec // by server and reason
	resumes  prometheus.Histogram

	// ends counts resumptions that moved nothing: by cause and outcome.
	ends    [][len(outcomes)]atomic.Uint64
	dropped atomic.Uint64 // events

	mu    sync.Mutex
	named map[string]bool // servers that have a series
}

// outcome says how an attempt to carry a playback, or to begin it anew, ended.
type outcome int

const (
	moved   outcome = iota // it is on another server; counted by the ledger
	resumed                // it was begun anew where it was
	failed                 // it could not be done, or not in time
	lost                   // it was given up
)

var outcomes = [...]string{"moved", "resumed", "failed", "lost"}

func newMetrics() *metrics {
	return &metrics{
		polls: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "caddy_plexlb_poll_duration_seconds",
			Help:    "Time that readings of a server's sessions took, good or not.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caddy_plexlb_poll_failures_total",
			Help: "Readings of a server's sessions that failed, by why.",
		}, []string{"server", "reason"}),
		resumes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "caddy_plexlb_resume_duration_seconds",
			Help:    "Time it took to carry a playback to another server or to begin it anew on its own. Its requests wait meanwhile, unless an operator moved it.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 15},
		}),
		ends:  make([][len(outcomes)]atomic.Uint64, len(cluster.Causes)),
		named: make(map[string]bool),
	}
}

// polled counts a reading.
func (m *metrics) polled(s *cluster.Server, took time.Duration, failure string) {
	m.polls.Observe(took.Seconds())
	if failure == "" {
		return
	}
	label := others
	if s.Named() {
		label = s.Name()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.named[label] = true
	m.failures.WithLabelValues(label, failure).Inc()
}

// keep drops the series of servers that no configuration names any more.
func (m *metrics) keep(servers []cluster.ServerSettings) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.named {
		known := func(s cluster.ServerSettings) bool { return s.Name == name }
		if name != others && !slices.ContainsFunc(servers, known) {
			m.failures.DeletePartialMatch(prometheus.Labels{"server": name})
			delete(m.named, name)
		}
	}
}

// ended counts a resumption.
func (m *metrics) ended(cause cluster.Cause, how outcome) { m.ends[cause][how].Add(1) }

// The metrics that are read when scraped.
var (
	serverUp = desc("server_up", "Whether the server is up, as Caddy's health checks and requests have it.", "server")

	serverTranscodes = desc("server_transcodes", "Transcodes on the server, by kind: gpu, cpu, or copy, which encodes no video.", "server", "kind")
	serverSessions   = desc("server_sessions", "What the server plays in all: transcodes, direct play and downloads, whoever asked for it.", "server")
	serverLoad       = desc("server_load", "Load of the server; one hardware transcode is 1 unless configured otherwise.", "server")
	serverWeight     = desc("server_weight", "Configured transcoding capacity of the server in relation to the others'.", "server")
	serverMax        = desc("server_max_transcodes", "Configured limit of video transcodes on the server; absent without one.", "server")
	serverDraining   = desc("server_draining", "Whether the server takes no new playbacks because an operator wants it empty.", "server")
	serverDegraded   = desc("server_degraded", "Whether something is quietly wrong with the server, by what.", "server", "reason")
	pollAge          = desc("poll_age_seconds", "Time since the last good reading of the server's sessions began; absent if there was none.", "server")
	placements       = desc("placements_total", "Playbacks placed on the server, by why there.", "server", "reason")
	moves            = desc("moves_total", "Playbacks that had to leave their server or begin anew there, by why and by what became of them.", "reason", "outcome")
	sessionsKnown    = desc("sessions", "Playbacks that are remembered; those that ended are for a minute.")
	eventsDropped    = desc("events_dropped_total", "Events that were not emitted because handlers were too slow.")

	descs = []*prometheus.Desc{
		serverUp, serverTranscodes, serverSessions, serverLoad, serverWeight, serverMax, serverDraining,
		serverDegraded, pollAge, placements, moves, sessionsKnown, eventsDropped,
	}
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("caddy_plexlb_"+name, help, labels, nil)
}

// collector tells of whichever state there is when it is asked. A config that
// failed leaves Caddy's admin endpoint with that config's registry, so that
// the app that registers the collector need not be the one that runs.
type collector struct{}

// registerMetrics adds the metrics to a config's registry. Every config has
// its own.
func registerMetrics(ctx caddy.Context) error {
	err := ctx.GetMetricsRegistry().Register(collector{})
	if _, already := errors.AsType[prometheus.AlreadyRegisteredError](err); already {
		return nil
	}
	return err
}

// Provision adds the metrics to the registry of the admin endpoint, which is
// there before the apps and outlives them if one cannot be loaded.
func (adminAPI) Provision(ctx caddy.Context) error { return registerMetrics(ctx) }

// Describe sends what there is to tell.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
	m := newMetrics()
	m.polls.Describe(ch)
	m.failures.Describe(ch)
	m.resumes.Describe(ch)
}

// Collect sends how things stand.
func (collector) Collect(ch chan<- prometheus.Metric) {
	states.Range(func(_, v any) bool {
		v.(*state).collect(ch, time.Now())
		return false // there is one
	})
}

// gauges are those of one server, or of several that are one to the labels.
type gauges struct {
	up, draining bool
	weight, load float64
	limit        int
	limited      bool
	jobs         [4]int
	age          float64
	read         bool
	degraded     map[string]bool
}

func (s *state) collect(ch chan<- prometheus.Metric, now time.Time) {
	gauge := func(d *prometheus.Desc, x float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, x, labels...)
	}
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}

	by := make(map[string]*gauges)
	for _, v := range s.ledger.View(now) {
		label := others
		if v.Named {
			label = v.Name
		}
		g := by[label]
		if g == nil {
			g = &gauges{up: true, limited: true, degraded: make(map[string]bool)}
			by[label] = g
		}
		down, found := s.troubles.of(v.Address)
		g.add(&v, down, found, now)
	}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		g := by[name]
		gauge(serverUp, truth(g.up), name)
		gauge(serverDraining, truth(g.draining), name)
		gauge(serverLoad, g.load, name)
		gauge(serverWeight, g.weight, name)
		sessions := 0
		for w, n := range g.jobs {
			sessions += n
			if kind := cluster.Work(w); kind != cluster.None {
				gauge(serverTranscodes, float64(n), name, kind.String())
			}
		}
		gauge(serverSessions, float64(sessions), name)
		if g.limited {
			gauge(serverMax, float64(g.limit), name)
		}
		if g.read {
			gauge(pollAge, g.age, name)
		}
		for _, r := range degradations {
			gauge(serverDegraded, truth(g.degraded[r]), name, r)
		}
	}

	counts := s.ledger.Counts()
	if n := counts.Placements[others]; by[others] != nil || counts.Others != [len(n)]uint64{} {
		for i, more := range counts.Others {
			n[i] += more
		}
		counts.Placements[others] = n
	}
	for _, name := range slices.Sorted(maps.Keys(counts.Placements)) {
		n := counts.Placements[name]
		for _, r := range cluster.PlacementReasons {
			count(placements, n[r], name, r.String())
		}
	}
	for _, cause := range cluster.Causes {
		for how, word := range outcomes {
			n := s.metrics.ends[cause][how].Load()
			if outcome(how) == moved {
				n = counts.Moves[cause]
			}
			count(moves, n, cause.String(), word)
		}
	}
	playbacks, _ := s.ledger.Len()
	gauge(sessionsKnown, float64(playbacks))
	count(eventsDropped, s.metrics.dropped.Load())
	s.metrics.polls.Collect(ch)
	s.metrics.failures.Collect(ch)
	s.metrics.resumes.Collect(ch)
}

// add counts a server in.
func (g *gauges) add(v *cluster.ServerView, down bool, found []Degradation, now time.Time) {
	g.up = g.up && !down
	g.draining = g.draining || v.Draining
	g.weight += v.Weight
	g.load += v.Load
	g.limit += v.MaxTranscodes
	g.limited = g.limited && v.MaxTranscodes > 0
	for w, n := range v.Jobs {
		g.jobs[w] += n
	}
	if !v.Picture.Good.IsZero() {
		g.age, g.read = max(g.age, now.Sub(v.Picture.Good).Seconds()), true
	}
	for _, d := range found {
		g.degraded[d.Reason] = true
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Interface guards
var (
	_ prometheus.Collector = collector{}
	_ caddy.Provisioner    = adminAPI{}
)
