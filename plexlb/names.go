package plexlb

import (
	"crypto/rand"
	"sync"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plex"
)

// sessionNames makes transcode ids for clients that send none. A decision and
// the start that follows it get the same one.
type sessionNames struct {
	mu      sync.Mutex
	decided map[uint64]sessionName // by who asked for what
}

type sessionName struct {
	id string
	at time.Time
}

const (
	// A start that comes later than this after its decision is another one.
	decisionLife = time.Minute

	// maxDecided bounds the decisions whose start is awaited.
	maxDecided = 4096
)

// name returns a transcode id for a decision or start by who, in a word that
// tells devices apart as far as requests without ids can.
func (n *sessionNames) name(kind plex.Kind, who uint64, now time.Time) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if d, ok := n.decided[who]; ok && now.Sub(d.at) < decisionLife {
		if kind == plex.Start {
			delete(n.decided, who) // the next start is another playback
		}
		return d.id
	}
	id := "plexlb-" + rand.Text()
	if kind == plex.Decision {
		if len(n.decided) >= maxDecided {
			n.decided = nil // they are short-lived, and a lost one only counts twice for a moment
		}
		if n.decided == nil {
			n.decided = make(map[uint64]sessionName)
		}
		n.decided[who] = sessionName{id, now}
	}
	return id
}
