package api

import (
	"context"

	"github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/deliverytoken"
)

// ListDeliveryTokens lists the user's tokens.
func (s *server) ListDeliveryTokens(ctx context.Context,
	_ api.ListDeliveryTokensRequestObject) (api.ListDeliveryTokensResponseObject, error) {
	tokens, err := s.cfg.DeliveryTokens.List(ctx, principal(ctx).User)
	return api.ListDeliveryTokens200JSONResponse{Body: api.DeliveryTokens{Tokens: tokensResponse(tokens)}}, err
}

// ChangeDeliveryTokens adds and removes tokens.
func (s *server) ChangeDeliveryTokens(ctx context.Context,
	r api.ChangeDeliveryTokensRequestObject) (api.ChangeDeliveryTokensResponseObject, error) {
	var add []deliverytoken.Token
	for _, token := range r.Body.Add {
		add = append(add, deliverytoken.Token{Hash: core.DeliveryTokenHash(token.Hash), ExpiresAt: token.ExpiresAt})
	}
	var remove []core.DeliveryTokenHash
	for _, hash := range r.Body.Remove {
		remove = append(remove, core.DeliveryTokenHash(hash))
	}
	return api.ChangeDeliveryTokens200Response{}, s.cfg.DeliveryTokens.Change(ctx, principal(ctx), add, remove)
}

func tokensResponse(tokens []deliverytoken.Token) []api.DeliveryToken {
	out := make([]api.DeliveryToken, len(tokens))
	for i, token := range tokens {
		out[i] = api.DeliveryToken{Hash: token.Hash[:], CreatedAt: token.CreatedAt, ExpiresAt: token.ExpiresAt}
	}
	return out
}
