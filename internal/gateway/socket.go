package gateway

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gofiber/contrib/websocket"
	"github.com/gofiber/fiber/v2"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// socket is what a session needs of a WebSocket: the library's connection, or a fake one in a test
// with fake time. One goroutine reads and one writes; WriteControl may run beside both.
type socket interface {
	ReadMessage() (kind int, data []byte, err error)
	WriteMessage(kind int, data []byte) error
	WriteControl(kind int, data []byte, deadline time.Time) error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	SetReadLimit(bytes int64)
	SetPongHandler(h func(string) error)
	SetPingHandler(h func(string) error)
	// meter sets what is called with the number of bytes after each read from the network, by the
	// goroutine that reads.
	meter(read func(bytes int))
	// writeBy sets when a write in progress must end, from any goroutine.
	writeBy(t time.Time)
	// interrupt makes a read or write in progress fail, from any goroutine.
	interrupt()
}

// librarySocket is the library's connection as a socket.
type librarySocket struct{ *websocket.Conn }

// ReadMessage says 1009 also of a frame whose length is beyond 63 bits, which the library gives up
// without a word. Where the library has said it, this is not sent. (Its error is told by its text:
// the package that we have it from keeps another one of this name.)
func (c librarySocket) ReadMessage() (kind int, data []byte, err error) {
	kind, data, err = c.Conn.ReadMessage()
	if err != nil && err.Error() == websocket.ErrReadLimit.Error() {
		_ = c.WriteControl(closeMessage, closePayload(closeTooBig), time.Now().Add(goodbye))
	}
	return kind, data, err
}

// The library's SetWriteDeadline is for the next write; a write in progress only heeds the
// connection itself.
func (c librarySocket) writeBy(t time.Time) { _ = c.NetConn().SetWriteDeadline(t) }

func (c librarySocket) interrupt() { _ = c.NetConn().SetDeadline(time.Unix(1, 0)) }

func (c librarySocket) meter(read func(bytes int)) {
	if metered, ok := inner(c.NetConn()).(interface{ Meter(read func(bytes int)) }); ok {
		metered.Meter(read)
	}
}

// inner is the connection that the listener made.
func inner(c net.Conn) net.Conn {
	if hijacked, ok := c.(interface{ UnsafeConn() net.Conn }); ok {
		return hijacked.UnsafeConn()
	}
	return c
}

// Close codes of the contract, and the kinds of messages of RFC 6455.
const (
	closeGoingAway = websocket.CloseGoingAway
	closeRestart   = websocket.CloseServiceRestart
	closePolicy    = websocket.ClosePolicyViolation
	closeTooBig    = websocket.CloseMessageTooBig
	closeInternal  = websocket.CloseInternalServerErr
	closeRevoked   = 4401
	closeDisplaced = 4409

	binaryMessage = websocket.BinaryMessage
	closeMessage  = websocket.CloseMessage
	pingMessage   = websocket.PingMessage
	pongMessage   = websocket.PongMessage
)

func closePayload(code int) []byte { return websocket.FormatCloseMessage(code, "") }

// The library's buffers. A socket keeps its read buffer for life and borrows a write buffer from a
// pool all sockets share, so an idle one holds little.
const (
	readBuffer  = 512
	writeBuffer = 4096
)

type accepted struct {
	principal core.Principal
	opened    mailbox.Opened
}

// upgrader returns the handler that turns a request into a socket and serves it until it ends.
func (g *Gateway) upgrader() fiber.Handler {
	return websocket.New(func(c *websocket.Conn) {
		h := c.Locals("gateway").(accepted) // set by Upgrade, below
		boundQueue(c.NetConn())
		g.serve(librarySocket{c}, h)
	}, websocket.Config{
		ReadBufferSize:  readBuffer,
		WriteBufferSize: writeBuffer,
		WriteBufferPool: &sync.Pool{},
		// Tickets and bearer tokens prove who connects, not cookies, so any origin may.
		Origins: []string{"*"},
		RecoverHandler: func(*websocket.Conn) {
			if r := recover(); r != nil {
				g.panicked(r)
			}
		},
	})
}

// boundQueue bounds what the kernel queues for a connection.
func boundQueue(c net.Conn) {
	if tcp, ok := inner(c).(interface{ SetWriteBuffer(bytes int) error }); ok {
		_ = tcp.SetWriteBuffer(sendBuffer) // a connection that has ended is noticed when it is used
	}
}

func (g *Gateway) panicked(reason any) {
	g.cfg.Logger.Error("a gateway session panicked; its socket is closed and its mail stays", "component", "gateway",
		"error", fmt.Sprintf("panic: %v\n%s", reason, debug.Stack()))
}

// keySize is how many bytes a Sec-WebSocket-Key stands for (RFC 6455, section 4.1).
const keySize = 16

// IsUpgrade reports whether the request asks for a WebSocket in a way that will be granted (RFC
// 6455, section 4.2.1; of HTTP/1.0 Upgrade means nothing, RFC 9110, section 7.8), and leaves the
// connection to it: it is not to be closed, and no body follows. A handshake that fails later would
// already have displaced the device's live socket.
func IsUpgrade(c *fiber.Ctx) bool {
	key, err := base64.StdEncoding.DecodeString(c.Get(fiber.HeaderSecWebSocketKey))
	length := c.Get(fiber.HeaderContentLength)
	return c.Method() == fiber.MethodGet && c.Request().Header.IsHTTP11() && websocket.IsWebSocketUpgrade(c) &&
		c.Get(fiber.HeaderSecWebSocketVersion) == "13" && err == nil && len(key) == keySize &&
		!c.Request().Header.ConnectionClose() && (length == "" || length == "0") &&
		c.Get(fiber.HeaderTransferEncoding) == "" && c.Get(fiber.HeaderExpect) == ""
}

// Upgrade opens a socket for a device-scoped principal. Errors before the upgrade are returned and
// become an HTTP answer.
func (g *Gateway) Upgrade(c *fiber.Ctx, p core.Principal) error {
	if g.closing.Load() {
		return core.Busy(errors.New("the gateway is closing"))
	}
	opened, err := g.cfg.Mailbox.Open(c.UserContext(), p)
	if err != nil {
		return err
	}
	forgetSecrets(c)
	c.Locals("gateway", accepted{p, opened})
	return g.upgrade(c)
}

// forgetSecrets overwrites the ticket, the bearer token and cookies, because the libraries keep the
// request for the socket's whole life. What was read ahead may lie in a read buffer until that is
// used again, which we do not reach.
func forgetSecrets(c *fiber.Ctx) {
	header, path := &c.Request().Header, c.Path()
	for _, secret := range [][]byte{header.RequestURI(), header.RawHeaders(), header.Peek(fiber.HeaderAuthorization),
		header.Peek(fiber.HeaderCookie), c.Request().URI().QueryString()} {
		clear(secret)
	}
	for _, value := range c.Context().QueryArgs().All() {
		clear(value)
	}
	c.Request().URI().SetQueryString("")
	c.Context().QueryArgs().Reset()
	header.SetRequestURI(path)
	header.Del(fiber.HeaderAuthorization)
	header.DelAllCookies()
}
