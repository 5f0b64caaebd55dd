//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package main

import "os"

// terminalSize never finds a terminal: the demo prints plain lines then.
func terminalSize(*os.File) (width, height int, ok bool) { return 0, 0, false }
