//go:build !linux

package cputime

import (
	"errors"
	"time"
)

var errLinux = errors.New("the processor time of other processes can be read on Linux only")

// Of returns what a process has taken so far.
func Of(int) (time.Duration, error) { return 0, errLinux }

// OfFamily returns what a process and its living descendants have taken.
func OfFamily(int) (time.Duration, error) { return 0, errLinux }
