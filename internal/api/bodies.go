package api

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/obscura-relay/obscura/internal/core"
)

// A body is decided upon before it is read. The HTTP server allocates the length that a header
// declares, at once and before any handler: a header of 54 bytes would cost 2 MiB. So the server is
// told, when a header has arrived, to ask first, as it does for a client that waits for 100
// Continue (RFC 9110, 10.1.1). The answer is admit: it lets the body be read, within what the
// operation takes and the account has left, or sets it aside. A request whose body was set aside
// goes the usual way, is refused there, and is its connection's last: what follows is nobody's, and
// never another request.

const (
	// smallBody is the largest body that is read for anybody without counting; it is less than its
	// connection costs.
	// The largest honest body without a token, a registration whose password is all escapes, takes
	// 3.2 kB.
	smallBody = 4 << 10
	// maxBodies bounds the bodies above that which a node has in memory, maxBodiesOfOne the part of
	// an account.
	maxBodies      = 128 << 20
	maxBodiesOfOne = 16 << 20
	// maxSealedBodies bounds those of which nobody knows who sends them, beside the others: they
	// cannot take their place. A client address has the part of an account.
	maxSealedBodies = 64 << 20
)

// The two ways in which a request asks for admit: the client waits, or it does not. The server
// takes both for the same; a client's own spelling never gets there.
const (
	awaited   = "100-continue"
	unawaited = "100-Continue"
)

// askFirst implements fasthttp.Server.HeaderReceived.
func (s *server) askFirst(h *fasthttp.RequestHeader) (limits fasthttp.RequestConfig) {
	expected := h.Peek(fiber.HeaderExpect)
	waits := h.IsHTTP11() && bytes.EqualFold(expected, []byte(awaited))
	if len(expected) > 0 {
		h.Del(fiber.HeaderExpect)
	}
	length := h.ContentLength()
	if length <= 0 && length != chunked && !h.IsPost() {
		return limits
	}
	op := s.operationOf(h)
	switch {
	case op != nil && op.upload(), op == nil && (length > 0 || length == chunked):
	case op != nil && (waits || length > smallBody || length == chunked || length > 0 && !op.public &&
		len(h.Peek(fiber.HeaderAuthorization)) == 0):
		limits.MaxRequestBodySize = op.largest()
	default:
		return limits
	}
	if !h.IsHTTP11() { // the server asks for HTTP/1.1 only; an older client's connection ends with its request
		h.SetProtocol("HTTP/1.1")
		h.SetConnectionClose()
	}
	if waits {
		h.Set(fiber.HeaderExpect, awaited)
	} else {
		h.Set(fiber.HeaderExpect, unawaited)
	}
	return limits
}

// chunked is the length of a body that comes in chunks.
const chunked = -1

// aside says of a body that was set aside how long it was declared to be, whether the client waits
// for 100 Continue, and why it was refused: nil for an upload, which we read ourselves, and where
// there should be none.
type aside struct {
	length  int
	waits   bool
	refused error
}

// asideKey is the local that holds it.
const asideKey = "obscura-aside"

// admit implements fasthttp.Server.ExpectHandler. The status is always 100; the connection keeps it
// from a client that does not wait for it.
func (s *server) admit(ctx *fasthttp.RequestCtx) int {
	h := &ctx.Request.Header
	conn, _ := ctx.Conn().(*connection)
	op, length := s.operationOf(h), h.ContentLength()
	waits := string(h.Peek(fiber.HeaderExpect)) == awaited
	h.Del(fiber.HeaderExpect)
	refused := s.refuses(ctx, op, length, conn)
	if refused != nil || op.media == "" || op.upload() {
		ctx.SetUserValue(asideKey, aside{length, waits, refused})
		h.SetContentLength(0) // and no Transfer-Encoding
		h.SetConnectionClose()
		if conn != nil {
			conn.linger.Store(true) // its client hears why, also when it writes on
		}
		waits = false
	}
	if conn != nil {
		conn.silent = !waits
	}
	return fasthttp.StatusContinue
}

// refuses says why a body is not read, or counts it.
func (s *server) refuses(request *fasthttp.RequestCtx, op *operation, length int, conn *connection) error {
	switch {
	case op == nil:
		return fiber.ErrBadRequest // unless the router says 404 or 405 before
	case op.media == "", op.upload():
		return nil
	case s.press(op) != nil:
		return errOverloaded
	case length > op.largest():
		return errBodySize
	case op.public && !op.sealed():
		return nil
	}
	if length == chunked {
		length = op.largest()
	}
	if op.sealed() {
		return s.sealed.admit(conn, addressKey(s.clientAddr(request)), length)
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Timeouts.Request)
	defer cancel()
	p, err := s.authenticate(ctx, request)
	if err != nil {
		return err
	}
	if op.deviceScoped && !p.DeviceScoped() {
		return errDeviceNeeded
	}
	return s.bodies.admit(conn, userKey(p.User), length)
}

// admit takes a place for a body that its connection gives back; a small one needs none.
func (b *bodies) admit(conn *connection, whose limitKey, length int) error {
	if length <= smallBody || conn == nil {
		return nil
	}
	place, err := b.take(whose, length)
	conn.body.Store(place)
	return err
}

// upload reports an operation whose body is stored as it comes.
func (o *operation) upload() bool { return o.media == mediaOctets }

// largest is the longest body that an operation takes.
func (o *operation) largest() int {
	switch {
	case o.media == mediaProtobuf:
		return core.MaxSendBody
	case o.public:
		return smallBody
	}
	return maxJSONBody
}

// operationOf finds the operation of a request as the router will: by its path, as it was sent.
func (s *server) operationOf(h *fasthttp.RequestHeader) *operation {
	path := h.RequestURI()
	if bytes.Contains(path, []byte("//")) { // there may be a host in it, and where is the router's affair
		var uri fasthttp.URI
		if uri.Parse(h.Host(), path) != nil {
			return nil
		}
		path = uri.PathOriginal()
	} else if end := bytes.IndexAny(path, "?#"); end >= 0 {
		path = path[:end]
	}
	var room [64]byte
	key := append(append(append(room[:0], h.Method()...), ' '), path...)
	if op := s.operations[string(key)]; op != nil {
		return op
	}
	text := string(key)
	for route, op := range s.parametric {
		if matches(route, text) {
			return op
		}
	}
	return nil
}

// matches compares a path with a route, in which :name stands for one segment.
func matches(route, path string) bool {
	for {
		wanted, moreRoute, more := strings.Cut(route, "/")
		got, morePath, ok := strings.Cut(path, "/")
		if more != ok || wanted != got && (!strings.HasPrefix(wanted, ":") || got == "") {
			return false
		}
		if !more {
			return true
		}
		route, path = moreRoute, morePath
	}
}

// bodies counts what bodies take, from when they are let in until they are answered.
type bodies struct {
	most   int
	mu     sync.Mutex
	bytes  int              // guarded by mu
	broken int              // guarded by mu: bytes that broke off since the last collection of garbage
	of     map[limitKey]int // guarded by mu: the part of an account or a client address
}

// place is the part of one body.
type place struct {
	bodies *bodies
	whose  limitKey
	size   int
}

var errBodies = errors.New("too many bytes of bodies are in memory")

// take counts a body, or says why it is not taken.
func (b *bodies) take(whose limitKey, size int) (*place, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.bytes+size > b.most:
		return nil, core.Busy(errBodies)
	case b.of[whose]+size > maxBodiesOfOne:
		return nil, limited(time.Second)
	}
	b.bytes += size
	b.of[whose] += size
	return &place{b, whose, size}, nil
}

func (b *bodies) inFlight() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes
}

// free gives a place back. There may be none.
func (p *place) free() {
	if p == nil {
		return
	}
	b := p.bodies
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes -= p.size
	if b.of[p.whose] -= p.size; b.of[p.whose] == 0 {
		delete(b.of, p.whose)
	}
}

// settled gives the place of a body back when its request has been answered. One that breaks off is
// given back with its connection. A client that has asked too often loses its connection: else one
// address could hold as many as there are descriptors.
func settled(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		conn, ok := ctx.Conn().(*connection)
		if ok {
			conn.phase.Store(int32(working))
			conn.served()
		}
		next(ctx)
		if !ok {
			return
		}
		conn.body.Swap(nil).free()
		if ctx.Response.StatusCode() == fasthttp.StatusTooManyRequests && conn.ofClient() {
			ctx.SetConnectionClose()
		}
	}
}

// brokenBytes is how much breaks off before garbage is collected for it. The runtime counts what it
// found in use when it collected last: after a crowd that has announced bodies and left, it would
// let as much garbage again pile up beside theirs.
const brokenBytes = 64 << 20

// breakOff gives the place of a body back that was not answered. The goroutine of its connection
// collects the garbage, if there is much: nobody waits for that one any more.
func (p *place) breakOff() {
	if p == nil {
		return
	}
	p.free()
	b := p.bodies
	b.mu.Lock()
	b.broken += p.size
	much := b.broken >= brokenBytes
	if much {
		b.broken = 0
	}
	b.mu.Unlock()
	if much {
		runtime.GC()
	}
}
