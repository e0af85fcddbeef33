package keys

import (
	"context"
	"crypto/sha256"
	"encoding/binary"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Inventory is what the relay holds for a device, for the device to compare.
type Inventory struct {
	Identity       []byte
	RegistrationID int32
	SignedID       int32
	// LastResortID is nil when there is no last-resort key.
	LastResortID *int32
	// EC and Kyber are the ids of the one-time keys, ascending.
	EC, Kyber []int32
	// Digest is SHA-256 as openapi.yaml describes it (KeyInventory.digest).
	Digest [sha256.Size]byte
}

// Inventory lists what the relay holds for a device. Returns ErrDeviceGone.
func (s *Service) Inventory(ctx context.Context, device core.DeviceID) (Inventory, error) {
	var inv Inventory
	err := s.cfg.DB.Of(device).InTx(ctx, func(tx *storage.Tx) (err error) {
		inv, err = InventoryOf(ctx, tx, device)
		return err
	})
	return inv, err
}

// InventoryOf lists within a transaction. It keeps the device's stock locked until the transaction
// ends; whoever lists several devices lists each in a transaction of its own, or meets hand-outs in
// a deadlock.
func InventoryOf(ctx context.Context, tx *storage.Tx, device core.DeviceID) (Inventory, error) {
	q := storage.Queries
	if _, err := q.SharePreKeyStock(ctx, tx, db.SharePreKeyStockParams(tx.Place(device))); err != nil {
		return Inventory{}, storage.NoRowsAs(err, ErrDeviceGone)
	}
	own, err := q.DeviceKeys(ctx, tx, device)
	if err != nil {
		return Inventory{}, storage.NoRowsAs(err, ErrDeviceGone)
	}
	ec, err := q.ECPreKeys(ctx, tx, db.ECPreKeysParams(tx.Place(device)))
	if err != nil {
		return Inventory{}, err
	}
	kyber, err := q.KyberPreKeys(ctx, tx, db.KyberPreKeysParams(tx.Place(device)))
	if err != nil {
		return Inventory{}, err
	}
	inv := Inventory{Identity: own.IdentityKey, RegistrationID: own.RegistrationID, SignedID: own.SignedPreKeyID,
		LastResortID: own.LastResortID, EC: []int32{}, Kyber: []int32{}}
	digest := sha256.New()
	add := func(id int32, public []byte) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(id)) //nolint:gosec // never negative
		digest.Write(b[:])
		digest.Write(public)
	}
	digest.Write(own.IdentityKey)
	add(own.SignedPreKeyID, own.SignedPreKey)
	if own.LastResortID != nil {
		add(*own.LastResortID, own.LastResortKey)
	}
	for _, k := range ec {
		add(k.KeyID, k.PublicKey)
		inv.EC = append(inv.EC, k.KeyID)
	}
	for _, k := range kyber {
		add(k.KeyID, k.PublicKey)
		inv.Kyber = append(inv.Kyber, k.KeyID)
	}
	digest.Sum(inv.Digest[:0])
	return inv, nil
}
