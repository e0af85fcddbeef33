package api

import (
	"context"
	"encoding/base64"

	"github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/push"
)

var errOneToken = core.NewError(core.Invalid, "invalid_request", "The body needs exactly one of token and webPush.")

// SetPushToken keeps how the device is woken up.
func (s *server) SetPushToken(ctx context.Context, r api.SetPushTokenRequestObject) (api.SetPushTokenResponseObject,
	error) {
	app, web := r.Body.Token, r.Body.WebPush
	if (app == nil) == (web == nil) {
		return nil, errOneToken
	}
	var token push.Token
	if app != nil {
		token = push.AppToken(clone(*app))
	} else {
		var err error
		if token, err = subscription(web); err != nil {
			return nil, err
		}
	}
	return api.SetPushToken200Response{}, s.cfg.Push.Set(ctx, principal(ctx), token)
}

// subscription reads the keys, whose form the guard has checked.
func subscription(web *api.WebPushSubscription) (push.Token, error) {
	public, err := base64.RawURLEncoding.DecodeString(web.Keys.P256Dh)
	if err != nil {
		return push.Token{}, push.ErrSubscription
	}
	secret, err := base64.RawURLEncoding.DecodeString(web.Keys.Auth)
	if err != nil {
		return push.Token{}, push.ErrSubscription
	}
	return push.Token{Kind: push.WebPush, Address: clone(web.Endpoint), P256dh: public, Auth: secret}, nil
}

// DeletePushToken forgets how the device is woken up.
func (s *server) DeletePushToken(ctx context.Context,
	_ api.DeletePushTokenRequestObject) (api.DeletePushTokenResponseObject, error) {
	return api.DeletePushToken200Response{}, s.cfg.Push.Delete(ctx, principal(ctx))
}

// GetVapidKey gives the key that subscriptions are made for.
func (s *server) GetVapidKey(context.Context, api.GetVapidKeyRequestObject) (api.GetVapidKeyResponseObject, error) {
	return api.GetVapidKey200JSONResponse{
		Body: api.VapidKey{PublicKey: base64.RawURLEncoding.EncodeToString(s.cfg.Push.PublicKey())}}, nil
}

func pushTokenResponse(r *push.Registration) *api.AccountPushToken {
	if r == nil {
		return nil
	}
	out := &api.AccountPushToken{Kind: api.TOKEN, RegisteredAt: r.RegisteredAt, WokenAt: r.WokenAt}
	if r.Kind == push.WebPush {
		out.Kind = api.WEBPUSH
	}
	return out
}
