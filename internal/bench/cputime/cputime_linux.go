package cputime

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// Of returns what a process has taken so far, to the nanosecond: unlike
// getrusage, the clock of a process can be read by others while it runs.
func Of(pid int) (time.Duration, error) {
	var at syscall.Timespec
	const scheduled = 2 // see clock_getcpuclockid(3)
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(^pid<<3|scheduled), uintptr(unsafe.Pointer(&at)), 0); errno != 0 {
		return 0, fmt.Errorf("reading the clock of process %d: %w", pid, errno)
	}
	return time.Duration(at.Nano()), nil
}

// OfFamily returns what a process and its living descendants have taken: some
// programs do their work in children.
func OfFamily(pid int) (time.Duration, error) {
	total, err := Of(pid)
	if err != nil {
		return 0, err
	}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for word := range strings.FieldsSeq(string(text)) {
			child, err := strconv.Atoi(word)
			if err != nil {
				return 0, fmt.Errorf("reading %s: %w", list, err)
			}
			took, err := OfFamily(child)
			if err != nil {
				return 0, err
			}
			total += took
		}
	}
	return total, nil
}
