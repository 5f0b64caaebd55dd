package cluster

// Work is what a playback asks of its server's hardware.
type Work uint8

const (
	None Work = iota // direct play: bytes off the disk
	Copy             // remux, or audio only
	CPU              // software video transcode
	GPU              // hardware video transcode
)

var works = [...]string{"none", "copy", "cpu", "gpu"}

func (w Work) String() string { return works[w] }

// Costs are the loads of one playback of each kind.
type Costs struct {
	GPU, CPU, Copy float64

	// Client is the load of a client that is connected but asks for no
	// transcode.
	Client float64
}

// DefaultCosts makes one hardware transcode the unit.
var DefaultCosts = Costs{GPU: 1, CPU: 2, Copy: 0.1, Client: 0.05}

// Of returns the cost of one playback.
func (c Costs) Of(w Work) float64 {
	switch w {
	case GPU:
		return c.GPU
	case CPU:
		return c.CPU
	case Copy:
		return c.Copy
	}
	return c.Client
}

// tally counts a server's entries by kind. Loads are computed from it and
// never accumulated, so that no rounding error grows.
type tally struct {
	work     [4]int32 // by Work
	idle     int32    // connected clients that play nothing
	reserved int32    // what of work is not reported yet
	remains  int32    // and of that, starts that failed or were abandoned
}

func (t *tally) load(c *Costs) float64 {
	return float64(t.work[GPU])*c.GPU + float64(t.work[CPU])*c.CPU +
		float64(t.work[Copy])*c.Copy + float64(t.work[None]+t.idle)*c.Client
}

// transcodes is what max_transcodes limits.
func (t *tally) transcodes() int { return int(t.work[GPU] + t.work[CPU]) }
