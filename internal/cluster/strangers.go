package cluster

// strangers finds the jobs that servers report but no playback here asked
// for, by the names of the viewer: after a restart of the balancer, or beside
// another one, that is how a running playback's requests find its server.
type strangers struct {
	byClient  map[string]*job
	bySession map[string]*job
}

func newStrangers() strangers {
	return strangers{make(map[string]*job), make(map[string]*job)}
}

func (s *strangers) add(j *job) {
	if j.client != "" {
		s.byClient[j.client] = j
	}
	if j.session != "" {
		s.bySession[j.session] = j
	}
}

func (s *strangers) remove(j *job) {
	if s.byClient[j.client] == j {
		delete(s.byClient, j.client)
	}
	if s.bySession[j.session] == j {
		delete(s.bySession, j.session)
	}
}
