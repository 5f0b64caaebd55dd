//go:build !unix

package main

import (
	"errors"
	"os/exec"
)

// detach does nothing.
func detach(*exec.Cmd) {}

// killFamily ends a process.
func killFamily(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

// pause stops a process as it stands.
func pause(*exec.Cmd) error { return errors.New("processes can be stopped on Unix only") }
