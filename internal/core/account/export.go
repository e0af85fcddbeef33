package account

import (
	"context"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Export is what is kept for a user beside the devices.
type Export struct {
	User      core.UserID
	Username  string
	CreatedAt time.Time
	// PasswordScheme says how the password is kept.
	PasswordScheme string
	// SeenOn is the day of the last log-in or refresh: its beginning in UTC.
	SeenOn   time.Time
	Sessions []Session
	// Resting are the numbers of removed devices that are not given out again yet.
	Resting []uint8
	// WrongPasswords is how many were given for the name since the last right one, LastWrong when
	// the last of them came.
	WrongPasswords int64
	LastWrong      time.Time
}

// Session is one live session.
type Session struct {
	ID core.SessionID
	// Device is nil for a user-scoped session.
	Device               *core.DeviceID
	CreatedAt, ExpiresAt time.Time
}

// Export lists what is kept for a user. Returns ErrUnauthorized when the user is gone.
func (s *Service) Export(ctx context.Context, user core.UserID) (Export, error) {
	var out Export
	err := s.cfg.DB.Do(ctx, func(conn *storage.Tx) error {
		q := storage.Queries
		row, err := q.UserByID(ctx, conn, user)
		if err != nil {
			return storage.NoRowsAs(err, ErrUnauthorized)
		}
		cost, _, _, err := decode(row.PasswordHash)
		if err != nil {
			return err
		}
		sessions, err := q.SessionsOfUser(ctx, conn, user)
		if err != nil {
			return err
		}
		name := s.guesses.nameHash(row.Username)
		wrong, err := q.WrongPasswordsOf(ctx, conn, name[:])
		if err != nil {
			return err
		}
		resting, err := q.RestingDeviceNumbers(ctx, conn, user)
		out = Export{User: row.ID, Username: row.Username, CreatedAt: row.CreatedAt, SeenOn: row.SeenOn,
			PasswordScheme: cost.scheme(), Resting: []uint8{}, WrongPasswords: wrong.Failures, LastWrong: wrong.LastAt}
		for _, r := range sessions {
			out.Sessions = append(out.Sessions, Session{ID: r.ID, Device: r.DeviceID, CreatedAt: r.CreatedAt,
				ExpiresAt: r.ExpiresAt})
		}
		for _, n := range resting {
			out.Resting = append(out.Resting, uint8(n)) //nolint:gosec // 1 to 127
		}
		return err
	})
	return out, err
}
