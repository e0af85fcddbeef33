package api

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"github.com/obscura-relay/obscura/gen/api"
)

// SetPushToken is not built yet.
func (s *server) SetPushToken(context.Context, api.SetPushTokenRequestObject) (api.SetPushTokenResponseObject, error) {
	return nil, fiber.ErrNotFound
}

// DeletePushToken is not built yet.
func (s *server) DeletePushToken(context.Context, api.DeletePushTokenRequestObject) (api.DeletePushTokenResponseObject, error) {
	return nil, fiber.ErrNotFound
}

// GetVapidKey is not built yet.
func (s *server) GetVapidKey(context.Context, api.GetVapidKeyRequestObject) (api.GetVapidKeyResponseObject, error) {
	return nil, fiber.ErrNotFound
}
