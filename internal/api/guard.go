package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/account"
)

// headerDeliveryToken shows a delivery token in place of an access token.
const headerDeliveryToken = "Delivery-Token"

// errIdentified is the answer to a request that should not say who makes it, and does.
var errIdentified = core.NewError(core.Invalid, "identified_request",
	"A delivery token and an access token do not go together: this request says who makes it.")

// errDeviceNeeded is the answer to a user-scoped token where a device must act.
var errDeviceNeeded = core.NewError(core.Forbidden, "device_required", "This needs a device-scoped token.")

type contextKey int

const (
	callerKey contextKey = iota
	operationKey
)

// caller is who makes a request, as far as it says.
type caller struct {
	core.Principal
	// token is the hash of a delivery token that was shown in place of an access token.
	token core.DeliveryTokenHash
	// address is where a request without an access token comes from, for limits.
	address limitKey
}

// guard stands before every handler of the contract: pressure, authentication, limits, then the
// body. The generated code has parsed the parameters before it, and is generous: a UUID may have
// braces, or none of its dashes.
func (s *server) guard(c *fiber.Ctx, next fiber.Handler) error {
	op := s.operations[c.Method()+" "+c.Route().Path]
	if op == nil { // Fiber has a HEAD beside every GET
		return fiber.ErrMethodNotAllowed
	}
	c.Locals(operationKey, op)
	if err := s.press(op); err != nil {
		return err
	}
	who, err := s.identify(c, op)
	if err != nil {
		return err
	}
	c.SetUserContext(context.WithValue(c.UserContext(), callerKey, who))
	if err := s.throttle(c, op, who); err != nil {
		return err
	}
	if err := s.open(c, who); err != nil {
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

// identify finds out who makes a request: a principal, somebody with a delivery token, which is not
// looked up yet, or anybody.
func (s *server) identify(c *fiber.Ctx, op *operation) (who caller, err error) {
	token := c.Request().Header.Peek(headerDeliveryToken)
	unnamed := op.unnamed && len(token) > 0
	switch {
	case (unnamed || op.sealed()) && named(c):
		return who, errIdentified
	case unnamed:
		// No shared cache keeps the answer to a request with Authorization (RFC 9111, 3.5). This
		// has none, and must not go to the next one who asks for its path.
		c.Set(fiber.HeaderCacheControl, "no-store")
		secret, err := base64.RawURLEncoding.Strict().DecodeString(string(token))
		if err != nil || len(secret) != core.DeliveryTokenBytes {
			return who, account.ErrUnauthorized
		}
		who.token = sha256.Sum256(secret)
		return who, nil
	case op.sealed(), op.public:
		who.address = addressKey(s.clientAddr(c.Context()))
		return who, nil
	}
	if body, ok := c.Locals(asideKey).(aside); ok && core.KindOf(body.refused) == core.Unauthorized {
		return who, body.refused // admit has looked at the token, and counted it
	}
	who.Principal, err = s.authenticate(c.UserContext(), c.Context())
	if err == nil && op.deviceScoped && !who.DeviceScoped() {
		err = errDeviceNeeded
	}
	return who, err
}

// named reports whether a request has an Authorization. An empty line may come first.
func named(c *fiber.Ctx) bool {
	return slices.ContainsFunc(c.Request().Header.PeekAll(fiber.HeaderAuthorization),
		func(line []byte) bool { return len(line) > 0 })
}

// open lets a delivery token of the user in the path through. For any other the same is looked up.
func (s *server) open(c *fiber.Ctx, who caller) error {
	if who.token == (core.DeliveryTokenHash{}) {
		return nil
	}
	_, err := s.prove(c.Context(), func() (core.Principal, error) {
		opens, err := s.cfg.DeliveryTokens.Opens(c.UserContext(), who.token, targetUser(c))
		if err == nil && !opens {
			err = account.ErrUnauthorized
		}
		return core.Principal{}, err
	})
	return err
}

// targetUser is the user in the path; the nil UUID when that is none. The generated code has
// unescaped it as well, and has refused what is no UUID then.
func targetUser(c *fiber.Ctx) core.UserID {
	text, _ := url.PathUnescape(c.Params("userId"))
	user, _ := uuid.Parse(text)
	return user
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
	return callerOf(ctx).Principal
}

func callerOf(ctx context.Context) caller {
	who, _ := ctx.Value(callerKey).(caller)
	return who
}
