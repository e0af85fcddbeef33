package account

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// What follows is for the operator, who needs no session and no password. Each returns
// core.ErrNoUser for a user who is not there.

// Find returns the user of a name, or of an id in its canonical form, which no name has.
func Find(ctx context.Context, d *storage.DB, nameOrID string) (user core.UserID, err error) {
	arg := db.UserByNameOrIDParams{Key: foldName(nameOrID)}
	if id, err := uuid.Parse(nameOrID); err == nil && id.String() == foldName(nameOrID) {
		arg.ID = id
	}
	user, err = storage.Ask(ctx, d, storage.Queries.UserByNameOrID, arg)
	return user, storage.NoRowsAs(err, core.ErrNoUser)
}

// Remove is Delete without a password.
func (s *Service) Remove(ctx context.Context, user core.UserID) error {
	return s.operate(ctx, user, func(tx *storage.Tx) (storage.Notices, error) { return s.delete(ctx, tx, user) })
}

// RemoveIdle removes a user who is idle, and reports whether that was so: see IdleUsers.
func (s *Service) RemoveIdle(ctx context.Context, user core.UserID, days int32) (removed bool, err error) {
	err = s.operate(ctx, user, func(tx *storage.Tx) (storage.Notices, error) {
		idle, err := storage.Queries.IdleUsers(ctx, tx, db.IdleUsersParams{Days: days, OnlyID: &user})
		if err != nil || len(idle) == 0 {
			return nil, err
		}
		removed = true
		return s.delete(ctx, tx, user)
	})
	return removed, err
}

// Disable ends all sessions of a user, who cannot log in until Enable. Mail comes in as before.
func (s *Service) Disable(ctx context.Context, user core.UserID) error {
	return s.operate(ctx, user, func(tx *storage.Tx) (storage.Notices, error) {
		if err := storage.Queries.SetDisabled(ctx, tx, db.SetDisabledParams{ID: user, Disabled: true}); err != nil {
			return nil, err
		}
		return endAll(ctx, tx, user)
	})
}

// Enable lets a user log in again.
func (s *Service) Enable(ctx context.Context, user core.UserID) error {
	return s.operate(ctx, user, func(tx *storage.Tx) (storage.Notices, error) {
		return nil, storage.Queries.SetDisabled(ctx, tx, db.SetDisabledParams{ID: user, Disabled: false})
	})
}

// EndSessions ends all sessions of a user, as a change of the password ends the others.
func (s *Service) EndSessions(ctx context.Context, user core.UserID) (ended int, err error) {
	err = s.operate(ctx, user, func(tx *storage.Tx) (storage.Notices, error) {
		notices, err := endAll(ctx, tx, user)
		if err == nil {
			ended = len(notices[0].IDs)
		}
		return notices, err
	})
	return ended, err
}

// EndEverySession is EndSessions for every user who had one when it began.
func (s *Service) EndEverySession(ctx context.Context) (ended int, err error) {
	var users []core.UserID
	err = s.cfg.DB.Do(ctx, func(conn *storage.Tx) (err error) {
		users, err = storage.Queries.UsersWithSessions(ctx, conn)
		return err
	})
	for _, user := range users {
		n, failed := s.EndSessions(ctx, user)
		if failed != nil && !errors.Is(failed, core.ErrNoUser) {
			return ended, fmt.Errorf("%d sessions have ended, then: %w", ended, failed)
		}
		ended += n
	}
	return ended, err
}

// ForgetWrongPasswords forgets those that were given for the name of a user, so that nobody waits.
func (s *Service) ForgetWrongPasswords(ctx context.Context, user core.UserID) error {
	return s.operate(ctx, user, func(tx *storage.Tx) (storage.Notices, error) {
		return nil, s.forgetGuesses(ctx, tx, user)
	})
}

// ResetPassword ends all sessions of a user, forgets the wrong passwords that were given, and sets
// a random password, which nothing shows again. It is like any other: it works until somebody
// changes it.
func (s *Service) ResetPassword(ctx context.Context, user core.UserID) (password string, err error) {
	password = rand.Text()
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return "", err
	}
	return password, s.operate(ctx, user, func(tx *storage.Tx) (storage.Notices, error) {
		if err := storage.Queries.ResetPasswordHash(ctx, tx,
			db.ResetPasswordHashParams{ID: user, PasswordHash: hash}); err != nil {
			return nil, err
		}
		if err := s.forgetGuesses(ctx, tx, user); err != nil {
			return nil, err
		}
		ended, err := endAll(ctx, tx, user)
		if err != nil {
			return nil, err
		}
		return ended, rememberPasswordChange(ctx, tx, user, ended[0].IDs)
	})
}

// operate runs fn with the user's row locked, and announces what it returns.
func (s *Service) operate(ctx context.Context, user core.UserID,
	fn func(tx *storage.Tx) (storage.Notices, error)) error {
	if err := s.loadAccountKey(ctx); err != nil {
		return err
	}
	var notices storage.Notices
	err := s.cfg.DB.ActFor(ctx, user, func(tx *storage.Tx) (err error) {
		notices, err = fn(tx)
		return err
	})
	return notices.Committed(err, s.cfg.Node)
}
