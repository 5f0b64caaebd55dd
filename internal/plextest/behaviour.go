package plextest

import "time"

// Behaviour is how well a server behaves, as a whole. The zero value is one
// that is well.
type Behaviour struct {
	Delay       time.Duration // before every answer
	Poll        Poll          // how sessions are reported
	Maintenance bool          // 503 with the maintenance document
	FailStarts  int           // status of decisions and starts
}

// Behave changes all of it at once.
func (s *Server) Behave(b Behaviour) {
	s.SetDelay(b.Delay)
	s.SetPoll(b.Poll)
	s.SetMaintenance(b.Maintenance)
	s.FailStarts(b.FailStarts)
}
