package account

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

const (
	// refreshLifetime is how long an unused refresh token is valid.
	refreshLifetime = 30 * 24 * time.Hour
	// refreshGrace is how long a used refresh token still gets a pair: its answer may have been
	// lost.
	refreshGrace = 10 * time.Second
	// refreshPairs is how many pairs one refresh token gives within the grace.
	refreshPairs = 10
	// maxSessions is how many sessions a user has at most. A further one ends those that were
	// refreshed longest ago, down to keptSessions, but for each device its newest session and the
	// one with its newest socket.
	maxSessions, keptSessions = 100, 90
)

// NewSession makes a session for a principal within a transaction; the principal's Session is set
// in the result.
func (s *Service) NewSession(ctx context.Context, tx *storage.Tx, p core.Principal) (Tokens, error) {
	p.Session = uuid.New()
	arg := db.InsertSessionParams{ID: p.Session, UserID: p.User, RefreshKey: s.guesses.sessionKey(p.User, p.Session),
		Lifetime: storage.Interval(refreshLifetime)}
	if p.DeviceScoped() {
		arg.DeviceID = &p.Device
	}
	others, err := storage.Queries.InsertSession(ctx, tx, arg)
	if err == nil && others >= maxSessions {
		err = endSurplus(ctx, tx, p.User)
	}
	if err != nil {
		return Tokens{}, err
	}
	return s.issue(ctx, tx, p, nil)
}

// endSurplus ends surplus sessions of a user. This node hears of it as the others do.
func endSurplus(ctx context.Context, tx *storage.Tx, user core.UserID) error {
	devices, err := devicesOf(ctx, tx, user)
	if err != nil {
		return err
	}
	withSocket := []core.SessionID{}
	for bucket, some := range tx.Divide(devices) {
		sessions, err := storage.Queries.SocketSessions(ctx, tx,
			db.SocketSessionsParams{Bucket: bucket, DeviceIds: some})
		if err != nil {
			return err
		}
		withSocket = append(withSocket, sessions...)
	}
	ended, err := storage.Queries.DeleteSurplusSessions(ctx, tx,
		db.DeleteSurplusSessionsParams{UserID: user, WithSocket: withSocket, Keep: keptSessions})
	if err != nil {
		return err
	}
	return storage.Notices{{Kind: core.NoticeEnded, IDs: ended}}.Notify(ctx, tx)
}

// issue makes a pair for a session, in trade for a refresh token with this hash, or for none.
func (s *Service) issue(ctx context.Context, tx *storage.Tx, p core.Principal, parent []byte) (Tokens, error) {
	refresh := newRefreshToken(p.Session, s.guesses.sessionKey(p.User, p.Session))
	hash := sha256.Sum256([]byte(refresh))
	err := storage.Queries.InsertRefreshToken(ctx, tx, db.InsertRefreshTokenParams{
		Hash: hash[:], SessionID: p.Session, Parent: parent, Lifetime: storage.Interval(refreshLifetime)})
	if err != nil {
		return Tokens{}, err
	}
	access, expires, err := s.signer.sign(p)
	return Tokens{Principal: p, Access: access, Expires: expires, Refresh: refresh}, err
}

// Refresh trades a refresh token for a new pair of the same scope. One that was used before gets
// another pair within 10 seconds, 10 in all, until a token of one of its pairs is used: then the
// other pairs' tokens end, and it does. A token that has ended ends its whole session; one that was
// never issued changes nothing. Returns errRefreshToken or errPasswordChanged.
func (s *Service) Refresh(ctx context.Context, refresh string) (Tokens, error) {
	session, ok := sessionOf(refresh)
	if !ok {
		return Tokens{}, errRefreshToken
	}
	hash := sha256.Sum256([]byte(refresh))
	grace := storage.Interval(refreshGrace)
	var tokens Tokens
	var ended storage.Notices
	err := s.cfg.DB.InTx(ctx, func(tx *storage.Tx) error {
		q := storage.Queries
		row, err := q.LockSession(ctx, tx, session)
		if storage.IsNoRows(err) {
			return s.whyEnded(ctx, tx, session, refresh)
		}
		if err != nil {
			return err
		}
		used, err := q.UseRefreshToken(ctx, tx,
			db.UseRefreshTokenParams{Hash: hash[:], SessionID: session, Grace: grace})
		if storage.IsNoRows(err) { // the session is live and the token is not
			key, err := q.RefreshKey(ctx, tx, session) // differs if the previous binary made the session
			if err != nil {
				return err
			}
			if !s.issued(row.UserID, session, refresh) && !isRefreshToken(session, key, refresh) {
				return errRefreshToken
			}
			// It has been used before.
			if _, err := q.DeleteSession(ctx, tx, session); err != nil {
				return err
			}
			ended = storage.Notices{{Kind: core.NoticeEnded, IDs: []uuid.UUID{session}}}
			return ended.Notify(ctx, tx)
		}
		if err != nil {
			return err
		}
		if used.Uses > refreshPairs {
			return errTooManyPairs
		}
		if used.Parent != nil {
			err = q.DeleteRelatives(ctx, tx,
				db.DeleteRelativesParams{SessionID: session, Hash: hash[:], Parent: used.Parent})
			if err != nil {
				return err
			}
		}
		err = q.DeleteSpentRefreshTokens(ctx, tx, db.DeleteSpentRefreshTokensParams{SessionID: session, Grace: grace})
		if err != nil {
			return err
		}
		err = q.ExtendSession(ctx, tx, db.ExtendSessionParams{ID: session, Lifetime: storage.Interval(refreshLifetime)})
		if err != nil {
			return err
		}
		tokens, err = s.issue(ctx, tx, principalOf(db.SessionByIDRow(row)), hash[:])
		return err
	})
	if ended.Committed(err, s.cfg.Node) == nil && ended != nil {
		err = errRefreshToken
	}
	if err != nil {
		return Tokens{}, err
	}
	return tokens, nil
}

// whyEnded is the answer to a refresh token of a session that is not there.
func (s *Service) whyEnded(ctx context.Context, tx *storage.Tx, session core.SessionID, refresh string) error {
	user, err := storage.Queries.UserOfPasswordChange(ctx, tx, session)
	if err != nil {
		return storage.NoRowsAs(err, errRefreshToken)
	}
	if s.issued(user, session, refresh) {
		return errPasswordChanged
	}
	return errRefreshToken
}

// LogOut ends the session that a refresh token belongs to, if it is the principal's user's own.
func (s *Service) LogOut(ctx context.Context, p core.Principal, refresh string) error {
	session, ok := sessionOf(refresh)
	if !ok {
		return errRefreshToken
	}
	hash := sha256.Sum256([]byte(refresh))
	ended := storage.Notices{{Kind: core.NoticeEnded, IDs: []uuid.UUID{session}}}
	err := s.cfg.DB.ActAlone(ctx, p, func(tx *storage.Tx) error {
		q := storage.Queries
		row, err := q.LockSession(ctx, tx, session)
		if err != nil {
			return storage.NoRowsAs(err, errRefreshToken)
		}
		if row.UserID != p.User {
			return errRefreshToken
		}
		_, err = q.UseRefreshToken(ctx, tx, db.UseRefreshTokenParams{
			Hash: hash[:], SessionID: session, Grace: storage.Interval(refreshGrace)})
		if err != nil {
			return storage.NoRowsAs(err, errRefreshToken)
		}
		if _, err := q.DeleteSession(ctx, tx, session); err != nil {
			return err
		}
		return ended.Notify(ctx, tx)
	})
	return ended.Committed(err, s.cfg.Node)
}

// LiveSessions returns which of these sessions still exist.
func (s *Service) LiveSessions(ctx context.Context, ids []core.SessionID) (live []core.SessionID, err error) {
	err = s.cfg.DB.Do(ctx, func(conn *storage.Tx) (err error) {
		live, err = storage.Queries.LiveSessions(ctx, conn, ids)
		return err
	})
	return live, err
}

// Sweep deletes expired tickets, invitations, sessions and wrong passwords, in bounded steps.
func (s *Service) Sweep(ctx context.Context) error {
	return s.cfg.DB.Do(ctx, func(conn *storage.Tx) error {
		if _, err := storage.Queries.DeleteExpiredTickets(ctx, conn); err != nil {
			return err
		}
		const step = 1000
		if _, err := storage.Queries.DeleteExpiredInvitations(ctx, conn, step); err != nil {
			return err
		}
		if err := storage.Queries.DeleteOldWrongPasswords(ctx, conn); err != nil {
			return err
		}
		if err := storage.Queries.DeleteOldPasswordChanges(ctx, conn); err != nil {
			return err
		}
		if err := storage.Queries.DeleteFewestWrongPasswords(ctx, conn, maxRemembered); err != nil {
			return err
		}
		for {
			if n, err := storage.Queries.DeleteExpiredSessions(ctx, conn, step); err != nil || n < step {
				return err
			}
		}
	})
}
