package storage

import (
	"context"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
)

// Whoever acts, holds: what a session asks to change is changed in a transaction that holds the row
// of the session, so that a session that has ended changes nothing, on whatever node, and one that
// ends waits for what it has begun. The functions below are the only way to such a transaction;
// the last one is the operator's, who has no session.
//
// Locks are taken in this order, by everybody: user, sessions, stocks of keys, tokens of push,
// devices, mailboxes, backups, usage. Those that end or make sessions hold the user first
// (ActAlone), so they follow each other and each sees the sessions that the one before it has made.
// Before a device comes, goes or is taken over they lock all mailboxes of the user. Rows of one
// kind are locked in the order of buckets, and in each bucket in that of the devices.

// Act runs fn in one transaction on behalf of a session. Returns core.ErrUnauthorized when it has
// ended.
func (d *DB) Act(ctx context.Context, p core.Principal, fn func(tx *Tx) error) error {
	return d.InTx(ctx, func(tx *Tx) error { return held(ctx, tx, p, fn) })
}

// ActInPipeline is Act with fewer round trips; see InPipeline.
func (d *DB) ActInPipeline(ctx context.Context, p core.Principal, fn func(tx *Tx) error) error {
	return d.InPipeline(ctx, func(tx *Tx) error { return held(ctx, tx, p, fn) })
}

// ActAlone is Act for what changes the user's set of devices, sessions, keys or delivery tokens: no
// other such change, and nothing else on behalf of this session, goes on beside it.
func (d *DB) ActAlone(ctx context.Context, p core.Principal, fn func(tx *Tx) error) error {
	return d.InTx(ctx, func(tx *Tx) error {
		if _, err := Queries.LockUser(ctx, tx, p.User); err != nil {
			return NoRowsAs(err, core.ErrUnauthorized)
		}
		session, err := Queries.LockSession(ctx, tx, p.Session)
		if err == nil && session.UserID != p.User {
			err = core.ErrUnauthorized
		}
		if err != nil {
			return NoRowsAs(err, core.ErrUnauthorized)
		}
		return fn(tx)
	})
}

// held lets others act on behalf of the same session meanwhile. A refresh of it waits.
func held(ctx context.Context, tx *Tx, p core.Principal, fn func(tx *Tx) error) error {
	found, err := Queries.HoldSession(ctx, tx, db.HoldSessionParams{ID: p.Session, UserID: p.User})
	if err == nil && len(found) == 0 {
		err = core.ErrUnauthorized
	}
	if err != nil {
		return err
	}
	return fn(tx)
}

// ActFor is ActAlone on behalf of the operator, on a user. Returns core.ErrNoUser.
func (d *DB) ActFor(ctx context.Context, user core.UserID, fn func(tx *Tx) error) error {
	return d.InTx(ctx, func(tx *Tx) error {
		if _, err := Queries.LockUser(ctx, tx, user); err != nil {
			return NoRowsAs(err, core.ErrNoUser)
		}
		return fn(tx)
	})
}
