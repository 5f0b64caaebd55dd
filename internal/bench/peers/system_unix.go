//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// pause stops a process as it stands.
func pause(cmd *exec.Cmd) error { return cmd.Process.Signal(syscall.SIGSTOP) }
