package balance

import "time"

// Scenario is what happens to the contenders, but for chance.
type Scenario struct {
	Name  string
	About string // in one sentence

	Servers []Class

	// Viewers is how many watch at once, on average, and Length for how long
	// each does. Lengths are log-normal: a few are many times the mean.
	Viewers int
	Length  time.Duration

	// Duration is how long is measured, after the warming up.
	Duration time.Duration

	Mix   Mix
	Burst Burst

	// Shares of all playbacks: that go to a server of their own choice past the
	// balancer; that are downloads, which do so too and have no player; whose
	// client vanishes without a word; that are asked for and never begun.
	Bypass, Downloads, Silent, Asked float64

	// Seeks is how often a viewer seeks during a playback, on average. Each ends
	// an encoder and begins another under the same name.
	Seeks float64

	// Balancers share the viewers. Default: 1.
	Balancers int

	Polls  Polls
	Deaths []Death
}

// Class is a number of servers that are alike.
type Class struct {
	Count  int
	Weight float64

	// Limit is max_transcodes, and the server's own limit as well. 0: none.
	Limit int

	// Sessions is how many hardware encoders the server can have at once;
	// what comes beyond is encoded in software. 0: no limit; less: none.
	Sessions int
}

// Mix says how many of a hundred playbacks are of each kind.
type Mix struct {
	Video    int // transcodes, in hardware where the server can
	Software int // transcodes that no hardware can do
	Copy     int // remuxes
	Direct   int // direct plays
}

// Burst is a crowd that comes again and again. The zero Burst is none.
type Burst struct {
	Every, Within time.Duration
	Viewers       int
}

// Polls says how the servers' reports are read.
type Polls struct {
	Every  time.Duration
	Events bool // the servers' events are heard

	// Shares of the readings that are late by up to three seconds, time out,
	// hold only half of the list, repeat the last list, or are of another
	// server.
	Late, Missing, Half, Stale, Other float64
}

// Death kills a server, which forgets all it was doing, and brings it back.
type Death struct {
	Server  int
	At, For time.Duration // since the measurement began
}

func (s *Scenario) servers() (n int) {
	for _, c := range s.Servers {
		n += c.Count
	}
	return n
}

// warming is how long a run goes on before it is measured.
func (s *Scenario) warming() time.Duration { return s.Length / 2 }

func (s *Scenario) end() time.Duration { return s.warming() + s.Duration }
