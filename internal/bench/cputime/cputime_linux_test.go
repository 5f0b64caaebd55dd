package cputime

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

func TestWorkIsSeen(t *testing.T) {
	before, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for at := time.Now(); time.Since(at) < 30*time.Millisecond; {
	}
	after, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if took := after - before; took < time.Millisecond || took > time.Minute {
		t.Errorf("30 ms of work took %v of processor time", took)
	}
}

// A shell that waits takes next to nothing; what it runs does the work.
func TestWorkOfChildrenIsTheirParents(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sh -c 'while :; do :; done' & wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its group, which has the child in it
		_ = cmd.Wait()
	}()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		family, err := OfFamily(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		alone, err := Of(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if family > 100*time.Millisecond && family > 2*alone {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the family took %v, its head alone %v", family, alone)
		}
	}
}
