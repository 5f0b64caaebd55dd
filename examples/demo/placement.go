package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// placement is a playback that began, or something else worth a line.
type placement struct {
	at     time.Duration
	client string
	title  string
	work   string
	server string
	reason string

	// Load per weight of each server if the playback had gone there, infinite
	// for one that is down; nil if too much happened at once to say.
	scores []float64
	chosen int // index of server in it

	// Of a playback that goes on after its server died: that server, and how
	// long the viewer waited.
	from string
	wait time.Duration

	note  string // instead of all that
	alarm bool   // the note is of something bad
}

// misplaced reports whether another server had more room. Servers count as
// equally full when the difference is less than one idle client makes, of
// which only the balancer knows.
func (p placement) misplaced() bool { return p.excess() > directCost }

// excess is how much fuller the chosen server is than the best one, per weight.
func (p placement) excess() float64 {
	if p.scores == nil {
		return 0
	}
	return p.scores[p.chosen] - slices.Min(p.scores)
}

// sentence is the placement in plain output.
func (p placement) sentence() string {
	if p.note != "" {
		return p.note
	}
	if p.from != "" {
		return fmt.Sprintf("%s goes on with %s on %s (%s died; waited %s)", p.client, p.title, p.server, p.from, wait(p.wait))
	}
	s := fmt.Sprintf("%s plays %s (%s) on %s: %s", p.client, p.title, p.work, p.server, p.reason)
	if p.scores == nil {
		return s
	}
	s += fmt.Sprintf(" (%.2f", p.scores[p.chosen])
	joint := ", not "
	for i, score := range p.scores {
		if i != p.chosen && !math.IsInf(score, 1) {
			s += fmt.Sprintf("%s%.2f", joint, score)
			joint = " or "
		}
	}
	s += ")"
	if p.misplaced() {
		s += ", misplaced"
	}
	return s
}

// because says a value of X-Plexlb-Reason in plain words.
func because(reason string) string {
	switch reason {
	case "least_load":
		return "most room"
	case "pinned":
		return "plays there"
	case "live_playback", "client_server":
		return "client there"
	case "adopted":
		return "found there"
	case "server_lost":
		return "other is gone"
	case "resumed":
		return "carried there"
	case "overflow":
		return "all are full"
	case "":
		return "not said"
	}
	return strings.ReplaceAll(reason, "_", " ")
}

// clients are how people call the kinds of viewers.
var clients = map[plextest.ViewerKind]string{
	plextest.PlexWeb:       "Plex Web",
	plextest.PlexWebMusic:  "Plex Web music",
	plextest.PlexForKodi:   "Plex for Kodi",
	plextest.OpenPHT:       "OpenPHT",
	plextest.PlexKodi:      "PlexKodiConnect",
	plextest.PlexConnect:   "PlexConnect",
	plextest.MPVShim:       "Plex MPV Shim",
	plextest.Plezy:         "Plezy",
	plextest.PlexAPIRust:   "plex-api-rs",
	plextest.PythonPlexAPI: "python-plexapi",
	plextest.Mobile:        "Plex for iOS",
	plextest.MusicHTTP:     "Plexamp",
	plextest.DirectPlay:    "Plex HTPC",
}
