package balance

import "time"

// gauge measures over time how full the fullest server is for its weight.
type gauge struct {
	from time.Duration // when it begins to
	last time.Duration

	fullest []float64 // a tree of maxima; the servers are its second half
	loads   []float64
	weights []float64
	load    float64 // of all servers that are up
	weight  float64
	changes int

	area, ideal float64 // over seconds, of the fullest, and if all were equally full
	ratios      [2000]float64
}

const (
	ratioStep = 0.005

	// Sums are made anew after so many changes, so that no error grows.
	anew = 1 << 12
)

func newGauge(n int, from time.Duration) *gauge {
	size := 1
	for size < n {
		size *= 2
	}
	return &gauge{from: from, fullest: make([]float64, 2*size), loads: make([]float64, n), weights: make([]float64, n)}
}

// set notes how a server stands from now on.
func (g *gauge) set(now time.Duration, s int, m *machine) {
	g.pass(now)
	load, weight := 0.0, 0.0
	if m.up {
		load, weight = m.load(), m.weight
	}
	g.load += load - g.loads[s]
	g.weight += weight - g.weights[s]
	g.loads[s], g.weights[s] = load, weight
	if g.changes++; g.changes%anew == 0 {
		g.load, g.weight = 0, 0
		for i := range g.loads {
			g.load += g.loads[i]
			g.weight += g.weights[i]
		}
	}
	i := s + len(g.fullest)/2
	g.fullest[i] = 0
	if m.up {
		g.fullest[i] = load / weight
	}
	for i /= 2; i >= 1; i /= 2 {
		g.fullest[i] = max(g.fullest[2*i], g.fullest[2*i+1])
	}
}

// pass lets time go by.
func (g *gauge) pass(now time.Duration) {
	if now <= g.from || now == g.last {
		g.last = max(g.last, min(now, g.from))
		return
	}
	dt := (now - max(g.last, g.from)).Seconds()
	g.last = now
	if g.weight == 0 || g.load <= 0 {
		return
	}
	most, equal := g.fullest[1], g.load/g.weight
	g.area += dt * most
	g.ideal += dt * equal
	g.ratios[max(0, min(len(g.ratios)-1, int((most/equal-1)/ratioStep)))] += dt
}

// p99 is the ratio of the fullest to the ideal that is exceeded during a
// hundredth of the time.
func (g *gauge) p99() float64 {
	all := 0.0
	for _, t := range g.ratios {
		all += t
	}
	for i, t, rest := len(g.ratios)-1, 0.0, all/100; i >= 0; i-- {
		if t += g.ratios[i]; t > rest {
			return 1 + ratioStep*(float64(i)+0.5)
		}
	}
	return 1
}
