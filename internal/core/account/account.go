// Package account keeps users, their sessions and the credentials of both: passwords, access
// tokens, refresh tokens and gateway tickets.
//
// Invariants: passwords are kept as argon2id, refresh tokens and tickets as SHA-256; hashing is
// bounded and never holds a database connection; every revocation is announced in the transaction
// that makes it, so that no node misses one that was committed. On failure nothing has changed.
package account

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/batch"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Errors of this package, beside ErrUnauthorized.
var (
	errNameTaken     = core.NewError(core.Conflict, "username_taken", "This username is taken.")
	errWrongPassword = core.NewError(core.Unauthorized, "wrong_credentials", "The username or the password is wrong.")
	errRefreshToken  = core.NewError(core.Unauthorized, "invalid_refresh_token", "The refresh token is not valid.")
	// errPasswordChanged comes with the right token of a session that ended by it.
	errPasswordChanged = core.NewError(core.Unauthorized, "password_changed",
		"The password was changed on another device; log in with the new one.")
	errClosed     = core.NewError(core.Forbidden, "registration_closed", "This relay takes no new users.")
	errInvitation = core.NewError(core.Forbidden, "invitation_required", "To register here takes a valid invitation.")
	errDisabled   = core.NewError(core.Forbidden, "account_disabled", "The operator of this relay has disabled this account.")
	errTicket     = core.NewError(core.Unauthorized, "invalid_ticket", "The ticket is not valid.")
)

// errTooManyPairs refuses a token that was presented more often than lost answers explain.
var errTooManyPairs = &core.Error{Kind: core.Limited, Code: "rate_limited", RetryAfter: refreshGrace,
	Sentence: "This refresh token has just given as many pairs as it may; use one of them."}

// Eraser deletes what a device leaves behind; it runs in the transaction that deletes the device.
type Eraser func(ctx context.Context, tx *storage.Tx, user core.UserID, device core.DeviceID) error

// Config is what a Service needs.
type Config struct {
	DB *storage.DB
	// Registration is who may register. The zero value is nobody.
	Registration core.Registration
	// TokenKey is the operator's own HS256 key, at least 32 bytes; nil for keys in the database.
	TokenKey []byte
	// Fresh reports that this node has heard of every revocation up to a second ago.
	Fresh func() bool
	Node  core.Announcer
	// PasswordCost is what a new hash of a password takes, FullCost when it is zero.
	PasswordCost Cost
	// EraseDevice deletes a device's keys and mail when its user is deleted.
	EraseDevice Eraser
	// EraseUser deletes what belongs to the user and to no device.
	EraseUser func(ctx context.Context, tx *storage.Tx, user core.UserID) error
}

// Service is the use cases of accounts. Make it with New, then call Load.
type Service struct {
	cfg        Config
	hasher     *hasher
	guesses    *guesses
	signer     *signer
	verified   *verified
	newTickets *batch.Batcher[newTicket, bool]
	tickets    *batch.Batcher[ticketHash, core.Principal]
}

// New makes a Service.
func New(cfg Config) *Service {
	s := &Service{
		cfg:      cfg,
		hasher:   newHasher(cfg.PasswordCost),
		guesses:  newGuesses(),
		signer:   &signer{db: cfg.DB, supplied: cfg.TokenKey},
		verified: newVerified(),
	}
	s.newTickets = batch.New(ticketLimits, s.insertTickets)
	s.tickets = batch.New(ticketLimits, s.takeTickets)
	return s
}

// Run makes and takes tickets until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return s.newTickets.Run(ctx) })
	g.Go(func() error { return s.tickets.Run(ctx) })
	return g.Wait()
}

// Load reads the keys, and makes the first one that signs. Call it before all else, and again from
// time to time: it rotates.
func (s *Service) Load(ctx context.Context) error {
	if err := s.loadAccountKey(ctx); err != nil {
		return err
	}
	return s.signer.load(ctx)
}

func (s *Service) loadAccountKey(ctx context.Context) error {
	if s.guesses.secret != nil {
		return nil
	}
	err := s.cfg.DB.Do(ctx, func(conn *storage.Tx) (err error) {
		s.guesses.secret, err = storage.Queries.AccountKey(ctx, conn)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot load the key of accounts: %w", err)
	}
	return nil
}

// Tokens is a working pair for a session.
type Tokens struct {
	Principal core.Principal
	// Access is a JWT, valid until Expires.
	Access  string
	Expires time.Time
	// Refresh works once, within 30 days.
	Refresh string
}

// Register makes a user and a user-scoped session. The name and password have been checked against
// the contract's schema. Where an invitation is needed one of its uses is spent with the user that
// is made, and with no other. Returns errNameTaken, errClosed or errInvitation.
func (s *Service) Register(ctx context.Context, username, password, invitation string) (Tokens, error) {
	if err := s.mayRegister(ctx, invitation); err != nil {
		return Tokens{}, err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return Tokens{}, err
	}
	var tokens Tokens
	err = s.cfg.DB.InTx(ctx, func(tx *storage.Tx) error {
		user := uuid.New()
		rows, err := storage.Queries.InsertUser(ctx, tx,
			db.InsertUserParams{ID: user, Username: username, Key: foldName(username), PasswordHash: hash})
		if err != nil {
			return err
		}
		if rows == 0 {
			return errNameTaken
		}
		if s.cfg.Registration == core.RegistrationInvite {
			if err := takeInvitation(ctx, tx, invitation); err != nil {
				return err
			}
		}
		tokens, err = s.NewSession(ctx, tx, core.Principal{User: user})
		return err
	})
	return tokens, err
}

// LogIn is what somebody shows who logs in.
type LogIn struct {
	Username, Password string
	// Device is the one to log in for, if it is the user's own.
	Device *core.DeviceID
	// Refresh is the last refresh token of this user that the client has had, or empty. It may have
	// ended.
	Refresh string
	// From is the client's address.
	From netip.Addr
}

// LogIn checks a password and makes a session: device-scoped when the device is one of the user's
// own, else user-scoped. An unknown name costs the same time as a wrong password; both are
// errWrongPassword, and after ten of them too_many_wrong_passwords, whether the user is disabled or
// not. Returns errDisabled as well.
func (s *Service) LogIn(ctx context.Context, in LogIn) (Tokens, error) {
	var user db.UserByNameRow
	err := s.cfg.DB.Do(ctx, func(conn *storage.Tx) (err error) {
		user, err = storage.Queries.UserByName(ctx, conn, foldName(in.Username))
		return err
	})
	if err != nil && !storage.IsNoRows(err) {
		return Tokens{}, err
	}
	g := s.guesses.stranger(s.guesses.nameHash(in.Username), in.From)
	if session, ok := sessionOf(in.Refresh); ok && s.issued(user.ID, session, in.Refresh) {
		g = s.guesses.session(g.name, session)
	}
	counts, err := s.tryPassword(ctx, g, in.Password, user.PasswordHash)
	if err != nil {
		return Tokens{}, err
	}
	var tokens Tokens
	err = s.cfg.DB.InTx(ctx, func(tx *storage.Tx) error {
		if _, err := storage.Queries.LockUser(ctx, tx, user.ID); err != nil {
			return storage.NoRowsAs(err, errWrongPassword)
		}
		now, err := storage.Queries.UserByID(ctx, tx, user.ID)
		if err != nil {
			return err
		}
		if now.PasswordHash != user.PasswordHash { // changed while we hashed
			return errWrongPassword
		}
		if now.DisabledAt != nil { // told to those alone who know the password
			return errDisabled
		}
		p := core.Principal{User: user.ID}
		if in.Device != nil {
			d, err := storage.Queries.DeviceOfUser(ctx, tx, db.DeviceOfUserParams{ID: *in.Device, UserID: user.ID})
			if err == nil {
				p.Device, p.DeviceNumber = d.ID, uint8(d.Number) //nolint:gosec // 1 to 127 by a check in the schema
			} else if !storage.IsNoRows(err) {
				return err
			}
		}
		if tokens, err = s.NewSession(ctx, tx, p); err == nil && counts {
			err = forgetWrong(ctx, tx, g)
		}
		return err
	})
	return tokens, err
}

// ChangePassword replaces the password, ends all other sessions and returns a new pair for this
// one.
func (s *Service) ChangePassword(ctx context.Context, p core.Principal, current, next string) (Tokens, error) {
	old, g, err := s.confirmPassword(ctx, p, current)
	if err != nil {
		return Tokens{}, err
	}
	hash, err := s.hasher.hash(ctx, next)
	if err != nil {
		return Tokens{}, err
	}
	var tokens Tokens
	var ended storage.Notices
	err = s.cfg.DB.ActAlone(ctx, p, func(tx *storage.Tx) error {
		q := storage.Queries
		rows, err := q.SetPasswordHash(ctx, tx, db.SetPasswordHashParams{ID: p.User, OldHash: old, NewHash: hash})
		if err != nil {
			return err
		}
		if rows == 0 {
			return errWrongPassword
		}
		others, err := q.DeleteOtherSessions(ctx, tx, db.DeleteOtherSessionsParams{UserID: p.User, Keep: p.Session})
		if err != nil {
			return err
		}
		if err := rememberPasswordChange(ctx, tx, p.User, others); err != nil {
			return err
		}
		if err := q.DeleteRefreshTokens(ctx, tx, p.Session); err != nil {
			return err
		}
		if tokens, err = s.issue(ctx, tx, p, nil); err != nil {
			return err
		}
		if err := forgetWrong(ctx, tx, g); err != nil {
			return err
		}
		ended = storage.Notices{{Kind: core.NoticeEnded, IDs: others}}
		return ended.Notify(ctx, tx)
	})
	if ended.Committed(err, s.cfg.Node) != nil {
		return Tokens{}, err
	}
	return tokens, nil
}

// WaitingHashing is how many requests wait to have a password hashed.
func (s *Service) WaitingHashing() int { return s.hasher.pool.Waiting() }

// FullHashing is how full the queue for the hashing of passwords is, up to 1.
func (s *Service) FullHashing() float64 { return s.hasher.pool.Full() }

// Delete removes the account with everything that is kept for it. What it sent to others stays.
func (s *Service) Delete(ctx context.Context, p core.Principal, password string) error {
	if _, _, err := s.confirmPassword(ctx, p, password); err != nil {
		return err
	}
	var ended storage.Notices
	err := s.cfg.DB.Across().ActAlone(ctx, p, func(tx *storage.Tx) (err error) {
		ended, err = s.delete(ctx, tx, p.User)
		return err
	})
	return ended.Committed(err, s.cfg.Node)
}

// delete removes a user whose row is locked.
func (s *Service) delete(ctx context.Context, tx *storage.Tx, user core.UserID) (storage.Notices, error) {
	// The sessions before the devices, with which theirs would go unannounced.
	ended, err := endAll(ctx, tx, user)
	if err != nil {
		return nil, err
	}
	devices, err := devicesOf(ctx, tx, user)
	if err != nil {
		return nil, err
	}
	for bucket, some := range tx.Divide(devices) {
		if err := storage.Queries.LockPreKeyStocks(ctx, tx,
			db.LockPreKeyStocksParams{Bucket: bucket, DeviceIds: some}); err != nil {
			return nil, err
		}
	}
	// The first of them locks all mailboxes.
	for _, device := range devices {
		if err := s.cfg.EraseDevice(ctx, tx, user, device); err != nil {
			return nil, err
		}
	}
	if err := s.cfg.EraseUser(ctx, tx, user); err != nil {
		return nil, err
	}
	if err := s.forgetGuesses(ctx, tx, user); err != nil {
		return nil, err
	}
	_, err = storage.Queries.DeleteUser(ctx, tx, user)
	return ended, err
}

// devicesOf are a user's devices in the order of their ids, which is that of locks in a bucket.
func devicesOf(ctx context.Context, tx *storage.Tx, user core.UserID) ([]core.DeviceID, error) {
	rows, err := storage.Queries.DevicesOfUser(ctx, tx, user)
	devices := make([]core.DeviceID, len(rows))
	for i, row := range rows {
		devices[i] = row.ID
	}
	return devices, err
}

// rememberPasswordChange has the devices of sessions that it has ended hear why: see Refresh.
func rememberPasswordChange(ctx context.Context, tx *storage.Tx, user core.UserID, ended []uuid.UUID) error {
	if err := storage.Queries.ForgetPasswordChange(ctx, tx, user); err != nil {
		return err
	}
	return storage.Queries.RememberPasswordChange(ctx, tx,
		db.RememberPasswordChangeParams{Sessions: ended, UserID: user})
}

// endAll ends all sessions of a user whose row is locked, and has the other nodes hear of it.
func endAll(ctx context.Context, tx *storage.Tx, user core.UserID) (storage.Notices, error) {
	sessions, err := storage.Queries.DeleteOtherSessions(ctx, tx,
		db.DeleteOtherSessionsParams{UserID: user, Keep: uuid.Nil})
	if err != nil {
		return nil, err
	}
	ended := storage.Notices{{Kind: core.NoticeEnded, IDs: sessions}}
	return ended, ended.Notify(ctx, tx)
}

// confirmPassword checks the password of a principal's user. It returns the hash it was checked
// with, and by what wrong ones are remembered.
func (s *Service) confirmPassword(ctx context.Context, p core.Principal, password string) (string, guess, error) {
	var user db.UserByIDRow
	err := s.cfg.DB.Do(ctx, func(conn *storage.Tx) (err error) {
		user, err = storage.Queries.UserByID(ctx, conn, p.User)
		return err
	})
	if err != nil {
		return "", guess{}, storage.NoRowsAs(err, ErrUnauthorized)
	}
	g := s.guesses.session(s.guesses.nameHash(user.Username), p.Session)
	_, err = s.tryPassword(ctx, g, password, user.PasswordHash)
	return user.PasswordHash, g, err
}

func (s *Service) checkPassword(ctx context.Context, password, hash string, wrong error) error {
	ok, err := s.hasher.check(ctx, password, hash)
	if err == nil && !ok {
		err = wrong
	}
	return err
}
