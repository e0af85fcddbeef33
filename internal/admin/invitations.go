package admin

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Lifetime is how long something is good for: 0 for ever. As text days are allowed: 7d, 12h, never.
type Lifetime time.Duration

var errLifetime = errors.New("it must look like 7d, 12h or 30m, at least a second and at most 36500d, or be never")

// UnmarshalText reads what an operator writes.
func (l *Lifetime) UnmarshalText(text []byte) error {
	if string(text) == "never" {
		*l = 0
		return nil
	}
	d, err := parseTime(string(text))
	if err != nil || d < time.Second || d > maxTime {
		return errLifetime
	}
	*l = Lifetime(d)
	return nil
}

// maxTime is far enough away to be no limit: a hundred years.
const maxTime = 100 * 365 * day

// parseTime reads a time of whole days, such as 7d, or one as Go writes it.
func parseTime(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * day, err
	}
	return time.ParseDuration(text)
}

// Uses is how many registrations an invitation is good for.
type Uses int32

var errUses = errors.New("it must be a whole number from 1 to 2147483647")

// UnmarshalText reads what an operator writes.
func (u *Uses) UnmarshalText(text []byte) error {
	n, err := strconv.ParseInt(string(text), 10, 32)
	if err != nil || n < 1 {
		return errUses
	}
	*u = Uses(n)
	return nil
}

// shownHash is how much of a hash is shown, in hexadecimal digits.
const shownHash = 12

// CreateInvitation makes an invitation, and prints it.
type CreateInvitation struct {
	Uses    Uses     `default:"1" env:"-" placeholder:"N" help:"How many registrations it is good for."`
	Expires Lifetime `default:"7d" env:"-" placeholder:"TIME" help:"How long it is good for: 7d, 12h, or never."`
}

// invitation is alone on its line.
type invitation struct {
	Invitation string     `json:"invitation"`
	UsesLeft   Uses       `json:"usesLeft"`
	ExpiresAt  *time.Time `json:"expiresAt"`
}

// String implements fmt.Stringer.
func (i invitation) String() string { return i.Invitation }

// Do implements Command.
func (c CreateInvitation) Do(ctx context.Context, db *storage.DB) (any, error) {
	made, expires, err := account.NewInvitation(ctx, db, int32(c.Uses), time.Duration(c.Expires))
	return invitation{made, c.Uses, inSeconds(expires)}, err
}

// ListInvitations lists those that somebody can still register with.
type ListInvitations struct{}

// Do implements Command.
func (ListInvitations) Do(ctx context.Context, db *storage.DB) (any, error) {
	type row struct {
		Hash      string     `json:"hash"`
		UsesLeft  int32      `json:"usesLeft"`
		CreatedAt *time.Time `json:"createdAt"`
		ExpiresAt *time.Time `json:"expiresAt"`
	}
	list, err := account.Invitations(ctx, db)
	rows := make([]row, 0, len(list))
	for _, i := range list {
		rows = append(rows, row{i.Hash[:shownHash], i.UsesLeft, inSeconds(&i.CreatedAt), inSeconds(i.ExpiresAt)})
	}
	return rows, err
}

// RevokeInvitation deletes an invitation.
type RevokeInvitation struct {
	Hash string `arg:"" help:"The beginning of its hash, as the list shows it: at least 4 digits."`
}

// Do implements Command.
func (c RevokeInvitation) Do(ctx context.Context, db *storage.DB) (any, error) {
	hash, err := account.RevokeInvitation(ctx, db, c.Hash)
	if err != nil {
		return nil, err
	}
	return struct {
		Revoked string `json:"revoked"`
	}{hash[:shownHash]}, nil
}
