package cluster

import (
	"container/heap"
	"sync/atomic"
	"time"
)

// entry is what a playback and a client have in common: they are forgotten
// when idle, and go again if no answer ever confirmed them.
type entry struct {
	seen      atomic.Int64 // last touched, since the ledger's epoch
	holds     atomic.Int32 // requests under way that need the entry
	confirmed atomic.Bool  // a server answered below 400
	place     int32        // in its queue
}

// touch notes that the entry is in use. Once a second will do: entries live
// for minutes, and a line that is only read can be read by all.
func (e *entry) touch(now time.Duration) {
	if d := int64(now) - e.seen.Load(); d >= int64(time.Second) || d < 0 {
		e.seen.Store(int64(now))
	}
}

// idle reports whether e was untouched for longer than life and no request
// under way needs it.
func (e *entry) idle(life, now time.Duration) bool {
	return now-time.Duration(e.seen.Load()) > life && e.holds.Load() == 0
}

// queue finds the longest idle of its members. A touch only stamps the entry,
// without a lock; the entry gets its new place when it comes to the front.
type queue[T queued] struct {
	members []member[T]
}

type queued interface {
	base() *entry
	refresh() // brings the stamp up to date
}

type member[T queued] struct {
	stamp time.Duration // the entry's, when it was put here
	owner T
}

// Len, Less, Swap, Push and Pop are for container/heap.
func (q *queue[T]) Len() int           { return len(q.members) }
func (q *queue[T]) Less(i, j int) bool { return q.members[i].stamp < q.members[j].stamp }
func (q *queue[T]) Swap(i, j int) {
	m := q.members
	m[i], m[j] = m[j], m[i]
	m[i].owner.base().place, m[j].owner.base().place = int32(i), int32(j)
}
func (q *queue[T]) Push(x any) {
	owner := x.(T)
	e := owner.base()
	e.place = int32(len(q.members))
	q.members = append(q.members, member[T]{time.Duration(e.seen.Load()), owner})
}
func (q *queue[T]) Pop() any {
	last := len(q.members) - 1
	q.members[last] = member[T]{}
	q.members = q.members[:last]
	return nil
}

func (q *queue[T]) add(owner T)    { heap.Push(q, owner) }
func (q *queue[T]) remove(owner T) { heap.Remove(q, int(owner.base().place)) }

// front brings the front up to date: it returns the member with the oldest
// stamp, and whether the stamp is true. If not, the next call goes on.
func (q *queue[T]) front() (owner T, settled bool) {
	m := &q.members[0]
	m.owner.refresh()
	if seen := time.Duration(m.owner.base().seen.Load()); seen > m.stamp {
		m.stamp = seen
		owner = m.owner
		heap.Fix(q, 0)
		return owner, false
	}
	return m.owner, true
}

// spare returns the member that can best be spared: the longest idle that no
// request under way needs; nil if none is found.
func (q *queue[T]) spare(now time.Duration) (owner T, ok bool) {
	const most = 1000 // so that nobody waits long
	for range min(most, len(q.members)) {
		o, settled := q.front()
		if !settled {
			continue
		}
		e := o.base()
		if e.holds.Load() == 0 {
			return o, true
		}
		e.touch(now)
		if time.Duration(e.seen.Load()) <= q.members[0].stamp {
			return owner, false // all are in use just now
		}
	}
	return owner, false
}
