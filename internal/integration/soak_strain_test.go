//go:build unix

package integration

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// strain is how hard this machine had to work, all of whose parts — Caddy, the
// servers and the viewers — run on it. What is late on a machine without room
// says nothing about who was waited for.
type strain struct {
	began      time.Time
	busy, idle uint64 // of the machine when it began, in ticks; 0: not known

	mu    sync.Mutex
	ticks int
	late  []lateness // the noticeable ones
}

// lateness is how much later than it wanted to somebody woke up.
type lateness struct {
	at time.Time
	by time.Duration
}

const (
	// noticeable is a lateness that is noted.
	noticeable = 100 * time.Millisecond

	// roomToLeave is the share of the machine that must be left for the times
	// to mean anything.
	roomToLeave = 0.1
)

// measure goes on until the context ends.
func (s *strain) measure(ctx context.Context) {
	const tick = 50 * time.Millisecond
	s.began = time.Now()
	s.busy, s.idle = machineTicks()
	for {
		from := time.Now()
		if !passes(ctx, tick) {
			return
		}
		late := time.Since(from) - tick
		s.mu.Lock()
		s.ticks++
		if late >= noticeable {
			s.late = append(s.late, lateness{time.Now(), late})
		}
		s.mu.Unlock()
	}
}

// during returns how late one was at worst between two times.
func (s *strain) during(from, to time.Time) (worst time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.late {
		if l.at.After(from) && l.at.Add(-l.by).Before(to) {
			worst = max(worst, l.by)
		}
	}
	return worst
}

// lost returns how much time one was late by in all between two times.
func (s *strain) lost(from, to time.Time) (sum time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.late {
		if l.at.After(from) && l.at.Add(-l.by).Before(to) {
			sum += l.by
		}
	}
	return sum
}

// report says what was used by whom, once all of them have ended, and whether
// the machine was equal to it.
func (s *strain) report(t *testing.T, caddy time.Duration, servers time.Duration) (overloaded bool) {
	t.Helper()
	wall := time.Since(s.began)
	share := func(d time.Duration) float64 { return 100 * d.Seconds() / wall.Seconds() / float64(runtime.NumCPU()) }
	t.Logf("of %d processors Caddy used %.0f%%, the servers %.0f%%, the viewers and their judge %.0f%%",
		runtime.NumCPU(), share(caddy), share(servers), share(usage(syscall.RUSAGE_SELF)))
	room := 1.0
	if busy, idle := machineTicks(); busy > s.busy {
		room = float64(idle-s.idle) / float64(busy-s.busy+idle-s.idle)
		t.Logf("%.0f%% of the machine were left", 100*room)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	worst := time.Duration(0)
	for _, l := range s.late {
		worst = max(worst, l.by)
	}
	t.Logf("of %d times somebody woke up, it was late by %v or more %d times, and by %v at worst", s.ticks, noticeable, len(s.late), worst.Round(time.Millisecond))
	return room < roomToLeave || len(s.late) > s.ticks/20 || worst > 5*time.Second
}

// usage is the processor time of this process or of its ended children.
func usage(who int) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// machineTicks reads what all processors have done since they were switched on,
// zeros where that is not told.
func machineTicks() (busy, idle uint64) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	fields := strings.Fields(line)
	for i, f := range fields[min(1, len(fields)):] {
		n, err := strconv.ParseUint(f, 10, 64)
		switch {
		case err != nil:
			return 0, 0
		case i == 3 || i == 4: // idle, and waiting for a disk
			idle += n
		case i < 8: // the guests' time is in the others
			busy += n
		}
	}
	return busy, idle
}

// slowness says how late this process was, if it was.
func (s *strain) slowness(from, to time.Time) string {
	if late := s.during(from, to); late > 0 {
		return fmt.Sprintf("; the machine was late by up to %v", late.Round(time.Millisecond))
	}
	return ""
}
