//go:build !unix

package main

import (
	"errors"
	"os/exec"
)

// pause stops a process as it stands.
func pause(*exec.Cmd) error { return errors.New("processes can be stopped on Unix only") }
