package keys

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// maxRemembered is how many keys of a kind are remembered of a device after they were handed out,
// and how many of all the user's removed devices. An upload has at most 100: so an upload is known
// whose keys were handed out ten full uploads ago. There is no other limit of time: a phone may lie
// in a drawer before it repeats an upload. The memory is 8 bytes a key, 8 kB a kind; 100 Kyber keys
// are 160 kB.
const maxRemembered = 1000

// known is what is remembered of one kind of a user's one-time keys, as digests.
type known struct {
	// own are the keys that the device held after its last upload, and before them those that it
	// had handed out, oldest first. What is in here and not held any more has been handed out.
	own []int64
	// others are the keys of the user's other devices.
	others []int64
}

// handedOut are the keys that were handed out, given those that are held.
func (k *known) handedOut(held map[int32][]byte) []int64 {
	here := setOf(digestsOf(held))
	return slices.DeleteFunc(slices.Clone(k.own), func(d int64) bool { return here[d] })
}

// keep replaces what is remembered. Keys that left without being handed out are forgotten: they may
// come again.
func (k *known) keep(handedOut []int64, held map[int32][]byte) {
	k.own = slices.Concat(newest(handedOut), digestsOf(held))
}

func newest(digests []int64) []int64 { return digests[max(0, len(digests)-maxRemembered):] }

// digestOf tells keys apart: 8 bytes of SHA-256 over the id and the key. Two keys of one user
// collide by chance once in 10^13 users, and by intent only in the stock of the one who intends it.
func digestOf(id int32, public []byte) int64 {
	hash := sha256.New()
	hash.Write(binary.BigEndian.AppendUint32(nil, uint32(id))) //nolint:gosec // never negative
	hash.Write(public)
	return int64(binary.BigEndian.Uint64(hash.Sum(nil))) //nolint:gosec // bits, not an amount
}

// digestsOf are the digests of keys, by ascending id.
func digestsOf(held map[int32][]byte) []int64 {
	digests := make([]int64, 0, len(held))
	for _, id := range slices.Sorted(maps.Keys(held)) {
		digests = append(digests, digestOf(id, held[id]))
	}
	return digests
}

func setOf(lists ...[]int64) map[int64]bool {
	set := map[int64]bool{}
	for _, list := range lists {
		for _, d := range list {
			set[d] = true
		}
	}
	return set
}

// recall reads what is remembered of a user's one-time keys, as seen from one device.
func recall(ctx context.Context, tx *storage.Tx, user core.UserID, device core.DeviceID) (ec, kyber known, err error) {
	rows, err := storage.Queries.KnownPreKeys(ctx, tx, user)
	ec, kyber = seenFrom(device, rows)
	return ec, kyber, err
}

func seenFrom(device core.DeviceID, rows []db.KnownPreKeysRow) (ec, kyber known) {
	for _, row := range rows {
		if row.DeviceID == device {
			ec.own, kyber.own = row.Ec, row.Kyber
		} else {
			ec.others, kyber.others = append(ec.others, row.Ec...), append(kyber.others, row.Kyber...)
		}
	}
	return ec, kyber
}

// Retire keeps what a device has handed out, when the device is removed: its keys may come again,
// for a new device. The caller holds the user's lock, and afterwards that of the device's stock.
// Returns ErrDeviceGone.
func Retire(ctx context.Context, tx *storage.Tx, user core.UserID, device core.DeviceID) error {
	q := storage.Queries
	// No key goes out from here on.
	if _, err := q.LockPreKeyStock(ctx, tx, db.LockPreKeyStockParams(tx.Place(device))); err != nil {
		return storage.NoRowsAs(err, ErrDeviceGone)
	}
	rows, err := q.KnownPreKeys(ctx, tx, user)
	if err != nil {
		return err
	}
	removed := uuid.Nil
	ec, kyber := seenFrom(device, rows)
	oldEC, oldKyber := seenFrom(removed, rows)
	heldEC, err := ecKeys.held(ctx, tx, device)
	if err != nil {
		return err
	}
	heldKyber, err := kyberKeys.held(ctx, tx, device)
	if err != nil {
		return err
	}
	if err := q.DeleteKnownPreKeys(ctx, tx, db.DeleteKnownPreKeysParams{UserID: user, DeviceID: device}); err != nil {
		return err
	}
	outEC, outKyber := ec.handedOut(heldEC), kyber.handedOut(heldKyber)
	if len(outEC)+len(outKyber) == 0 {
		return nil
	}
	return q.SetKnownPreKeys(ctx, tx, db.SetKnownPreKeysParams{UserID: user, DeviceID: removed,
		Ec: newest(slices.Concat(oldEC.own, outEC)), Kyber: newest(slices.Concat(oldKyber.own, outKyber))})
}
