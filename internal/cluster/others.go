package cluster

import (
	"math"
	"time"
)

// others knows how many transcodes are begun without this balancer, by another
// one or by viewers who go straight to a server, in comparison to its own. They
// come unseen: where there is the most room the other one begins some as well,
// and a viewer who takes a server of his own choice fills a small one the most.
type others struct {
	mine, theirs float64 // of late
	at           time.Duration
}

const (
	// Of so many transcodes each counts the same; what came before, half.
	othersMemory = 256

	// And they count half after so long: a second balancer may have gone, and
	// where little is begun, little is begun unseen.
	othersLife = time.Hour

	// So many of our own are taken to have been there before any is reported, so
	// that a few strangers do not look like a second balancer.
	othersDoubt = 8
)

// begun notes that a transcode was reported for the first time.
func (o *others) begun(mine bool, now time.Duration) {
	o.age(now)
	if mine {
		o.mine++
	} else {
		o.theirs++
	}
	if o.mine+o.theirs >= othersMemory {
		o.mine /= 2
		o.theirs /= 2
	}
}

// share is how many they begin for each of our own, at most one.
func (o *others) share(now time.Duration) float64 {
	o.age(now)
	return min(1, o.theirs/(o.mine+othersDoubt))
}

func (o *others) age(now time.Duration) {
	if now-o.at < othersLife {
		return
	}
	half := math.Exp2(-math.Floor(float64(now-o.at) / float64(othersLife)))
	o.mine *= half
	o.theirs *= half
	o.at = now
}

// expect is what to add to the load of a server for what they may begin there
// meanwhile, rank being that of the server and the playback that costs so much.
// For each of their share it is one playback like it, for which room is left,
// and by lot up to one more: where loads differ by less than that it does not
// matter to the fullest server which one is chosen, but it does that two
// balancers do not choose the same one. The lot is the playback's, so that its
// own requests lead both of them to the same server.
func expect(share, cost float64, rank uint64) float64 {
	return share * cost * (1 + float64(rank>>11)/(1<<53))
}
