// Package admin is what the operator of a relay asks and decides, in its database: the commands of
// `obscura admin`.
//
// Invariants: what a user may do too is done by the same code, so that running relays hear of it
// with the commit; nothing is shown of what an envelope says or who sent it, and no secret but one
// that was just made, once. On failure nothing has changed.
package admin

import (
	"context"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/core/blob"
	"github.com/obscura-relay/obscura/internal/core/device"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Command is one command, with its arguments: the tags are kong's.
type Command interface {
	// Do returns what Print prints.
	Do(ctx context.Context, db *storage.DB) (any, error)
}

// Partial is the error of a command that has an answer all the same, which is printed.
type Partial struct {
	Answer any
	error
}

// nobody hears of notices here: the relays hear of them through the database.
type nobody struct{}

func (nobody) Announce(core.Notice) {}

func accounts(db *storage.DB) *account.Service {
	return account.New(account.Config{DB: db, Node: nobody{}, EraseDevice: device.Erase, EraseUser: blob.EraseUser})
}

func devices(db *storage.DB) *device.Service {
	return device.New(device.Config{DB: db, Accounts: accounts(db), Node: nobody{}})
}

// OfUser is an argument: the user whom a command is about.
type OfUser struct {
	User string `arg:"" help:"Name or id of the user."`
}

// with does something about the user.
func (o OfUser) with(ctx context.Context, db *storage.DB, do func(core.UserID) (any, error)) (any, error) {
	user, err := account.Find(ctx, db, o.User)
	if err != nil {
		return nil, err
	}
	return do(user)
}

// inSeconds is a time as it is shown: in whole seconds of UTC.
func inSeconds(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	shown := t.UTC().Truncate(time.Second)
	return &shown
}
