// Package child runs servers as processes of their own, for the demo, the
// benchmarks and tests.
package child

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	// patience is how long a server may take until it answers.
	patience = 30 * time.Second

	// grace is how long it may take to end.
	grace = 5 * time.Second
)

// Process is a server that runs.
type Process struct {
	Done <-chan struct{} // closed when it has ended

	cmd  *exec.Cmd
	once sync.Once
}

// Start runs a command, whose output goes to a file, and waits until a URL of
// it answers 200, for at most half a minute.
func Start(ctx context.Context, cmd *exec.Cmd, output, url string) (*Process, error) {
	out, err := os.Create(output)
	if err != nil {
		return nil, fmt.Errorf("making a file for its output: %w", err)
	}
	defer out.Close() // the process has it open by itself
	cmd.Stdout, cmd.Stderr = out, out
	Detach(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	p := &Process{Done: done, cmd: cmd}
	if err := p.answers(ctx, url); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

func (p *Process) answers(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %v", patience))
	defer cancel()
	for {
		if r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil); err != nil {
			return err
		} else if res, err := http.DefaultClient.Do(r); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-p.Done:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// PID is the id of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop ends the process and waits for it; after five seconds without its consent,
// and that of its children.
func (p *Process) Stop() {
	p.once.Do(func() {
		if p.cmd.Process.Signal(syscall.SIGTERM) != nil {
			_ = p.cmd.Process.Kill() // where there are no such signals
		}
		select {
		case <-p.Done:
		case <-time.After(grace):
			killFamily(p.cmd)
			<-p.Done
		}
	})
}
