package keys

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/batch"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// fetch asks for the bundles of a user's devices: of one, or of all when device is zero.
type fetch struct {
	user   core.UserID
	device core.DeviceID
}

// Bundles hands out one bundle per device of a user, in the order of device numbers, each with a
// one-time key of each kind that nobody else gets. When some devices are named, it is these of the
// user's devices only. Returns ErrUserUnknown, also for a user without devices; ErrDeviceGone when
// the user has none of those that are named; or core.Unavailable when too many wait.
func (s *Service) Bundles(ctx context.Context, user core.UserID, only ...core.DeviceID) (bundles []Bundle, err error) {
	if len(only) == 0 {
		bundles, err = s.fetch(ctx, fetch{user: user})
		if err == nil && bundles == nil {
			err = ErrUserUnknown
		}
		return bundles, err
	}
	for _, device := range core.LockOrder(only) {
		if device == (core.DeviceID{}) { // nobody's; it would stand for all
			continue
		}
		one, err := s.fetch(ctx, fetch{user, device})
		if err != nil {
			return nil, err
		}
		bundles = append(bundles, one...)
	}
	if bundles == nil {
		return nil, ErrDeviceGone
	}
	slices.SortFunc(bundles, func(a, b Bundle) int { return cmp.Compare(a.DeviceNumber, b.DeviceNumber) })
	return bundles, nil
}

func (s *Service) fetch(ctx context.Context, f fetch) ([]Bundle, error) {
	bundles, err := s.bundles.Do(ctx, f, 1)
	if errors.Is(err, batch.ErrFull) || errors.Is(err, batch.ErrStopped) || ctx.Err() != nil {
		return nil, core.Busy(err)
	}
	return bundles, err
}

// handOut serves many fetches with one statement, or with two when some name a device: none may
// meet a device twice. An answer is nil for a user who has no device.
func (s *Service) handOut(ctx context.Context, fetches []fetch) ([][]Bundle, error) {
	answers := make([][]Bundle, len(fetches))
	ctx, cancel := context.WithTimeout(ctx, s.txTime)
	defer cancel()
	for _, named := range []bool{false, true} {
		if err := s.take(ctx, fetches, named, answers); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// take serves those fetches that name a device, or those that do not.
func (s *Service) take(ctx context.Context, fetches []fetch, named bool, answers [][]Bundle) error {
	askers := map[fetch][]int{} // positions in fetches
	arg := db.TakeBundlesParams{}
	for i, f := range fetches {
		if (f.device != core.DeviceID{}) != named {
			continue
		}
		if askers[f] == nil {
			arg.UserIds, arg.DeviceIds = append(arg.UserIds, f.user), append(arg.DeviceIds, f.device)
		}
		askers[f] = append(askers[f], i)
	}
	if len(askers) == 0 {
		return nil
	}
	for i := range arg.UserIds {
		n := len(askers[fetch{arg.UserIds[i], arg.DeviceIds[i]}])
		arg.Counts = append(arg.Counts, int32(n)) //nolint:gosec // at most a batch
	}
	var low []core.DeviceID
	err := s.db.Do(ctx, func(conn db.DBTX) error {
		rows, err := storage.Queries.TakeBundles(ctx, conn, arg)
		if err != nil {
			return err
		}
		for i := range rows {
			row := &rows[i]
			f := fetch{user: row.UserID}
			if named {
				f.device = row.ID
			}
			for nth, asker := range askers[f] {
				answers[asker] = append(answers[asker], bundleOf(row, nth))
			}
			if runsLow(len(row.EcIds), row.EcLeft) || runsLow(len(row.KyberIds), row.KyberLeft) {
				low = append(low, row.ID)
			}
		}
		return nil
	})
	if err == nil && low != nil {
		s.node.Announce(core.Notice{Kind: core.NoticeKeys, IDs: low})
	}
	return err
}

// bundleOf makes the bundle of the nth asker in a batch.
func bundleOf(row *db.TakeBundlesRow, nth int) Bundle {
	b := Bundle{
		DevicesVersion: row.DevicesVersion,
		Device:         row.ID, DeviceNumber: uint8(row.Number), //nolint:gosec // 1 to 127 by a check in the schema
		RegistrationID: row.RegistrationID, Identity: row.IdentityKey,
		Signed: SignedPreKey{row.SignedPreKeyID, row.SignedPreKey, row.SignedPreKeySig},
	}
	if nth < len(row.EcIds) {
		b.OneTime = &PreKey{row.EcIds[nth], row.EcKeys[nth]}
	}
	if nth < len(row.KyberIds) {
		b.Kyber = &SignedPreKey{row.KyberIds[nth], row.KyberKeys[nth], row.KyberSigs[nth]}
	} else if row.LastResortID != nil {
		b.Kyber = &SignedPreKey{*row.LastResortID, row.LastResortKey, row.LastResortSig}
	}
	return b
}

// runsLow reports that keys were taken and few are left.
func runsLow(taken int, left int32) bool { return taken > 0 && left < core.LowPreKeys }
