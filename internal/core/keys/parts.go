package keys

import (
	"context"
	"slices"
	"sync"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// A hand-out touches one bucket. Where there are several, the devices of the user are asked for
// first, and then each bucket for the bundles of those that it has. A key that was taken is gone,
// also when the fetch fails because another bucket does not answer. So those that did not answer
// the last time are asked first, and the others only when these have answered.

// fetchParts serves a fetch whose devices may lie in several buckets.
func (s *Service) fetchParts(ctx context.Context, f fetch) ([]Bundle, error) {
	listed, err := s.lists.Do(ctx, f.user, 1)
	if err != nil {
		return nil, err
	}
	var devices []core.DeviceID
	for _, d := range listed {
		if len(f.only) == 0 || slices.Contains(f.only, d.ID) {
			devices = append(devices, d.ID)
		}
	}
	var doubtful, sound []part
	for bucket, some := range s.cfg.DB.Buckets().Divide(devices) {
		p := part{bucket, fetch{f.user, some}}
		if s.cfg.DB.Failing(bucket) {
			doubtful = append(doubtful, p)
		} else {
			sound = append(sound, p)
		}
	}
	var bundles []Bundle
	for _, parts := range [][]part{doubtful, sound} {
		some, err := s.fetchEach(ctx, parts)
		if err != nil {
			return nil, err
		}
		bundles = append(bundles, some...)
	}
	for i := range bundles { // a device that came meanwhile may be missing
		bundles[i].DevicesVersion = listed[0].DevicesVersion
	}
	slices.SortFunc(bundles, func(a, b Bundle) int { return int(a.DeviceNumber) - int(b.DeviceNumber) })
	return bundles, nil
}

// part is what a fetch asks of one bucket.
type part struct {
	bucket int16
	fetch
}

// fetchEach serves parts, all at once. It returns an error when one fails.
func (s *Service) fetchEach(ctx context.Context, parts []part) (bundles []Bundle, err error) {
	answers, errs := make([][]Bundle, len(parts)), make([]error, len(parts))
	var fetching sync.WaitGroup
	for i, p := range parts {
		fetching.Go(func() { answers[i], errs[i] = s.fetchIn(ctx, p.bucket, p.fetch) })
	}
	fetching.Wait()
	for i := range parts {
		if errs[i] != nil {
			return nil, errs[i]
		}
		bundles = append(bundles, answers[i]...)
	}
	return bundles, nil
}

// list finds the devices of many users.
func (s *Service) list(ctx context.Context, users []core.UserID) ([][]db.PublicDevicesRow, error) {
	ctx, cancel := context.WithTimeout(ctx, s.txTime)
	defer cancel()
	rows, err := storage.Ask(ctx, s.cfg.DB, storage.Queries.PublicDevices, core.Distinct(slices.Clone(users)))
	of := map[core.UserID][]db.PublicDevicesRow{}
	for _, row := range rows {
		of[row.UserID] = append(of[row.UserID], row)
	}
	lists := make([][]db.PublicDevicesRow, len(users))
	for i, user := range users {
		lists[i] = of[user]
	}
	return lists, err
}
