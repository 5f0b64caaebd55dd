package plexlb

import (
	"cmp"
	"math"
	"strings"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
)

// serverStatus is a server as the admin API shows it.
type serverStatus struct {
	Name          string  `json:"name"`
	Address       string  `json:"address"`
	Weight        float64 `json:"weight"`
	MaxTranscodes int     `json:"max_transcodes,omitzero"` // 0: no limit

	// State is, the first that is true: down, unreachable, maintenance,
	// drained, draining, shunned, full, up.
	State string `json:"state"`

	Draining bool      `json:"draining"`
	MoveAt   time.Time `json:"move_at,omitzero"` // when its playbacks leave

	Load          float64    `json:"load"`
	Jobs          jobCounts  `json:"jobs"`
	Reserved      int        `json:"reserved"`
	IdleClients   int        `json:"idle_clients"`
	Playbacks     int        `json:"playbacks"`
	OldestSeconds seconds    `json:"oldest_seconds"` // of the playbacks
	Others        int        `json:"others"`         // jobs that are no playback of ours
	Placements    uint64     `json:"placements"`
	Poll          pollStatus `json:"poll"`

	// Degraded is what is quietly wrong.
	Degraded []Degradation `json:"degraded"`
}

// jobCounts is what a server's load is made of.
type jobCounts struct {
	GPU  int `json:"gpu"`
	CPU  int `json:"cpu"`
	Copy int `json:"copy"`
	None int `json:"none"`
}

// pollStatus is how fresh the last reading of a server is.
type pollStatus struct {
	LastGood   time.Time `json:"last_good,omitzero"` // zero: never
	AgeSeconds *seconds  `json:"age_seconds,omitempty"`
	Failure    string    `json:"failure"` // of the last reading
}

// sessionStatus is a playback as the admin API shows it.
type sessionStatus struct {
	ID          string       `json:"id"`
	IDs         sessionIDs   `json:"ids"`
	Title       string       `json:"title"`
	Client      string       `json:"client"` // the player's name, as its server reports it
	Item        string       `json:"item"`
	Server      string       `json:"server"`
	Kind        string       `json:"kind"`
	State       string       `json:"state"` // reserved, confirmed, expired, ended or lost
	PlacedAt    time.Time    `json:"placed_at"`
	AgeSeconds  seconds      `json:"age_seconds"`
	IdleSeconds seconds      `json:"idle_seconds"`
	Confirmed   bool         `json:"confirmed"` // a server has accepted it
	Lost        bool         `json:"lost"`
	Movable     bool         `json:"movable"`
	Moves       []moveStatus `json:"moves"`               // the last eight
	Why         whyStatus    `json:"why"`                 // of the latest choice
	FirstWhy    *whyStatus   `json:"first_why,omitempty"` // of the first one, if it was another
}

type sessionIDs struct {
	Transcode string `json:"transcode,omitempty"`
	Session   string `json:"session,omitempty"`
	Playback  string `json:"playback,omitempty"`
	Client    string `json:"client,omitempty"`
}

type moveStatus struct {
	At    time.Time `json:"at"`
	From  string    `json:"from"`
	To    string    `json:"to"`
	Cause string    `json:"cause"`
}

// whyStatus is a choice and what it was made from.
type whyStatus struct {
	Reason string      `json:"reason"`
	At     time.Time   `json:"at"`
	Server string      `json:"server"` // that was chosen
	Table  []rowStatus `json:"table"`
	More   int         `json:"more"` // candidates that are not in the table
}

type rowStatus struct {
	Server   string  `json:"server"`
	Load     float64 `json:"load"`
	Expected float64 `json:"expected"` // that others begin there meanwhile, past this balancer
	Cost     float64 `json:"cost"`
	Weight   float64 `json:"weight"`
	Score    float64 `json:"score"`
	Excluded string  `json:"excluded"` // why it was out; empty: it was not
}

// seconds are a duration, to the tenth.
type seconds float64

func since(t, now time.Time) seconds {
	return seconds(math.Round(max(0, now.Sub(t).Seconds())*10) / 10)
}

func (s seconds) duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// serverStatuses describes the servers, those of the configuration first.
func (a *App) serverStatuses(now time.Time) []serverStatus {
	census := a.state.ledger.Census()
	list := []serverStatus{}
	for _, v := range a.state.ledger.View(now) {
		c := census[v.Address]
		down, degraded := a.state.troubles.of(v.Address)
		s := serverStatus{
			Name: v.Name, Address: v.Address, Weight: v.Weight, MaxTranscodes: v.MaxTranscodes,
			State: stateOf(&v, c, down), Draining: v.Draining, MoveAt: utc(v.MoveAt), Load: rounded(v.Load),
			Jobs:     jobCounts{v.Jobs[cluster.GPU], v.Jobs[cluster.CPU], v.Jobs[cluster.Copy], v.Jobs[cluster.None]},
			Reserved: v.Reserved, IdleClients: v.Idle, Playbacks: c.Playbacks, Others: c.Others, Placements: v.Placements,
			Poll:     pollStatus{LastGood: utc(v.Picture.Good), Failure: v.Picture.Failure},
			Degraded: append([]Degradation{}, degraded...),
		}
		if !c.Oldest.IsZero() {
			s.OldestSeconds = since(c.Oldest, now)
		}
		if !v.Picture.Good.IsZero() {
			age := since(v.Picture.Good, now)
			s.Poll.AgeSeconds = &age
		}
		list = append(list, s)
	}
	return list
}

// stateOf sums a server up in one word.
func stateOf(v *cluster.ServerView, c cluster.Census, down bool) string {
	switch {
	case down:
		return "down"
	case v.Picture.Failure == "refused", v.Picture.Failure == "timeout", v.Picture.Failure == "unreachable":
		return "unreachable"
	case v.Maintenance:
		return "maintenance"
	case v.Draining && c.Playbacks+c.Others == 0:
		return "drained"
	case v.Draining:
		return "draining"
	case v.Shunned:
		return "shunned"
	case v.MaxTranscodes > 0 && v.Jobs[cluster.GPU]+v.Jobs[cluster.CPU] >= v.MaxTranscodes:
		return "full"
	}
	return "up"
}

// sessionStatuses describes the playbacks, the latest first.
func (a *App) sessionStatuses(now time.Time) []sessionStatus {
	list := []sessionStatus{}
	for _, v := range a.state.ledger.Playbacks() {
		list = append(list, statusOf(&v, now))
	}
	return list
}

func statusOf(v *cluster.PlaybackView, now time.Time) sessionStatus {
	s := sessionStatus{
		ID:    nameOf(v),
		IDs:   sessionIDs{v.Transcode, v.Session, v.Playback, v.Client},
		Title: v.Title, Client: v.Device, Item: bare(v.Item), Server: v.Server, Kind: v.Work.String(), State: playbackState(v),
		PlacedAt: utc(v.Placed), AgeSeconds: since(v.Placed, now), IdleSeconds: since(v.Seen, now),
		Confirmed: v.Confirmed, Lost: v.Lost, Movable: v.Movable, Moves: []moveStatus{}, Why: whyOf(&v.Why),
	}
	if v.First != nil {
		first := whyOf(v.First)
		s.FirstWhy = &first
	}
	for _, m := range v.History {
		s.Moves = append(s.Moves, moveStatus{utc(m.At), m.From, m.To, m.Cause.String()})
	}
	return s
}

func whyOf(p *cluster.Placement) whyStatus {
	w := whyStatus{Reason: p.Reason.String(), At: utc(p.At), Table: []rowStatus{}, More: p.More}
	if p.Chosen != nil {
		w.Server = p.Chosen.Name()
	}
	for _, r := range p.Table {
		w.Table = append(w.Table, rowStatus{
			Server: r.Server.Name(), Load: rounded(float64(r.Load)), Expected: rounded(float64(r.Expected)), Cost: rounded(float64(r.Cost)),
			Weight: rounded(float64(r.Weight)), Score: rounded(float64(r.Score)), Excluded: r.Out.String(),
		})
	}
	return w
}

// nameOf returns the id by which to speak of a playback.
func nameOf(v *cluster.PlaybackView) string { return cmp.Or(v.Name(), v.Client) }

func playbackState(v *cluster.PlaybackView) string {
	switch {
	case v.Lost:
		return "lost"
	case v.Ended:
		return "ended"
	case v.State == 0:
		return cluster.Expired.String() // no server lists it
	}
	return v.State.String()
}

// bare is an item without its query, in which clients hide tokens.
func bare(item string) string {
	item, _, _ = strings.Cut(item, "?")
	if i := strings.Index(strings.ToLower(item), "x-plex-token"); i >= 0 {
		item = item[:i]
	}
	return item
}

// rounded keeps what people and scripts want to see of a load.
func rounded(x float64) float64 { return math.Round(x*1000) / 1000 }

func utc(t time.Time) time.Time { return t.UTC().Round(time.Millisecond) }
