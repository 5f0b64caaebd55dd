package plexlb

import (
	"crypto/rand"
	"sync"
	"time"
)

// sessionNames makes transcode ids for clients that send none. A decision and
// the start that follows it get the same one.
type sessionNames struct {
	mu   sync.Mutex
	last map[uint64]sessionName // by who asked for what
}

type sessionName struct {
	id      string
	at      time.Time
	decided bool // and not started yet
}

const (
	// A start that comes later than this after its decision is another one.
	decisionLife = time.Minute

	// maxNames bounds what is remembered. What is lost by it is little: a
	// start that counts twice for a moment, or changes servers.
	maxNames = 4096
)

// name returns a transcode id for a decision or start by who, in a word that
// tells devices apart as far as requests without ids can; near is the id that
// the same one got before, which is probably the playback that goes on.
func (n *sessionNames) name(who uint64, now time.Time) (id, near string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	last := n.last[who]
	if last.decided && now.Sub(last.at) <= decisionLife {
		return last.id, ""
	}
	return "plexlb-" + rand.Text(), last.id
}

// remember keeps an id that a server accepted.
func (n *sessionNames) remember(who uint64, id string, decided bool, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last == nil || len(n.last) >= maxNames {
		n.last = make(map[uint64]sessionName)
	}
	n.last[who] = sessionName{id, now, decided}
}
