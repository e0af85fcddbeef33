package admin

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

type user struct {
	ID        uuid.UUID  `json:"userId"`
	Name      string     `json:"username"`
	CreatedAt *time.Time `json:"createdAt"`
	// SeenOn is the day (UTC) of the last log-in or refresh.
	SeenOn     string     `json:"seenOn"`
	DisabledAt *time.Time `json:"disabledAt"`
	Devices    int64      `json:"devices"`
	Sessions   int64      `json:"sessions"`
}

// users are all, or one.
func users(ctx context.Context, db *storage.DB, only *core.UserID) ([]user, error) {
	rows, err := storage.Ask(ctx, db, storage.Queries.AllUsers, only)
	list := make([]user, 0, len(rows))
	for _, r := range rows {
		list = append(list, user{r.ID, r.Username, inSeconds(&r.CreatedAt), r.SeenOn, inSeconds(r.DisabledAt),
			r.Devices, r.Sessions})
	}
	return list, err
}

// ListUsers lists all users, in the order of their names.
type ListUsers struct{}

// Do implements Command.
func (ListUsers) Do(ctx context.Context, db *storage.DB) (any, error) { return users(ctx, db, nil) }

// ShowUser shows a user, with devices and sessions.
type ShowUser struct{ OfUser }

// Do implements Command.
func (c ShowUser) Do(ctx context.Context, db *storage.DB) (any, error) {
	type session struct {
		ID        uuid.UUID  `json:"sessionId"`
		Device    *uuid.UUID `json:"deviceId"`
		CreatedAt *time.Time `json:"createdAt"`
		ExpiresAt *time.Time `json:"expiresAt"`
	}
	type whole struct {
		user
		Devices  []ownDevice `json:"devices"`
		Sessions []session   `json:"sessions"`
	}
	return c.with(ctx, db, func(id core.UserID) (any, error) {
		found, err := users(ctx, db, &id)
		if err == nil && len(found) == 0 {
			err = core.ErrNoUser
		}
		if err != nil {
			return nil, err
		}
		shown := whole{user: found[0], Sessions: []session{}}
		if shown.Devices, err = devicesOf(ctx, db, id); err != nil {
			return nil, err
		}
		rows, err := storage.Ask(ctx, db, storage.Queries.SessionsOfUser, id)
		for _, r := range rows {
			shown.Sessions = append(shown.Sessions,
				session{r.ID, r.DeviceID, inSeconds(&r.CreatedAt), inSeconds(&r.ExpiresAt)})
		}
		return shown, err
	})
}

// DisableUser ends all sessions of a user and takes no further log-in.
type DisableUser struct{ OfUser }

// Do implements Command.
func (c DisableUser) Do(ctx context.Context, db *storage.DB) (any, error) {
	return c.with(ctx, db, func(id core.UserID) (any, error) {
		return struct {
			Disabled uuid.UUID `json:"disabled"`
		}{id}, accounts(db).Disable(ctx, id)
	})
}

// EnableUser takes log-ins again.
type EnableUser struct{ OfUser }

// Do implements Command.
func (c EnableUser) Do(ctx context.Context, db *storage.DB) (any, error) {
	return c.with(ctx, db, func(id core.UserID) (any, error) {
		return struct {
			Enabled uuid.UUID `json:"enabled"`
		}{id}, accounts(db).Enable(ctx, id)
	})
}

// DeleteUser deletes an account.
type DeleteUser struct{ OfUser }

// Do implements Command.
func (c DeleteUser) Do(ctx context.Context, db *storage.DB) (any, error) {
	return c.with(ctx, db, func(id core.UserID) (any, error) {
		return struct {
			Deleted uuid.UUID `json:"deleted"`
		}{id}, accounts(db).Remove(ctx, id)
	})
}

// ResetPassword gives a user another password, and prints it.
type ResetPassword struct{ OfUser }

// password is alone on its line.
type password struct {
	User     uuid.UUID `json:"userId"`
	Password string    `json:"password"`
}

// String implements fmt.Stringer.
func (p password) String() string { return p.Password }

// Do implements Command.
func (c ResetPassword) Do(ctx context.Context, db *storage.DB) (any, error) {
	return c.with(ctx, db, func(id core.UserID) (any, error) {
		next, err := accounts(db).ResetPassword(ctx, id)
		return password{id, next}, err
	})
}

// ForgetWrongPasswords lets everybody try the password of a user anew.
type ForgetWrongPasswords struct{ OfUser }

// Do implements Command.
func (c ForgetWrongPasswords) Do(ctx context.Context, db *storage.DB) (any, error) {
	return c.with(ctx, db, func(id core.UserID) (any, error) {
		return struct {
			Forgotten uuid.UUID `json:"forgotten"`
		}{id}, accounts(db).ForgetWrongPasswords(ctx, id)
	})
}

// EndSessions logs a user out everywhere, or all users.
type EndSessions struct {
	User      string `arg:"" optional:"" help:"Name or id of the user."`
	Everybody bool   `env:"-" help:"All users, instead of one."`
}

var errWhoseSessions = errors.New("give one user, or --everybody, and not both")

// Do implements Command.
func (c EndSessions) Do(ctx context.Context, db *storage.DB) (any, error) {
	type ended struct {
		Ended int `json:"ended"`
	}
	if c.Everybody == (c.User != "") {
		return nil, errWhoseSessions
	}
	if c.Everybody {
		n, err := accounts(db).EndEverySession(ctx)
		return ended{n}, err
	}
	return OfUser{c.User}.with(ctx, db, func(id core.UserID) (any, error) {
		n, err := accounts(db).EndSessions(ctx, id)
		return ended{n}, err
	})
}
