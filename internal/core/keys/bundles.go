package keys

import (
	"context"
	"errors"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/batch"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Bundles hands out one bundle per device of a user, in the order of device numbers, each with a
// one-time key of each kind that nobody else gets. Returns ErrUserUnknown, also for a user without
// devices, or core.Unavailable when too many wait.
func (s *Service) Bundles(ctx context.Context, user core.UserID) ([]Bundle, error) {
	bundles, err := s.bundles.Do(ctx, user, 1)
	if errors.Is(err, batch.ErrFull) || errors.Is(err, batch.ErrStopped) || ctx.Err() != nil {
		return nil, core.Busy(err)
	}
	if err == nil && bundles == nil {
		err = ErrUserUnknown
	}
	return bundles, err
}

// handOut serves many fetches with one statement; an answer is nil for a user who has no device.
func (s *Service) handOut(ctx context.Context, users []core.UserID) ([][]Bundle, error) {
	askers := map[core.UserID][]int{} // positions in users
	arg := db.TakeBundlesParams{}
	for i, user := range users {
		if askers[user] == nil {
			arg.UserIds = append(arg.UserIds, user)
		}
		askers[user] = append(askers[user], i)
	}
	for _, user := range arg.UserIds {
		arg.Counts = append(arg.Counts, int32(len(askers[user]))) //nolint:gosec // at most a batch
	}
	answers := make([][]Bundle, len(users))
	var low []core.DeviceID
	ctx, cancel := context.WithTimeout(ctx, s.txTime)
	defer cancel()
	err := s.db.Do(ctx, func(conn db.DBTX) error {
		rows, err := storage.Queries.TakeBundles(ctx, conn, arg)
		if err != nil {
			return err
		}
		for i := range rows {
			row := &rows[i]
			for nth, asker := range askers[row.UserID] {
				answers[asker] = append(answers[asker], bundleOf(row, nth))
			}
			if runsLow(len(row.EcIds), row.EcLeft) || runsLow(len(row.KyberIds), row.KyberLeft) {
				low = append(low, row.ID)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if low != nil {
		s.node.Announce(core.Notice{Kind: core.NoticeKeys, IDs: low})
	}
	return answers, nil
}

// bundleOf makes the bundle of the nth asker in a batch.
func bundleOf(row *db.TakeBundlesRow, nth int) Bundle {
	b := Bundle{
		Device: row.ID, DeviceNumber: uint8(row.Number), //nolint:gosec // 1 to 127 by a check in the schema
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
