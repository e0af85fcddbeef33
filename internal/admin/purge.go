package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	gen "github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Purge deletes idle accounts, or says which it would.
type Purge struct {
	OlderThan Age  `required:"" env:"-" placeholder:"TIME" help:"How long nobody must have logged in or refreshed: 365d. At least a day."`
	Delete    bool `env:"-" help:"Delete them. Without it they are only listed."`
	Everybody bool `env:"-" help:"Go on also when that is every account there is."`
}

const day = 24 * time.Hour

// Age is a number of whole days. As text it is 365d, or a time such as 48h.
type Age int32

var errAge = errors.New("it must look like 365d, at least 1d and at most 36500d")

// UnmarshalText reads what an operator writes.
func (a *Age) UnmarshalText(text []byte) error {
	d, err := parseTime(string(text))
	if err != nil || d < day || d > maxTime {
		return errAge
	}
	*a = Age(d / day)
	return nil
}

type idle struct {
	ID       uuid.UUID `json:"userId"`
	Username string    `json:"username"`
	SeenOn   string    `json:"seenOn"`
}

// Do implements Command. It deletes one account at a time, and leaves out who has come back
// meanwhile.
func (c Purge) Do(ctx context.Context, db *storage.DB) (any, error) {
	days := int32(c.OlderThan)
	if days < 1 {
		return nil, errAge
	}
	rows, err := storage.Ask(ctx, db, storage.Queries.IdleUsers, gen.IdleUsersParams{Days: days})
	if err != nil {
		return nil, err
	}
	err = db.Do(ctx, func(conn *storage.Tx) error {
		all, err := storage.Queries.CountEnabledUsers(ctx, conn)
		if err == nil && all > 0 && int64(len(rows)) >= all && !c.Everybody {
			err = fmt.Errorf("that would be everybody, %d of %d accounts, and none is deleted: check the clock of the "+
				"database, or say --everybody", len(rows), all)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	found := struct {
		Deleted bool   `json:"deleted"`
		Count   int    `json:"count"`
		Users   []idle `json:"users"`
	}{Deleted: c.Delete, Users: []idle{}}
	service := accounts(db)
	for _, r := range rows {
		gone := true
		if c.Delete {
			if gone, err = service.RemoveIdle(ctx, r.ID, days); err != nil && !errors.Is(err, core.ErrNoUser) {
				return nil, fmt.Errorf("%d accounts were deleted, then: %w", found.Count, err)
			}
		}
		if gone {
			found.Users, found.Count = append(found.Users, idle(r)), found.Count+1
		}
	}
	return found, nil
}
