package plexlb

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
)

const (
	// historyStep is how far the points of a server's load are apart.
	historyStep = 20 * time.Second

	// historyLength bounds them: an hour.
	historyLength = 180

	// recentMoves bounds the moves that a new page is shown.
	recentMoves = 50

	// maxPages bounds how many status pages can be connected at once.
	maxPages = 64

	// beat is the longest pause in which a page hears nothing.
	beat = 15 * time.Second
)

// live is what status pages are shown. What changes is found out once a second
// for all of them, and not at all while there is none; only the history of the
// loads is kept anyway.
type live struct {
	mu      sync.Mutex
	history map[string][]float64 // loads by server, oldest first
	stepped time.Time            // when the last point was added
	pages   map[*page]struct{}
	shown   shown
	told    time.Time // when the pages last heard something

	movesMu sync.Mutex
	moves   []moveNews // the latest first
	unshown int        // of these, how many the pages have not heard of
}

// page is one connected status page.
type page struct {
	// messages are closed when the page was too slow to take them all; it
	// connects again then, and begins anew.
	messages chan []byte
}

// shown is what the connected pages know.
type shown struct {
	servers  map[string]shownServer
	sessions map[string]pageSession
	order    []string // of the servers
}

type shownServer struct {
	status serverStatus
	text   []byte // the same in JSON, for comparing
}

// pageSession is a playback in a status page's list. It can be compared.
type pageSession struct {
	ID       string    `json:"id"`
	Title    string    `json:"title"`
	Item     string    `json:"item"`
	Client   string    `json:"client"`
	Server   string    `json:"server"`
	Kind     string    `json:"kind"`
	State    string    `json:"state"`
	PlacedAt time.Time `json:"placed_at"`
	Reason   string    `json:"reason"`
	Movable  bool      `json:"movable"`
	Moves    int       `json:"moves"`
}

// moveNews is a move, or the loss of a playback, as it happens.
type moveNews struct {
	moveStatus
	Session string `json:"session"`
	Title   string `json:"title"`
	Outcome string `json:"outcome"` // moved or lost
}

// pageServer is a server with its last hour.
type pageServer struct {
	serverStatus
	History []float64 `json:"history"` // loads, oldest first
}

// pageState is all that a page is shown, which it gets first.
type pageState struct {
	Now         time.Time     `json:"now"`
	Control     bool          `json:"control"`
	Mode        string        `json:"mode"`
	Primary     string        `json:"primary,omitempty"`
	Cost        pageCost      `json:"cost"`
	StepSeconds int           `json:"step_seconds"` // between the points of a history
	Servers     []pageServer  `json:"servers"`
	Sessions    []pageSession `json:"sessions"`
	Moves       []moveNews    `json:"moves"`
}

// pageCost is the load of one of each kind.
type pageCost struct {
	GPU    float64 `json:"gpu"`
	CPU    float64 `json:"cpu"`
	Copy   float64 `json:"copy"`
	Client float64 `json:"client"`
}

// pageChange is what differs from what the page knows.
type pageChange struct {
	Now          time.Time          `json:"now"`
	Servers      []serverStatus     `json:"servers,omitempty"`
	GoneServers  []string           `json:"gone_servers,omitempty"`
	Sessions     []pageSession      `json:"sessions,omitempty"`
	GoneSessions []string           `json:"gone_sessions,omitempty"`
	Moves        []moveNews         `json:"moves,omitempty"`
	Points       map[string]float64 `json:"points,omitempty"` // a new one for each history
}

func (c *pageChange) empty() bool {
	return len(c.Servers)+len(c.GoneServers)+len(c.Sessions)+len(c.GoneSessions)+len(c.Moves)+len(c.Points) == 0
}

// errPages says that no more pages can be connected.
var errPages = errors.New("too many status pages are open: close some")

// moved remembers news for the pages.
func (l *live) moved(news moveNews) {
	l.movesMu.Lock()
	defer l.movesMu.Unlock()
	l.moves = slices.Insert(l.moves, 0, news)
	l.moves = l.moves[:min(len(l.moves), recentMoves)]
	l.unshown = min(l.unshown+1, recentMoves)
}

// news returns the moves, and how many of them no page has heard of yet; after
// which they all have.
func (l *live) news() (moves []moveNews, unshown int) {
	l.movesMu.Lock()
	defer l.movesMu.Unlock()
	moves, unshown = slices.Clone(l.moves), l.unshown
	l.unshown = 0
	return moves, unshown
}

// open connects a page. The first message is all there is to show.
func (l *live) open(a *App, control bool, now time.Time) (*page, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pages) >= maxPages {
		return nil, errPages
	}
	if len(l.pages) == 0 {
		l.shown = a.shown(now)
		l.told = now
		_, _ = l.news()
	}
	set, _ := a.settings()
	all := pageState{
		Now: utc(now), Control: control, Mode: a.Mode, Primary: a.Primary, Cost: pageCost(set.Costs), StepSeconds: int(historyStep.Seconds()),
		Servers: []pageServer{}, Sessions: make([]pageSession, 0, len(l.shown.sessions)), Moves: []moveNews{},
	}
	for _, name := range l.shown.order {
		all.Servers = append(all.Servers, pageServer{l.shown.servers[name].status, append([]float64{}, l.history[name]...)})
	}
	for _, s := range l.shown.sessions {
		all.Sessions = append(all.Sessions, s)
	}
	l.movesMu.Lock()
	// What the others are yet to hear of, this one will hear of with them.
	all.Moves = append(all.Moves, l.moves[l.unshown:]...)
	l.movesMu.Unlock()
	first, err := message("state", all)
	if err != nil {
		return nil, err
	}
	p := &page{messages: make(chan []byte, 16)}
	p.messages <- first
	if l.pages == nil {
		l.pages = make(map[*page]struct{})
	}
	l.pages[p] = struct{}{}
	return p, nil
}

// close disconnects a page.
func (l *live) close(p *page) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pages, p)
}

// show tells the pages what has changed. To be called once a second.
func (l *live) show(a *App, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	points := l.step(a, now)
	if len(l.pages) == 0 {
		return
	}
	after := a.shown(now)
	c := after.since(&l.shown)
	l.shown = after
	c.Now, c.Points = utc(now), points
	moves, unshown := l.news()
	c.Moves = moves[:unshown]

	event, data := "change", any(c)
	if c.empty() {
		if now.Sub(l.told) < beat {
			return
		}
		event, data = "beat", map[string]time.Time{"now": c.Now}
	}
	text, err := message(event, data)
	if err != nil {
		a.logger.Error("cannot tell the status pages: " + err.Error())
		return
	}
	l.told = now
	for p := range l.pages {
		select {
		case p.messages <- text:
		default:
			delete(l.pages, p)
			close(p.messages)
		}
	}
}

// step adds a point to every server's history when it is time.
func (l *live) step(a *App, now time.Time) map[string]float64 {
	if now.Sub(l.stepped) < historyStep {
		return nil
	}
	l.stepped = now
	points, history := make(map[string]float64), make(map[string][]float64)
	for _, v := range a.state.ledger.View(now) {
		points[v.Name] = rounded(v.Load)
		past := append(l.history[v.Name], points[v.Name])
		history[v.Name] = past[max(0, len(past)-historyLength):]
	}
	l.history = history
	return points
}

// shown returns what pages are to be shown.
func (a *App) shown(now time.Time) shown {
	now = utc(now)
	s := shown{servers: make(map[string]shownServer), sessions: make(map[string]pageSession)}
	for _, status := range a.serverStatuses(now) {
		// What passes with time the page counts by itself.
		status.Poll.AgeSeconds, status.OldestSeconds = nil, 0
		text, _ := json.Marshal(status)
		s.servers[status.Name] = shownServer{status, text}
		s.order = append(s.order, status.Name)
	}
	for _, v := range a.state.ledger.Outline() {
		if v.Ended && !v.Lost {
			continue
		}
		one := pageSession{
			ID: nameOf(&v), Title: v.Title, Item: bare(v.Item), Client: v.Device,
			Server: v.Server, Kind: v.Work.String(), State: playbackState(&v), PlacedAt: utc(v.Placed),
			Reason: v.Why.Reason.String(), Movable: v.Movable, Moves: v.Moves,
		}
		s.sessions[one.ID] = one
	}
	return s
}

// since returns what differs from before.
func (s *shown) since(before *shown) pageChange {
	var c pageChange
	for _, name := range s.order {
		if now := s.servers[name]; !bytes.Equal(now.text, before.servers[name].text) {
			c.Servers = append(c.Servers, now.status)
		}
	}
	for _, name := range before.order {
		if _, ok := s.servers[name]; !ok {
			c.GoneServers = append(c.GoneServers, name)
		}
	}
	for id, now := range s.sessions {
		if then, ok := before.sessions[id]; !ok || then != now {
			c.Sessions = append(c.Sessions, now)
		}
	}
	for id := range before.sessions {
		if _, ok := s.sessions[id]; !ok {
			c.GoneSessions = append(c.GoneSessions, id)
		}
	}
	return c
}

// message is a server-sent event. JSON has no line breaks of its own.
func message(event string, data any) ([]byte, error) {
	text, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	return slices.Concat([]byte("event: "+event+"\ndata: "), text, []byte("\n\n")), nil
}

// tellPages has the status pages show a move.
func (a *App) tellPages(session string, m cluster.Move, what outcome) {
	v, _ := a.state.ledger.Explain(session)
	a.state.live.moved(moveNews{
		moveStatus: moveStatus{utc(m.At), m.From, m.To, m.Cause.String()},
		Session:    session, Title: v.Title, Outcome: outcomes[what],
	})
}
