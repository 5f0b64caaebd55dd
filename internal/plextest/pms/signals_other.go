//go:build !unix

package main

import "github.com/plexlb/caddy-plexlb/internal/plextest"

// forgetOnSignal does nothing: there is no SIGUSR1.
func forgetOnSignal(*plextest.Server) (stop func()) { return func() {} }
