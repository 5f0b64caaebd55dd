package cluster

import (
	"sync/atomic"
	"time"
)

// entry is what a playback and a client have in common: they are forgotten
// when idle, and go again if no answer ever confirmed them.
type entry struct {
	seen      atomic.Int64 // last touched, since the ledger's epoch
	holds     atomic.Int32 // requests under way that need the entry
	confirmed atomic.Bool  // a server answered below 400

	queued     time.Duration
	prev, next *entry
	owner      any // *Playback or *Client
}

func (e *entry) touch(now time.Duration) { e.seen.Store(int64(now)) }

// idle reports whether e was untouched for longer than life and no request
// under way needs it.
func (e *entry) idle(life, now time.Duration) bool {
	return now-time.Duration(e.seen.Load()) > life && e.holds.Load() == 0
}

// queue keeps entries in the order in which they were last touched. A touch
// only stamps the entry, without a lock; the entry gets its new place when it
// comes to the front. So finding the longest idle one costs the same among a
// thousand and a million.
type queue struct {
	head, tail *entry
	n          int
}

// push puts e where it belongs by its stamp: mostly at the end.
func (q *queue) push(e *entry) {
	e.queued = time.Duration(e.seen.Load())
	after := q.tail
	for after != nil && after.queued > e.queued {
		after = after.prev
	}
	e.prev = after
	if after != nil {
		e.next, after.next = after.next, e
	} else {
		e.next, q.head = q.head, e
	}
	if e.next != nil {
		e.next.prev = e
	} else {
		q.tail = e
	}
	q.n++
}

func (q *queue) remove(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		q.head = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		q.tail = e.prev
	}
	e.prev, e.next = nil, nil
	q.n--
}

// again puts an entry that was touched since it was queued in its new place.
func (q *queue) again(e *entry, now time.Duration) {
	if e.holds.Load() > 0 {
		e.touch(now)
	}
	q.remove(e)
	q.push(e)
}

// longestIdle returns the entry that was not touched for the longest time, nil
// if the queue is empty.
func (q *queue) longestIdle(now time.Duration) *entry {
	for range q.n {
		e := q.head
		if time.Duration(e.seen.Load()) <= e.queued && e.holds.Load() == 0 {
			return e
		}
		q.again(e, now)
	}
	return q.head
}
