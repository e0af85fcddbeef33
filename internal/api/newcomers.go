package api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"
)

// A newcomer is a connection whose first request has not been read: it may have said nothing, or be
// in the middle of a PROXY header, of the handshake of TLS, or of the request. Anybody can open
// many of them at no cost, so they are bounded, for each address and in all.
const (
	newcomersOfOne = 512
	newcomersInAll = 2048
	// newcomerTime is what one has for its first request in any case: TCP, TLS and the request take
	// three round trips. After that it makes room if there are too many in all.
	newcomerTime = time.Second
)

// arrivalTime is what a PROXY header and the handshake of TLS may take together, and proxyTime the
// header alone: a proxy sends it at once.
const (
	arrivalTime = 10 * time.Second
	proxyTime   = 5 * time.Second
)

// handshakeBytes is what a handshake may bring. A client needs two or three KiB; a message of TLS
// may have 64, which the library collects.
const handshakeBytes = 16 << 10

// newcomers are those of a listener; its mutex guards them.
type newcomers struct {
	ofOne, inAll int // the bounds
	young        time.Duration
	count        int
	of           map[netip.Addr][]*connection // the oldest first
}

// add counts a newcomer. It returns whom to close for it: the oldest of the address with the most,
// if that has twice as many, or the oldest of all, unless that is young. Else, and when its own
// address is full, it is the newcomer itself.
func (n *newcomers) add(c *connection, from netip.Addr) (closed *connection) {
	own := len(n.of[from])
	if own >= n.ofOne {
		return c
	}
	if n.count >= n.inAll {
		most := from
		var oldest *connection
		for address, all := range n.of {
			if len(all) > len(n.of[most]) {
				most = address
			}
			if oldest == nil || all[0].since.Before(oldest.since) {
				oldest = all[0]
			}
		}
		switch {
		case len(n.of[most]) >= 2*(own+1): // with less a crowd would only change places with itself
			closed = n.of[most][0]
		case time.Since(oldest.since) >= n.young:
			closed = oldest
		default:
			return c
		}
		n.remove(closed)
	}
	c.from, c.since = from, time.Now()
	n.of[from] = append(n.of[from], c)
	n.count++
	return closed
}

// remove forgets one that was added, or was not.
func (n *newcomers) remove(c *connection) {
	all := n.of[c.from]
	i := slices.Index(all, c)
	if i < 0 {
		return
	}
	n.count--
	if n.of[c.from] = slices.Delete(all, i, i+1); len(all) == 1 {
		delete(n.of, c.from)
	}
}

// networkOf is the address, or of IPv6 the /48: that is what one customer may have.
func networkOf(address netip.Addr) netip.Addr {
	if address = address.Unmap(); address.Is6() {
		address = netip.PrefixFrom(address.WithZone(""), 48).Masked().Addr()
	}
	return address
}

// admit counts a newcomer from a network, unless it closes it.
func (l *Listener) admit(c *connection, from netip.Addr) error {
	l.mu.Lock()
	closed := l.newcomers.add(c, from)
	l.mu.Unlock()
	if closed == nil {
		return nil
	}
	l.refused.Add(1)
	_ = closed.tcp.SetLinger(0) // nothing of it stays in the kernel
	_ = closed.tcp.Close()
	if closed == c {
		return errTooManyNew
	}
	return nil
}

var errTooManyNew = errors.New("too many connections that have not made a request")

// Refused counts the newcomers that were closed for others.
func (l *Listener) Refused() int { return int(l.refused.Load()) }

// served says that the first request has been read. The goroutine that serves calls it.
func (c *connection) served() {
	if c.old {
		return
	}
	c.old = true
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.listener.newcomers.remove(c)
	if _, open := c.listener.open[c]; open && c.from.IsValid() {
		c.known = true
		c.listener.known[c.from]++
	}
}

// ofClient reports that a client has opened the connection, and not a trusted proxy for many.
func (c *connection) ofClient() bool {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	return c.from.IsValid()
}

// arrive reads what stands before the first request.
func (c *connection) arrive() error {
	if c.proxied == nil && c.secure == nil {
		return nil
	}
	late := time.AfterFunc(c.listener.patience, func() { _ = c.tcp.Close() })
	defer late.Stop()
	if c.proxied != nil {
		// Without the address of a client it is the proxy's own, for which there is no bound.
		header := c.proxied.ProxyHeader()
		c.unnamed = header != nil && !header.Command.IsProxy()
		if header != nil && header.Command.IsProxy() {
			client, ok := header.SourceAddr.(*net.TCPAddr)
			if !ok {
				return errNoClient
			}
			if err := c.listener.admit(c, networkOf(client.AddrPort().Addr())); err != nil {
				return err
			}
		}
	}
	if c.secure == nil {
		return nil
	}
	if err := c.secure.Handshake(); err != nil {
		return err
	}
	c.wire.shaken = true
	return nil
}

// wire is what TLS reads and writes.
type wire struct {
	net.Conn
	tcp     *net.TCPConn
	brought int  // bytes before the end of the handshake; the goroutine that reads owns both
	shaken  bool // the handshake is over
	closing atomic.Bool
}

var errLongHandshake = errors.New("the handshake of TLS is too long")

// Read implements net.Conn.
func (w *wire) Read(p []byte) (int, error) {
	if w.shaken {
		return w.Conn.Read(p)
	}
	if w.brought >= handshakeBytes {
		return 0, errLongHandshake
	}
	n, err := w.Conn.Read(p[:min(len(p), handshakeBytes-w.brought)])
	w.brought += n
	return n, err
}

// Write implements net.Conn. TLS says goodbye when it closes, and would wait 5 seconds for a client
// that does not read: it is said if there is room for it at once.
func (w *wire) Write(p []byte) (int, error) {
	if !w.closing.Load() {
		return w.Conn.Write(p)
	}
	return len(p), tryWrite(w.tcp, p)
}

// errNoClient refuses what no TCP connection of a client can be: UDP and UNIX. The specification of
// the PROXY protocol (2.2) has a receiver take families that it does not support for UNSPEC, and
// leaves it to the receiver whether UNSPEC is accepted, as the proxy's own, or refused. Here it is
// refused: a client would have neither an address nor a bound.
var errNoClient = errors.New("a PROXY header names no address of TCP")

// firstHeader is as long as a header of version 1 can be.
const firstHeader = 107

// announced is a proxy's connection before its header was read.
type announced struct {
	*net.TCPConn
	begin whole
}

// Read implements net.Conn.
func (a *announced) Read(p []byte) (int, error) { return a.begin.Read(p) }

// whole gives a header of version 1 that comes in parts at once, since the library takes a part for
// an attack. The specification (2.1) recommends to be tolerant; the time is bounded all the same.
type whole struct {
	io.Reader
	begun bool
}

// Read implements io.Reader.
func (w *whole) Read(p []byte) (n int, err error) {
	n, err = w.Reader.Read(p)
	for signature := proxyproto.SIGV1; err == nil && !w.begun && n < min(len(p), firstHeader) &&
		bytes.HasPrefix(p[:n], signature[:min(n, len(signature))]) && bytes.IndexByte(p[:n], '\n') < 0; {
		var more int
		more, err = w.Reader.Read(p[n:])
		n += more
	}
	w.begun = true
	return n, err
}

func proxiedConn(tcp *net.TCPConn) *proxyproto.Conn {
	return proxyproto.NewConn(&announced{tcp, whole{Reader: tcp}}, proxyproto.WithPolicy(proxyproto.USE),
		proxyproto.SetReadHeaderTimeout(proxyTime))
}

// tryWrite writes what the kernel takes at once.
func tryWrite(tcp *net.TCPConn, p []byte) error {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = raw.Write(func(fd uintptr) bool {
		_, failure = syscall.Write(int(fd), p)
		return true
	})
	return errors.Join(err, failure)
}
