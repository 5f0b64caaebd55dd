package plextest

import (
	"hash/fnv"
	"io"
	"net/http"
	"strconv"
)

// queue is a play queue. Its ids are row ids of one server's database
// [P §3.6].
type queue struct {
	id   int
	item *item
}

// firstQueue is where a server's ids begin, apart from those of others, so
// that a queue asked of the wrong server is missed.
func firstQueue(name string) int {
	h := fnv.New32a()
	_, _ = io.WriteString(h, name)
	return 10_000 * (1 + int(h.Sum32()%10_000))
}

func (s *Server) servePlayQueues(a *ask) {
	switch {
	case a.is("playQueues") && a.r.Method == http.MethodPost:
		it := s.itemAt(a.query("uri"))
		if it == nil {
			it = s.itemAt(a.query("key"))
		}
		if it == nil {
			a.page(http.StatusBadRequest, "Bad Request")
			return
		}
		s.mu.Lock()
		s.lastQueue++
		q := &queue{s.lastQueue, it}
		s.queues[q.id] = q
		s.mu.Unlock()
		a.answer(s.describeQueue(q, a.token))
	case len(a.parts) > 1:
		id, _ := strconv.Atoi(a.parts[1])
		s.mu.Lock()
		q := s.queues[id]
		s.mu.Unlock()
		if q == nil { // made on another server
			a.page(http.StatusNotFound, "Not Found")
			return
		}
		a.answer(s.describeQueue(q, a.token))
	default:
		a.page(http.StatusNotFound, "Not Found")
	}
}

func (s *Server) describeQueue(q *queue, token string) *element {
	return container(1).
		set("playQueueID", q.id).
		set("playQueueSelectedItemID", 10*q.id).
		set("playQueueSelectedItemOffset", 0).
		set("playQueueSelectedMetadataItemID", q.item.ratingKey).
		set("playQueueSourceURI", "server://"+s.machineIdentifier()+"/com.plexapp.plugins.library"+q.item.key()).
		set("playQueueTotalCount", 1).
		set("playQueueVersion", 1).
		add(s.metadata(q.item, token).set("playQueueItemID", 10*q.id))
}
