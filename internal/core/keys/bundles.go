package keys

import (
	"context"
	"slices"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// fetch asks for the bundles of a user's devices: of all, or of those that it names.
type fetch struct {
	user core.UserID
	only []core.DeviceID // each once
}

// handed is the answer to a fetch.
type handed struct {
	bundles []Bundle
	err     error // of this fetch, not of the batch
}

// Bundles hands out one bundle per device of a user, in the order of device numbers, each with a
// one-time key of each kind that nobody else gets. When some devices are named, it is these of the
// user's devices only. Returns ErrUserUnknown, also for a user without devices; ErrDeviceGone when
// the user has none of those that are named; or core.Unavailable when too many wait.
func (s *Service) Bundles(ctx context.Context, user core.UserID, only ...core.DeviceID) ([]Bundle, error) {
	bundles, err := s.fetch(ctx, fetch{user, core.Distinct(slices.Clone(only))})
	switch {
	case err != nil:
		return nil, err
	case bundles == nil && len(only) > 0:
		return nil, ErrDeviceGone
	case bundles == nil:
		return nil, ErrUserUnknown
	}
	return bundles, nil
}

// fetch serves one fetch. Where there are several buckets it is divided: each hands out its own.
func (s *Service) fetch(ctx context.Context, f fetch) ([]Bundle, error) {
	if len(s.buckets) == 1 {
		return s.fetchIn(ctx, 0, f)
	}
	return s.fetchParts(ctx, f)
}

// fetchIn serves a fetch in one bucket.
func (s *Service) fetchIn(ctx context.Context, bucket int16, f fetch) ([]Bundle, error) {
	answer, err := s.buckets[bucket].Do(ctx, f, max(1, len(f.only)))
	if err == nil {
		err = answer.err
	}
	return answer.bundles, err
}

// handOut serves many fetches in a bucket with one statement, and those that name devices with
// another: no statement may meet a device twice.
func (s *Service) handOut(ctx context.Context, bucket int16, fetches []fetch) ([]handed, error) {
	answers := make([]handed, len(fetches))
	ctx, cancel := context.WithTimeout(ctx, s.txTime)
	defer cancel()
	named := map[wanted][]int{} // positions in fetches
	whole := map[wanted][]int{}
	for i, f := range fetches {
		for _, device := range f.only {
			if device != (core.DeviceID{}) { // it is nobody's, and stands for all
				named[wanted{f.user, device}] = append(named[wanted{f.user, device}], i)
			}
		}
		if len(f.only) == 0 {
			whole[wanted{user: f.user}] = append(whole[wanted{user: f.user}], i)
		}
	}
	for _, askers := range []map[wanted][]int{whole, named} {
		if err := s.take(ctx, bucket, askers, answers); err != nil {
			for _, some := range askers {
				for _, i := range some {
					answers[i].err = err
				}
			}
		}
	}
	return answers, nil
}

// wanted is one device of a user, or all when device is zero.
type wanted struct {
	user   core.UserID
	device core.DeviceID
}

// take hands out to those who ask for each.
func (s *Service) take(ctx context.Context, bucket int16, askers map[wanted][]int, answers []handed) error {
	if len(askers) == 0 {
		return nil
	}
	arg := db.TakeBundlesParams{Bucket: bucket}
	for w, some := range askers {
		arg.UserIds, arg.DeviceIds = append(arg.UserIds, w.user), append(arg.DeviceIds, w.device)
		arg.Counts = append(arg.Counts, int32(len(some))) //nolint:gosec // at most a batch
	}
	rows, err := storage.Ask(ctx, s.cfg.DB.In(bucket), storage.Queries.TakeBundles, arg)
	if err != nil {
		return err
	}
	var low []core.DeviceID
	for i := range rows { // of a user in the order of numbers
		row := &rows[i]
		some := askers[wanted{row.UserID, row.ID}]
		if some == nil {
			some = askers[wanted{user: row.UserID}]
		}
		for nth, asker := range some {
			answers[asker].bundles = append(answers[asker].bundles, bundleOf(row, nth))
		}
		if runsLow(len(row.EcIds), row.EcLeft) || runsLow(len(row.KyberIds), row.KyberLeft) {
			low = append(low, row.ID)
		}
	}
	if low != nil {
		s.cfg.Node.Announce(core.Notice{Kind: core.NoticeKeys, IDs: low})
	}
	return nil
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
