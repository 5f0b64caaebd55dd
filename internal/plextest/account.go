package plextest

import (
	"errors"
	"net/http"
	"time"
)

// Account is how a viewer fared: what came between it and its segments, with
// all else that players fetch by a path alone.
type Account struct {
	Waits   []Wait        // one for each segment, header, part and playlist it had whole, in order of completion
	Missing []string      // what it asked for and never had, as Observation.Asked
	Refused []Observation // answered with 400 or more
	Wrong   []Observation // answered with something else, see ErrWrong
}

// Wait is what it took to have one of them whole.
type Wait struct {
	Asked  string        // which one, see Observation
	At     time.Time     // when it was asked for first
	Took   time.Duration // until it was there, whatever was tried in between
	Tries  int
	Server string // who sent it in the end
}

// Longest is the longest wait.
func (a Account) Longest() (longest Wait) {
	for _, w := range a.Waits {
		if w.Took > longest.Took {
			longest = w
		}
	}
	return longest
}

// Servers returns who sent segments, in order, each as often as there was a
// change.
func (a Account) Servers() []string {
	var names []string
	for _, w := range a.Waits {
		if len(names) == 0 || names[len(names)-1] != w.Server {
			names = append(names, w.Server)
		}
	}
	return names
}

// Account sums up what the viewer saw of its segments. An attempt that fails
// in any way belongs to the next one at the same segment, as for a player.
func (v *Viewer) Account() Account {
	var a Account
	var order []string
	open := make(map[string]*Wait)
	for _, o := range v.Observed() {
		if o.Asked == "" {
			continue
		}
		w := open[o.Asked]
		if w == nil {
			w = &Wait{Asked: o.Asked, At: o.At}
			open[o.Asked] = w
			order = append(order, o.Asked)
		}
		w.Tries++
		switch {
		case o.Err == nil:
			w.Took, w.Server = o.At.Add(o.Duration).Sub(w.At), o.Server
			a.Waits = append(a.Waits, *w)
			delete(open, o.Asked)
		case o.Status >= http.StatusBadRequest:
			a.Refused = append(a.Refused, o)
		case errors.Is(o.Err, ErrWrong):
			a.Wrong = append(a.Wrong, o)
		}
	}
	for _, asked := range order {
		if open[asked] != nil {
			a.Missing = append(a.Missing, asked)
			delete(open, asked)
		}
	}
	return a
}
