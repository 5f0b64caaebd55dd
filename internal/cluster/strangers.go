package cluster

// strangers finds the jobs that servers report but no playback here asked
// for, by the names of the viewer: after a restart of the balancer, or beside
// another one, that is how a running playback's requests find its server.
type strangers struct {
	byID      map[string]*job
	byClient  map[string]*job
	bySession map[string]*job
}

func newStrangers() strangers {
	return strangers{make(map[string]*job), make(map[string]*job), make(map[string]*job)}
}

func (s *strangers) add(j *job) {
	s.byID[j.id] = j
	prefer(s.byClient, j.about.client, j)
	prefer(s.bySession, j.about.session, j)
}

// prefer has a name lead to the job, unless that may be the mere echo of the
// one to which it leads.
func prefer(m map[string]*job, name string, j *job) {
	if old := m[name]; name != "" && (old == nil || old.echo || !j.echo) {
		m[name] = j
	}
}

func (s *strangers) remove(j *job) {
	if j.about == nil {
		return
	}
	unmap(s.byID, j.id, j)
	unmap(s.byClient, j.about.client, j)
	unmap(s.bySession, j.about.session, j)
}

// unmap deletes a key unless it leads to something else by now.
func unmap[K, V comparable](m map[K]V, k K, v V) {
	if m[k] == v {
		delete(m, k)
	}
}

// find returns the job that a request is about, and whether the request names
// it rather than its viewer. It is not somebody else's.
func (s *strangers) find(q *Query) (j *job, named bool) {
	for _, j := range [...]*job{s.byID[q.Transcode], s.bySession[q.Session], s.bySession[q.Playback]} {
		if j != nil && (q.Client == "" || j.about.client == "" || j.about.client == q.Client) {
			return j, true
		}
	}
	return s.byClient[q.Client], false
}
