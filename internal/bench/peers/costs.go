package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/bench/cputime"
)

// cost is what one span of load came to.
type cost struct {
	processor float64 // µs per request
	perSecond float64
	p50, p99  float64 // ms
}

// costs are those of all spans, by kind of request, peer and round.
type costs [][][]cost

// lives is how often the proxies are run anew: where a process has its memory
// makes up to a few hundredths of what it costs, for as long as it lives.
const lives = 8

// measureCosts measures costs over several lives of the proxies.
func measureCosts(ctx context.Context, o options, dir string, peers []peer) (costs, error) {
	all := make(costs, len(kinds))
	for k := range kinds {
		all[k] = make([][]cost, len(peers))
	}
	rest := o.rounds
	for life := lives; life > 0; life-- {
		o.rounds = share(rest, life)
		rest -= o.rounds
		if err := all.measure(ctx, o, dir, peers); err != nil {
			return nil, err
		}
		o.profiles = "" // one life tells
	}
	return all, nil
}

// measure runs all proxies in front of the same three servers, and loads them by
// turns.
func (all costs) measure(ctx context.Context, o options, dir string, peers []peer) error {
	h, err := serveThree("-fast")
	if err != nil {
		return err
	}
	defer h.kill()
	proxies := make([]*proxy, len(peers))
	loads := make([]*load, len(peers))
	for i, p := range peers {
		if proxies[i], err = start(ctx, p, dir, h.addresses()[:o.servers]); err != nil {
			return err
		}
		defer proxies[i].Stop()
		if err := begin(ctx, proxies[i].url); err != nil {
			return fmt.Errorf("beginning playbacks through %s: %w", p.name, err)
		}
		if loads[i], err = newLoad(strings.TrimPrefix(proxies[i].url, "http://")); err != nil {
			return err
		}
		defer loads[i].close()
	}
	for round := -1; round < o.rounds; round++ { // the first warms up
		for k := range kinds {
			for n := range peers {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				i := turn(round, n, len(peers))
				c, err := span(proxies[i], loads[i], kinds[k], o.span)
				if err != nil {
					return fmt.Errorf("%s: %w", peers[i].name, err)
				}
				if round >= 0 {
					all[k][i] = append(all[k][i], c)
				}
			}
		}
	}
	if o.profiles == "" {
		return nil
	}
	for i, x := range proxies {
		if x.packet != "" {
			continue
		}
		for k := range kinds {
			if err := profile(x, loads[i], kinds[k], filepath.Join(o.profiles, fmt.Sprintf("%d-%d", i, k))); err != nil {
				return err
			}
		}
	}
	return nil
}

// turn returns whose turn it is as number n of a round: in every other round
// the order is turned round, and every two it begins with the next, so that
// nobody always comes first, nor always after the same.
func turn(round, n, of int) int {
	i := (n + (round+1)/2) % of
	if round%2 == 0 {
		return i
	}
	return of - 1 - i
}

// begin starts the playbacks whose segments will be asked for.
func begin(ctx context.Context, url string) error {
	for i := range playbacks {
		for _, what := range []string{"decision", "start.m3u8"} {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet,
				url+"/video/:/transcode/universal/"+what+"?path=%2Flibrary%2Fmetadata%2F1&protocol=hls&mediaIndex=0&partIndex=0"+ids(i), nil)
			if err != nil {
				return err
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if res.StatusCode != http.StatusOK || err != nil {
				return fmt.Errorf("%s: status %d, %v", what, res.StatusCode, err)
			}
		}
	}
	return nil
}

// span loads a proxy for a while.
func span(x *proxy, l *load, k kind, d time.Duration) (cost, error) {
	before, err := cputime.OfFamily(x.PID())
	if err != nil {
		return cost{}, err
	}
	began := time.Now()
	took, err := l.run(k, d)
	if err != nil {
		return cost{}, err
	}
	lasted := time.Since(began)
	after, err := cputime.OfFamily(x.PID())
	if err != nil {
		return cost{}, err
	}
	slices.Sort(took)
	n := float64(len(took))
	return cost{
		processor: float64(after-before) / n / 1e3,
		perSecond: n / lasted.Seconds(),
		p50:       float64(took[len(took)/2]) / 1e6,
		p99:       float64(took[len(took)*99/100]) / 1e6,
	}, nil
}

// profile writes down where a Caddy's processor time goes under a kind of load,
// and what it allocates.
func profile(x *proxy, l *load, k kind, file string) error {
	const length = 10 * time.Second
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _, _ = l.run(k, length+2*time.Second) })
	seconds := fmt.Sprintf("?seconds=%d", int(length.Seconds()))
	if err := fetch(x.admin+"/debug/pprof/profile"+seconds, file+".cpu"); err != nil {
		return fmt.Errorf("profiling %s: %w", x.name, err)
	}
	if err := fetch(x.admin+"/debug/pprof/allocs", file+".allocs"); err != nil {
		return fmt.Errorf("profiling %s: %w", x.name, err)
	}
	return nil
}

func fetch(url, file string) error {
	res, err := http.Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, res.Body)
	return errors.Join(err, f.Close())
}
