//go:build unix

package child

import (
	"os/exec"
	"syscall"
)

// Detach keeps a terminal's Ctrl-C from a command, which is stopped in its turn.
func Detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killFamily ends a detached process and its children.
func killFamily(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
