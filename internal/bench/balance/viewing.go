package balance

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// kind is what a playback is, as its file and its client have it.
type kind uint8

const (
	video kind = iota
	software
	remux
	direct
	download
)

// viewing is one playback as fate has it, whoever balances.
type viewing struct {
	at     time.Duration // when it is asked for
	length time.Duration // how long it lasts
	whole  time.Duration // when all of it is encoded, since at; 0: never
	seek   time.Duration // when its viewer seeks, since at; 0: never
	past   int32         // the server to which it goes past the balancer; -1: none
	kind   kind
	door   uint8 // the balancer through which it comes
	silent bool
	asked  bool   // and never begun
	luck   uint32 // how long this and that takes
}

const (
	// answering is how long a server thinks about a decision, at most, and
	// beginning how long a client takes from there to the start.
	answering = 500 * time.Millisecond
	beginning = time.Second

	// warmingUp is how long an encoder looks as if it was none.
	warmingUp = time.Second

	// ahead is how far before the end of the film all of it is encoded.
	ahead = time.Minute

	// reaping is when a server ends what nobody asks for any more [P §4.3].
	reaping = 3 * time.Minute
)

// fates draws the viewings of a scenario, in the order of their coming.
func fates(sc *Scenario, seed uint64) []viewing {
	rng := rand.New(rand.NewPCG(seed, 1))
	var list []viewing
	add := func(at time.Duration, length time.Duration) {
		v := viewing{at: at, length: max(length, 5*time.Second), past: -1, kind: sc.Mix.draw(rng), luck: rng.Uint32()}
		v.door = uint8(rng.IntN(max(1, sc.Balancers)))
		ends, seeks, when := rng.IntN(2) == 0, rng.Float64() < sc.Seeks, rng.Float64()
		if ends && v.length > 2*ahead {
			v.whole = v.length - ahead
		}
		if seeks {
			v.seek = 4*time.Second + time.Duration(when*float64(v.length))
		}
		v.silent = rng.Float64() < sc.Silent
		share, server := rng.Float64(), int32(rng.IntN(sc.servers()))
		switch {
		case share < sc.Bypass:
			v.past = server
		case share < sc.Bypass+sc.Downloads:
			v.past, v.kind, v.silent, v.seek = server, download, false, 0
		case share < sc.Bypass+sc.Downloads+sc.Asked:
			v.asked = true
		}
		list = append(list, v)
	}

	// Lengths of those who come, and of those who are there already, which are
	// the longer ones the more likely.
	const sigma = 1.0
	mean := math.Log(float64(sc.Length)) - sigma*sigma/2
	length := func(shift float64) time.Duration {
		return time.Duration(math.Exp(mean + shift + sigma*rng.NormFloat64()))
	}
	for range sc.Viewers {
		rest := time.Duration(rng.Float64() * float64(length(sigma*sigma)))
		add(time.Duration(rng.Float64()*float64(sc.warming())/2), rest)
	}
	pause := float64(sc.Length) / float64(sc.Viewers)
	for at := rng.ExpFloat64() * pause; at < float64(sc.end()); at += rng.ExpFloat64() * pause {
		add(time.Duration(at), length(0))
	}
	if b := sc.Burst; b.Every > 0 {
		for at := sc.warming() + b.Every/2; at < sc.end(); at += b.Every {
			for range b.Viewers {
				add(at+time.Duration(rng.Float64()*float64(b.Within)), length(0))
			}
		}
	}
	slices.SortStableFunc(list, func(a, b viewing) int { return int(a.at - b.at) })
	return list
}

func (m *Mix) draw(rng *rand.Rand) kind {
	n := rng.IntN(m.Video + m.Software + m.Copy + m.Direct)
	switch {
	case n < m.Video:
		return video
	case n < m.Video+m.Software:
		return software
	case n < m.Video+m.Software+m.Copy:
		return remux
	}
	return direct
}

// part returns a time below most that depends on the viewing's luck, another
// for each n.
func (v *viewing) part(n uint64, most time.Duration) time.Duration {
	return time.Duration(mix(uint64(v.luck)+n<<32) % uint64(most))
}

// answered is when its decision is answered, begun when it is started, and
// listed when its server lists it, since it was asked for.
func (v *viewing) answered() time.Duration {
	return 20*time.Millisecond + v.part(1, answering)
}

func (v *viewing) begun() time.Duration {
	if v.past >= 0 {
		return 0
	}
	return v.answered() + 20*time.Millisecond + v.part(2, beginning)
}

func (v *viewing) listed() time.Duration {
	return v.begun() + 50*time.Millisecond + v.part(3, 2*time.Second)
}

// lingers is how long it is listed after its end.
func (v *viewing) lingers() time.Duration { return v.part(4, 2*time.Second) }

// mix is the finaliser of SplitMix64.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
