package api

import (
	"context"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/internal/core"
)

// CreateGatewayTicket makes a ticket.
func (s *server) CreateGatewayTicket(ctx context.Context,
	_ api.CreateGatewayTicketRequestObject) (api.CreateGatewayTicketResponseObject, error) {
	ticket, err := s.cfg.Accounts.NewTicket(ctx, principal(ctx))
	return api.CreateGatewayTicket201JSONResponse{Body: api.GatewayTicket{Ticket: ticket}}, err
}

// ConnectGateway is never called: routes.ConnectGateway stands before it.
func (s *server) ConnectGateway(context.Context, api.ConnectGatewayRequestObject) (api.ConnectGatewayResponseObject,
	error) {
	return nil, fiber.ErrUpgradeRequired
}

// ConnectGateway checks the credential and upgrades to a WebSocket, which the strict layer cannot
// express.
func (r routes) ConnectGateway(c *fiber.Ctx, params api.ConnectGatewayParams) error {
	s := r.server
	if !s.cfg.IsUpgrade(c) {
		return fiber.ErrUpgradeRequired
	}
	p, err := s.connecting(c, params)
	if err != nil {
		return err
	}
	if !p.DeviceScoped() {
		return errDeviceNeeded
	}
	return s.cfg.Upgrade(c, p)
}

// connecting returns who opens a socket: by ticket, or by bearer token.
func (s *server) connecting(c *fiber.Ctx, params api.ConnectGatewayParams) (core.Principal, error) {
	if params.Ticket != nil {
		ticket := strings.Clone(*params.Ticket)
		return s.prove(c.Context(), func() (core.Principal, error) {
			return s.cfg.Accounts.TakeTicket(c.UserContext(), ticket)
		})
	}
	p, err := s.authenticate(c.UserContext(), c.Context())
	if err != nil {
		return p, err
	}
	op, _ := c.Locals(operationKey).(*operation)
	return p, s.throttle(c, op, caller{Principal: p})
}

// clone copies a text out of Fiber's buffers.
func clone[T ~string](text T) string { return strings.Clone(string(text)) }
