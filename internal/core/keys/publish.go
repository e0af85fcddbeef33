package keys

import (
	"bytes"
	"context"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
	"github.com/obscura-relay/obscura/internal/core/push"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Publish stores what a device publishes, or nothing. An identity key that differs from the stored
// one is a takeover: the device's keys and pending mail go, its sockets close and its other
// sessions end.
func (s *Service) Publish(ctx context.Context, p core.Principal, u Publication) error {
	if u.Identity != nil && u.RegistrationID == 0 {
		return errNoRegistrationID
	}
	stored, err := storage.Ask(ctx, s.cfg.DB, storage.Queries.DeviceKeys, p.Device)
	if err != nil {
		return storage.NoRowsAs(err, ErrDeviceGone)
	}
	identity := u.Identity
	if identity == nil {
		identity = stored.IdentityKey
	}
	if err := Check(identity, &u); err != nil {
		return err
	}
	in := s.cfg.DB.Of(p.Device)
	if !bytes.Equal(stored.IdentityKey, identity) { // which locks the mailboxes of all devices
		in = s.cfg.DB.Across()
	}
	var notices storage.Notices
	dropped := 0
	// Alone, because no two devices of a user may store one key, and a takeover ends sessions.
	err = in.ActAlone(ctx, p, func(tx *storage.Tx) error {
		q := storage.Queries
		takeover, others := false, []core.SessionID(nil)
		if !bytes.Equal(stored.IdentityKey, identity) {
			if takeover, others, err = endOthers(ctx, tx, p, identity); err != nil {
				return err
			}
		}
		stock, err := q.LockPreKeyStock(ctx, tx, db.LockPreKeyStockParams(tx.Place(p.Device)))
		if err != nil {
			return storage.NoRowsAs(err, ErrDeviceGone)
		}
		now, err := q.DeviceKeys(ctx, tx, p.Device)
		if err != nil {
			return storage.NoRowsAs(err, ErrDeviceGone)
		}
		if !takeover && !bytes.Equal(now.IdentityKey, identity) { // by this session, at the same time
			return ErrIdentityChanged
		}
		if takeover {
			if notices, err = s.takeOver(ctx, tx, p, &u, others, &dropped); err != nil {
				return err
			}
		} else if err := checkRotation(&now, &u); err != nil {
			return err
		}
		if u.Identity != nil {
			arg := db.SetIdentityParams{ID: p.Device, IdentityKey: u.Identity, RegistrationID: u.RegistrationID}
			if err := q.SetIdentity(ctx, tx, arg); err != nil {
				return err
			}
		}
		return store(ctx, tx, target{p.User, p.Device, stock.Uploads, takeover}, &u)
	})
	if err == nil && dropped > 0 {
		s.cfg.Dropped(core.GapTakeover, dropped)
	}
	return notices.Committed(err, s.cfg.Node)
}

// endOthers ends the device's other sessions if the identity key is a new one, which is a takeover.
// It runs before the stock is locked, as the order of locks asks for. The user's lock keeps other
// takeovers off.
func endOthers(ctx context.Context, tx *storage.Tx, p core.Principal,
	identity []byte) (takeover bool, others []core.SessionID, err error) {
	now, err := storage.Queries.DeviceKeys(ctx, tx, p.Device)
	if err != nil || bytes.Equal(now.IdentityKey, identity) {
		return false, nil, storage.NoRowsAs(err, ErrDeviceGone)
	}
	others, err = storage.Queries.DeleteOtherDeviceSessions(ctx, tx,
		db.DeleteOtherDeviceSessionsParams{DeviceID: p.Device, Keep: p.Session})
	return true, others, err
}

// takeOver drops what belonged to the old identity, but for the one-time keys, which store drops,
// and returns what to announce after the commit.
func (s *Service) takeOver(ctx context.Context, tx *storage.Tx, p core.Principal, u *Publication,
	others []core.SessionID, dropped *int) (storage.Notices, error) {
	if u.Signed == nil {
		return nil, ErrTakeoverUnsigned
	}
	q := storage.Queries
	if err := q.ClearLastResort(ctx, tx, p.Device); err != nil {
		return nil, err
	}
	if err := push.Forget(ctx, tx, p.Device); err != nil { // it wakes up the old installation
		return nil, err
	}
	version, err := mailbox.CountDevicesChange(ctx, tx, p.User)
	if err != nil {
		return nil, err
	}
	generation, n, err := mailbox.TakeOver(ctx, tx, p.Device, version)
	if err != nil {
		return nil, err
	}
	*dropped = n
	notices := storage.Notices{
		{Kind: core.NoticeEnded, IDs: others},
		{Kind: core.NoticeRevoked, IDs: []core.DeviceID{p.Device}, Generation: generation},
	}
	return notices, notices.Notify(ctx, tx)
}

// checkRotation holds a new signed pre-key and last-resort key against the stored ones. What equals
// the stored one is taken out of the upload.
func checkRotation(now *db.DeviceKeysRow, u *Publication) error {
	var err error
	if u.Signed, err = newer(u.Signed, &now.SignedPreKeyID, now.SignedPreKey); err != nil {
		return err
	}
	u.LastResort, err = newer(u.LastResort, now.LastResortID, now.LastResortKey)
	return err
}

func newer(next *SignedPreKey, id *int32, public []byte) (*SignedPreKey, error) {
	switch {
	case next == nil || id == nil || next.ID > *id:
		return next, nil
	case next.ID < *id:
		return nil, ErrKeyIDNotHigher
	case !bytes.Equal(next.Public, public):
		return nil, ErrKeyIDTwice
	}
	// The same key. Its signature may differ (XEdDSA is randomised) and is as good.
	return nil, nil
}

// target is the device that an upload is for.
type target struct {
	user     core.UserID
	device   core.DeviceID
	upload   int64 // its number
	takeover bool
}

// StoreFirst writes the first upload of a new device, which has been checked. The caller holds the
// lock of the user.
func StoreFirst(ctx context.Context, tx *storage.Tx, user core.UserID, device core.DeviceID, u *Publication) error {
	return store(ctx, tx, target{user: user, device: device}, u)
}

// store writes an upload that has been checked. The caller holds the lock of the device's stock.
func store(ctx context.Context, tx *storage.Tx, at target, u *Publication) error {
	q := storage.Queries
	if k := u.Signed; k != nil {
		arg := db.SetSignedPreKeyParams{ID: at.device, KeyID: k.ID, PublicKey: k.Public, Signature: k.Signature}
		if err := q.SetSignedPreKey(ctx, tx, arg); err != nil {
			return err
		}
	}
	if k := u.LastResort; k != nil {
		arg := db.SetLastResortParams{ID: at.device, KeyID: &k.ID, PublicKey: k.Public, Signature: k.Signature}
		if err := q.SetLastResort(ctx, tx, arg); err != nil {
			return err
		}
	}
	if err := storeOneTime(ctx, tx, at, u); err != nil {
		return err
	}
	_, err := q.RecountPreKeys(ctx, tx, db.RecountPreKeysParams(tx.Place(at.device)))
	return err
}

// storeOneTime writes the one-time keys of an upload, but for those that are known already.
func storeOneTime(ctx context.Context, tx *storage.Tx, at target, u *Publication) error {
	if len(u.EC)+len(u.Kyber) == 0 && !at.takeover {
		return nil
	}
	ec, kyber, err := recall(ctx, tx, at.user, at.device)
	if err != nil {
		return err
	}
	oneTime := make([]SignedPreKey, len(u.EC))
	for i, k := range u.EC {
		oneTime[i] = SignedPreKey{ID: k.ID, Public: k.Public}
	}
	if err := ecKeys.store(ctx, tx, at, oneTime, &ec); err != nil {
		return err
	}
	if err := kyberKeys.store(ctx, tx, at, u.Kyber, &kyber); err != nil {
		return err
	}
	return storage.Queries.SetKnownPreKeys(ctx, tx, db.SetKnownPreKeysParams{
		UserID: at.user, DeviceID: at.device, Ec: ec.own, Kyber: kyber.own})
}
