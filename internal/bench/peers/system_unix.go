//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// detach keeps Ctrl-C from a process: it is for us to pass on.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killFamily ends a detached process and its children.
func killFamily(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// pause stops a process as it stands.
func pause(cmd *exec.Cmd) error { return cmd.Process.Signal(syscall.SIGSTOP) }
