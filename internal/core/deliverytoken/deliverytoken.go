// Package deliverytoken keeps the delivery tokens of users: whoever shows one may write to that
// user's devices, and fetch their list and bundles, without saying who they are.
//
// Invariants: the relay has SHA-256 of a token and nothing else of it. It is looked up whenever it
// is shown, and not remembered for longer than half a second: what is asked for a second after its
// removal is refused, on any node. For a wrong token, another user's and an unknown user the same
// is looked up and answered. On failure nothing has changed.
package deliverytoken

import (
	"context"
	"time"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Errors of this package.
var (
	errTwice = core.NewError(core.Invalid, "delivery_token_twice", "A request names a delivery token once.")
	errPast  = core.NewError(core.Invalid, "expires_in_the_past", "A delivery token must expire in the future.")
	errMany  = core.NewError(core.Conflict, "too_many_delivery_tokens", "A user has at most 1000 delivery tokens.")
)

// Service is the use cases of delivery tokens. Make it with New.
type Service struct{ db *storage.DB }

// New makes a Service.
func New(db *storage.DB) *Service { return &Service{db} }

// Token is what is kept of a delivery token.
type Token struct {
	Hash core.DeliveryTokenHash
	// CreatedAt is not asked for when a token is added.
	CreatedAt time.Time
	// ExpiresAt is nil for never.
	ExpiresAt *time.Time
}

// Change adds tokens of the principal's user and removes others; both or nothing. To remove one
// that is not there is no error; to add one that is there changes when it expires. Returns
// errTwice, errPast, errMany, or core.ErrUnauthorized when the session has ended.
func (s *Service) Change(ctx context.Context, p core.Principal, add []Token, remove []core.DeliveryTokenHash) error {
	named := make(map[core.DeliveryTokenHash]bool, len(add)+len(remove))
	arg := db.InsertDeliveryTokensParams{UserID: p.User}
	for _, token := range add {
		named[token.Hash] = true
		expires := time.Unix(0, 0) // never
		if token.ExpiresAt != nil {
			if expires = *token.ExpiresAt; !expires.After(time.Now()) {
				return errPast
			}
		}
		arg.Hashes, arg.ExpiresAts = append(arg.Hashes, token.Hash[:]), append(arg.ExpiresAts, expires)
	}
	gone := db.DeleteDeliveryTokensParams{UserID: p.User, Hashes: [][]byte{}}
	for _, hash := range remove {
		named[hash] = true
		gone.Hashes = append(gone.Hashes, hash[:])
	}
	if len(named) < len(add)+len(remove) {
		return errTwice
	}
	return s.db.ActAlone(ctx, p, func(tx *storage.Tx) error { // two changes at once could be too many
		q := storage.Queries
		if err := q.DeleteDeliveryTokens(ctx, tx, gone); err != nil {
			return err
		}
		if err := q.InsertDeliveryTokens(ctx, tx, arg); err != nil {
			return err
		}
		n, err := q.CountDeliveryTokens(ctx, tx, p.User)
		if err == nil && n > core.MaxDeliveryTokens {
			err = errMany
		}
		return err
	})
}

// List returns the user's tokens that have not expired, the oldest first.
func (s *Service) List(ctx context.Context, user core.UserID) (tokens []Token, err error) {
	var rows []db.DeliveryTokensOfUserRow
	err = s.db.Do(ctx, func(conn *storage.Tx) (err error) {
		rows, err = storage.Queries.DeliveryTokensOfUser(ctx, conn, user)
		return err
	})
	for _, row := range rows {
		tokens = append(tokens, Token{core.DeliveryTokenHash(row.Hash), row.CreatedAt, row.ExpiresAt})
	}
	return tokens, err
}

// Opens reports whether a token is one of a user's.
func (s *Service) Opens(ctx context.Context, hash core.DeliveryTokenHash, user core.UserID) (opens bool, err error) {
	err = s.db.Do(ctx, func(conn *storage.Tx) (err error) {
		opens, err = storage.Queries.OpensUser(ctx, conn, db.OpensUserParams{Hash: hash[:], UserID: user})
		return err
	})
	return opens, err
}

// Sweep deletes the tokens that have expired, in bounded steps.
func (s *Service) Sweep(ctx context.Context) error {
	return s.db.Do(ctx, func(conn *storage.Tx) error {
		const step = 1000
		for {
			if n, err := storage.Queries.DeleteExpiredDeliveryTokens(ctx, conn, step); err != nil || n < step {
				return err
			}
		}
	})
}
