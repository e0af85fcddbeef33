package api

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
)

const headerRequestID = "X-Request-Id"

// setRequestID answers with the client's own request id when it is a UUID, else with a fresh one.
func setRequestID(c *fiber.Ctx) {
	if len(c.Response().Header.Peek(headerRequestID)) > 0 {
		return
	}
	id, err := uuid.ParseBytes(c.Request().Header.Peek(headerRequestID))
	if err != nil || len(c.Request().Header.Peek(headerRequestID)) != 36 {
		id = uuid.New()
	}
	c.Set(headerRequestID, id.String())
}

// observe surrounds every request: request id, deadline, one log line, one count.
func (s *server) observe(c *fiber.Ctx) error {
	start := time.Now()
	setRequestID(c)
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Timeouts.Request)
	defer cancel()
	c.SetUserContext(ctx)
	err := s.survive(c)
	if err != nil {
		_ = handleError(c, err)
	}
	id := "none"
	if op, ok := c.Locals(operationKey).(*operation); ok {
		id = op.id
	}
	status, took := c.Response().StatusCode(), time.Since(start)
	s.cfg.Observer.Request(id, status, took)
	s.log(c, id, status, took, err)
	return nil
}

// survive turns a panic into an error.
func (s *server) survive(c *fiber.Ctx) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return c.Next()
}

// log writes the request's one line. It names neither user nor device nor address.
func (s *server) log(c *fiber.Ctx, operation string, status int, took time.Duration, err error) {
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("operation", operation),
		slog.Int("status", status),
		slog.Duration("took", took),
		slog.String("request_id", string(c.Response().Header.Peek(headerRequestID))),
		slog.Int("bytes_in", c.Request().Header.ContentLength()),
		slog.Int("bytes_out", len(c.Response().Body())),
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
