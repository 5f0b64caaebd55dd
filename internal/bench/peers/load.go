package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// kind is a kind of request whose cost is measured.
type kind struct {
	name    string
	request func(playback, turn int) string // path and query
	accept  string
	size    int64 // of the answer
}

// playbacks are how many the requests are of.
const playbacks = 30

func ids(i int) string {
	return fmt.Sprintf("&session=playback%d&X-Plex-Session-Identifier=playing%d&X-Plex-Client-Identifier=device%d"+
		"&X-Plex-Product=Plex%%20Web&X-Plex-Version=4.145.1&X-Plex-Platform=Chrome&X-Plex-Platform-Version=140.0"+
		"&X-Plex-Device=Linux&X-Plex-Device-Name=Chrome&X-Plex-Language=en&X-Plex-Token=%s", i, i, i, token)
}

// kinds are those that there are most of. A timeline is the request that is
// most to do for plexlb: its answer is read, and it is copied to the primary
// server, at once if it says another state than the one before.
var kinds = []kind{
	{"listing, 4 KiB", func(i, _ int) string {
		return fmt.Sprintf("/library/metadata/%d?includeExternalMedia=1&checkFiles=1%s", 1+i%8, ids(i))
	}, "application/json", 4 << 10},
	{"timeline", func(i, _ int) string { return timeline(i, "playing") }, "application/json", 64},
	{"timeline of a new state", func(i, turn int) string {
		return timeline(i, [...]string{"playing", "paused"}[turn%2])
	}, "application/json", 64},
	{"segment, 512 KiB", func(i, _ int) string {
		return fmt.Sprintf("/video/:/transcode/universal/session/playback%d/base/%05d.ts", i, i)
	}, "*/*", segmentSize},
}

func timeline(i int, state string) string {
	return fmt.Sprintf("/:/timeline?ratingKey=1&key=%%2Flibrary%%2Fmetadata%%2F1&state=%s&time=10000&duration=600000&hasMDE=1%s", state, ids(i))
}

// connections are how many ask at a time, each for the next thing when it has
// the last.
const connections = 4

// asker is one of them. It parses little, so that the machine is the proxy's.
type asker struct {
	conn net.Conn
	in   *bufio.Reader
	sink []byte
}

func dial(address string) (*asker, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &asker{c, bufio.NewReaderSize(c, 16<<10), make([]byte, 256<<10)}, nil
}

// get asks for a kind of thing and reads it whole.
func (a *asker) get(k kind, playback, turn int, host string) error {
	err := a.conn.SetDeadline(time.Now().Add(10 * time.Second))
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(a.conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: %s\r\nAccept-Language: en\r\n"+
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\nReferer: https://app.plex.tv/\r\nOrigin: https://app.plex.tv\r\n\r\n",
		k.request(playback, turn), host, k.accept); err != nil {
		return err
	}
	res, err := http.ReadResponse(a.in, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	n := int64(0)
	for {
		m, err := res.Body.Read(a.sink)
		n += int64(m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if res.StatusCode != http.StatusOK || n < k.size {
		return fmt.Errorf("%s: status %d and %d bytes", k.name, res.StatusCode, n)
	}
	return nil
}

// load is one proxy under one kind of load.
type load struct {
	askers []*asker
	host   string
	next   atomic.Int64
}

func newLoad(address string) (*load, error) {
	l := &load{host: address}
	for range connections {
		a, err := dial(address)
		if err != nil {
			l.close()
			return nil, err
		}
		l.askers = append(l.askers, a)
	}
	return l, nil
}

func (l *load) close() {
	for _, a := range l.askers {
		_ = a.conn.Close()
	}
}

// run asks as fast as it goes for a while, and returns how long each request
// took.
func (l *load) run(k kind, d time.Duration) (took []time.Duration, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for _, a := range l.askers {
		wg.Go(func() {
			var mine []time.Duration
			var failed error
			for begin := time.Now(); begin.Before(end) && failed == nil; {
				n := int(l.next.Add(1))
				failed = a.get(k, n%playbacks, n/playbacks, l.host)
				now := time.Now()
				mine = append(mine, now.Sub(begin))
				begin = now
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			err = errors.Join(err, failed)
		})
	}
	wg.Wait()
	return took, err
}
