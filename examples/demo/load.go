package main

import (
	"net"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/plexlb/caddy-plexlb/internal/child"
	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// server is a stand-in, with what the Caddyfile says about it.
type server struct {
	*plextest.Server
	name   string
	weight float64
	down   atomic.Bool
}

// startSomewhere serves on a port that is still free when the server comes back.
func (s *server) startSomewhere() error {
	const host = "127.0.0.1"
	port, err := child.FreePort(host)
	if err != nil {
		return err
	}
	return s.StartOn(net.JoinHostPort(host, port))
}

// count is what a server really does, whoever asked it to.
type count struct {
	gpu, cpu, copy, direct int

	past int // of the transcodes: those that came past the balancer
}

// count asks the stand-in itself and not the balancer.
func (s *server) count() count {
	var c count
	for _, j := range s.Jobs() {
		switch {
		case j.Kind == "copy" || j.Complete:
			c.copy++
		case j.Kind == "gpu":
			c.gpu++
		default:
			c.cpu++
		}
		if strings.HasPrefix(j.TSID, "bypass-") {
			c.past++
		}
	}
	for _, p := range s.Playbacks() {
		if p.Kind == "direct" { // timelines alone are the copies that the primary gets
			c.direct++
		}
	}
	return c
}

// Costs of one playback, as the option plexlb has them by default.
const (
	gpuCost    = 1
	cpuCost    = 2
	copyCost   = 0.1
	directCost = 0.05
)

func (c count) load() float64 {
	return gpuCost*float64(c.gpu) + cpuCost*float64(c.cpu) + copyCost*float64(c.copy) + directCost*float64(c.direct)
}

// playbacks is how many there are of any kind.
func (c count) playbacks() int { return c.gpu + c.cpu + c.copy + c.direct }

// oneMore reports whether the servers do the same as before, and at most one
// playback more, which is at position i: the file of a direct play is asked for
// a moment later.
func oneMore(before, after []count, i int) bool {
	for k := range before {
		b, a := before[k], after[k]
		if k != i {
			if a != b {
				return false
			}
			continue
		}
		more := []int{a.gpu - b.gpu, a.cpu - b.cpu, a.copy - b.copy, a.direct - b.direct}
		if slices.Min(more) < 0 || a.playbacks() > b.playbacks()+1 || a.past != b.past {
			return false
		}
	}
	return true
}
