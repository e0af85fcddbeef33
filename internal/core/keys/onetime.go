package keys

import (
	"bytes"
	"context"
	"slices"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// kind is one of the two kinds of one-time keys: how they are read and written. EC keys have no
// signature.
type kind struct {
	held   func(ctx context.Context, tx *storage.Tx, device core.DeviceID) (map[int32][]byte, error)
	insert func(ctx context.Context, tx *storage.Tx, device core.DeviceID, upload int64, keys []SignedPreKey) error
	// trim deletes all but the newest core.MaxPreKeys and returns the ids of the others.
	trim func(ctx context.Context, tx *storage.Tx, device core.DeviceID) ([]int32, error)
	drop func(ctx context.Context, tx *storage.Tx, device core.DeviceID) error
}

// store writes the one-time keys of an upload. A takeover drops those that are held. known is what
// is remembered of this kind, and is brought up to date.
func (k *kind) store(ctx context.Context, tx *storage.Tx, at target, keys []SignedPreKey, known *known) error {
	if len(keys) == 0 && !at.takeover {
		return nil
	}
	held, err := k.held(ctx, tx, at.device)
	if err != nil {
		return err
	}
	handedOut := known.handedOut(held)
	if at.takeover {
		if err := k.drop(ctx, tx, at.device); err != nil {
			return err
		}
		clear(held)
	}
	used := setOf(handedOut, known.others)
	var added []SignedPreKey
	for _, key := range keys {
		if used[digestOf(key.ID, key.Public)] {
			continue // a repetition, or a key of another device: it must not go out twice
		}
		before, ok := held[key.ID]
		if ok && !bytes.Equal(before, key.Public) {
			return ErrKeyIDTwice
		}
		if !ok {
			held[key.ID] = key.Public
			added = append(added, key)
		}
	}
	if len(added) > 0 {
		if err := k.insert(ctx, tx, at.device, at.upload, added); err != nil {
			return err
		}
		trimmed, err := k.trim(ctx, tx, at.device)
		if err != nil {
			return err
		}
		for _, id := range trimmed {
			delete(held, id)
		}
	}
	known.keep(handedOut, held)
	return nil
}

var ecKeys = kind{
	held: func(ctx context.Context, tx *storage.Tx, device core.DeviceID) (map[int32][]byte, error) {
		rows, err := storage.Queries.ECPreKeys(ctx, tx, db.ECPreKeysParams(tx.Place(device)))
		held := make(map[int32][]byte, len(rows))
		for _, row := range rows {
			held[row.KeyID] = row.PublicKey
		}
		return held, err
	},
	insert: func(ctx context.Context, tx *storage.Tx, device core.DeviceID, upload int64, keys []SignedPreKey) error {
		arg := db.InsertECPreKeysParams{Bucket: tx.Bucket(device), DeviceID: device, Upload: upload}
		for _, k := range keys {
			arg.KeyIds, arg.PublicKeys = append(arg.KeyIds, k.ID), append(arg.PublicKeys, k.Public)
		}
		if err := storage.Queries.LowerECFloor(ctx, tx, db.LowerECFloorParams{Lowest: slices.Min(arg.KeyIds),
			Bucket: arg.Bucket, DeviceID: device}); err != nil {
			return err
		}
		return storage.Queries.InsertECPreKeys(ctx, tx, arg)
	},
	trim: func(ctx context.Context, tx *storage.Tx, device core.DeviceID) ([]int32, error) {
		return storage.Queries.TrimECPreKeys(ctx, tx,
			db.TrimECPreKeysParams{Bucket: tx.Bucket(device), DeviceID: device, Keep: core.MaxPreKeys})
	},
	drop: func(ctx context.Context, tx *storage.Tx, device core.DeviceID) error {
		return storage.Queries.DeleteECPreKeys(ctx, tx, db.DeleteECPreKeysParams(tx.Place(device)))
	},
}

var kyberKeys = kind{
	held: func(ctx context.Context, tx *storage.Tx, device core.DeviceID) (map[int32][]byte, error) {
		rows, err := storage.Queries.KyberPreKeys(ctx, tx, db.KyberPreKeysParams(tx.Place(device)))
		held := make(map[int32][]byte, len(rows))
		for _, row := range rows {
			held[row.KeyID] = row.PublicKey
		}
		return held, err
	},
	insert: func(ctx context.Context, tx *storage.Tx, device core.DeviceID, upload int64, keys []SignedPreKey) error {
		arg := db.InsertKyberPreKeysParams{Bucket: tx.Bucket(device), DeviceID: device, Upload: upload}
		for _, k := range keys {
			arg.KeyIds, arg.PublicKeys = append(arg.KeyIds, k.ID), append(arg.PublicKeys, k.Public)
			arg.Signatures = append(arg.Signatures, k.Signature)
		}
		if err := storage.Queries.LowerKyberFloor(ctx, tx, db.LowerKyberFloorParams{Lowest: slices.Min(arg.KeyIds),
			Bucket: arg.Bucket, DeviceID: device}); err != nil {
			return err
		}
		return storage.Queries.InsertKyberPreKeys(ctx, tx, arg)
	},
	trim: func(ctx context.Context, tx *storage.Tx, device core.DeviceID) ([]int32, error) {
		return storage.Queries.TrimKyberPreKeys(ctx, tx,
			db.TrimKyberPreKeysParams{Bucket: tx.Bucket(device), DeviceID: device, Keep: core.MaxPreKeys})
	},
	drop: func(ctx context.Context, tx *storage.Tx, device core.DeviceID) error {
		return storage.Queries.DeleteKyberPreKeys(ctx, tx, db.DeleteKyberPreKeysParams(tx.Place(device)))
	},
}
