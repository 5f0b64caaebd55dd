package balance

import "slices"

// Result is how one contender did in one run.
type Result struct {
	Starts    int     // that were placed, or should have been
	Misplaced float64 // share of them that did not go to the best server
	Failed    float64 // share that the first server could not take
	Refused   int     // that nobody took
	Carried   int     // playbacks that went on on another server
	Astray    int     // requests that did not get to where their playback was

	// How full the fullest server was for its weight: over time, as a ratio to
	// what it would be if all were equally full.
	Mean, P99 float64

	fullest float64 // mean over time
}

// Against is how full the fullest server was in comparison to another run.
func (r *Result) Against(o *Result) float64 { return r.fullest / o.fullest }

// Run has contenders play a scenario with a seed, each with the same viewers.
func Run(sc *Scenario, seed uint64, contenders ...*Contender) []Result {
	viewings := fates(sc, seed)
	list := make([]Result, 0, len(contenders))
	for _, k := range contenders {
		r := newRun(sc, viewings, seed, k)
		r.do()
		list = append(list, r.result())
	}
	return list
}

func (r *run) result() Result {
	t, g := &r.tally, r.gauge
	all := float64(max(1, t.starts))
	return Result{
		Starts: t.starts, Misplaced: float64(t.misplaced) / all, Failed: float64(t.failed) / all,
		Refused: t.refused, Carried: t.carried, Astray: t.astray,
		Mean: g.area / g.ideal, P99: g.p99(), fullest: g.area,
	}
}

// Spread is a number over several seeds.
type Spread struct{ Median, Least, Most float64 }

func spread(list []float64) Spread {
	slices.Sort(list)
	n := len(list)
	return Spread{(list[(n-1)/2] + list[n/2]) / 2, list[0], list[n-1]}
}
