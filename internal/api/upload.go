package api

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/blob"
	"github.com/obscura-relay/obscura/internal/limit"
)

// Uploads are read by us and not by the HTTP server, which would collect them in memory. (It can
// stream, but then every idle WebSocket keeps its read buffer.) So admit sets their bodies aside,
// and once the guard has let one pass the handler takes the connection.

// later marks a request whose answer, log line and count come when its body has been read.
const later = "obscura-later"

// upload is one that has passed the guard.
type upload struct {
	server    *server
	operation string
	user      core.UserID
	start     time.Time
	size      int64
	read      int64
	waits     bool // for 100 Continue
	waited    func() time.Duration
	answer    *fasthttp.Response
	store     storer
}

// storer stores a body of a size and fills in the answer.
type storer func(ctx context.Context, body io.Reader, size int64, answer *fasthttp.Response) error

// receive checks the length of an upload and takes over its connection.
func (s *server) receive(c *fiber.Ctx, smallest, largest int64, store storer) error {
	declared, ok := c.Locals(asideKey).(aside)
	size := int64(declared.length)
	switch {
	case !ok:
		return fiber.ErrBadRequest
	case size < 0: // none, or chunked
		return fiber.ErrLengthRequired
	case size < smallest:
		return errBodySmall
	case size > largest:
		return errBodySize
	}
	op, _ := c.Locals(operationKey).(*operation)
	u := &upload{server: s, waited: func() time.Duration { return 0 },
		operation: op.id, user: principal(c.UserContext()).User, start: c.Context().Time(),
		size: size, waits: declared.waits, answer: &fasthttp.Response{}, store: store}
	c.Response().Header.CopyTo(&u.answer.Header) // request id, and what a browser needs
	c.Locals(later, true)
	c.Context().HijackSetNoResponse(true)
	c.Context().Hijack(u.run)
	return nil
}

var errBodySmall = core.NewError(core.Invalid, "body_too_small", "The body is too small.")

// run reads the body, stores it and answers. The connection is closed afterwards.
func (u *upload) run(conn net.Conn) {
	uploads := u.server.cfg.Uploads
	err := uploads.begin(u.user)
	if err == nil {
		defer uploads.end(u.user) // when it has been answered
		err = u.survive(conn)
	}
	if err != nil {
		writeError(u.answer, err)
	}
	u.server.finish(u.operation, requestIDOf(u.answer), u.answer, time.Since(u.start), u.waited(), int(u.read), err)
	u.answer.SetConnectionClose()
	_ = conn.SetWriteDeadline(time.Now().Add(u.server.cfg.Timeouts.Write))
	w := bufio.NewWriterSize(conn, 1<<10)
	if u.answer.Write(w) == nil {
		_ = w.Flush() // a client that has gone does not hear it
	}
}

func (u *upload) survive(conn net.Conn) (err error) {
	defer caught(&err)
	if u.waits {
		if err := u.proceed(conn); err != nil {
			return err
		}
	}
	b := &body{conn: conn, upload: u}
	defer b.end()
	ctx, waited := core.WithWaited(u.server.cfg.Uploads.ctx)
	u.waited = waited
	return u.store(ctx, b, u.size, u.answer)
}

func (u *upload) proceed(conn net.Conn) error {
	if err := conn.SetWriteDeadline(time.Now().Add(u.server.cfg.Timeouts.Write)); err != nil {
		return fiber.ErrBadRequest
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 100 "+http.StatusText(http.StatusContinue)+"\r\n\r\n"); err != nil {
		return fiber.ErrBadRequest
	}
	return nil
}

// body is an upload's: exactly as many bytes as were declared, each of them within the read timeout
// and, so that nobody holds a place with a few, within the time of those before it.
type body struct {
	conn   net.Conn
	upload *upload
	waited time.Duration // for the client, not for the store

	mu    sync.Mutex  // held by Read: a client of S3 reads in a goroutine that it does not wait for
	ended atomic.Bool // nothing is read any more
}

// end makes sure that nobody reads from now on: the server gives the connection's parts to other
// clients.
func (b *body) end() {
	b.ended.Store(true)
	_ = b.conn.SetReadDeadline(time.Now()) // a connection that has ended is not read from either
	b.mu.Lock()                            // until a Read under way has returned
	defer b.mu.Unlock()
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.upload.size - b.upload.read
	switch {
	case b.ended.Load():
		return 0, net.ErrClosed
	case left == 0:
		return 0, io.EOF
	case b.upload.server.cfg.Pressure() >= limit.RefuseSends: // what it has written is deleted
		return 0, errOverloaded
	}
	begun := time.Now()
	patience := min(b.upload.server.cfg.Timeouts.Read, blob.TransferTime(b.upload.read)-b.waited)
	if err := b.conn.SetReadDeadline(begun.Add(patience)); err != nil {
		return 0, fiber.ErrBadRequest
	}
	if b.ended.Load() { // in this moment: our deadline may have replaced that of end
		return 0, net.ErrClosed
	}
	n, err := b.conn.Read(p[:min(int64(len(p)), left)])
	b.waited += time.Since(begun)
	b.upload.read += int64(n)
	switch {
	case n > 0:
		return n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, fiber.ErrRequestTimeout
	case errors.Is(err, net.ErrClosed): // by us, at the stop
		return 0, core.Busy(errUploads)
	case err != nil: // the client has gone, or said that this was all
		return 0, fiber.ErrBadRequest
	}
	return 0, nil
}
