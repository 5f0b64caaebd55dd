package cluster

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
	"unsafe"
)

// put24 writes an id as Plex Web's look: 24 characters, different for each n.
func put24(b []byte, n uint64) {
	const letters = 0x6161616161616161
	x := n * 0x9e3779b97f4a7c15
	binary.LittleEndian.PutUint64(b, letters+x&0x0f0f0f0f0f0f0f0f)
	binary.LittleEndian.PutUint64(b[8:], letters+x>>4&0x0f0f0f0f0f0f0f0f)
	binary.LittleEndian.PutUint64(b[16:], letters+n&0x0f0f0f0f0f0f0f0f)
}

// crowd fills a ledger of three servers with n playbacks that run.
func crowd(tb testing.TB, n int) (*Ledger, time.Time) {
	tb.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(1000))
	now := time.Now()
	l := NewLedger(now)
	l.Configure(Settings{Replicated: true, MaxPlaybacks: 2 * n}, []ServerSettings{{Address: "a:1"}, {Address: "b:1"}, {Address: "c:1"}}, now)
	pool := make([]Candidate, 0, 3)
	for _, s := range l.Servers().List() {
		pool = append(pool, Candidate{Server: s})
	}
	b := make([]byte, 24)
	for i := range n {
		put24(b, uint64(i))
		id := string(b)
		q := Query{IDs: IDs{Transcode: id, Session: "x" + id, Client: fmt.Sprintf("%08x-0000-4000-8000-%012x", i, i)}, Role: Start, Begins: true, Work: GPU, Item: "/library/metadata/1"}
		h := l.Find(&q, now)
		if at, _ := l.Place(&q, &h, pool, now); at < 0 {
			tb.Fatal("not placed")
		}
		l.Settle(&q, &h, Accepted, now)
		l.Seen(h.Server, Report{ID: id, Work: GPU}, now)
	}
	return l, now.Add(time.Second)
}

func BenchmarkFindSegment(b *testing.B) {
	for _, n := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l, _ := crowd(b, n)
			id := make([]byte, 24)
			rng := rand.NewPCG(1, 2)
			b.ReportAllocs()
			for b.Loop() {
				put24(id, rng.Uint64()%uint64(n))
				if l.FindSegment(unsafe.String(&id[0], len(id))) == nil {
					b.Fatal("lost")
				}
			}
		})
	}
}

// BenchmarkProbe is what building an id takes of BenchmarkFindSegment.
func BenchmarkProbe(b *testing.B) {
	id := make([]byte, 24)
	rng := rand.NewPCG(1, 2)
	for b.Loop() {
		put24(id, rng.Uint64()%1_000_000)
	}
}

func BenchmarkFind(b *testing.B) {
	l, now := crowd(b, 1_000)
	q := Query{IDs: IDs{Session: l.playbacks.members[7].owner.ids.Session, Client: l.playbacks.members[7].owner.ids.Client}, Role: Follow}
	b.ReportAllocs()
	for b.Loop() {
		h := l.Find(&q, now)
		if h.Server == nil {
			b.Fatal("lost")
		}
		l.Settle(&q, &h, Accepted, now)
	}
}

func BenchmarkFindWithoutSettle(b *testing.B) {
	l, now := crowd(b, 1_000)
	q := Query{IDs: IDs{Session: l.playbacks.members[7].owner.ids.Session, Client: l.playbacks.members[7].owner.ids.Client}, Role: Follow}
	b.ReportAllocs()
	for b.Loop() {
		if h := l.Find(&q, now); h.Server == nil {
			b.Fatal("lost")
		}
	}
}

func BenchmarkPlace(b *testing.B) {
	for _, n := range []int{3, 10, 100, 1_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			now := time.Now()
			l := NewLedger(now)
			var cfg []ServerSettings
			for i := range n {
				cfg = append(cfg, ServerSettings{Address: fmt.Sprintf("10.0.%d.%d:32400", i/256, i%256)})
			}
			l.Configure(Settings{Replicated: true}, cfg, now)
			var pool []Candidate
			for _, s := range l.Servers().List() {
				pool = append(pool, Candidate{Server: s})
			}
			id := make([]byte, 24)
			i := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				i++
				put24(id, i)
				q := Query{IDs: IDs{Transcode: string(id)}, Role: Start, Work: GPU}
				h := l.Find(&q, now)
				if at, _ := l.Place(&q, &h, pool, now); at < 0 {
					b.Fatal("not placed")
				}
				l.Settle(&q, &h, Rejected, now)
			}
		})
	}
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestAMillionPlaybacksTakeLessThanAKiBEach(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("takes long")
	}
	before := heapInUse()
	const n = 1_000_000
	l, _ := crowd(t, n)
	per := float64(heapInUse()-before) / n
	t.Logf("%.0f bytes per playback", per)
	if per >= 1024 {
		t.Errorf("a playback takes %.0f bytes, want less than 1 KiB", per)
	}
	runtime.KeepAlive(l)
}
