package faults_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// link is a connection path over TCP that can be made slow, silent or broken, in each direction by
// itself. It does what toxiproxy does, which does not come back when a connection ends while a
// fault is added or removed: its collection of faults waits for a writer that waits for the
// collection.
type link struct {
	address string // where it listens
	dial    func() (net.Conn, error)
	faults  [2]atomic.Pointer[fault] // nil: none
	work    sync.WaitGroup

	mu     sync.Mutex
	listen net.Listener          // guarded by mu; nil: it is cut
	conns  map[net.Conn]struct{} // guarded by mu: both ends of everything that it carries
}

// direction says which bytes a fault is for.
type direction int

const (
	upstream   direction = iota // to the server
	downstream                  // from the server
)

// fault is what happens to bytes. The zero value lets them pass.
type fault struct {
	latency, jitter time.Duration // each chunk comes later by latency, more or less by jitter
	limit           int           // bytes that a connection may carry before it ends; 0: no limit
	reset           bool          // the next bytes end their connection by RST
	silent          bool          // bytes are swallowed; when the fault is removed, every connection ends
}

// chunk is what was read at once, and when.
type chunk struct {
	data []byte
	at   time.Time
}

func newLink(t testing.TB, dial func() (net.Conn, error)) *link {
	t.Helper()
	l := &link{address: "127.0.0.1:0", dial: dial, conns: map[net.Conn]struct{}{}}
	l.mend(t)
	t.Cleanup(l.cut)
	return l
}

// poison adds a fault, for connections that there are and for new ones, and returns what removes
// it. A direction has one at a time.
func (l *link) poison(to direction, f fault) (heal func()) {
	l.faults[to].Store(&f)
	return func() {
		l.faults[to].Store(nil)
		if f.silent {
			l.end()
		}
	}
}

// cut breaks every connection and refuses new ones until mend.
func (l *link) cut() {
	l.mu.Lock()
	if l.listen != nil {
		_ = l.listen.Close()
	}
	l.listen = nil
	l.mu.Unlock()
	l.end()
	l.work.Wait()
}

// mend listens, where it listened before.
func (l *link) mend(t testing.TB) {
	t.Helper()
	listen, err := net.Listen("tcp", l.address)
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.address, l.listen = listen.Addr().String(), listen
	l.mu.Unlock()
	l.work.Go(func() {
		for {
			client, err := listen.Accept()
			if err != nil {
				return
			}
			l.work.Go(func() { l.carry(listen, client) })
		}
	})
}

// end ends every connection.
func (l *link) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close()
	}
}

// carry is one connection, until one of its ends is closed. It ends at once when there is no
// server, or when the link was cut meanwhile.
func (l *link) carry(listen net.Listener, client net.Conn) {
	defer client.Close()
	server, err := l.dial()
	if err != nil {
		return
	}
	defer server.Close()
	l.mu.Lock()
	alive := l.listen == listen
	if alive {
		l.conns[client], l.conns[server] = struct{}{}, struct{}{}
	}
	l.mu.Unlock()
	if !alive {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.pass(upstream, client, server) })
	both.Go(func() { l.pass(downstream, server, client) })
	both.Wait()
	l.mu.Lock()
	delete(l.conns, client)
	delete(l.conns, server)
	l.mu.Unlock()
}

// pass carries the bytes of one direction, and closes both ends when they end. What was read before
// the end arrives.
func (l *link) pass(to direction, from, into net.Conn) {
	chunks := make(chan chunk, 1024)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(chunks)
		for buffer := make([]byte, 32<<10); ; {
			n, err := from.Read(buffer)
			if n > 0 {
				chunks <- chunk{append([]byte(nil), buffer[:n]...), time.Now()}
			}
			if err != nil {
				return
			}
		}
	})
	var now *fault
	left := 0
	for c := range chunks {
		if f := l.faults[to].Load(); f != now {
			if now = f; f != nil {
				left = f.limit
			}
		}
		if now != nil && (now.silent || !now.allow(&c, &left, from, into)) {
			continue
		}
		if _, err := into.Write(c.data); err != nil || now != nil && now.limit > 0 && left == 0 {
			_, _ = from.Close(), into.Close()
		}
	}
	_, _ = from.Close(), into.Close()
	reading.Wait()
}

// allow lets a chunk through, or as much of it as may pass, when its time has come. It reports
// false when the connection has been ended.
func (f *fault) allow(c *chunk, left *int, from, into net.Conn) bool {
	if f.latency > 0 {
		delay := f.latency
		if f.jitter > 0 {
			delay += rand.N(2*f.jitter) - f.jitter
		}
		pause(context.Background(), time.Until(c.at.Add(delay)))
	}
	if f.reset {
		for _, end := range []net.Conn{from, into} {
			if tcp, ok := end.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = end.Close()
		}
		return false
	}
	if f.limit > 0 {
		c.data = c.data[:min(len(c.data), *left)]
		*left -= len(c.data)
	}
	return true
}

// TestFaultsOfALink holds the link to what it says, with a server that answers what it is told.
func TestFaultsOfALink(t *testing.T) {
	t.Parallel()
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var echoes sync.WaitGroup
	t.Cleanup(func() { _ = echo.Close(); echoes.Wait() }) // after the link's connections have ended
	echoes.Go(func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			echoes.Go(func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			})
		}
	})
	l := newLink(t, func() (net.Conn, error) { return net.Dial("tcp", echo.Addr().String()) })
	// ask sends and counts what comes back within a bound.
	ask := func(conn net.Conn, bytes int, bound time.Duration) (got int, err error) {
		if _, err := conn.Write(make([]byte, bytes)); err != nil {
			return 0, err
		}
		_ = conn.SetReadDeadline(time.Now().Add(bound))
		return io.ReadFull(conn, make([]byte, bytes))
	}
	open := func() net.Conn {
		conn, err := net.Dial("tcp", l.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if got, err := ask(conn, 100, patience); err != nil {
			t.Fatalf("%d bytes of 100 came back: %v", got, err)
		}
		return conn
	}

	conn := open()
	heal := l.poison(downstream, fault{latency: 80 * time.Millisecond})
	begun := time.Now()
	if _, err := ask(conn, 100, patience); err != nil || time.Since(begun) < 80*time.Millisecond {
		t.Errorf("slow: answered after %s, %v", time.Since(begun), err)
	}
	heal()

	heal = l.poison(downstream, fault{limit: 150})
	if got, err := ask(conn, 100, patience); err != nil {
		t.Errorf("limit: %d bytes of 100: %v", got, err)
	}
	if got, err := ask(conn, 100, patience); err == nil || got != 50 {
		t.Errorf("limit: %d bytes, and 50 were left: %v", got, err)
	}
	heal()

	conn = open()
	heal = l.poison(upstream, fault{silent: true})
	if got, err := ask(conn, 100, 50*time.Millisecond); err == nil || got != 0 {
		t.Errorf("silent: %d bytes, %v", got, err)
	}
	heal()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after silence a connection goes on: %v", err)
	}

	conn = open()
	heal = l.poison(downstream, fault{reset: true})
	if got, err := ask(conn, 100, patience); err == nil || errors.Is(err, os.ErrDeadlineExceeded) || got != 0 {
		t.Errorf("reset: %d bytes, %v", got, err)
	}
	heal()

	conn = open()
	l.cut()
	if got, err := ask(conn, 100, patience); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("cut: %d bytes, %v", got, err)
	}
	if conn, err := net.Dial("tcp", l.address); err == nil {
		_ = conn.Close()
		t.Error("cut: a new connection is opened")
	}
	l.mend(t)
	open()

	// Faults come and go while connections do: what toxiproxy does not survive.
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if conn, err := net.Dial("tcp", l.address); err == nil {
					_, _ = conn.Write(make([]byte, 64<<10))
					_, _ = io.CopyN(io.Discard, conn, 20_000)
					_ = conn.Close()
				}
			}
		})
	}
	for range 50 {
		l.poison(downstream, fault{latency: time.Millisecond})()
		l.poison(upstream, fault{silent: true})()
	}
	close(stop)
	clients.Wait()
	wait.Eventually(t, "nothing is left", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.conns) <= 2 // the one that was opened last
	})
}
