package cluster

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func TestBest(t *testing.T) {
	for name, tc := range map[string]struct {
		options []Option
		want    int
	}{
		"the least load wins":                       {[]Option{{Score: Score(2, 1, 1)}, {Score: Score(1, 1, 1)}}, 1},
		"load counts by weight":                     {[]Option{{Score: Score(2, 1, 4)}, {Score: Score(0, 1, 1)}}, 0},
		"what the playback adds counts by weight":   {[]Option{{Score: Score(0, 1, 1)}, {Score: Score(0, 1, 2)}}, 1},
		"an excluded server is skipped":             {[]Option{{Score: Score(0, 1, 9), Out: Down}, {Score: Score(5, 1, 1)}}, 1},
		"every reason excludes":                     {[]Option{{Out: Tried}, {Out: Draining}, {Out: Maintenance}, {Out: Shunned}, {Out: Full}}, -1},
		"even an endless score is better than none": {[]Option{{Score: math.Inf(1), Hash: 7, Out: Down}, {Score: math.Inf(1), Hash: 8}}, 1},
		"nothing is nothing, whatever its sign":     {[]Option{{Score: math.Copysign(0, -1)}}, 0},
		"no server, no choice":                      {nil, -1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Best(tc.options, 7); got != tc.want {
				t.Errorf("Best() = %d, want %d", got, tc.want)
			}
		})
	}
}

// The simplest thing that is right: look at all, then at those as good.
func naive(options []Option, key uint64) int {
	best := -1
	for i, o := range options {
		if o.Out == In && (best < 0 || o.Score < options[best].Score) {
			best = i
		}
	}
	for i, o := range options {
		if o.Out == In && o.Score == options[best].Score && rank(key, o.Hash) < rank(key, options[best].Hash) {
			best = i
		}
	}
	return best
}

func TestBestAgreesWithLookingAtAllOfThem(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		options := make([]Option, rng.IntN(12))
		for i := range options {
			options[i] = Option{
				Score: Score(float64(rng.IntN(5))/2, float64(rng.IntN(3)), float64(1+rng.IntN(3))),
				Hash:  rng.Uint64(), Out: Exclusion(max(0, rng.IntN(9)-2) % 7),
			}
		}
		key := rng.Uint64()
		if got, want := Best(options, key), naive(options, key); got != want {
			t.Fatalf("Best(%+v, %d) = %d, want %d", options, key, got, want)
		}
	}
}

func TestTiesSpreadEvenlyAndAlikeOnEveryBalancer(t *testing.T) {
	const servers, keys = 60, 6000
	options := make([]Option, servers)
	backwards := make([]Option, servers)
	for i := range options {
		options[i] = Option{Score: Score(0, 1, 1), Hash: hashString(fmt.Sprintf("10.0.0.%d:32400", i))}
		backwards[servers-1-i] = options[i]
	}
	var got [servers]int
	for k := range keys {
		key := hashString(fmt.Sprint("session-", k))
		i := Best(options, key)
		if j := Best(backwards, key); j != servers-1-i {
			t.Fatalf("key %d: server %d, but %d for who knows them in another order", k, i, servers-1-j)
		}
		got[i]++
	}
	for i, n := range got {
		if n < 60 || n > 145 { // 100 on average, ±4½ standard deviations
			t.Errorf("server %d gets %d of %d", i, n, keys)
		}
	}
}

func TestBestAllocatesNothing(t *testing.T) {
	options := make([]Option, 50)
	for i := range options {
		options[i] = Option{Hash: uint64(i)}
	}
	if n := testing.AllocsPerRun(100, func() { Best(options, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestOpinionsGiveWay(t *testing.T) {
	for name, tc := range map[string]struct{ in, want []Exclusion }{
		"half are left, so the shunned stay out":                  {[]Exclusion{In, Shunned}, []Exclusion{In, Shunned}},
		"less than half are left, so nobody is shunned":           {[]Exclusion{In, Shunned, Shunned}, []Exclusion{In, In, In}},
		"servers that are down are not left":                      {[]Exclusion{In, Shunned, Down, Down}, []Exclusion{In, In, Down, Down}},
		"facts stay":                                              {[]Exclusion{Down, Tried, Draining, Shunned}, []Exclusion{Down, Tried, Draining, In}},
		"one that works keeps the others' maintenance":            {[]Exclusion{In, Maintenance, Maintenance}, []Exclusion{In, Maintenance, Maintenance}},
		"where all are in maintenance, one of them may be done":   {[]Exclusion{Down, Maintenance, Maintenance}, []Exclusion{Down, In, In}},
		"the shunned are tried before those in maintenance":       {[]Exclusion{Shunned, Maintenance, Maintenance}, []Exclusion{In, Maintenance, Maintenance}},
		"where there are no opinions, there is nothing to change": {[]Exclusion{Down, Down, In}, []Exclusion{Down, Down, In}},
	} {
		t.Run(name, func(t *testing.T) {
			options := make([]Option, len(tc.in))
			for i, out := range tc.in {
				options[i].Out = out
			}
			temper(options)
			for i, o := range options {
				if o.Out != tc.want[i] {
					t.Errorf("server %d: %v, want %v", i, o.Out, tc.want[i])
				}
			}
		})
	}
}
