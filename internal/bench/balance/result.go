package balance

import (
	"math"
	"runtime"
	"slices"
	"sync"
)

// Result is how one contender did in one run.
type Result struct {
	Starts    int     // that were placed, or should have been
	Misplaced float64 // share of them that did not go to the best server
	Refused   int     // that nobody took
	Astray    int     // requests that did not get to where their playback was

	// How full the fullest server was for its weight: over time, as a ratio to
	// what it would be if all were equally full.
	Mean, P99 float64

	fullest float64 // mean over time
}

// Against is how full the fullest server was in comparison to another run.
func (r *Result) Against(o *Result) float64 { return r.fullest / o.fullest }

// Run has contenders play a scenario with a seed, each with the same viewers:
// as many at a time as there are cores.
func Run(sc *Scenario, seed uint64, contenders ...*Contender) []Result {
	viewings := fates(sc, seed)
	list := make([]Result, len(contenders))
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	var all sync.WaitGroup
	for n, k := range contenders {
		free <- struct{}{}
		all.Go(func() {
			r := newRun(sc, viewings, seed, k)
			r.do()
			list[n] = r.result()
			<-free
		})
	}
	all.Wait()
	return list
}

func (r *run) result() Result {
	t, g := &r.tally, r.gauge
	all := float64(max(1, t.starts))
	return Result{
		Starts: t.starts, Misplaced: float64(t.misplaced) / all,
		Refused: t.refused, Astray: t.astray,
		Mean: g.area / g.ideal, P99: g.p99(), fullest: g.area,
	}
}

// ratio is how full a contender's fullest server was in comparison to another's,
// over all seeds together, and twice the standard error of that.
func ratio(results [][]Result, k, other int) (x, wide float64) {
	a, b := 0.0, 0.0
	for _, of := range results {
		a += of[k].fullest
		b += of[other].fullest
	}
	x = a / b
	for _, of := range results {
		d := of[k].fullest - x*of[other].fullest
		wide += d * d
	}
	return x, 2 * math.Sqrt(wide) / b
}

// Spread is a number over several seeds.
type Spread struct{ Median, Least, Most float64 }

func spread(list []float64) Spread {
	slices.Sort(list)
	n := len(list)
	return Spread{(list[(n-1)/2] + list[n/2]) / 2, list[0], list[n-1]}
}
