package obscura

import (
	"context"

	"github.com/obscura-relay/obscura/gen/client"
)

// SetPushToken says how the device is woken up while its gateway is closed: by the token of its app
// at FCM or APNs, or by a Web Push subscription that was made for the VapidKey. Exactly one of the
// two. On a wake-up, open the gateway. Codes: invalid_subscription, invalid_request.
func (s *Session) SetPushToken(ctx context.Context, token client.PushToken) error {
	response, err := s.api.SetPushToken(ctx, token)
	return read(response, err, nil)
}

// DeletePushToken ends the wake-ups of the device.
func (s *Session) DeletePushToken(ctx context.Context) error {
	response, err := s.api.DeletePushToken(ctx)
	return read(response, err, nil)
}

// VapidKey returns the relay's public key for Web Push (RFC 8292), in base64url.
func (s *Session) VapidKey(ctx context.Context) (string, error) {
	response, err := s.api.GetVapidKey(ctx)
	var key client.VapidKey
	err = read(response, err, &key)
	return key.PublicKey, err
}
