package plextest

import (
	"slices"
	"time"
)

// Observation is what a viewer saw of one request.
type Observation struct {
	What     string // decision, start, playlist, header, segment, part, timeline, ping, stop; playqueue, metadata, photo, streams before it
	At       time.Time
	Duration time.Duration // until the answer was read; of a stream, until it began
	Status   int           // zero if there was no answer
	Server   string        // X-Plextest-Server: who answered
	Balancer string        // X-Plexlb-Server: who the balancer says answered
	Reason   string        // X-Plexlb-Reason
	Asked    string        // of segments, headers, parts and playlists: which one, mostly as representation/number
	Body     Body          // of segments
	Err      error
}

// browsing are the requests that do not belong to a playback.
var browsing = []string{"playqueue", "metadata", "photo", "streams"}

// Observed returns what the viewer saw since it was made, in order of
// completion.
func (v *Viewer) Observed() []Observation {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.observed)
}

// Servers returns the servers that answered requests of this playback, in
// order of their first answer. More than one is a playback that moved, or one
// that was not kept together.
func (v *Viewer) Servers() []string {
	var names []string
	for _, o := range v.Observed() {
		if o.Server != "" && !slices.Contains(browsing, o.What) && !slices.Contains(names, o.Server) {
			names = append(names, o.Server)
		}
	}
	return names
}

func (v *Viewer) observe(o Observation) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.observed = append(v.observed, o)
}
