//go:build unix

package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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

// Processes that look for ports at the same time never get the same one, and none
// gets one twice.
func TestFreePort(t *testing.T) {
	defer func(port int) { lastPort = port }(lastPort)
	lastPort = firstPort + 30*blockSize // so few that they would meet
	if os.Getenv("PLEXLB_PORTS") != "" {
		for range 150 {
			port, err := FreePort("127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			fmt.Println("port " + port)
		}
		// Until all have looked.
		_, _ = io.ReadAll(os.Stdin)
		return
	}
	t.Cleanup(func() {
		for _, guard := range blocks.guards {
			_ = guard.Close()
		}
		blocks.guards, blocks.next, blocks.end = nil, 0, 0
	})
	taken, err := FreePort("")
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(taken)
	given := map[string]bool{taken: true}
	for n++; ; n++ { // the next one is not free
		p, err := net.ListenPacket("udp", "127.0.0.1:"+strconv.Itoa(n))
		if err == nil {
			defer p.Close()
			given[strconv.Itoa(n)] = true
			break
		}
	}
	var lines [4]*bufio.Scanner
	for i := range lines {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFreePort$")
		cmd.Env = append(os.Environ(), "PLEXLB_PORTS=1")
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
		lines[i] = bufio.NewScanner(stdout)
	}
	for i := range 150 {
		ports := make([]string, 0, len(lines)+1)
		for _, from := range lines {
			if !from.Scan() {
				t.Fatalf("no more ports after %d", i)
			}
			port, ok := strings.CutPrefix(from.Text(), "port ")
			if !ok {
				t.Fatalf("another process said %q", from.Text())
			}
			ports = append(ports, port)
		}
		own, err := FreePort("")
		if err != nil {
			t.Fatal(err)
		}
		for _, port := range append(ports, own) {
			if given[port] {
				t.Errorf("port %s is given twice", port)
			}
			given[port] = true
		}
	}
}
