package balance

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/plexlb/caddy-plexlb/internal/cluster"
)

// Few seeds and shorter scenarios are enough to tell; BENCHMARKS.md has all.
func TestPlexlbIsWithinAHundredthOfAnOracle(t *testing.T) {
	for _, sc := range Scenarios() {
		t.Run(sc.Name, func(t *testing.T) {
			if testing.Short() || raceEnabled {
				t.Skip("takes long")
			}
			seeds := uint64(4)
			switch {
			case sc.servers() > 100:
				sc.Servers = []Class{{Count: 40, Weight: 4}, {Count: 60, Weight: 2}, {Count: 100, Weight: 1}}
				sc.Viewers, sc.Duration = 8000, 5*time.Minute
				seeds = 12
			case sc.servers() == 20:
				seeds = 2
			default:
				sc.Duration = min(sc.Duration, 8*time.Hour)
			}
			var results [][]Result
			starts, refused := 0, 0
			for seed := range seeds {
				of := Run(&sc, seed, Contenders[:truth+1]...)
				results = append(results, of)
				if of[plexlb].Astray > 0 {
					t.Errorf("seed %d: %d requests went astray", seed, of[plexlb].Astray)
				}
				starts += of[truth].Starts
				refused += of[plexlb].Refused - of[truth].Refused
			}
			// Who is refused fills nothing, so that must not be how it wins.
			if refused > starts/200 {
				t.Errorf("%d more were refused than need be", refused)
			}
			x, wide := ratio(results, plexlb, truth)
			t.Logf("%.4f ± %.4f of the oracle", x, wide)
			if x > 1.01 {
				t.Errorf("the fullest server is %.4f ± %.4f as full as the oracle's", x, wide)
			}
		})
	}
}

// A placement that is a little wrong is found out.
func TestTheSimulationTells(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("takes long")
	}
	list := Scenarios()
	sc := list[slices.IndexFunc(list, func(s Scenario) bool { return s.Name == "bursts" })]
	sc.Duration = 2 * time.Hour
	for name, broken := range map[string]func(contender) contender{
		"it takes the second best now and then": func(c contender) contender { return &wayward{ours: c.(*ours)} },
		"it hears of nothing":                   func(c contender) contender { return &blind{ours: c.(*ours)} },
	} {
		t.Run(name, func(t *testing.T) {
			k := &Contender{Name: name, make: func(r *run) contender { return broken(newOurs(r)) }, informed: true}
			of := Run(&sc, 1, k, Contenders[truth])
			if x := of[0].Against(&of[1]); x <= 1.01 {
				t.Errorf("the fullest server is only %.4f as full as the oracle's", x)
			}
		})
	}
}

// wayward has one playback in four go to a server at random.
type wayward struct{ *ours }

func (w *wayward) place(i int32, failed int) int {
	if i%4 != 0 || failed >= 0 {
		return w.ours.place(i, failed)
	}
	pool := w.doors[0].candidates
	s := w.rng.IntN(len(pool))
	t := w.ticket(i)
	t.query = cluster.Query{
		IDs:  cluster.IDs{Transcode: t.transcode, Session: t.session, Client: t.client},
		Role: cluster.Start, Work: cluster.GPU, Item: t.session,
	}
	t.hold = w.doors[0].ledger.Find(&t.query, w.clock())
	w.doors[0].ledger.Place(&t.query, &t.hold, pool[s:s+1], w.clock())
	return s
}

// blind learns of no end and of no kind of work.
type blind struct{ *ours }

func (b *blind) follow(i int32, step what) {
	if step != end && step != answer {
		b.ours.follow(i, step)
	}
}
func (b *blind) taken(uint8, int, []line, time.Duration, bool) {}
func (b *blind) heard(uint8, int, int32, what)                 {}

func TestTheSameSeedGivesTheSame(t *testing.T) {
	sc := evening()
	sc.Duration = time.Hour
	sc.Bypass, sc.Balancers, sc.Deaths = 0.1, 2, []Death{{0, 10 * time.Minute, 5 * time.Minute}}
	sc.Polls.Half, sc.Polls.Missing = 0.05, 0.05
	a, b := Run(&sc, 7, Contenders...), Run(&sc, 7, Contenders...)
	if !reflect.DeepEqual(a, b) {
		t.Errorf("first %+v\nthen %+v", a, b)
	}
	if c := Run(&sc, 8, Contenders...); reflect.DeepEqual(a, c) {
		t.Error("another seed gives the same")
	}
}

// A small part of what the command does with a thousand servers.
func TestACrowd(t *testing.T) {
	list := Scenarios()
	sc := list[len(list)-1]
	sc.Servers = []Class{{Count: 20, Weight: 4}, {Count: 30, Weight: 2}, {Count: 50, Weight: 1}}
	sc.Viewers, sc.Duration = 6000, 2*time.Minute
	if testing.Short() || raceEnabled {
		sc.Viewers, sc.Duration = 300, time.Minute
	}
	var results [][]Result
	for seed := range uint64(8) { // who is fullest in so short a time is mostly chance
		of := Run(&sc, seed, Contenders[:truth+1]...)
		results = append(results, of)
		if of[plexlb].Astray > 0 || of[plexlb].Starts < sc.Viewers/10 {
			t.Errorf("seed %d: %+v", seed, of[plexlb])
		}
	}
	x, wide := ratio(results, plexlb, truth)
	t.Logf("%.4f ± %.4f of the oracle", x, wide)
	if x > 1.01 && sc.Viewers > 300 {
		t.Errorf("the fullest server is %.4f as full as the oracle's", x)
	}
}
