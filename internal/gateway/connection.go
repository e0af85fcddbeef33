package gateway

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
)

// How long a client is waited for. A line that carries slowest bytes a second is served, steadily.
// How much of what was sent is still on its way is known from acknowledgements only: the kernel,
// and proxies with their buffers, take bytes long before the client does.
const (
	// slowest is the slowest line that is served, in bytes a second.
	slowest = 2000
	// pingEvery is how often the server pings, and pongWithin how long it waits for the answer, or
	// for any other frame, of a client that has acknowledged everything.
	pingEvery  = 30 * time.Second
	pongWithin = 10 * time.Second
	// sendBuffer is what the kernel queues for a socket, in bytes; it may count twice as much. By
	// itself it would grow to 4 MB, in front of each ping and pong.
	sendBuffer = 128 << 10
	// writeWithin is the deadline of a write of one frame: the time of the slowest line for the
	// largest envelope and the kernel's queue. An acknowledgement sets it anew, since a proxy takes
	// nothing for long and then much.
	writeWithin = pongWithin + (core.MaxMessage+2*sendBuffer)/slowest*time.Second
	// fewBytes take so little time that they need no patience of their own.
	fewBytes = 8 << 10
	// goodbye is how long a closed socket may take to answer the close, and a write to make way for
	// it.
	goodbye = time.Second
	// readLimit is the largest inbound message, in bytes.
	readLimit = 64 << 10
)

// connection is a session's socket with its deadlines. The handler's goroutine reads, the pump
// writes.
type connection struct {
	socket socket
	ctx    context.Context // ends with the session
	// unacknowledged is how many bytes of ciphertext are on their way: the window's.
	unacknowledged *atomic.Int64

	since         time.Time // owned by the reader: what came in since then
	frames, bytes int

	mu      sync.Mutex
	writing bool    // guarded by mu: the pump is in a write
	over    bool    // guarded by mu: the close is being sent, or the socket is broken or has ended
	code    int     // guarded by mu: to close with; 0: not to close
	pinged  *string // guarded by mu: the client's newest ping that was not answered
}

// stayAlive gives the client a time to be heard again, and as much longer as the bytes on their way
// to it take: at most until it has got the largest envelope, since then it can acknowledge.
func (c *connection) stayAlive(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		onTheWay := time.Duration(min(c.unacknowledged.Load(), core.MaxMessage)) * time.Second / slowest
		_ = c.socket.SetReadDeadline(time.Now().Add(d + onTheWay))
	}
}

// hear takes a frame of any kind for a sign of life.
func (c *connection) hear() {
	c.breathe(1, 0)
	c.stayAlive(pingEvery + pongWithin)
}

// open sets the limits of what is read, and has pinged called for each ping of the client.
func (c *connection) open(pinged func()) {
	c.socket.SetReadLimit(readLimit)
	c.socket.meter(func(bytes int) { c.breathe(0, bytes) })
	c.stayAlive(pingEvery + pongWithin)
	c.socket.SetPongHandler(func(string) error {
		c.hear()
		return nil
	})
	c.socket.SetPingHandler(func(payload string) error {
		c.hear()
		c.mu.Lock()
		c.pinged = &payload
		c.mu.Unlock()
		pinged()
		return nil
	})
}

// read returns the next message. After the close it only waits for the end, and as soon as the
// session has ended, since that may acknowledge nothing more; of a broken socket it returns what
// had come.
func (c *connection) read() (kind int, data []byte, err error) {
	for over := true; over; {
		if kind, data, err = c.socket.ReadMessage(); err != nil {
			return 0, nil, err
		}
		c.mu.Lock()
		over = c.code == closeRevoked || c.over && c.code != 0
		c.mu.Unlock()
	}
	c.hear()
	return kind, data, nil
}

// write writes one message, unless the socket is to be closed. Meanwhile no ping is sent.
func (c *connection) write(kind int, data []byte) (err error) {
	c.mu.Lock()
	if c.code != 0 {
		c.mu.Unlock()
		return errYield
	}
	c.writing = true
	c.mu.Unlock()
	if by := time.Now().Add(writeWithin); kind != binaryMessage {
		err = c.socket.WriteControl(kind, data, by)
	} else if err = c.socket.SetWriteDeadline(by); err == nil {
		err = c.socket.WriteMessage(kind, data)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = false
	return err
}

// inWrite does something with a write in progress.
func (c *connection) inWrite(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writing {
		do()
	}
}

// ping asks for a sign of life.
func (c *connection) ping() error {
	c.stayAlive(pongWithin) // before the ping: the pong, which may be quick, extends it
	return c.write(pingMessage, nil)
}

// answer answers the newest ping of the client; the ones before it need no answer (RFC 6455,
// 5.5.3).
func (c *connection) answer() error {
	c.mu.Lock()
	payload := c.pinged
	c.pinged = nil
	c.mu.Unlock()
	if payload == nil {
		return nil
	}
	return c.write(pongMessage, []byte(*payload))
}

var frames = sync.Pool{New: func() any { return new([]byte) }}

// maxPooledFrame keeps the buffers of rare large frames out of the pool.
const maxPooledFrame = 128 << 10

// send sends one frame. An error means that the socket is finished, or is to be closed.
func (c *connection) send(frame *obscurapb.WebSocketFrame) error {
	buf := frames.Get().(*[]byte)
	if size := proto.Size(frame); cap(*buf) < size { // exactly: growing would cost a slow reader more
		*buf = make([]byte, 0, size)
	}
	data, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend((*buf)[:0], frame)
	if err != nil {
		return errors.Join(errors.New("cannot encode a frame"), err)
	}
	if len(data) > fewBytes {
		c.stayAlive(pingEvery + pongWithin)
	}
	err = c.write(binaryMessage, data)
	if cap(data) <= maxPooledFrame {
		*buf = data[:0]
		frames.Put(buf)
	}
	return err
}

// closeWith sets the code to close with; the first one wins. A write in progress is given a moment.
// It asks for the close before anybody sees the code.
func (c *connection) closeWith(code int, ask func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ask()
	if c.code == 0 {
		c.code = code
		time.AfterFunc(goodbye, func() { c.inWrite(c.socket.interrupt) })
	}
}

// finish extends no deadline any more and, if the socket is closed with a code, has what is still
// read passed over. It returns the code; 0: none was set.
func (c *connection) finish() (code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	return c.code
}

// sayGoodbye sends the close frame and gives the client a moment to answer it.
func (c *connection) sayGoodbye() {
	_ = c.socket.WriteControl(closeMessage, closePayload(c.finish()), time.Now().Add(goodbye))
	_ = c.socket.SetReadDeadline(time.Now().Add(goodbye))
}

// cutOff ends a broken socket: the reader returns and with it the session. A client that has left
// may have acknowledged before, so what has come is read, unless the socket is closed with a code.
func (c *connection) cutOff() {
	until := time.Now()
	if c.finish() == 0 {
		until = until.Add(goodbye)
	}
	_ = c.socket.SetReadDeadline(until)
}

// What is read of one client in a second: so many frames, pings and pongs included, and so many
// bytes of the network, headers of frames included. The rest waits in the network, so that a few
// clients cannot keep a core busy with frames that cost them nothing. The library joins the parts
// of a fragmented message by itself (RFC 6455, section 5.4): empty parts without end are met as
// bytes only.
const (
	maxFramesPerSecond = 2000
	maxBytesPerSecond  = 1 << 20
)

// breathe counts, and waits for the next second when there has been too much in this one.
func (c *connection) breathe(frames, bytes int) {
	now := time.Now()
	if now.Sub(c.since) >= time.Second {
		c.since, c.frames, c.bytes = now, 0, 0
	}
	c.frames += frames
	c.bytes += bytes
	if c.frames <= maxFramesPerSecond && c.bytes <= maxBytesPerSecond {
		return
	}
	select {
	case <-c.ctx.Done():
	case <-time.After(time.Second - now.Sub(c.since)):
	}
}
