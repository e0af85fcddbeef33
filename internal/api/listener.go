package api

import (
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"

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
	// takesAtOnce is how many are taken from the kernel for one that is served, at most, and how
	// many that are closed at once count as one: it costs less, and others wait behind them.
	takesAtOnce = 8
	// waitersInAll is how many that were taken from the kernel may wait for their turn: a KiB each.
	waitersInAll = 16_384
)

// Listener accepts connections that can linger (RFC 9112, 9.6): when a request is refused before it
// was read, closing at once would reset the connection, and a client that still writes would lose
// the answer. It remembers the open ones, so that none outlives the relay, and bounds newcomers. A
// PROXY header and the handshake of TLS are left to the goroutine that reads first.
type Listener struct {
	net.Listener
	proxies []netip.Prefix
	secure  *tls.Config
	// patience is what a PROXY header and the handshake of TLS may take together.
	patience time.Duration
	pace     pace  // the goroutine that accepts owns these three
	turns    turns // those that have come and wait to be served
	full     bool  // connections had all descriptors that they may have, at the last take
	refused  atomic.Int64
	// descriptors are those that connections may have, and waiting how many of them may wait for
	// their turn.
	descriptors, waiting int

	mu        sync.Mutex
	newcomers newcomers                // guarded by mu
	open      map[*connection]struct{} // guarded by mu; nil after Abandon
	known     map[netip.Addr]int       // open ones that have made a request; guarded by mu
	lingering sync.WaitGroup           // begun under mu while open is not nil
}

// NewListener wraps a listener. What comes from one of the proxies may begin with a header of the
// PROXY protocol, version 1 or 2. The configuration is nil without TLS.
func NewListener(inner net.Listener, proxies []netip.Prefix, secure *tls.Config) *Listener {
	descriptors := descriptorsOfConnections()
	return &Listener{Listener: inner, proxies: proxies, secure: secure, patience: arrivalTime,
		descriptors: descriptors, waiting: min(waitersInAll, descriptors/2), open: map[*connection]struct{}{},
		known: map[netip.Addr]int{},
		// With those that wait they have three quarters of what there may be: else they would never
		// have to make room.
		newcomers: newcomers{ofOne: newcomersOfOne, inAll: min(newcomersInAll, descriptors/4), young: newcomerTime,
			of: map[netip.Addr][]*connection{}}}
}

// Accept implements net.Listener. The server takes any error for the end, so what passes by itself
// is waited for here: with too many connections open, new ones wait. Those that have come are
// served in turns, or one that comes alone would wait for a crowd.
func (l *Listener) Accept() (net.Conn, error) {
	for most := takesAtOnce; ; most = 1 {
		l.pace.wait()
		ended := l.gather(most)
		c, from := l.turns.next()
		if c == nil {
			return nil, ended
		}
		if err := l.welcome(c, from); err == nil {
			return c, nil
		}
		l.leave(c, false)
		l.pace.passed -= takesAtOnce - 1
	}
}

// origin is the network that a connection comes from; invalid for the proxies that are trusted.
func (l *Listener) origin(tcp *net.TCPConn) netip.Addr {
	remote, ok := tcp.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.IPv6Unspecified()
	}
	if within(l.proxies, remote.AddrPort().Addr().Unmap()) {
		return netip.Addr{}
	}
	return networkOf(remote.AddrPort().Addr())
}

// welcome prepares one whose turn it is, unless it closes it.
func (l *Listener) welcome(c *connection, from netip.Addr) error {
	if from.IsValid() {
		if err := l.admit(c, from); err != nil {
			return err
		}
	} else {
		c.proxied = proxiedConn(c.tcp)
		c.Conn = c.proxied
	}
	if l.secure != nil {
		c.wire = &wire{Conn: c.Conn, tcp: c.tcp}
		c.secure = tls.Server(c.wire, l.secure)
		c.Conn = c.secure
	}
	return nil
}

// pace lets a few pass at once, and then none until a pause is over.
type pace struct {
	passed int // in parts: each has as many as there are takes in one
	since  time.Time
}

func (p *pace) wait() {
	if time.Since(p.since) > acceptPause {
		p.passed, p.since = 0, time.Now()
	}
	if p.passed += takesAtOnce; p.passed > takesAtOnce*acceptsAtOnce*limit.Cores {
		<-time.After(acceptPause)
		p.passed, p.since = takesAtOnce, time.Now()
	}
}

// Open counts the connections that are open and do not linger.
func (l *Listener) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// EndIdle ends the reading of connections that wait for a next request, and returns how many there
// are. A request that has arrived is read all the same (Linux gives what is queued before the end)
// and can be answered; without one the server closes the connection. Closing it here would reset
// such a request.
func (l *Listener) EndIdle() (waiting int) {
	return l.each(idle, func(c *connection) { _ = c.tcp.CloseRead() })
}

// EndArriving ends the time of connections whose request has not been read whole, and returns how
// many there are. Nothing of such a request has been done. Its client hears 408, which lets it
// repeat (RFC 9110, 15.5.9), or, if it is still sending, may find the connection reset. The server
// may set a time of its own at the same moment, so it is called until there are none.
func (l *Listener) EndArriving() (unread int) {
	return l.each(arriving, func(c *connection) { _ = c.tcp.SetReadDeadline(time.Unix(1, 0)) })
}

// each does something with all open connections of a phase, and counts them.
func (l *Listener) each(of phase, do func(*connection)) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		if phase(c.phase.Load()) == of {
			n++
			do(c)
		}
	}
	return n
}

// phase is what a connection is at.
type phase int32

const (
	// arriving: it has not brought a whole request yet, header and body.
	arriving phase = iota
	// working: a request is being answered, or has taken the connection over, as sockets and
	// uploads do.
	working
	// idle: it waits for a further request.
	idle
)

// noteState is told by the server what becomes of a connection.
func noteState(conn net.Conn, state fasthttp.ConnState) {
	if c, ours := conn.(*connection); ours && state == fasthttp.StateIdle {
		c.phase.Store(int32(idle))
	}
}

// spareDescriptors is how many connections leave to the rest of the relay, so that the management
// port answers, PostgreSQL is reached again and blobs are opened while connections take all others.
const spareDescriptors = 64

// descriptorsOfConnections is how many this process may have, without those.
func descriptorsOfConnections() int {
	var all unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &all); err != nil || all.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	most := int(all.Cur)
	return most - min(spareDescriptors, most/4)
}

// scarce reports that connections have all descriptors that they may have: the kernel gives the
// lowest one that is free.
func (l *Listener) scarce(tcp *net.TCPConn) bool {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	free := 0
	err = raw.Control(func(fd uintptr) {
		var failure error
		if free, failure = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); failure != nil {
			free = l.descriptors
			return
		}
		_ = unix.Close(free)
	})
	return err == nil && free >= l.descriptors
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
		_ = c.tcp.Close()
	}
	l.lingering.Wait()
}

// leave forgets a connection, and reports whether it lingers. That is done beside the server, whose
// goroutine and buffers serve the next one meanwhile.
func (l *Listener) leave(c *connection, linger bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, open := l.open[c]
	delete(l.open, c)
	l.newcomers.remove(c)
	if c.known {
		c.known = false
		if l.known[c.from]--; l.known[c.from] == 0 {
			delete(l.known, c.from)
		}
	}
	if linger && open {
		l.lingering.Go(c.drain)
	}
	return linger && open
}

type connection struct {
	net.Conn // what the server reads and writes: one of the next three
	tcp      *net.TCPConn
	proxied  *proxyproto.Conn // tcp, after a PROXY header; nil unless it is a proxy's
	secure   *tls.Conn        // TLS on wire, which is one of the two; nil without TLS
	wire     *wire
	listener *Listener
	from     netip.Addr // where a newcomer comes from, and
	since    time.Time  // when it came; both guarded by the listener's mu
	arrived  sync.Once  // arrive
	problem  error      // of arrive
	unnamed  bool       // a PROXY header names no client; arrive sets it
	old      bool       // not a newcomer any more; the goroutine that serves owns it
	silent   bool       // the next 100 Continue is not sent; the goroutine that serves owns it
	known    bool       // it is one of those that make its network known; guarded by the listener's mu
	linger   atomic.Bool
	phase    atomic.Int32
	body     atomic.Pointer[place] // the place of the body that is being read or answered
	meter    func(bytes int)       // the goroutine that reads owns it
}

// Meter sets what is called with the number of bytes after each read. The goroutine that reads
// calls both.
func (c *connection) Meter(read func(bytes int)) { c.meter = read }

// Read implements net.Conn.
func (c *connection) Read(p []byte) (int, error) {
	if c.arrived.Do(func() { c.problem = c.arrive() }); c.problem != nil {
		return 0, c.problem
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.phase.CompareAndSwap(int32(idle), int32(arriving))
	}
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
	return c.Conn.Write(p)
}

// ReadFrom implements io.ReaderFrom: without TLS a file goes out past our memory.
func (c *connection) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(c.Conn, r)
}

// SetWriteBuffer bounds what the kernel queues.
func (c *connection) SetWriteBuffer(bytes int) error { return c.tcp.SetWriteBuffer(bytes) }

// Close ends what we send, then takes for a while what still comes if the connection is to linger.
func (c *connection) Close() error {
	c.body.Swap(nil).breakOff()
	if c.wire != nil {
		c.wire.closing.Store(true)
	}
	if c.listener.leave(c, c.linger.Swap(false) && c.closeWrite() == nil &&
		c.tcp.SetReadDeadline(time.Now().Add(lingerTime)) == nil) {
		return nil
	}
	return c.Conn.Close()
}

// closeWrite says that nothing more comes.
func (c *connection) closeWrite() error {
	if c.secure != nil {
		_ = c.secure.CloseWrite() // fails when the handshake did
	}
	return c.tcp.CloseWrite()
}

// drain takes what still comes. Most have nothing more to say, so it begins with little room.
func (c *connection) drain() {
	room := make([]byte, 512)
	for taken := 0; taken < lingerBytes; {
		n, err := c.tcp.Read(room)
		if err != nil {
			break
		}
		if taken += n; n == len(room) && n < 32<<10 {
			room = make([]byte, 2*n)
		}
	}
	_ = c.tcp.Close()
}
