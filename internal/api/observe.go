package api

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"github.com/obscura-relay/obscura/internal/core"
)

const headerRequestID = "X-Request-Id"

// noOperation labels requests that are for no operation of the contract.
const noOperation = "none"

// setRequestID answers with the client's own request id when it is a UUID, else with a fresh one.
func setRequestID(c *fiber.Ctx) {
	if len(c.Response().Header.Peek(headerRequestID)) > 0 {
		return
	}
	id := c.Request().Header.Peek(headerRequestID)
	if !canonicalUUID.Match(id) {
		id = []byte(uuid.NewString())
	}
	c.Response().Header.SetBytesV(headerRequestID, id)
}

func requestIDOf(answer *fasthttp.Response) string {
	return string(answer.Header.Peek(headerRequestID))
}

// observe surrounds every request: request id, deadline, one log line, one count.
func (s *server) observe(c *fiber.Ctx) error {
	start := time.Now()
	setRequestID(c)
	ctx, waited := core.WithWaited(context.Background())
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeouts.Request)
	defer cancel()
	c.SetUserContext(ctx)
	err := error(fiber.ErrBadRequest)
	if blankInName(c.Request().Header.RawHeaders()) {
		c.Response().SetConnectionClose()
	} else {
		err = next(c)
	}
	if err != nil {
		handleError(c, err)
	}
	if c.Locals(later) != nil {
		return nil
	}
	if s.cfg.Stopping() && c.Response().StatusCode() != fiber.StatusSwitchingProtocols {
		c.Response().SetConnectionClose() // the client's next request goes to whoever listens then
	}
	if c.Response().StatusCode() == fiber.StatusMethodNotAllowed {
		c.Set(fiber.HeaderAllow, s.allowed(c.Path()))
	}
	id, requestID := noOperation, requestIDOf(c.Response())
	if op, ok := c.Locals(operationKey).(*operation); ok {
		id = op.id
		if op.sealed() || op.unnamed && len(c.Request().Header.Peek(headerDeliveryToken)) > 0 {
			requestID = uuid.NewString() // a client's own that repeats would tell who makes the request
		}
	}
	s.finish(id, requestID, c.Response(), time.Since(start), waited(),
		max(0, c.Request().Header.ContentLength()), err)
	return nil
}

// blankInName reports a blank in the name of a header (RFC 9110, 5.1), which the server lets pass.
func blankInName(raw []byte) bool {
	for line := range bytes.Lines(raw) {
		name, _, _ := bytes.Cut(line, []byte{':'})
		if blank := bytes.IndexAny(name, " \t"); blank > 0 { // at the front it goes on with the line before
			return true
		}
	}
	return false
}

// refuseUnread answers a request that could not be read, which observe never sees. While the relay
// stops it may be the relay that ended the reading (Listener.EndIdle): 408 lets the client repeat.
func (s *server) refuseUnread(c *fiber.Ctx, err error) error {
	handleError(c, err)
	if c.Response().StatusCode() == fiber.StatusBadRequest && s.cfg.Stopping() {
		handleError(c, fiber.ErrRequestTimeout)
	}
	s.letRead(c)
	if s.cfg.Secure {
		stayWithTLS(c.Context())
	}
	status := c.Response().StatusCode()
	if conn, ok := c.Context().Conn().(*connection); ok && status != fiber.StatusRequestTimeout {
		conn.linger.Store(true)
	}
	s.finish(noOperation, requestIDOf(c.Response()), c.Response(), 0, 0,
		max(0, c.Request().Header.ContentLength()), err)
	return nil
}

// letRead lets a page read the answer to a request that could not be read. Its origin is not known:
// the server has forgotten the header, or never had it. So any page may; the answer says nothing
// about anybody.
func (s *server) letRead(c *fiber.Ctx) {
	if len(s.cfg.CORSOrigins) > 0 {
		c.Set(fiber.HeaderAccessControlAllowOrigin, "*")
		c.Set(fiber.HeaderAccessControlExposeHeaders, exposedHeaders)
	}
}

// allowed lists the methods that the contract has for a path; Fiber's own list has HEAD beside
// every GET.
func (s *server) allowed(path string) string {
	methods := slices.Clone(s.literals[path])
	for key := range s.operations {
		method, route, _ := strings.Cut(key, " ")
		if s.literals[path] == nil && fiber.RoutePatternMatch(path, route,
			fiber.Config{CaseSensitive: true, StrictRouting: true}) {
			methods = append(methods, method)
		}
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// caught turns a panic of the function that defers it into its error.
func caught(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
	}
}

func next(c *fiber.Ctx) (err error) {
	defer caught(&err)
	return c.Next()
}

// finish counts a request and writes its one line. It names neither user nor device nor address.
func (s *server) finish(operation, requestID string, answer *fasthttp.Response, took, waited time.Duration,
	bytesIn int, err error) {
	status, bytesOut := answer.StatusCode(), 0
	switch {
	case answer.IsBodyStream():
		bytesOut = answer.Header.ContentLength()
	case !answer.SkipBody:
		bytesOut = len(answer.Body())
	}
	s.cfg.Observer.Request(operation, status, took)
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("operation", operation),
		slog.Int("status", status),
		slog.Duration("took", took),
		slog.Duration("waited", waited),
		slog.String("request_id", requestID),
		slog.Int("bytes_in", bytesIn),
		slog.Int("bytes_out", bytesOut),
	}
	if err != nil {
		_, body, _ := answerTo(err)
		attrs = append(attrs, slog.String("code", body.Code))
	}
	switch {
	case err != nil && status == fiber.StatusInternalServerError:
		level = slog.LevelError
		attrs = append(attrs, slog.String("error", err.Error()))
	case core.KindOf(err) == core.Unavailable:
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	s.cfg.Logger.LogAttrs(context.Background(), level, "request", attrs...)
}
