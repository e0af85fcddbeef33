package mailbox

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// sweepStep is how many mailboxes one step of a sweep looks at.
const sweepStep = 1000

// Pending is how many envelopes waited in all mailboxes when they were swept last, and Oldest how
// many seconds the oldest of them had waited.
func (s *Service) Pending() int { return int(s.pending.Load()) }

// Oldest is the age of the oldest envelope at the last sweep, in seconds.
func (s *Service) Oldest() int { return int(s.oldest.Load()) }

// Sweep walks all mailboxes in bounded steps, drops what has expired, and empties old receipts. A
// bucket that is unavailable is left to the next sweep.
func (s *Service) Sweep(ctx context.Context) error {
	var pending, oldest int64
	var errs []error
	for _, b := range s.buckets {
		waiting, age, err := s.sweepMailboxes(ctx, b.number)
		pending, oldest = pending+waiting, max(oldest, age)
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		s.pending.Store(pending)
		s.oldest.Store(oldest)
	}
	return errors.Join(append(errs, s.sweepReceipts(ctx))...)
}

// sweepMailboxes drops what has expired in a bucket. It returns how many envelopes wait there, and
// the age of the oldest in seconds.
func (s *Service) sweepMailboxes(ctx context.Context, bucket int16) (pending, oldest int64, _ error) {
	rows, err := s.stale(ctx, bucket, uuid.Nil)
	for ; err == nil && len(rows) > 0; rows, err = s.stale(ctx, bucket, rows[len(rows)-1].DeviceID) {
		for _, row := range rows {
			if row.Expired {
				if err := s.Expire(ctx, row.DeviceID); err != nil {
					return pending, oldest, err
				}
			}
			pending, oldest = pending+int64(row.Pending), max(oldest, row.Age)
		}
	}
	return pending, oldest, err
}

func (s *Service) stale(ctx context.Context, bucket int16, after core.DeviceID) ([]db.StaleMailboxesRow, error) {
	ctx, cancel := context.WithTimeout(ctx, s.txTime)
	defer cancel()
	return storage.Ask(ctx, s.cfg.DB.In(bucket), storage.Queries.StaleMailboxes, db.StaleMailboxesParams{
		Bucket: bucket, AfterDevice: after, MaxRows: sweepStep, Lifetime: storage.Interval(core.EnvelopeLifetime)})
}

// receiptsIn reports whether there is a receipt in a slot.
func receiptsIn(ctx context.Context, tx *storage.Tx, slot int16) (holds bool, err error) {
	for bucket := range tx.AllBuckets() {
		holds, err = storage.Queries.ReceiptsIn(ctx, tx, db.ReceiptsInParams{Bucket: bucket, Slot: slot})
		if holds || err != nil {
			break
		}
	}
	return holds, err
}

// sweepReceipts empties the slot that will be tomorrow's. It holds receipts of the day before
// yesterday, and nobody reads or writes it today but the check for repeats, which waits a moment.
// While somebody else reads it for longer, a backup perhaps, it is left to the next sweep.
func (s *Service) sweepReceipts(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.txTime)
	defer cancel()
	inUse := false
	err := s.cfg.Async.InTx(ctx, func(tx *storage.Tx) error {
		q := storage.Queries
		slot, err := q.SpentReceiptSlot(ctx, tx)
		if err != nil {
			return storage.NoRowsAs(err, nil)
		}
		if holds, err := receiptsIn(ctx, tx, slot); err != nil || !holds {
			return err
		}
		if err := q.WaitBriefly(ctx, tx); err != nil {
			return err
		}
		empty := [3]func(context.Context, db.DBTX) error{q.EmptyReceipts0, q.EmptyReceipts1, q.EmptyReceipts2}
		err = empty[slot](ctx, tx)
		inUse = storage.IsLockTimeout(err)
		return err
	})
	if inUse {
		return nil
	}
	return err
}
