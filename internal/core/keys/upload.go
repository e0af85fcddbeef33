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

// Upload stores what a device publishes, or nothing. An identity key that differs from the stored one
// is a takeover: the device's keys and pending mail go, its sockets close and its other sessions end.
func (s *Service) Upload(ctx context.Context, p core.Principal, u Upload) error {
	if u.Identity != nil && u.RegistrationID == 0 {
		return ErrNoRegistrationID
	}
	stored, err := s.stored(ctx, p.Device)
	if err != nil {
		return err
	}
	identity := u.Identity
	if identity == nil {
		identity = stored.IdentityKey
	}
	if err := Check(identity, &u); err != nil {
		return err
	}
	var notices []core.Notice
	dropped := 0
	act, alone := s.db.Act, !bytes.Equal(stored.IdentityKey, identity)
	if alone { // it ends sessions
		act = s.db.ActAlone
	}
	err = act(ctx, p, func(tx db.DBTX) error {
		q := storage.Queries
		takeover, others := false, []core.SessionID(nil)
		if alone {
			if takeover, others, err = endOthers(ctx, tx, p, identity); err != nil {
				return err
			}
		}
		upload, err := q.LockPreKeyStock(ctx, tx, p.Device)
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
		return Store(ctx, tx, p.Device, upload, &u)
	})
	if err != nil {
		return err
	}
	for _, n := range notices {
		s.announce(n)
	}
	if dropped > 0 {
		s.dropped(core.GapTakeover, dropped)
	}
	return nil
}

func (s *Service) stored(ctx context.Context, device core.DeviceID) (row db.DeviceKeysRow, err error) {
	err = s.db.Do(ctx, func(conn db.DBTX) (err error) {
		row, err = storage.Queries.DeviceKeys(ctx, conn, device)
		return err
	})
	return row, storage.NoRowsAs(err, ErrDeviceGone)
}

// endOthers ends the device's other sessions if the identity key is a new one, which is a takeover. It runs
// before the stock is locked, as the order of locks asks for. The user's lock keeps other takeovers off.
func endOthers(ctx context.Context, tx db.DBTX, p core.Principal, identity []byte) (takeover bool, others []core.SessionID, err error) {
	now, err := storage.Queries.DeviceKeys(ctx, tx, p.Device)
	if err != nil || bytes.Equal(now.IdentityKey, identity) {
		return false, nil, storage.NoRowsAs(err, ErrDeviceGone)
	}
	others, err = storage.Queries.DeleteOtherDeviceSessions(ctx, tx, db.DeleteOtherDeviceSessionsParams{DeviceID: p.Device, Keep: p.Session})
	return true, others, err
}

// takeOver drops what belonged to the old identity and returns what to announce after the commit.
func (s *Service) takeOver(ctx context.Context, tx db.DBTX, p core.Principal, u *Upload, others []core.SessionID, dropped *int) ([]core.Notice, error) {
	if u.Signed == nil {
		return nil, ErrTakeoverUnsigned
	}
	q := storage.Queries
	if err := q.DeleteECPreKeys(ctx, tx, p.Device); err != nil {
		return nil, err
	}
	if err := q.DeleteKyberPreKeys(ctx, tx, p.Device); err != nil {
		return nil, err
	}
	if err := q.ClearLastResort(ctx, tx, p.Device); err != nil {
		return nil, err
	}
	if err := push.Forget(ctx, tx, p.Device); err != nil { // it wakes up the old installation
		return nil, err
	}
	generation, n, err := mailbox.TakeOver(ctx, tx, p.Device)
	if err != nil {
		return nil, err
	}
	*dropped = n
	notices := []core.Notice{
		{Kind: core.NoticeEnded, IDs: others},
		{Kind: core.NoticeRevoked, IDs: []core.DeviceID{p.Device}, Generation: generation},
	}
	for _, n := range notices {
		if err := q.Notify(ctx, tx, db.NotifyParams{Channel: core.NoticeChannel, Payloads: n.Payloads()}); err != nil {
			return nil, err
		}
	}
	return notices, nil
}

// checkRotation holds a new signed pre-key and last-resort key against the stored ones. What equals
// the stored one is taken out of the upload.
func checkRotation(now *db.DeviceKeysRow, u *Upload) error {
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

// Store writes an upload that has been checked. The caller holds the lock of the device's stock and
// passes the number of the upload.
func Store(ctx context.Context, tx db.DBTX, device core.DeviceID, upload int64, u *Upload) error {
	q := storage.Queries
	if k := u.Signed; k != nil {
		arg := db.SetSignedPreKeyParams{ID: device, KeyID: k.ID, PublicKey: k.Public, Signature: k.Signature}
		if err := q.SetSignedPreKey(ctx, tx, arg); err != nil {
			return err
		}
	}
	if k := u.LastResort; k != nil {
		arg := db.SetLastResortParams{ID: device, KeyID: &k.ID, PublicKey: k.Public, Signature: k.Signature}
		if err := q.SetLastResort(ctx, tx, arg); err != nil {
			return err
		}
	}
	if err := storeEC(ctx, tx, device, upload, u.EC); err != nil {
		return err
	}
	if err := storeKyber(ctx, tx, device, upload, u.Kyber); err != nil {
		return err
	}
	_, err := q.RecountPreKeys(ctx, tx, device)
	return err
}

func storeEC(ctx context.Context, tx db.DBTX, device core.DeviceID, upload int64, keys []PreKey) error {
	if len(keys) == 0 {
		return nil
	}
	q := storage.Queries
	rows, err := q.ECPreKeys(ctx, tx, device)
	if err != nil {
		return err
	}
	held := make(map[int32][]byte, len(rows))
	for _, row := range rows {
		held[row.KeyID] = row.PublicKey
	}
	arg := db.InsertECPreKeysParams{DeviceID: device, Upload: upload}
	for _, k := range keys {
		before, ok := held[k.ID]
		if ok && !bytes.Equal(before, k.Public) {
			return ErrKeyIDTwice
		}
		if !ok {
			held[k.ID] = k.Public
			arg.KeyIds, arg.PublicKeys = append(arg.KeyIds, k.ID), append(arg.PublicKeys, k.Public)
		}
	}
	if len(arg.KeyIds) == 0 {
		return nil
	}
	if err := q.InsertECPreKeys(ctx, tx, arg); err != nil {
		return err
	}
	return q.TrimECPreKeys(ctx, tx, db.TrimECPreKeysParams{DeviceID: device, Keep: core.MaxPreKeys})
}

func storeKyber(ctx context.Context, tx db.DBTX, device core.DeviceID, upload int64, keys []SignedPreKey) error {
	if len(keys) == 0 {
		return nil
	}
	q := storage.Queries
	rows, err := q.KyberPreKeys(ctx, tx, device)
	if err != nil {
		return err
	}
	held := make(map[int32][]byte, len(rows))
	for _, row := range rows {
		held[row.KeyID] = row.PublicKey
	}
	arg := db.InsertKyberPreKeysParams{DeviceID: device, Upload: upload}
	for _, k := range keys {
		before, ok := held[k.ID]
		if ok && !bytes.Equal(before, k.Public) {
			return ErrKeyIDTwice
		}
		if !ok {
			held[k.ID] = k.Public
			arg.KeyIds, arg.PublicKeys = append(arg.KeyIds, k.ID), append(arg.PublicKeys, k.Public)
			arg.Signatures = append(arg.Signatures, k.Signature)
		}
	}
	if len(arg.KeyIds) == 0 {
		return nil
	}
	if err := q.InsertKyberPreKeys(ctx, tx, arg); err != nil {
		return err
	}
	return q.TrimKyberPreKeys(ctx, tx, db.TrimKyberPreKeysParams{DeviceID: device, Keep: core.MaxPreKeys})
}
