package account

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"regexp"
	"time"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Errors of those who administer invitations.
var (
	errHashPrefix   = errors.New("the beginning of a hash is 4 to 64 of 0-9 and a-f, as the list shows it")
	errNoInvitation = errors.New("no invitation has a hash that begins so: it may be spent, expired or revoked")
	errManyBeginSo  = errors.New("more than one invitation has a hash that begins so: give more of it")
)

// Invitation is what is kept of an invitation.
type Invitation struct {
	// Hash is SHA-256 of the invitation, in hexadecimal.
	Hash      string
	UsesLeft  int32
	CreatedAt time.Time
	// ExpiresAt is nil for never.
	ExpiresAt *time.Time
}

// NewInvitation makes an invitation for so many registrations, at least one, and says when it
// expires: after a lifetime, or never for 0. Nothing shows it again.
func NewInvitation(ctx context.Context, d *storage.DB, uses int32, lifetime time.Duration) (invitation string,
	expires *time.Time, err error) {
	invitation = newSecret()
	hash := sha256.Sum256([]byte(invitation))
	err = d.Do(ctx, func(conn *storage.Tx) (err error) {
		expires, err = storage.Queries.InsertInvitation(ctx, conn, db.InsertInvitationParams{Hash: hash[:], Uses: uses,
			Lifetime: storage.Interval(lifetime)})
		return err
	})
	return invitation, expires, err
}

// Invitations returns those that somebody can still register with, the oldest first.
func Invitations(ctx context.Context, d *storage.DB) (list []Invitation, err error) {
	var rows []db.Invitation
	err = d.Do(ctx, func(conn *storage.Tx) (err error) {
		rows, err = storage.Queries.Invitations(ctx, conn)
		return err
	})
	for _, row := range rows {
		list = append(list, Invitation{hex.EncodeToString(row.Hash), row.UsesLeft, row.CreatedAt, row.ExpiresAt})
	}
	return list, err
}

var hashPrefix = regexp.MustCompile(`^[0-9a-f]{4,64}$`)

// RevokeInvitation deletes the invitation whose hash begins so, and returns the whole hash. Returns
// errHashPrefix, errNoInvitation or errManyBeginSo.
func RevokeInvitation(ctx context.Context, d *storage.DB, prefix string) (hash string, err error) {
	if !hashPrefix.MatchString(prefix) {
		return "", errHashPrefix
	}
	err = d.InTx(ctx, func(tx *storage.Tx) error {
		hashes, err := storage.Queries.InvitationsByPrefix(ctx, tx, prefix)
		switch {
		case err != nil:
			return err
		case len(hashes) == 0:
			return errNoInvitation
		case len(hashes) > 1:
			return errManyBeginSo
		}
		hash = hex.EncodeToString(hashes[0])
		return storage.Queries.DeleteInvitation(ctx, tx, hashes[0])
	})
	return hash, err
}

// mayRegister refuses those who may not register before anything is hashed for them.
func (s *Service) mayRegister(ctx context.Context, invitation string) error {
	switch s.cfg.Registration {
	case core.RegistrationOpen:
		return nil
	case core.RegistrationInvite:
		if !isSecret(invitation) { // and so none; the database need not look
			return errInvitation
		}
		hash := sha256.Sum256([]byte(invitation))
		return s.cfg.DB.Do(ctx, func(conn *storage.Tx) error {
			lives, err := storage.Queries.InvitationLives(ctx, conn, hash[:])
			if err == nil && !lives {
				err = errInvitation
			}
			return err
		})
	default:
		return errClosed
	}
}

// takeInvitation spends one use. Of two at the same instant, on any nodes, one gets the last.
func takeInvitation(ctx context.Context, tx *storage.Tx, invitation string) error {
	hash := sha256.Sum256([]byte(invitation))
	left, err := storage.Queries.LockInvitation(ctx, tx, hash[:])
	if err != nil {
		return storage.NoRowsAs(err, errInvitation)
	}
	if left == 1 {
		return storage.Queries.DeleteInvitation(ctx, tx, hash[:])
	}
	return storage.Queries.TakeUse(ctx, tx, hash[:])
}
