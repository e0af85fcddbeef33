package api

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// turns are connections that wait to be served. Each network has its turn after the others. The
// proxies that are trusted have every second one: they bring many clients, who are not known yet.
type turns struct {
	order []netip.Addr // networks that have some, the next one first; the zero one is of the proxies
	of    map[netip.Addr][]*connection
	count int
}

func (t *turns) none() bool { return t.count == 0 }

func (t *turns) add(c *connection, from netip.Addr) {
	if t.of == nil {
		t.of = map[netip.Addr][]*connection{}
	}
	if len(t.of[from]) == 0 {
		t.queue(from)
	}
	t.of[from] = append(t.of[from], c)
	t.count++
}

func (t *turns) queue(from netip.Addr) {
	at := len(t.order)
	if !from.IsValid() {
		at = min(1, at)
	}
	t.order = slices.Insert(t.order, at, from)
}

// next takes the oldest of the network whose turn it is; nil when nobody waits.
func (t *turns) next() (c *connection, from netip.Addr) {
	if t.none() {
		return nil, from
	}
	t.count--
	from, t.order = t.order[0], t.order[1:]
	c = t.of[from][0]
	if t.of[from] = slices.Delete(t.of[from], 0, 1); len(t.of[from]) == 0 {
		delete(t.of, from)
	} else {
		t.queue(from)
	}
	return c, from
}

// gather takes connections from the kernel, so many at most. It waits while nobody has a turn, and
// then returns with one that has, or an error.
func (l *Listener) gather(most int) error {
	for range most {
		if !l.mayTake() {
			return nil
		}
		tcp, err := l.take()
		if tcp == nil {
			return err
		}
		c := &connection{Conn: tcp, tcp: tcp, listener: l}
		l.mu.Lock()
		ended := l.open == nil
		if !ended {
			l.open[c] = struct{}{}
		}
		l.mu.Unlock()
		if ended {
			return errors.Join(net.ErrClosed, tcp.Close())
		}
		l.turns.add(c, l.origin(tcp))
	}
	return nil
}

// mayTake leaves with the kernel those for whom there is no room. They wait there too, and cost
// nothing.
func (l *Listener) mayTake() bool {
	if l.turns.none() {
		return true
	}
	if _, ok := l.Listener.(*net.TCPListener); !ok || l.full {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.turns.count < min(l.newcomers.inAll/2, l.newcomers.inAll-l.newcomers.count)
}

// take takes the next connection from the kernel. While somebody has a turn it does not wait, and
// returns nil when there is none.
func (l *Listener) take() (*net.TCPConn, error) {
	alone := l.turns.none()
	if inner, ok := l.Listener.(*net.TCPListener); ok && !alone {
		if !hasCome(inner) {
			return nil, nil
		}
		_ = inner.SetDeadline(time.Now().Add(acceptPause)) // another process may take it
		defer func() { _ = inner.SetDeadline(time.Time{}) }()
	}
	conn, err := l.Listener.Accept()
	for pause := 5 * time.Millisecond; alone && exhausted(err); pause = min(2*pause, time.Second) {
		<-time.After(pause)
		conn, err = l.Listener.Accept()
	}
	if err != nil {
		if !alone && (exhausted(err) || errors.Is(err, os.ErrDeadlineExceeded)) {
			return nil, nil
		}
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, errors.Join(errors.ErrUnsupported, conn.Close())
	}
	l.full = l.Open() > 0 && l.scarce(tcp)
	for pause := 5 * time.Millisecond; alone && l.full; pause = min(2*pause, time.Second) {
		<-time.After(pause)
		l.full = l.Open() > 0 && l.scarce(tcp)
	}
	return tcp, nil
}

// hasCome reports whether the kernel has a connection.
func hasCome(inner *net.TCPListener) (ready bool) {
	raw, err := inner.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Control(func(fd uintptr) {
		n, failure := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0) //nolint:gosec // a descriptor
		ready = failure == nil && n > 0
	})
	return err == nil && ready
}
