package gateway

import (
	"time"

	"github.com/obscura-relay/obscura/internal/core"
)

// How long a client is waited for. A line that carries slowest bytes a second is served, steadily. How
// much of what was sent is still on its way is known from acknowledgements only: the kernel, and proxies
// with their buffers, take bytes long before the client does.
const (
	// slowest is the slowest line that is served, in bytes a second.
	slowest = 2000
	// pingEvery is how often the server pings, and pongWithin how long it waits for the answer, or for
	// any other frame, of a client that has acknowledged everything.
	pingEvery  = 30 * time.Second
	pongWithin = 10 * time.Second
	// sendBuffer is what the kernel queues for a socket, in bytes; it may count twice as much. By itself it
	// would grow to 4 MB, in front of each ping and pong.
	sendBuffer = 128 << 10
	// writeWithin is the deadline of a write of one frame: the time of the slowest line for the largest
	// envelope and the kernel's queue. An acknowledgement sets it anew, since a proxy takes nothing for long
	// and then much.
	writeWithin = pongWithin + (core.MaxMessage+2*sendBuffer)/slowest*time.Second
	// fewBytes take so little time that they need no patience of their own.
	fewBytes = 8 << 10
	// goodbye is how long a closed socket may take to answer the close, and a write to make way for it.
	goodbye = time.Second
)

// patience is how much longer a client is waited for that has bytes on their way to it: at most until it
// has got the largest envelope, since then it can acknowledge.
func patience(bytes int) time.Duration {
	return time.Duration(min(bytes, core.MaxMessage)) * time.Second / slowest
}

// stayAlive gives the client a time to be heard again, and what the bytes on their way take.
func (s *session) stayAlive(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.finished {
		_ = s.socket.SetReadDeadline(time.Now().Add(d + patience(s.window.bytes)))
	}
}

// write makes a write of the pump, unless the socket is to be closed. Meanwhile no ping is sent.
func (s *session) write(write func() error) error {
	s.mu.Lock()
	if s.code != 0 {
		s.mu.Unlock()
		return errYield
	}
	s.writing = true
	s.mu.Unlock()
	err := write()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = false
	return err
}

// sendPing asks for a sign of life.
func (s *session) sendPing() error {
	s.stayAlive(pongWithin) // before the ping: the pong, which may be quick, extends it
	if err := s.control(pingMessage, nil); err != nil {
		return err
	}
	s.ping.Reset(pingEvery)
	return nil
}

// control writes a ping or a pong.
func (s *session) control(kind int, payload []byte) error {
	return s.write(func() error { return s.socket.WriteControl(kind, payload, time.Now().Add(writeWithin)) })
}

// answer answers the newest ping of the client; the ones before it need no answer (RFC 6455, 5.5.3).
func (s *session) answer() error {
	s.mu.Lock()
	payload := s.pinged
	s.pinged = nil
	s.mu.Unlock()
	if payload == nil {
		return nil
	}
	return s.control(pongMessage, []byte(*payload))
}
