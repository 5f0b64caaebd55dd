//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/plexlb/caddy-plexlb/internal/plextest"
)

// forgetOnSignal makes SIGUSR1 forget all sessions, until the returned function
// is called.
func forgetOnSignal(s *plextest.Server) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		for range signals {
			s.Forget()
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}
