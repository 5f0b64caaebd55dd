package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// machine says what this ran on.
func machine() string {
	model, memory, kernel := runtime.GOARCH, "", ""
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib int
		if _, err := fmt.Sscanf(string(text), "MemTotal: %d kB", &kib); err == nil {
			memory = fmt.Sprintf(", %.1f GiB of memory", float64(kib)/(1<<20))
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = ", Linux " + strings.TrimSpace(string(text))
	}
	return fmt.Sprintf("%s, %d cores%s%s", model, runtime.NumCPU(), memory, kernel)
}

// versions says what ran.
func versions(peers []peer) string {
	var list []string
	told := make(map[string]bool)
	for _, p := range peers {
		if !told[p.program] {
			told[p.program] = true
			name, _, _ := strings.Cut(strings.TrimPrefix(p.name, "plexlb"), " ")
			if name == "" {
				name = "Caddy"
			}
			list = append(list, name+" "+versionOf(p))
		}
	}
	return strings.Join(list, ", ") + ", " + runtime.Version()
}

// table is one of Markdown.
type table struct{ b strings.Builder }

func newTable(peers []peer) *table {
	t := new(table)
	cells, rule := []string{""}, []string{"---"}
	for _, p := range peers {
		cells, rule = append(cells, p.name), append(rule, "---")
	}
	t.line(cells)
	t.line(rule)
	return t
}

func (t *table) line(cells []string) { fmt.Fprintf(&t.b, "| %s |\n", strings.Join(cells, " | ")) }

// row has a cell for each of n peers.
func (t *table) row(name string, n int, cell func(peer int) string) {
	cells := []string{name}
	for i := range n {
		cells = append(cells, cell(i))
	}
	t.line(cells)
}

// written is what BENCHMARKS.md says of the peers.
func written(o options, peers []peer, c costs, b behaviour, took time.Duration) string {
	var s strings.Builder
	fmt.Fprintf(&s, "## Beside other proxies\n\n%s, by `%s` in %s.\n\nOn %s; %s. Proxies, servers and clients are on the same machine, at 127.0.0.1, without TLS.\n",
		time.Now().UTC().Format("2006-01-02"), command(), took.Round(time.Second), machine(), versions(peers))
	if c != nil {
		s.WriteString("\n### What a request costs\n\n" + c.table(peers) + costNotes(len(c[0][0]), o.servers))
	}
	if b != nil {
		s.WriteString("\n### What viewers meet\n\n" + b.table(watched(peers)) + behaviourNotes(len(b[0])))
	}
	return s.String()
}

func (c costs) sample(kind, peer int, of func(cost) float64) (s sample) {
	for _, x := range c[kind][peer] {
		s = append(s, of(x))
	}
	return s
}

// ratio compares a peer's processor time to the baseline's in the same round.
func (c costs) ratio(kind, peer int) (s sample) {
	for round, x := range c[kind][peer] {
		s = append(s, x.processor/c[kind][baseline][round].processor)
	}
	return s
}

func (c costs) table(peers []peer) string {
	t := newTable(peers)
	for k, kind := range kinds {
		t.row(kind.name+": CPU time, µs", len(peers), func(i int) string {
			return c.sample(k, i, func(x cost) float64 { return x.processor }).show("%.0f")
		})
		t.row("× that of Caddy `least_conn`", len(peers), func(i int) string {
			if i == baseline {
				return "1"
			}
			return c.ratio(k, i).showOver(lives, "%.2f")
		})
		t.row("requests per second", len(peers), func(i int) string {
			return c.sample(k, i, func(x cost) float64 { return x.perSecond }).show("%.0f")
		})
		t.row("p50 / p99, ms", len(peers), func(i int) string {
			return fmt.Sprintf("%.2f / %.2f", c.sample(k, i, func(x cost) float64 { return x.p50 }).median(),
				c.sample(k, i, func(x cost) float64 { return x.p99 }).median())
		})
	}
	return t.b.String()
}

func costNotes(rounds, servers int) string {
	return fmt.Sprintf(`
Medians of %d spans at each proxy, which take turns and are started anew eight times, with quartiles, and for ratios first with twice the standard error, from how the medians of the eight differ; servers behind each proxy: %d. CPU time is that of all processes of the proxy, health checks and readings of sessions included; ratios are taken within a turn. %d connections ask as fast as they are answered, so requests per second and latencies are those of a machine that proxy, servers and clients share.

All Caddys have the options that the directive plexlb sets (health checks, retries, no compression), also where that is not their default. plexlb has the log format that belongs to it, which leaves tokens out and spares Caddy the encoding of requests of which nothing is logged; one stock Caddy leaves them out with Caddy's filter, and one has the flush_interval of -1 that is often advised for media. In mode replicated, which is the one where no other is named, plexlb sends listings to the primary server and the rest to any, and timelines of playbacks that are elsewhere, here two of three, to the primary as well: such a copy is a second request. Of timelines that say nothing new but the time it copies one a second of each item that a client plays, so few of these thousands are copied; of those of a new state, all. Players send a timeline every ten seconds, so in mode replicated theirs cost what those of a new state do. In mode separate each client is at a server of its own, and nothing is copied.
`, rounds, servers, connections)
}

func (b behaviour) sample(peer int, of func(seen) float64) (s sample) {
	for _, r := range b[peer] {
		s = append(s, of(r))
	}
	return s
}

func (b behaviour) table(peers []peer) string {
	n := len(peers)
	t := newTable(peers)
	percent := func(of func(seen) float64) func(int) string {
		return func(i int) string {
			return b.sample(i, func(r seen) float64 { return 100 * of(r) }).show("%.0f") + " %"
		}
	}
	t.row("starts of a burst on a wrong server", n, percent(func(r seen) float64 { return r.misplaced }))
	t.row("server switches per playback", n, func(i int) string {
		return b.sample(i, func(r seen) float64 { return r.switches }).show("%.1f")
	})
	t.row("playbacks without a lost segment", n, percent(func(r seen) float64 { return r.whole }))
	t.row("answers 503", n, func(i int) string {
		return b.sample(i, func(r seen) float64 { return float64(r.busy) }).show("%.0f")
	})
	for _, loss := range []struct {
		name  string
		of    func(seen) failover
		after time.Duration
	}{
		{"server killed", func(r seen) failover { return r.killed }, afterDeath},
		{"server hangs", func(r seen) failover { return r.hung }, afterHang},
	} {
		t.row(loss.name+": its playbacks that went on, in all repeats", n, func(i int) string {
			hit, carried := 0, 0
			for _, r := range b[i] {
				f := loss.of(r)
				hit, carried = hit+f.hit, carried+f.carried
			}
			return fmt.Sprintf("%d of %d", carried, hit)
		})
		t.row("their longest wait for a segment, s", n, func(i int) string { return b.waits(i, loss.of).show("%.1f") })
		t.row("answers 503 to viewers", n, func(i int) string {
			return b.sample(i, func(r seen) float64 { return float64(loss.of(r).busy) }).show("%.0f")
		})
		// One repeat without an end is worth telling.
		within := func(end func(failover) bool, of func(failover) time.Duration) func(int) string {
			return func(i int) string {
				for _, r := range b[i] {
					if !end(loss.of(r)) {
						return fmt.Sprintf("over %.0f", loss.after.Seconds())
					}
				}
				return b.sample(i, func(r seen) float64 { return of(loss.of(r)).Seconds() }).show("%.1f")
			}
		}
		t.row("pictures: trouble for new requests ends after, s", n, within(
			func(f failover) bool { return !f.lasting }, func(f failover) time.Duration { return f.trouble }))
		t.row("longest wait for one, s", n, within(
			func(f failover) bool { return !f.cut }, func(f failover) time.Duration { return f.longest }))
		t.row("pictures that failed", n, percent(func(r seen) float64 { return loss.of(r).failed }))
	}
	return t.b.String()
}

func behaviourNotes(repeats int) string {
	return fmt.Sprintf(`
Medians of %d repeats, with quartiles where they differ; playbacks that went on are counted in all of them together. %d viewers of six kinds (Plex Web, Plex for iOS, Plex for Kodi, Plex MPV Shim, plex-api-rs, Plezy), each from an address of its own, come at once to three servers of the same strength; each watches segments of %v. *Wrong* is a start on a server that has more than its third. A *switch* is a request of a playback that another server answers than the one before; the servers share nothing but their library, so a segment asked of the wrong one is lost. *Pictures* are requests that any server can answer, eighty a second from sixteen more addresses; *trouble* is one that fails or takes over a second. The server that is lost is not the primary. What was not there %v after a server was killed, or %v after one hung, did not go on. The 503s of plexlb are for the timelines that were under way to the server that hung: they write, so they are not repeated, and the player sends the next one.

HAProxy sticks to the session in the path or the query, else to X-Plex-Client-Identifier, and checks /identity every two seconds, two failures being the end. nginx hashes the session in the path or the query, else the client's address, and has no active checks.
`, repeats, audience, segmentDuration, afterDeath, afterHang)
}
