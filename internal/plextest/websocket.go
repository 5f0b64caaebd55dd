package plextest

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// received is the form of a WebSocket: the member is an array [P §3.8].
func (n notification) received() []byte {
	about := *n.about
	about.single = false
	return newElement("NotificationContainer").set("type", n.event).set("size", 1).add(&about).json()
}

// serveWebSocket is the notifications in the form of messages. It lasts until
// either side goes.
func (s *Server) serveWebSocket(a *ask) {
	key := a.r.Header.Get("Sec-WebSocket-Key")
	if !strings.EqualFold(a.r.Header.Get("Upgrade"), "websocket") || key == "" {
		a.page(http.StatusBadRequest, "Bad Request")
		return
	}
	conn, rw, err := http.NewResponseController(a.w).Hijack()
	if err != nil {
		a.page(http.StatusInternalServerError, "Internal Server Error")
		return
	}
	defer func() {
		_ = conn.Close()
		s.track(conn, http.StateClosed)
	}()
	a.w.(*recorder).note(http.StatusSwitchingProtocols)
	events := s.hub.join(nil) // before the client knows that it listens
	defer s.hub.leave(events)

	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455, 4.2.2
	if _, err := fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\nX-Plextest-Server: %s\r\nX-Plex-Protocol: 1.0\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]), s.cfg.Name); err != nil {
		return
	}
	socket := &Socket{in: rw.Reader, out: conn}
	gone := make(chan struct{})
	go func() { // clients say nothing, but ping and leave
		defer close(gone)
		for {
			if _, err := socket.Receive(); err != nil {
				return
			}
		}
	}()
	look := time.NewTicker(250 * time.Millisecond) // see serveEvents
	defer look.Stop()
	for {
		select {
		case n := <-events:
			if err := socket.Send(n.received()); err != nil {
				return
			}
		case <-look.C:
			s.mu.Lock()
			s.sweep(time.Now())
			s.mu.Unlock()
		case <-gone:
			return
		}
	}
}

// Socket is one end of a WebSocket after its handshake (RFC 6455): messages of
// one frame, without extensions, which is all that PMS and its clients use. Its
// methods may be called side by side, each by one goroutine at a time.
type Socket struct {
	in     *bufio.Reader
	client bool // which masks what it sends

	mu  sync.Mutex
	out io.Writer

	pong chan []byte
}

// NewSocket returns the client's end of a connection.
func NewSocket(conn io.ReadWriter) *Socket {
	return &Socket{in: bufio.NewReader(conn), out: conn, client: true, pong: make(chan []byte, 1)}
}

// Kinds of frames.
const (
	frameText  = 1
	frameClose = 8
	framePing  = 9
	framePong  = 10
)

// maxMessage bounds a frame; notifications have a few hundred bytes.
const maxMessage = 1 << 20

// Send sends a message.
func (s *Socket) Send(message []byte) error { return s.write(frameText, message) }

// Ping asks the other end for a sign of life, which goes to Pongs.
func (s *Socket) Ping(word []byte) error { return s.write(framePing, word) }

// Pongs is what the other end has answered to pings, read by Receive. Of those
// that nobody fetches, the first stays.
func (s *Socket) Pongs() <-chan []byte { return s.pong }

// Close says good-bye, which the other end answers by ending.
func (s *Socket) Close() error { return s.write(frameClose, []byte{3, 232}) } // 1000: normal

// Receive waits for a message. Pings are answered on the way. At the other
// end's good-bye it returns io.EOF.
func (s *Socket) Receive() ([]byte, error) {
	for {
		kind, payload, err := s.read()
		switch {
		case err != nil:
			return nil, err
		case kind == frameText:
			return payload, nil
		case kind == framePing:
			if err := s.write(framePong, payload); err != nil {
				return nil, err
			}
		case kind == framePong:
			select {
			case s.pong <- payload:
			default:
			}
		case kind == frameClose:
			_ = s.write(frameClose, payload)
			return nil, io.EOF
		default:
			return nil, fmt.Errorf("plextest: a frame of kind %d", kind)
		}
	}
}

func (s *Socket) write(kind byte, payload []byte) error {
	frame := []byte{0x80 | kind} // a whole message
	var masked byte
	if s.client {
		masked = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, masked|byte(n))
	case n < 1<<16:
		frame = binary.BigEndian.AppendUint16(append(frame, masked|126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, masked|127), uint64(n))
	}
	if s.client {
		var key [4]byte
		_, _ = rand.Read(key[:])
		frame = append(frame, key[:]...)
		at := len(frame)
		frame = append(frame, payload...)
		mask(frame[at:], key)
	} else {
		frame = append(frame, payload...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.out.Write(frame)
	return err
}

func (s *Socket) read() (kind byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return 0, nil, err
	}
	if head[0]&0xf0 != 0x80 {
		return 0, nil, errors.New("plextest: a message in pieces, or of an extension")
	}
	if (head[1]&0x80 != 0) == s.client {
		return 0, nil, errors.New("plextest: clients mask what they send, and servers do not")
	}
	size := uint64(head[1] & 0x7f)
	switch size {
	case 126:
		var n [2]byte
		_, err = io.ReadFull(s.in, n[:])
		size = uint64(binary.BigEndian.Uint16(n[:]))
	case 127:
		var n [8]byte
		_, err = io.ReadFull(s.in, n[:])
		size = binary.BigEndian.Uint64(n[:])
	}
	if err == nil && size > maxMessage {
		err = fmt.Errorf("plextest: a message of %d bytes", size)
	}
	var key [4]byte
	if err == nil && !s.client {
		_, err = io.ReadFull(s.in, key[:])
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, size)
	if _, err := io.ReadFull(s.in, payload); err != nil {
		return 0, nil, err
	}
	mask(payload, key)
	return head[0] & 0xf, payload, nil
}

func mask(p []byte, key [4]byte) {
	for i := range p {
		p[i] ^= key[i%4]
	}
}
