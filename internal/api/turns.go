package api

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// turns are connections that wait to be served. Strangers, networks that are known, and the trusted
// proxies have turns one after the other; among each of these, the networks have.
type turns struct {
	queues [queues]queue
	last   int // the queue that had a turn last
	count  int
}

// The queues of turns. A network is known while a connection of it is open whose first request has
// been read, whatever was answered. So a device that is connected does not wait for a crowd that
// comes. The proxies bring many clients, who are not known yet.
const (
	strangers = iota
	known
	proxies
	queues
)

func (t *turns) none() bool { return t.count == 0 }

func (t *turns) add(c *connection, from netip.Addr, to int) {
	t.queues[to].add(c, from)
	t.count++
}

// next takes the oldest of the network whose turn it is; nil when nobody waits.
func (t *turns) next() (c *connection, from netip.Addr) {
	for c == nil && !t.none() {
		t.last = (t.last + 1) % queues
		if c, from = t.queues[t.last].next(); c != nil {
			t.count--
		}
	}
	return c, from
}

// queue has a turn for each network that waits in it.
type queue struct {
	order []netip.Addr // networks, the next one first; the zero one is of the proxies
	of    map[netip.Addr][]*connection
}

func (q *queue) add(c *connection, from netip.Addr) {
	if q.of == nil {
		q.of = map[netip.Addr][]*connection{}
	}
	if len(q.of[from]) == 0 {
		q.order = append(q.order, from)
	}
	q.of[from] = append(q.of[from], c)
}

func (q *queue) next() (c *connection, from netip.Addr) {
	if len(q.order) == 0 {
		return nil, from
	}
	from, q.order = q.order[0], q.order[1:]
	waiting := q.of[from]
	c, waiting[0] = waiting[0], nil
	if q.of[from] = waiting[1:]; len(q.of[from]) == 0 {
		delete(q.of, from)
	} else {
		q.order = append(q.order, from)
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
		from := l.origin(tcp)
		l.mu.Lock()
		ended := l.open == nil
		to := strangers
		if !from.IsValid() {
			to = proxies
		} else if l.known[from] > 0 {
			to = known
		}
		if !ended {
			l.open[c] = struct{}{}
		}
		l.mu.Unlock()
		if ended {
			return errors.Join(net.ErrClosed, tcp.Close())
		}
		l.turns.add(c, from, to)
	}
	return nil
}

// mayTake leaves with the kernel those for whom there is no room. They wait there too, and cost
// nothing, but behind each other: whoever comes then waits for all of them.
func (l *Listener) mayTake() bool {
	if l.turns.none() {
		return true
	}
	if _, ok := l.Listener.(*net.TCPListener); !ok || l.full {
		return false
	}
	return l.turns.count < l.waiting
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
