package api

import (
	"context"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/account"
)

// errDeviceNeeded is the answer to a user-scoped token where a device must act.
var errDeviceNeeded = core.NewError(core.Forbidden, "device_required", "This needs a device-scoped token.")

type contextKey int

const (
	principalKey contextKey = iota
	operationKey
	requestIDKey
)

// guard stands before every handler of the contract: authentication, limits, then the body. The
// generated code has parsed the parameters before it, and is generous: a UUID may have braces, or
// none of its dashes.
func (s *server) guard(c *fiber.Ctx, next fiber.Handler) error {
	op := s.operations[c.Method()+" "+c.Route().Path]
	if op == nil { // Fiber has a HEAD beside every GET
		return fiber.ErrMethodNotAllowed
	}
	c.Locals(operationKey, op)
	var p core.Principal
	if !op.public {
		if body, ok := c.Locals(asideKey).(aside); ok && core.KindOf(body.refused) == core.Unauthorized {
			return body.refused // admit has looked at the token, and counted it
		}
		var err error
		if p, err = s.authenticate(c.UserContext(), c.Context()); err != nil {
			return err
		}
		if op.deviceScoped && !p.DeviceScoped() {
			return errDeviceNeeded
		}
		c.SetUserContext(context.WithValue(c.UserContext(), principalKey, p))
	}
	if err := s.throttle(c, op, p); err != nil {
		return err
	}
	if err := validateParameters(c, op); err != nil {
		return err
	}
	if err := validateBody(c, op); err != nil {
		return err
	}
	return next(c)
}

// authenticate returns the principal of the request's bearer token (RFC 6750).
func (s *server) authenticate(ctx context.Context, request *fasthttp.RequestCtx) (core.Principal, error) {
	scheme, token, _ := strings.Cut(string(request.Request.Header.Peek(fiber.HeaderAuthorization)), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return core.Principal{}, account.ErrUnauthorized
	}
	if p, ok := s.cfg.Accounts.Remembered(token); ok {
		return p, nil
	}
	return s.prove(request, func() (core.Principal, error) { return s.cfg.Accounts.Authenticate(ctx, token) })
}

// principal is who makes the request, in a handler behind the guard.
func principal(ctx context.Context) core.Principal {
	p, _ := ctx.Value(principalKey).(core.Principal)
	return p
}
