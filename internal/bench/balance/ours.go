package balance

import (
	"fmt"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// ours is plexlb: the ledger itself, called as the plug-in calls it.
type ours struct {
	*run
	doors   []*door
	tickets []*ticket // by viewing
	reports []cluster.Report
}

// door is one balancer.
type door struct {
	ledger     *cluster.Ledger
	servers    []*cluster.Server
	index      map[*cluster.Server]int
	candidates []cluster.Candidate
}

// ticket is what the requests of a viewing carry, and what is held for the one
// that is under way.
type ticket struct {
	transcode, session, client, row string

	query cluster.Query
	hold  cluster.Hold
	tried []int
}

// memory is a decision or start that the ledger keeps, as long as usual.
type memory struct{}

func (memory) Size() int     { return 1500 }
func (memory) Endless() bool { return false }

func newOurs(r *run) contender {
	o := &ours{run: r, tickets: make([]*ticket, len(r.viewings))}
	for range max(1, r.sc.Balancers) {
		d := &door{ledger: cluster.NewLedger(o.time(0)), index: make(map[*cluster.Server]int)}
		cfg := make([]cluster.ServerSettings, 0, len(r.machines))
		for s := range r.machines {
			m := &r.machines[s]
			cfg = append(cfg, cluster.ServerSettings{
				Name: fmt.Sprint("plex", s), Address: fmt.Sprintf("10.0.%d.%d:32400", s/256, s%256),
				Weight: m.weight, MaxTranscodes: m.limit,
			})
		}
		d.ledger.Configure(cluster.Settings{Replicated: true, Primary: "plex0", SlowStart: 30 * time.Second}, cfg, o.time(0))
		for i, s := range d.ledger.Servers().List() {
			d.servers = append(d.servers, s)
			d.index[s] = i
			d.candidates = append(d.candidates, cluster.Candidate{Server: s})
		}
		o.doors = append(o.doors, d)
	}
	return o
}

func (o *ours) time(at time.Duration) time.Time { return time.Unix(1e9, 0).Add(at) }

func (o *ours) clock() time.Time { return o.time(o.now) }

func (o *ours) ticket(i int32) *ticket {
	t := o.tickets[i]
	if t == nil {
		all := fmt.Sprintf("%016xt%07xs%07xc%07x\x00session %d", mix(uint64(i)), i, i, i, i)
		t = &ticket{transcode: all[:24], session: all[24:32], client: all[32:40], row: all[40:]}
		o.tickets[i] = t
	}
	return t
}

// pool is what the policy finds of the servers: which are down, and which this
// request has tried.
func (o *ours) pool(d *door, tried []int) []cluster.Candidate {
	for s := range d.candidates {
		d.candidates[s].Out = cluster.In
		if o.machines[s].down {
			d.candidates[s].Out = cluster.Down
		}
	}
	for _, s := range tried {
		d.candidates[s].Out = cluster.Tried
	}
	return d.candidates
}

// place is a decision on its way to a server. Its answer comes later.
func (o *ours) place(i int32, failed int) int {
	d, t := o.doors[o.viewings[i].door], o.ticket(i)
	if failed < 0 {
		t.tried = t.tried[:0]
		t.query = cluster.Query{
			IDs:  cluster.IDs{Transcode: t.transcode, Session: t.session, Client: t.client},
			Role: cluster.Start, Work: cluster.GPU, Item: t.session,
		}
		t.hold = d.ledger.Find(&t.query, o.clock())
		if s := t.hold.Server; s != nil && !o.machines[d.index[s]].down {
			return d.index[s]
		}
	} else {
		t.tried = append(t.tried, failed)
	}
	if len(t.tried) == 2 {
		outcome := cluster.Rejected
		if !o.machines[failed].up {
			outcome = cluster.Failed
		}
		d.ledger.Settle(&t.query, &t.hold, outcome, o.clock())
		o.tickets[i] = nil
		return -1
	}
	s, _ := d.ledger.Place(&t.query, &t.hold, o.pool(d, t.tried), o.clock())
	if s < 0 {
		d.ledger.Settle(&t.query, &t.hold, cluster.Rejected, o.clock())
		o.tickets[i] = nil
	}
	return s
}

// follow is the next request of a viewing, or the answer to the decision.
func (o *ours) follow(i int32, step what) {
	v := &o.viewings[i]
	d, t := o.doors[v.door], o.ticket(i)
	now := o.clock()
	switch step {
	case answer:
		if !v.asked && o.seats[i].server < 0 { // it died meanwhile
			d.ledger.Settle(&t.query, &t.hold, cluster.Failed, now)
			return
		}
		d.ledger.Decided(&t.hold, verdict(v.kind), now)
		d.ledger.Keep(&t.hold, true, memory{})
		d.ledger.Settle(&t.query, &t.hold, cluster.Accepted, now)
	case begin:
		q := cluster.Query{IDs: cluster.IDs{Session: t.session, Client: t.client}, Role: cluster.Stream, Begins: true}
		if v.kind != direct {
			q.Transcode, q.Role, q.Work, q.Item = t.transcode, cluster.Start, cluster.GPU, t.session
		}
		h := d.ledger.Find(&q, now)
		o.arrives(d, h.Server, i)
		if v.kind != direct {
			d.ledger.Keep(&h, false, memory{})
		}
		d.ledger.Settle(&q, &h, cluster.Accepted, now)
	case stay:
		if v.kind != direct {
			o.arrives(d, d.ledger.FindSegment(t.transcode), i)
		}
		q := o.timeline(t)
		h := d.ledger.Find(&q, now)
		o.arrives(d, h.Server, i)
		d.ledger.Settle(&q, &h, cluster.Accepted, now)
	case end:
		q := o.timeline(t)
		h := d.ledger.Find(&q, now)
		d.ledger.Stopped(&q, now)
		d.ledger.Settle(&q, &h, cluster.Accepted, now)
	}
}

func (o *ours) timeline(t *ticket) cluster.Query {
	return cluster.Query{IDs: cluster.IDs{Session: t.session, Client: t.client}, Role: cluster.Follow}
}

// verdict is what a decision's answer says of a kind: not whether there is
// hardware for it.
func verdict(k kind) cluster.Work {
	switch k {
	case direct:
		return cluster.None
	case remux:
		return cluster.Copy
	}
	return cluster.GPU
}

// arrives counts a request that does not get to where its viewing is.
func (o *ours) arrives(d *door, s *cluster.Server, i int32) {
	if s == nil || d.index[s] != int(o.seats[i].server) {
		o.tally.astray++
	}
}

// carry resumes a playback, as the request for its next segment does.
func (o *ours) carry(i int32) int {
	v := &o.viewings[i]
	d, t := o.doors[v.door], o.ticket(i)
	now := o.clock()
	p := d.ledger.PlaybackOf(t.transcode)
	if p == nil {
		return o.anew(d, i)
	}
	res := d.ledger.Resume(p, "")
	if res == nil {
		return o.anew(d, i)
	}
	res.Cause = cluster.LostServer
	s, _ := d.ledger.Choose(res, o.pool(d, nil), now)
	if s < 0 {
		return -1
	}
	if !o.takes(s, v.kind) {
		res.Failed(d.ledger, now)
		return -1
	}
	res.Decided(d.ledger, verdict(v.kind), now)
	d.ledger.Resumed(res, now)
	return s
}

// anew starts a viewing of which nothing is known any more.
func (o *ours) anew(d *door, i int32) int {
	s := o.place(i, -1)
	if t := o.tickets[i]; t != nil {
		d.ledger.Decided(&t.hold, verdict(o.viewings[i].kind), o.clock())
		d.ledger.Keep(&t.hold, true, memory{})
		d.ledger.Settle(&t.query, &t.hold, cluster.Accepted, o.clock())
	}
	return s
}

// report is a line as the poller hands it on.
func (o *ours) report(l line) cluster.Report {
	t := o.ticket(l.viewing)
	r := cluster.Report{ID: t.transcode, Work: cluster.Work(l.work), Young: l.young}
	if l.bare {
		r.ID = t.row
	}
	if o.viewings[l.viewing].kind != download {
		r.Client, r.Session, r.Title, r.Device = t.client, t.session, "The Title of It", "Living Room (Plex for LG)"
	}
	return r
}

func (o *ours) taken(door uint8, s int, list []line, began time.Duration, _ bool) {
	d := o.doors[door]
	o.reports = o.reports[:0]
	for _, l := range list {
		o.reports = append(o.reports, o.report(l))
	}
	d.ledger.Observe(d.servers[s], o.reports, o.time(began), o.clock())
}

func (o *ours) unread(door uint8, s int) {
	d := o.doors[door]
	d.ledger.Unread(d.servers[s], "timeout", false, o.clock())
}

func (o *ours) heard(door uint8, s int, i int32, event what) {
	d, t := o.doors[door], o.ticket(i)
	switch event {
	case end, seek:
		if o.viewings[i].kind != direct {
			d.ledger.Gone(d.servers[s], t.transcode, o.clock())
		}
	case appear, settleIn, whole:
		if work := o.seats[i].work; work != plex.None {
			// Events do not say whose it is.
			r := cluster.Report{ID: t.transcode, Work: cluster.Work(work)}
			if event == appear && work > plex.Copy {
				r.Work, r.Young = cluster.Work(youth.Work()), youth.Young()
			}
			d.ledger.Seen(d.servers[s], r, o.clock())
		}
	}
}

func (o *ours) ticked() {
	for _, d := range o.doors {
		d.ledger.Now(o.clock())
		d.ledger.Tick(o.clock())
		for _, x := range d.ledger.Orphans(o.clock()) {
			d.ledger.Told(x, true)
		}
	}
}
