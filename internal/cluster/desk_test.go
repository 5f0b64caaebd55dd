package cluster

import (
	"fmt"
	"testing"
	"time"
)

// desk plays the parts of handler, policy and poller for tests.
type desk struct {
	testing.TB
	l    *Ledger
	now  time.Time
	pool []Candidate
}

func newDesk(tb testing.TB, set Settings, servers ...ServerSettings) *desk {
	now := time.Now()
	d := &desk{TB: tb, l: NewLedger(now), now: now}
	d.l.Configure(set, servers, now)
	for _, s := range d.l.Servers().List() {
		d.pool = append(d.pool, Candidate{Server: s})
	}
	return d
}

// named makes servers a, b, c… of these weights.
func named(weights ...float64) (list []ServerSettings) {
	for i, w := range weights {
		name := string(rune('a' + i))
		list = append(list, ServerSettings{Name: name, Address: name + ":32400", Weight: w})
	}
	return list
}

func (d *desk) server(name string) *Server {
	for _, c := range d.pool {
		if c.Server.Name() == name {
			return c.Server
		}
	}
	return nil
}

// set says whether the servers can be used.
func (d *desk) set(out Exclusion, names ...string) {
	for i := range d.pool {
		for _, n := range names {
			if d.pool[i].Server.Name() == n {
				d.pool[i].Out = out
			}
		}
	}
}

// open is the way of a request up to its server.
func (d *desk) open(q *Query) (Hold, string, Reason) {
	h := d.l.Find(q, d.now)
	if h.Server != nil && usable(d.pool, h.Server) >= 0 {
		return h, h.Server.Name(), Pinned
	}
	i, reason := d.l.Place(q, &h, d.pool, d.now)
	if i < 0 {
		return h, "", reason
	}
	return h, d.pool[i].Server.Name(), reason
}

// do is a whole request.
func (d *desk) do(q Query, outcome Outcome) (string, Reason) {
	h, name, reason := d.open(&q)
	if name == "" {
		outcome = Rejected // nobody was asked
	}
	d.l.Settle(&q, &h, outcome, d.now)
	return name, reason
}

// ok is a whole request that is answered well.
func (d *desk) ok(q Query) string {
	d.Helper()
	name, _ := d.do(q, Accepted)
	return name
}

// play is a decision and a start.
func (d *desk) play(q Query) string {
	d.Helper()
	d.ok(decision(q.IDs, q))
	return d.ok(start(q.IDs, q))
}

func (d *desk) wait(t time.Duration) *desk {
	d.now = d.now.Add(t)
	d.l.Now(d.now)
	return d
}

func (d *desk) tick(t time.Duration) *desk {
	d.wait(t)
	d.l.Tick(d.now)
	return d
}

// poll is a good reading that takes no time.
func (d *desk) poll(name string, reports ...Report) {
	d.l.Observe(d.server(name), reports, d.now, d.now)
}

// orphans are what is to be stopped, once every server was read again.
func (d *desk) orphans() []Orphan {
	d.wait(time.Second)
	for _, s := range d.l.Servers().List() {
		d.l.Observe(s, nil, d.now, d.now)
	}
	return d.l.Orphans(d.now)
}

func (d *desk) view(name string) ServerView {
	for _, v := range d.l.View(d.now) {
		if v.Name == name {
			return v
		}
	}
	return ServerView{}
}

// wants checks a server's transcodes.
func (d *desk) wants(name string, transcodes int, when string) {
	d.Helper()
	v := d.view(name)
	if got := v.Jobs[GPU] + v.Jobs[CPU]; got != transcodes {
		d.Errorf("%s: %s counts %d transcodes, want %d", when, name, got, transcodes)
	}
}

func (d *desk) state(id string) State {
	v, _ := d.l.Explain(id)
	return v.State
}

// ids of a client that names all it does.
func web(n int) IDs {
	return IDs{Transcode: fmt.Sprint("tsid-", n), Session: fmt.Sprint("xsi-", n), Client: fmt.Sprint("cid-", n)}
}

// ids of a client that uses its own name for ever.
func kodi(n int) IDs {
	return IDs{Transcode: fmt.Sprint("kodi-", n), Client: fmt.Sprint("kodi-", n)}
}

func decision(ids IDs, more ...Query) Query {
	q := Query{Item: "/library/metadata/1", Work: GPU}
	if len(more) > 0 {
		q = more[0]
		q.Work = max(q.Work, GPU)
	}
	q.IDs, q.Role, q.Begins = ids, Start, false
	return q
}

func start(ids IDs, more ...Query) Query {
	q := decision(ids, more...)
	q.Begins = true
	return q
}

func follow(ids IDs) Query { return Query{IDs: ids, Role: Follow} }
func visit(client string) Query {
	return Query{IDs: IDs{Client: client}, Role: Visit}
}

// check compares all that the ledger counts with what it is counted from.
func check(tb testing.TB, l *Ledger) {
	tb.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	servers := make(map[*Server]bool)
	for _, s := range l.servers.Load().list {
		servers[s] = true
		var want tally
		for id, j := range s.jobs {
			if j.server != s || j.id != id {
				tb.Errorf("job %q of %s is entered as %q", id, s.Name(), j.id)
			}
			if j.counts() {
				want.work[j.work]++
			}
			if j.state == Reserved {
				want.reserved++
				if j.playback == nil {
					want.remains++
				}
			}
			if p := j.playback; p != nil && (p.gone || p.server != s || &p.job != j) {
				tb.Errorf("job %q of %s is counted for a playback that is gone or elsewhere", id, s.Name())
			}
			if _, ok := l.watch[j]; !ok && (j.playback == nil || j.hold != 0) {
				tb.Errorf("job %q of %s is not watched", id, s.Name())
			}
		}
		for _, m := range l.clients.members {
			c := m.owner
			plays := func(p *Playback) bool { return p != nil && p.job.counts() }
			if c.server == s && !plays(c.playback) && !plays(c.pending) {
				want.idle++
			}
		}
		if s.tally != want {
			tb.Errorf("%s counts %+v, want %+v", s.Name(), s.tally, want)
		}
		set := l.settings.Load()
		special := s.down || s.draining || s.maintenance != 0 || len(s.failures) >= shunAfter || s.returned != 0 && set.SlowStart > 0 || s.full() || s.software(nil)
		if load := s.tally.load(&set.Costs); s.load >= 0 && s.load != load || s.plain != (s.load >= 0 && !special) {
			tb.Errorf("%s is taken for one of load %v, plain %v; its load is %v, special %v", s.Name(), s.load, s.plain, load, special)
		}
	}
	playbacks, clients := make(map[*Playback]bool), make(map[*Client]bool)
	keeps := 0
	for i, m := range l.playbacks.members {
		playbacks[m.owner] = true
		if k := m.owner.kept; k != nil {
			keeps += size(k.decision) + size(k.start)
		}
		if m.owner.gone || int(m.owner.place) != i || m.owner.holds.Load() < 0 {
			tb.Errorf("playback %v: gone %v, at %d not %d, %d holds", m.owner.ids, m.owner.gone, m.owner.place, i, m.owner.holds.Load())
		}
		if id := m.owner.ids.Transcode; id != "" && l.transcodes.get(id) != m.owner {
			tb.Errorf("transcode %q does not lead to its playback", id)
		}
	}
	if l.keeps != keeps {
		tb.Errorf("%d bytes are kept, counted as %d", keeps, l.keeps)
	}
	for i, m := range l.clients.members {
		clients[m.owner] = true
		c := m.owner
		if c.gone || int(c.place) != i || c.holds.Load() < 0 || c.site.byID[c.id] != c {
			tb.Errorf("client %v: gone %v, at %d not %d, %d holds", c.id, c.gone, c.place, i, c.holds.Load())
		}
		for _, p := range []*Playback{c.playback, c.pending} {
			if p != nil && (!playbacks[p] || p.client != c) {
				tb.Errorf("client %s plays what is not its own, or gone", c.id)
			}
		}
	}
	pinned := 0
	l.transcodes.each(func(id string, p *Playback, s *Server) {
		pinned++
		if !playbacks[p] || p.server != s || p.ids.Transcode != id && !contains(p.older, id) {
			tb.Errorf("transcode %q leads to %s, which is gone or elsewhere or does not know", id, s.Name())
		}
	})
	if most := 4 * len(playbacks); pinned > most {
		tb.Errorf("%d transcode ids of %d playbacks", pinned, len(playbacks))
	}
	for id, p := range l.bySession {
		if !playbacks[p] || p.ids.Session != id && p.ids.Playback != id {
			tb.Errorf("session %q leads to a playback that is gone or does not know", id)
		}
	}
	for _, st := range l.sites {
		for _, c := range st.byID {
			if !clients[c] {
				tb.Errorf("client %q is gone", c.id)
			}
		}
		for _, c := range st.byAlias {
			if !clients[c] {
				tb.Errorf("client %q is gone, and known by alias", c.id)
			}
		}
	}
	for j := range l.watch {
		if j.server == nil || j.server.jobs[j.id] != j {
			tb.Errorf("job %q is watched and gone", j.id)
		}
	}
	for what, m := range map[string]map[string]*job{"id": l.strangers.byID, "client": l.strangers.byClient, "session": l.strangers.bySession} {
		for id, j := range m {
			if j.server == nil || j.server.jobs[j.id] != j || j.state != Confirmed || j.playback != nil || !servers[j.server] {
				tb.Errorf("stranger by %s %q is gone, %s, or none", what, id, j.state)
			}
		}
	}
}

// empty checks that nothing is remembered.
func empty(tb testing.TB, l *Ledger) {
	tb.Helper()
	check(tb, l)
	n := len(l.bySession) + len(l.watch) + len(l.strangers.byID) + len(l.strangers.byClient) + len(l.strangers.bySession) + len(l.transcodes.long)
	l.transcodes.each(func(string, *Playback, *Server) { n++ })
	for _, st := range l.sites {
		n += len(st.byID) + len(st.byAlias)
	}
	for _, s := range l.servers.Load().list {
		n += len(s.jobs)
		if s.tally != (tally{}) {
			tb.Errorf("%s counts %+v", s.Name(), s.tally)
		}
	}
	playbacks, clients := l.Len()
	if playbacks+clients+n > 0 {
		tb.Errorf("%d playbacks, %d clients and %d entries are left", playbacks, clients, n)
	}
	if l.keeps > 0 {
		tb.Errorf("%d bytes are kept for nobody", l.keeps)
	}
}

func contains(list []string, s string) bool {
	for _, t := range list {
		if t == s {
			return true
		}
	}
	return false
}

func (x *pins) each(f func(id string, p *Playback, s *Server)) {
	for i := range x.shards {
		for _, e := range x.shards[i].slots {
			if e.playback != nil {
				f(string(e.id[:e.n]), e.playback, e.server)
			}
		}
	}
	for id, p := range x.long {
		f(id, p, p.server)
	}
}
