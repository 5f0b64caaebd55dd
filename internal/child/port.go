package child

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports are given away from below those that kernels give to connections, so that
// one is still free when somebody comes to listen, and comes back.
const firstPort, blockSize = 15_000, 100

var lastPort = 30_000 // changed by tests

// blocks are those whose ports this process gives away. It listens on the first
// port of each for as long as it lives: by that, others that look for ports at the
// same time know that the rest is taken, before anybody listens there.
var blocks struct {
	mu     sync.Mutex
	guards []net.Listener
	next   int // port
	end    int // of the latest block
}

// FreePort is one that nobody listens on, over TCP or UDP, at a host, or at any of
// the machine's if that is empty. Each is given away once.
func FreePort(host string) (string, error) {
	blocks.mu.Lock()
	defer blocks.mu.Unlock()
	for {
		for blocks.next < blocks.end {
			port := strconv.Itoa(blocks.next)
			blocks.next++
			if isFree(net.JoinHostPort(host, port)) {
				return port, nil
			}
		}
		if err := claimBlock(); err != nil {
			return "", fmt.Errorf("looking for a free port: %w", err)
		}
	}
}

func claimBlock() error {
	var err error
	for _, i := range rand.Perm((lastPort - firstPort) / blockSize) {
		first := firstPort + i*blockSize
		var guard net.Listener
		if guard, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first))); err == nil {
			blocks.guards = append(blocks.guards, guard)
			blocks.next, blocks.end = first+1, first+blockSize
			return nil
		}
	}
	return err
}

func isFree(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	_ = l.Close()
	p, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	_ = p.Close()
	return true
}
