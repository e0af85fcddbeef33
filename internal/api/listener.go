package api

import (
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/obscura-relay/obscura/internal/limit"
)

// What a connection that lingers still takes, at most.
const (
	lingerBytes = 64 << 20
	lingerTime  = 2 * time.Second
)

// acceptsAtOnce is how many connections are accepted for each core before a pause of acceptPause.
// Go looks at the network only when a processor has nothing else to do, or after 10 ms: without a
// pause, a storm of new connections makes every other request wait for that at each of its round
// trips.
const (
	acceptsAtOnce = 2
	acceptPause   = time.Millisecond
)

// Listener accepts connections that can linger (RFC 9112, 9.6): when a request is refused before it
// was read, closing at once would reset the connection, and a client that still writes would lose
// the answer. It remembers the open ones, so that none outlives the relay.
type Listener struct {
	net.Listener
	pace pace // of the goroutine that accepts

	mu        sync.Mutex
	open      map[*connection]struct{} // guarded by mu; nil after Abandon
	lingering sync.WaitGroup           // begun under mu while open is not nil
}

// NewListener wraps a listener.
func NewListener(inner net.Listener) *Listener {
	return &Listener{Listener: inner, open: map[*connection]struct{}{}}
}

// Accept implements net.Listener. The server takes any error for the end, so what passes by itself
// is waited for here: with too many connections open, new ones wait.
func (l *Listener) Accept() (net.Conn, error) {
	l.pace.wait()
	conn, err := l.Listener.Accept()
	for pause := 5 * time.Millisecond; exhausted(err); pause = min(2*pause, time.Second) {
		<-time.After(pause)
		conn, err = l.Listener.Accept()
	}
	tcp, ok := conn.(*net.TCPConn)
	if err != nil || !ok {
		return conn, err
	}
	c := &connection{TCPConn: tcp, listener: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		return nil, errors.Join(net.ErrClosed, tcp.Close())
	}
	l.open[c] = struct{}{}
	return c, nil
}

// pace lets a few pass at once, and then none until a pause is over.
type pace struct {
	passed int
	since  time.Time
}

func (p *pace) wait() {
	if time.Since(p.since) > acceptPause {
		p.passed, p.since = 0, time.Now()
	}
	if p.passed++; p.passed > acceptsAtOnce*limit.Cores {
		<-time.After(acceptPause)
		p.passed, p.since = 1, time.Now()
	}
}

// Open counts the connections that are open and do not linger.
func (l *Listener) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

func exhausted(err error) bool {
	return slices.ContainsFunc([]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED},
		func(passing error) bool { return errors.Is(err, passing) })
}

// Abandon closes the listener and every connection that is left. Those that linger are left to
// their two seconds, and waited for.
func (l *Listener) Abandon() {
	_ = l.Close()
	l.mu.Lock()
	left := l.open
	l.open = nil
	l.mu.Unlock()
	for c := range left {
		_ = c.TCPConn.Close()
	}
	l.lingering.Wait()
}

// leave forgets a connection. If it is to linger, that is done beside the server, whose goroutine
// and buffers serve the next one meanwhile.
func (l *Listener) leave(c *connection, linger bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, open := l.open[c]
	delete(l.open, c)
	if linger && open {
		l.lingering.Go(c.drain)
		return nil
	}
	return c.TCPConn.Close()
}

type connection struct {
	*net.TCPConn
	listener *Listener
	linger   atomic.Bool
	silent   bool                  // the next 100 Continue is not sent; the goroutine that serves owns it
	body     atomic.Pointer[place] // the place of the body that is being read or answered
	meter    func(bytes int)       // the goroutine that reads owns it
}

// Meter sets what is called with the number of bytes after each read. The goroutine that reads
// calls both.
func (c *connection) Meter(read func(bytes int)) { c.meter = read }

// Read implements net.Conn.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if c.meter != nil {
		c.meter(n)
	}
	return n, err
}

// Write implements net.Conn.
func (c *connection) Write(p []byte) (int, error) {
	if c.silent {
		c.silent = false
		if string(p) == "HTTP/1.1 100 Continue\r\n\r\n" {
			return len(p), nil
		}
	}
	return c.TCPConn.Write(p)
}

// Close ends what we send, then takes for a while what still comes if the connection is to linger.
func (c *connection) Close() error {
	c.body.Swap(nil).free()
	return c.listener.leave(c, c.linger.Swap(false) && c.CloseWrite() == nil &&
		c.SetReadDeadline(time.Now().Add(lingerTime)) == nil)
}

// drain takes what still comes. Most have nothing more to say, so it begins with little room.
func (c *connection) drain() {
	room := make([]byte, 512)
	for taken := 0; taken < lingerBytes; {
		n, err := c.Read(room)
		if err != nil {
			break
		}
		if taken += n; n == len(room) && n < 32<<10 {
			room = make([]byte, 2*n)
		}
	}
	_ = c.TCPConn.Close()
}
