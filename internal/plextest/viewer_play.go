package plextest

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// ahead is how many segments a player holds in its buffer.
const ahead = 5

// Play starts if need be, watches for d at the pace of life, and stops. At the
// end of the item it stops too. If the context ends, the viewer vanishes
// without a word.
func (v *Viewer) Play(ctx context.Context, d time.Duration) error {
	if !v.started {
		if err := v.Start(ctx); err != nil {
			return err
		}
	}
	if err := v.Timeline(ctx, "playing"); err != nil {
		return err
	}
	if err := v.Watch(ctx, d); err != nil {
		return err
	}
	return v.Stop(ctx)
}

// Watch plays on for d from where the viewer is, which has started, or to the
// end of the item.
func (v *Viewer) Watch(ctx context.Context, d time.Duration) error {
	// Reports go out from aside: whatever becomes of one, a player plays on.
	reports, enough := context.WithCancel(ctx)
	var reporter sync.WaitGroup
	reporter.Go(func() { v.report(reports) })
	err := v.watch(ctx, d)
	enough()
	reporter.Wait()
	return err
}

// watch gets segments for d, as fast as the buffer takes them.
func (v *Viewer) watch(ctx context.Context, d time.Duration) error {
	begin, first := time.Now(), v.position
	if v.position > 0 {
		first++
	}
	for n := first; time.Since(begin) < d; n++ {
		err := v.endure(ctx, n)
		if errors.Is(err, ErrEnd) {
			return nil
		}
		if err != nil {
			return err
		}
		left := min(
			time.Until(begin.Add(time.Duration(n+1-first-ahead)*v.SegmentDuration)), // until the buffer has room
			time.Until(begin.Add(d)),
		)
		if err := sleep(ctx, left); err != nil {
			return err
		}
	}
	return nil
}

// report tells where the viewer is, over and over. A report that fails stops no
// player.
func (v *Viewer) report(ctx context.Context) {
	for sleep(ctx, v.TimelineEvery) == nil {
		_ = v.Timeline(ctx, "playing")
		if v.habits.pings {
			_ = v.Ping(ctx)
		}
	}
}

// endure gets a segment with a player's patience: a broken connection and 503
// are tried again, 404 is the end for all but Plex Web [P §4.5].
func (v *Viewer) endure(ctx context.Context, n int) error {
	begin := time.Now()
	pause := 100 * time.Millisecond
	for {
		err := v.Segment(ctx, n)
		if err == nil || errors.Is(err, ErrEnd) || ctx.Err() != nil {
			return err
		}
		wait := pause
		if s := (*StatusError)(nil); errors.As(err, &s) {
			transient := s.Status == http.StatusServiceUnavailable ||
				s.Status == http.StatusNotFound && (v.Kind == PlexWeb || v.Kind == PlexWebMusic)
			if !transient {
				return err
			}
			wait = max(wait, min(s.RetryAfter, time.Second))
		}
		if time.Since(begin)+wait > v.Patience {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		pause = min(2*pause, time.Second)
		if v.habits.protocol == "http" && v.stream == nil {
			_ = v.begin(ctx, n) // a stream is taken up where it broke off [P §3.4]
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
