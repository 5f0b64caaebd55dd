//go:build unix

package child

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// answering is a URL that answers 200.
func answering(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestStartAndStop(t *testing.T) {
	p, err := Start(t.Context(), exec.Command("sleep", "60"), filepath.Join(t.TempDir(), "output"), answering(t))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done:
		t.Fatal("it ended by itself")
	default:
	}
	p.Stop()
	p.Stop() // does no harm
	if err := syscall.Kill(p.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("asked for the process: %v, want %v", err, syscall.ESRCH)
	}
}

// Whoever does not want to end is ended, with its children.
func TestStopUnwilling(t *testing.T) {
	t.Parallel()
	output := filepath.Join(t.TempDir(), "output")
	p, err := Start(t.Context(), exec.Command("sh", "-c", `trap "" TERM; sleep 60 & echo $!; wait; wait`), output, answering(t))
	if err != nil {
		t.Fatal(err)
	}
	var grandchild int
	for end := time.Now().Add(5 * time.Second); grandchild == 0; time.Sleep(10 * time.Millisecond) {
		said, _ := os.ReadFile(output)
		if grandchild, _ = strconv.Atoi(strings.TrimSpace(string(said))); time.Now().After(end) {
			t.Fatalf("it said %q", said)
		}
	}
	p.Stop()
	for end := time.Now().Add(5 * time.Second); syscall.Kill(grandchild, 0) == nil; time.Sleep(10 * time.Millisecond) {
		// One that is dead is there until somebody asks for it.
		if state, _ := os.ReadFile("/proc/" + strconv.Itoa(grandchild) + "/stat"); strings.Contains(string(state), ") Z ") {
			break
		}
		if time.Now().After(end) {
			t.Fatal("its child runs on")
		}
	}
}

func TestStartThatFails(t *testing.T) {
	output := filepath.Join(t.TempDir(), "output")
	if _, err := Start(t.Context(), exec.Command("./nothing-here"), output, answering(t)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such program: %v", err)
	}
	const nobody = "http://127.0.0.1:1/"
	if _, err := Start(t.Context(), exec.Command("sh", "-c", "echo no such option >&2; exit 1"), output, nobody); err == nil || err.Error() != "it ended at once" {
		t.Errorf("ended: %v", err)
	}
	if said, _ := os.ReadFile(output); string(said) != "no such option\n" {
		t.Errorf("it said %q", said)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Start(ctx, exec.Command("sleep", "60"), output, nobody); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("given up: %v", err)
	}
}
