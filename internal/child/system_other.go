//go:build !unix

package child

import "os/exec"

// Detach keeps a terminal's Ctrl-C from a command where that is possible.
func Detach(*exec.Cmd) {}

// killFamily ends a process.
func killFamily(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
