package blob

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/storage"
)

const (
	// trashBatch is how many blobs one node takes out of the trash at once, deletesAtOnce how many
	// it deletes at the same time. Even if each takes storeTime it is done before the lease is
	// over.
	trashBatch    = 64
	deletesAtOnce = 8
	trashLease    = 5 * time.Minute
	// The trash is looked into this often when nobody tells, and more and more seldom while the
	// store fails.
	trashEvery   = time.Second
	trashSeldom  = time.Minute
	trashCounted = 10_000
	countEvery   = 10
)

// Run empties the trash until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	pause := trashEvery
	for round := 0; ; round++ {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-s.told:
			timer.Stop()
		case <-timer.C:
		}
		ok, err := s.emptyTrash(ctx, pause)
		switch {
		case err == nil && ok:
			pause = trashEvery
		case ctx.Err() == nil:
			s.cfg.Logger.Warn("could not delete blobs from the store; tried again", "component", "blobs", "error", err)
			pause = min(2*pause, trashSeldom)
		}
		if round%countEvery == 0 {
			s.countTrash(ctx)
		}
	}
}

// tell has the trash looked into at once.
func (s *Service) tell() {
	select {
	case s.told <- struct{}{}:
	default:
	}
}

// WaitingTrash is about how many blobs wait to be deleted, at most 10,000.
func (s *Service) WaitingTrash() int { return int(s.waiting.Load()) }

func (s *Service) countTrash(ctx context.Context) {
	_ = s.inTx(ctx, func(ctx context.Context, tx *storage.Tx) error {
		n, err := storage.Queries.WaitingTrash(ctx, tx, trashCounted)
		if err == nil {
			s.waiting.Store(n)
		}
		return err
	})
}

// emptyTrash deletes what is due, until nothing is. It returns false and an error for the log when
// some could not be deleted; those are tried again after a pause.
func (s *Service) emptyTrash(ctx context.Context, pause time.Duration) (bool, error) {
	for ctx.Err() == nil {
		var leased []db.BlobTrash
		err := s.inTx(ctx, func(ctx context.Context, tx *storage.Tx) (err error) {
			leased, err = storage.Queries.LeaseTrash(ctx, tx,
				db.LeaseTrashParams{Lease: storage.Interval(trashLease), MaxRows: trashBatch})
			return err
		})
		if err != nil || len(leased) == 0 {
			return err == nil, err
		}
		deleted, left, failure := s.deleteBlobs(ctx, leased)
		err = s.inTx(ctx, func(ctx context.Context, tx *storage.Tx) error {
			if err := storage.Queries.ForgetTrash(ctx, tx,
				db.ForgetTrashParams{Keys: deleted, DueAt: leased[0].DueAt}); err != nil || len(left) == 0 {
				return err
			}
			return storage.Queries.PostponeTrash(ctx, tx,
				db.PostponeTrashParams{Keys: left, DueAt: leased[0].DueAt, Wait: storage.Interval(pause)})
		})
		if err != nil || failure != nil {
			if err == nil {
				err = failure
			}
			return false, err
		}
	}
	return true, nil
}

// deleteBlobs deletes blobs and returns the keys of those that it deleted, of those that are left,
// and why.
func (s *Service) deleteBlobs(ctx context.Context, trash []db.BlobTrash) (deleted, left []string, failure error) {
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(deletesAtOnce)
	for _, t := range trash {
		g.Go(func() error {
			err := s.cfg.Store.delete(ctx, t.Key)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				left, failure = append(left, t.Key), err
			} else {
				deleted = append(deleted, t.Key)
			}
			return nil
		})
	}
	_ = g.Wait()
	return deleted, left, failure
}

// sweepBatch bounds one step of a sweep.
const sweepBatch = 500

// Sweep moves attachments whose time is over to the trash.
func (s *Service) Sweep(ctx context.Context) error {
	for n := int32(sweepBatch); n == sweepBatch; {
		err := s.inTx(ctx, func(ctx context.Context, tx *storage.Tx) (err error) {
			n, err = storage.Queries.TrashExpiredAttachments(ctx, tx,
				db.TrashExpiredAttachmentsParams{MaxRows: sweepBatch, Least: leastCounted})
			return err
		})
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
	s.tell()
	return nil
}
