package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Lifetime is how long something is good for: 0 for ever. As text days are allowed: 7d, 12h, never.
type Lifetime time.Duration

// maxLifetime is far enough away to be no limit: a hundred years.
const maxLifetime = 100 * 365 * 24 * time.Hour

var errLifetime = errors.New("it must look like 7d, 12h or 30m, at least a second and at most 36500d, or be never")

// UnmarshalText reads what an operator writes.
func (l *Lifetime) UnmarshalText(text []byte) error {
	if string(text) == "never" {
		*l = 0
		return nil
	}
	var d time.Duration
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return errLifetime
		}
		d = time.Duration(n) * 24 * time.Hour
	} else {
		var err error
		if d, err = time.ParseDuration(string(text)); err != nil {
			return errLifetime
		}
	}
	if d < time.Second || d > maxLifetime {
		return errLifetime
	}
	*l = Lifetime(d)
	return nil
}

var errUses = errors.New("--uses must be at least 1")

// shownHash is how much of a hash is shown, in hexadecimal digits.
const shownHash = 12

// CreateInvitation makes an invitation and prints it, alone on its line.
func CreateInvitation(ctx context.Context, cfg Database, uses int32, lifetime Lifetime, asJSON bool,
	out, logOutput io.Writer) error {
	if uses < 1 {
		return errUses
	}
	return withDatabase(ctx, cfg, logOutput, func(db *storage.DB) error {
		invitation, expires, err := account.NewInvitation(ctx, db, uses, time.Duration(lifetime))
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(out).Encode(struct {
				Invitation string     `json:"invitation"`
				UsesLeft   int32      `json:"usesLeft"`
				ExpiresAt  *time.Time `json:"expiresAt"`
			}{invitation, uses, inSeconds(expires)})
		}
		_, err = fmt.Fprintln(out, invitation)
		return err
	})
}

// ListInvitations prints those that somebody can still register with.
func ListInvitations(ctx context.Context, cfg Database, asJSON bool, out, logOutput io.Writer) error {
	return withDatabase(ctx, cfg, logOutput, func(db *storage.DB) error {
		list, err := account.Invitations(ctx, db)
		if err != nil {
			return err
		}
		if asJSON {
			return invitationsAsJSON(out, list)
		}
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		_, err = fmt.Fprintln(table, "HASH\tUSES LEFT\tCREATED\tEXPIRES")
		for _, i := range list {
			expires := "never"
			if i.ExpiresAt != nil {
				expires = inSeconds(i.ExpiresAt).Format(time.RFC3339)
			}
			_, failed := fmt.Fprintf(table, "%s\t%d\t%s\t%s\n", i.Hash[:shownHash], i.UsesLeft,
				inSeconds(&i.CreatedAt).Format(time.RFC3339), expires)
			err = errors.Join(err, failed)
		}
		return errors.Join(err, table.Flush())
	})
}

func invitationsAsJSON(out io.Writer, list []account.Invitation) error {
	type row struct {
		Hash      string     `json:"hash"`
		UsesLeft  int32      `json:"usesLeft"`
		CreatedAt *time.Time `json:"createdAt"`
		ExpiresAt *time.Time `json:"expiresAt"`
	}
	rows := make([]row, 0, len(list))
	for _, i := range list {
		rows = append(rows, row{i.Hash[:shownHash], i.UsesLeft, inSeconds(&i.CreatedAt), inSeconds(i.ExpiresAt)})
	}
	return json.NewEncoder(out).Encode(rows)
}

// inSeconds is a time as it is shown: in whole seconds of UTC.
func inSeconds(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	shown := t.UTC().Truncate(time.Second)
	return &shown
}

// RevokeInvitation deletes the invitation whose hash begins so, and prints the beginning of it.
func RevokeInvitation(ctx context.Context, cfg Database, prefix string, asJSON bool, out, logOutput io.Writer) error {
	return withDatabase(ctx, cfg, logOutput, func(db *storage.DB) error {
		hash, err := account.RevokeInvitation(ctx, db, prefix)
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(out).Encode(map[string]string{"revoked": hash[:shownHash]})
		}
		_, err = fmt.Fprintln(out, "revoked:", hash[:shownHash])
		return err
	})
}
