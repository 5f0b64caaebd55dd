package balance

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/plex"
)

func TestGaugeMeasuresTheFullest(t *testing.T) {
	g := newGauge(3, 10*time.Second)
	set := func(at time.Duration, s int, weight float64, transcodes int, up bool) {
		m := &machine{weight: weight, up: up}
		m.work[plex.GPU] = transcodes
		g.set(at, s, m)
	}
	for s, w := range []float64{4, 2, 1} {
		set(0, s, w, 0, true)
	}
	set(5*time.Second, 0, 4, 100, true) // before it begins
	set(10*time.Second, 0, 4, 4, true)
	set(10*time.Second, 1, 2, 6, true) // 3 is the most, of 10 on 7
	set(20*time.Second, 1, 2, 6, false)
	set(20*time.Second, 2, 1, 1, true) // 1, of 5 on 5
	g.pass(30 * time.Second)
	if want := 10*3.0 + 10*1; math.Abs(g.area-want) > 1e-9 {
		t.Errorf("the fullest is %v, want %v", g.area, want)
	}
	if want := 10*10.0/7 + 10*1; math.Abs(g.ideal-want) > 1e-9 {
		t.Errorf("the ideal is %v, want %v", g.ideal, want)
	}
	if p := g.p99(); math.Abs(p-2.1) > ratioStep {
		t.Errorf("99 %% of the time it is below %v, want 2.1", p)
	}
}

func TestAgendaIsInOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var g agenda
	for n := range 3000 {
		g.add(act{at: time.Duration(rng.IntN(100)), n: int32(n)})
		if n%3 == 0 {
			g.next()
		}
	}
	last := g.next()
	for len(g.acts) > 0 {
		a := g.next()
		if a.before(&last) {
			t.Fatalf("%+v comes after %+v", a, last)
		}
		last = a
	}
}
