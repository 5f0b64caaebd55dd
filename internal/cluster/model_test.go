package cluster

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"
)

// Whatever happens in whatever order, the books balance; and two ledgers that
// are told the same agree.
func TestBooksBalanceWhateverHappens(t *testing.T) {
	steps := 4_000
	if testing.Short() {
		steps = 500
	}
	for _, replicated := range []bool{false, true} {
		for seed := range uint64(6) {
			t.Run(fmt.Sprintf("replicated %v, seed %d", replicated, seed), func(t *testing.T) {
				now := time.Now()
				set := Settings{Replicated: replicated, Primary: "a", MaxPlaybacks: 30, SlowStart: 30 * time.Second, Reject: seed%2 == 0}
				one, other := newWalk(t, seed, set, now), newWalk(t, seed, set, now)
				for i := range steps {
					said := one.step()
					if also := other.step(); also != said {
						t.Fatalf("step %d: one says %q, the other %q", i, said, also)
					}
					check(t, one.l)
					playbacks, clients := one.l.Len()
					if most := 30 + len(one.open); playbacks > most || clients > most {
						t.Errorf("%d playbacks and %d clients are remembered", playbacks, clients)
					}
					if t.Failed() {
						t.Fatalf("after step %d: %s", i, said)
					}
				}
				if !reflect.DeepEqual(views(one), views(other)) {
					t.Error("the ledgers differ in the end")
				}
				// All requests end and nobody comes back.
				one.settleAll()
				for range 60 {
					one.now = one.now.Add(time.Minute)
					one.l.Tick(one.now)
				}
				for _, s := range one.l.Servers().List() {
					one.l.Observe(s, nil, one.now, one.now)
					one.l.Observe(s, nil, one.now.Add(time.Second), one.now.Add(time.Second))
				}
				one.now = one.now.Add(time.Minute)
				one.l.Tick(one.now)
				empty(t, one.l)
			})
		}
	}
}

// The same from many sides at once, for the race detector.
func TestBooksBalanceWhenAllHappensAtOnce(t *testing.T) {
	for _, replicated := range []bool{false, true} {
		t.Run(fmt.Sprint("replicated ", replicated), func(t *testing.T) {
			now := time.Now()
			set := Settings{Replicated: replicated, Primary: "a", MaxPlaybacks: 30}
			first := newWalk(t, 0, set, now)
			var wg sync.WaitGroup
			for i := range uint64(8) {
				w := newWalk(t, i, set, now)
				w.l = first.l
				wg.Go(func() {
					for range 1_000 {
						w.step()
					}
					w.settleAll()
				})
			}
			for range 2 {
				wg.Go(func() {
					for range 300 {
						first.l.View(now)
						first.l.Playbacks()
						first.l.Explain("t1")
						first.l.FindSegment("t2")
					}
				})
			}
			wg.Wait()
			check(t, first.l)
			for _, m := range first.l.playbacks.members {
				if n := m.owner.holds.Load(); n != 0 {
					t.Errorf("%d holds are left", n)
				}
			}
		})
	}
}

func views(w *walk) any {
	var names []any
	for _, v := range w.l.View(w.now) {
		names = append(names, v)
	}
	for _, p := range w.l.Playbacks() {
		p.Why.Chosen, p.Why.Table = nil, nil
		names = append(names, p)
	}
	return names
}

// walk does one random thing after the other.
type walk struct {
	rng  *rand.Rand
	l    *Ledger
	set  Settings
	now  time.Time
	open []pendingRequest
	cfg  []ServerSettings
}

type pendingRequest struct {
	q Query
	h Hold
}

func newWalk(t *testing.T, seed uint64, set Settings, now time.Time) *walk {
	w := &walk{rng: rand.New(rand.NewPCG(seed, 7)), l: NewLedger(now), set: set, now: now, cfg: named(4, 2, 1)}
	w.cfg[1].MaxTranscodes = 3
	w.l.Configure(set, w.cfg, now)
	return w
}

func (w *walk) id(kind string, n int) string {
	if w.rng.IntN(4) == 0 {
		return ""
	}
	return fmt.Sprint(kind, w.rng.IntN(n))
}

func (w *walk) query() Query {
	r := w.rng
	q := Query{
		IDs:  IDs{w.id("t", 60), w.id("s", 60), "", w.id("c", 40)},
		Role: Role(r.IntN(6)), Site: fmt.Sprint("site", r.IntN(2)), Work: Work(r.IntN(4)), Item: fmt.Sprint(r.IntN(5)),
		Writes: r.IntN(5) == 0,
	}
	if r.IntN(5) == 0 {
		q.Transcode = q.Client
	}
	if r.IntN(6) == 0 {
		q.Playback = w.id("s", 60)
	}
	if r.IntN(6) == 0 {
		q.Near = w.id("t", 60)
	}
	if r.IntN(3) == 0 {
		q.Alias = 1 + uint64(r.IntN(10))
	}
	q.Begins = q.Role == Stream || q.Role == Start && r.IntN(2) == 0
	return q
}

func (w *walk) server() *Server {
	list := w.l.Servers().List()
	return list[w.rng.IntN(len(list))]
}

func (w *walk) pool(h *Hold) (pool []Candidate) {
	for _, s := range w.l.Servers().List() {
		c := Candidate{Server: s}
		switch w.rng.IntN(12) {
		case 0:
			c.Out = Down
		case 1:
			if s == h.Server {
				c.Out = Tried
			}
		}
		pool = append(pool, c)
	}
	return pool
}

func (w *walk) reports(s *Server) (reports []Report) {
	for n := w.rng.IntN(6); n > 0; n-- {
		r := Report{ID: fmt.Sprint("t", w.rng.IntN(60)), Client: w.id("c", 40), Session: w.id("s", 60), Title: "title", Work: Work(w.rng.IntN(4))}
		if r.Work == None {
			r.ID = fmt.Sprint("\x00session ", w.rng.IntN(9))
		}
		reports = append(reports, r)
	}
	// Mostly what is there goes on.
	w.l.mu.RLock()
	defer w.l.mu.RUnlock()
	for _, m := range w.l.playbacks.members {
		if p := m.owner; p.server == s && p.ids.Transcode != "" && p.job.server == s && len(p.ids.Transcode)%3 != w.rng.IntN(6) {
			reports = append(reports, Report{ID: p.ids.Transcode, Client: p.ids.Client, Session: p.ids.Session, Work: GPU})
		}
	}
	return reports
}

func (w *walk) settle(i int) string {
	r := w.open[i]
	w.open = append(w.open[:i], w.open[i+1:]...)
	outcome := Outcome(w.rng.IntN(int(Unwatched) + 1))
	if w.rng.IntN(2) == 0 {
		outcome = Accepted
	}
	if w.rng.IntN(3) == 0 && r.q.Role == Start {
		w.l.Decided(&r.h, Work(w.rng.IntN(4)), w.now)
	}
	w.l.Settle(&r.q, &r.h, outcome, w.now)
	return fmt.Sprint("settle ", r.q, outcome)
}

func (w *walk) settleAll() {
	for len(w.open) > 0 {
		w.settle(0)
	}
}

func (w *walk) step() string {
	r := w.rng
	w.now = w.now.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
	w.l.Now(w.now)
	switch n := r.IntN(100); {
	case n < 45:
		q := w.query()
		h := w.l.Find(&q, w.now)
		said := fmt.Sprint("find ", q)
		if h.Server != nil {
			said += " " + h.Server.Name()
		}
		if h.Server == nil || r.IntN(5) == 0 {
			pool := w.pool(&h)
			i, reason := w.l.Place(&q, &h, pool, w.now)
			said += fmt.Sprint(" place ", i, reason)
			if i >= 0 && pool[i].Out != In {
				return said + " which cannot be used"
			}
		}
		w.open = append(w.open, pendingRequest{q, h})
		if len(w.open) > 12 {
			said += "; " + w.settle(r.IntN(len(w.open)))
		}
		return said
	case n < 65 && len(w.open) > 0:
		return w.settle(r.IntN(len(w.open)))
	case n < 70:
		id := fmt.Sprint("t", r.IntN(60))
		s := w.l.FindSegment(id)
		if s == nil {
			return "no segment " + id
		}
		return "segment " + id + s.Name()
	case n < 75:
		q := w.query()
		w.l.Stopped(&q, w.now)
		return fmt.Sprint("stopped ", q)
	case n < 83:
		s := w.server()
		reports := w.reports(s)
		w.l.Observe(s, reports, w.now.Add(-time.Duration(r.IntN(4))*time.Second), w.now)
		return fmt.Sprint("observe ", s.Name(), reports)
	case n < 86:
		s := w.server()
		rep := Report{ID: fmt.Sprint("t", r.IntN(60)), Work: Work(1 + r.IntN(3))}
		w.l.Seen(s, rep, w.now)
		return fmt.Sprint("seen ", s.Name(), rep)
	case n < 88:
		s := w.server()
		id := fmt.Sprint("t", r.IntN(60))
		w.l.Gone(s, id, w.now)
		return "gone " + s.Name() + id
	case n < 90:
		s := w.server()
		w.l.Unread(s, "timeout", r.IntN(2) == 0, w.now)
		return "unread " + s.Name()
	case n < 91:
		s := w.server()
		drain := r.IntN(2) == 0
		w.l.Drain(s, drain)
		return fmt.Sprint("drain ", s.Name(), drain)
	case n < 92:
		id := fmt.Sprint([]string{"t", "s", "c"}[r.IntN(3)], r.IntN(40))
		return fmt.Sprint("forget ", id[:1] != "c" && w.l.Forget(id, w.now))
	case n < 94:
		s := w.l.Admit(fmt.Sprint("10.0.0.", r.IntN(3)), w.now)
		s.Sighted(w.l, w.now)
		return "admit " + s.Name()
	case n < 95:
		cfg := w.cfg[:1+r.IntN(len(w.cfg))]
		w.l.Configure(w.set, cfg, w.now)
		return fmt.Sprint("configure ", len(cfg))
	case n < 96:
		w.now = w.now.Add(time.Duration(r.IntN(15)) * time.Minute)
		return "a pause"
	}
	w.l.Tick(w.now)
	return "tick"
}
