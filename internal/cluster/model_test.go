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
	steps := 8_000
	switch {
	case testing.Short():
		steps = 500
	case raceEnabled:
		steps = 3_000 // all of it is one goroutine's
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
					one.recount()
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
				if counts := one.l.Totals(); steps == 8_000 && (replicated && counts.Moved < 30 || counts.Lost < 5) {
					t.Errorf("little happened: %+v", counts)
				}
				// All requests end and nobody comes back; resumptions are
				// abandoned where they are.
				one.settleAll()
				for range 60 {
					one.now = one.now.Add(time.Minute)
					one.l.Tick(one.now)
				}
				for _, s := range one.l.Servers().List() {
					for n := range missedLimit {
						at := one.now.Add(time.Duration(n) * time.Second)
						one.l.Observe(s, nil, at, at)
					}
				}
				one.now = one.now.Add(time.Minute)
				one.l.Tick(one.now)
				if left := one.l.Orphans(one.now); len(left) > 0 {
					t.Errorf("%v is to be stopped after an hour", left)
				}
				one.recount()
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
			first.crowd = true
			var wg sync.WaitGroup
			for i := range uint64(8) {
				w := newWalk(t, i, set, now)
				w.l, w.crowd = first.l, true
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
		names = append(names, []any{
			p.IDs, p.Item, p.Title, p.Server, p.Work, p.State, p.Confirmed, p.Placed, p.Seen,
			p.Ended, p.Lost, p.Moves, p.Why.Reason, p.Why.At,
		}) // without pointers to servers, which are each ledger's own
	}
	return names
}

// walk does one random thing after the other.
type walk struct {
	testing.TB
	rng      *rand.Rand
	l        *Ledger
	set      Settings
	now      time.Time
	open     []pendingRequest
	journeys []*Resumption // under way
	held     []*Playback   // of some requests and journeys, over by now or not
	cfg      []ServerSettings
	crowd    bool // others walk through the same ledger
}

type pendingRequest struct {
	q Query
	h Hold
}

func newWalk(t *testing.T, seed uint64, set Settings, now time.Time) *walk {
	w := &walk{TB: t, rng: rand.New(rand.NewPCG(seed, 7)), l: NewLedger(now), set: set, now: now, cfg: named(4, 2, 1)}
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
	switch n := r.IntN(160); {
	case n >= 100:
		return w.carry()
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
		set := w.set
		set.Costs = DefaultCosts
		set.Costs.Copy = float64(r.IntN(3)) / 10
		w.l.Configure(set, cfg, w.now)
		return fmt.Sprint("configure ", len(cfg), set.Costs.Copy)
	case n < 96:
		w.now = w.now.Add(time.Duration(r.IntN(15)) * time.Minute)
		return "a pause"
	case n < 97:
		s := w.server()
		w.l.mu.Lock()
		for i := range shunAfter {
			s.charge(fmt.Sprint(i), fmt.Sprint(r.IntN(5)), w.l.since(w.now))
		}
		w.l.mu.Unlock()
		return "failures " + s.Name()
	}
	w.l.Tick(w.now)
	return "tick"
}

// playback is one that can be resumed, or could be, and an id of it; nil if
// none comes to mind.
func (w *walk) playback() (*Playback, string) {
	if w.rng.IntN(5) == 0 && len(w.held) > 0 {
		return w.held[w.rng.IntN(len(w.held))], ""
	}
	id := fmt.Sprint("t", w.rng.IntN(60))
	for range 20 {
		if p := w.l.PlaybackOf(id); p != nil {
			w.hold(p)
			return p, id
		}
		id = fmt.Sprint("t", w.rng.IntN(60))
	}
	return nil, ""
}

// hold remembers a playback beyond its end, as a slow request does.
func (w *walk) hold(p *Playback) {
	if w.held = append(w.held, p); len(w.held) > 20 {
		w.held = w.held[1:]
	}
}

func (w *walk) setOut(r *Resumption) string {
	if r == nil {
		return " which is not possible"
	}
	if w.journeys = append(w.journeys, r); len(w.journeys) > 8 {
		w.journeys = w.journeys[1:] // that one is given up in the middle
	}
	return fmt.Sprint(" from ", r.From.Name(), " as ", r.Transcode)
}

// carry does something about a playback's being carried.
func (w *walk) carry() string {
	r := w.rng
	switch n := r.IntN(60); {
	case n < 8 && len(w.open) > 0:
		h := &w.open[r.IntN(len(w.open))].h
		if h.playback != nil {
			w.hold(h.playback)
		}
		// Large ones, so that some fall out.
		w.l.Keep(h, r.IntN(2) == 0, memo(r.IntN(maxKept/10)))
		return fmt.Sprint("keep ", w.l.keepsNow())
	case n < 20:
		p, id := w.playback()
		if p == nil {
			return "nothing to resume"
		}
		return "resume " + id + w.setOut(w.l.Resume(p, id))
	case n < 24:
		var to *Server
		if r.IntN(2) == 0 {
			to = w.server()
		}
		_, id := w.playback()
		if r.IntN(4) == 0 {
			id = fmt.Sprint("s", r.IntN(60))
		}
		m, ok := w.l.Mover(id, to)
		if !ok {
			return "nothing to move"
		}
		return "move " + m.ID + w.setOut(w.l.Move(m))
	case n < 50:
		if len(w.journeys) == 0 {
			return "nobody is on the way"
		}
		return w.goOn(r.IntN(len(w.journeys)))
	case n < 51:
		p, _ := w.playback()
		return fmt.Sprint("lose ", p != nil && w.l.Lose(p, w.now))
	case n < 52:
		p, id := w.playback()
		if p == nil || id == "" {
			return "nothing to find"
		}
		s := w.server()
		w.l.Found(p, s, id, Work(1+r.IntN(3)), LostSession, w.now)
		return "found " + id + " on " + s.Name()
	case n < 53:
		s := w.server()
		w.l.Empty(s, w.now.Add(time.Duration(r.IntN(30))*time.Second))
		return "empty " + s.Name()
	case n < 55:
		said := "due"
		for _, m := range w.l.Due(w.now) {
			said += " " + m.ID
			if r.IntN(2) == 0 {
				said += w.setOut(w.l.Move(m))
			}
		}
		return said
	case n < 57:
		said := "rebalance"
		for _, m := range w.l.Rebalance(w.now) {
			said += fmt.Sprint(" ", m.ID, " to ", m.To.Name())
			if r.IntN(2) == 0 {
				said += w.setOut(w.l.Move(m))
			}
		}
		return said
	}
	said := "orphans"
	asked := make(map[*Server]bool)
	for _, o := range w.l.Orphans(w.now) {
		said += fmt.Sprint(" ", o.Transcode, " of ", o.Server.Name())
		if asked[o.Server] {
			w.Errorf("%s is to stop two at once", o.Server.Name())
		}
		asked[o.Server] = true
		w.l.Told(o, w.rng.IntN(3) > 0)
	}
	return said
}

// goOn brings a journey a step further, or to its end.
func (w *walk) goOn(i int) string {
	r := w.rng
	j := w.journeys[i]
	p := j.playback
	switch n := r.IntN(10); {
	case n == 0:
		w.journeys = append(w.journeys[:i], w.journeys[i+1:]...)
		return "give up"
	case j.To == nil || n < 2:
		was, _ := w.l.ServerOf(p)
		pool := w.pool(&Hold{Server: j.To})
		at, reason := w.l.Choose(j, pool, w.now)
		if now, _ := w.l.ServerOf(p); now != was && now.addr != was.addr && !w.crowd {
			w.Errorf("it is on %s before it is resumed, and was on %s", now.Name(), was.Name())
		}
		if at < 0 {
			if j.To != nil {
				w.Errorf("nothing is chosen, and %s as well", j.To.Name())
			}
			return fmt.Sprint("choose nothing ", reason)
		}
		switch {
		case j.To != pool[at].Server:
			w.Errorf("%s is chosen, and %s", pool[at].Server.Name(), j.To.Name())
		case pool[at].Out != In:
			w.Errorf("%s is chosen, which is %v", j.To.Name(), pool[at].Out)
		case !w.set.Replicated && j.To.addr != was.addr && !w.crowd:
			w.Errorf("%s is chosen, and ids differ", j.To.Name())
		case j.leave && reason == Pinned, j.target != nil && j.To != j.target:
			w.Errorf("%s is chosen, where it is not to be", j.To.Name())
		}
		return fmt.Sprint("choose ", j.To.Name(), reason)
	case n < 3:
		j.Decided(w.l, Work(r.IntN(4)), w.now)
		return "decided"
	case n < 4:
		j.Failed(w.l, w.now)
		return "failed"
	}
	w.journeys = append(w.journeys[:i], w.journeys[i+1:]...)
	was, goesOn := w.l.ServerOf(p)
	done := w.l.Resumed(j, w.now)
	if now, _ := w.l.ServerOf(p); !w.crowd && (done && now != j.To || !done && now != was || done && !goesOn) {
		w.Errorf("resumed: %v, from %s to %s, it was on %s and is on %s", done, j.From.Name(), j.To.Name(), was.Name(), now.Name())
	}
	return fmt.Sprint("resumed ", done, " on ", j.To.Name())
}

func (l *Ledger) keepsNow() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.keeps
}

// recount looks after what is carried, where check looks after the books.
func (w *walk) recount() {
	w.Helper()
	l, now := w.l, w.l.since(w.now)
	for _, p := range w.held {
		if p.gone && (p.kept != nil || p.job.server != nil) {
			w.Errorf("playback %v is gone, and its requests are kept or its load counts", p.ids)
		}
	}
	if l.keeps > maxKept {
		w.Errorf("%d bytes are kept", l.keeps)
	}
	for _, s := range l.servers.Load().list {
		for _, j := range s.jobs {
			if j.playback == nil && j.state == Reserved && (j.hold == 0 || j.hold > now+failedHold) {
				w.Errorf("nobody's reservation %q of %s stays until %v", j.id, s.Name(), j.hold)
			}
		}
	}
	for o := range l.orphans {
		if j := l.strangers.byID[o.Transcode]; o.Transcode == "" || j != nil && j.server == o.Server {
			w.Errorf("%q is to be stopped on %s, and leads there", o.Transcode, o.Server.Name())
		}
	}
	if n := len(l.orphans); n > maxOrphans {
		w.Errorf("%d transcodes are to be stopped", n)
	}
}
