package obscura

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"time"

	"github.com/obscura-relay/obscura/gen/client"
)

const deliveryTokenBytes = 32

// DeliveryToken is 32 random bytes that a user's client makes and gives to a contact inside an
// encrypted message: one for all contacts, or one each. Whoever shows it may send to the user's
// devices, and fetch their list and bundles, without saying who they are.
type DeliveryToken []byte

// NewDeliveryToken makes a token. The relay hears of it by AddDeliveryTokens.
func NewDeliveryToken() DeliveryToken {
	token := make(DeliveryToken, deliveryTokenBytes)
	_, _ = rand.Read(token) // it does not fail
	return token
}

// Hash is SHA-256 of the token: what the relay knows of it.
func (t DeliveryToken) Hash() []byte {
	sum := sha256.Sum256(t)
	return sum[:]
}

// AddDeliveryTokens makes tokens work until they expire, or for good with the zero time; at most
// 250 at once and 1000 a user. The relay gets their hashes. For one that is there it changes when
// it expires. To add and remove in one step, call ChangeDeliveryTokens of API. Codes:
// too_many_delivery_tokens, expires_in_the_past, rate_limited (60 in a minute for a user).
func (s *Session) AddDeliveryTokens(ctx context.Context, expires time.Time, tokens ...DeliveryToken) error {
	change := client.DeliveryTokenChange{Add: make([]client.NewDeliveryToken, len(tokens))}
	for i, token := range tokens {
		change.Add[i].Hash = token.Hash()
		if !expires.IsZero() {
			change.Add[i].ExpiresAt = &expires
		}
	}
	response, err := s.api.ChangeDeliveryTokens(ctx, change)
	return read(response, err, nil)
}

// RemoveDeliveryTokens makes the tokens with these hashes stop working, everywhere within a
// second; at most 1000 at once. One that is not there is no error. Do it when you block somebody
// who knows a token, and give another to the others.
func (s *Session) RemoveDeliveryTokens(ctx context.Context, hashes ...[]byte) error {
	response, err := s.api.ChangeDeliveryTokens(ctx, client.DeliveryTokenChange{Remove: hashes})
	return read(response, err, nil)
}

// DeliveryTokens lists the tokens of the user that work, as their hashes, the oldest first. Look
// through it after a takeover, which leaves them.
func (s *Session) DeliveryTokens(ctx context.Context) ([]client.DeliveryToken, error) {
	response, err := s.api.ListDeliveryTokens(ctx)
	var told client.DeliveryTokens
	err = read(response, err, &told)
	return told.Tokens, err
}
