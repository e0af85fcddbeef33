package mailbox

import (
	"context"

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

// Sweep walks all mailboxes in bounded steps, drops what has expired, and empties old receipts.
func (s *Service) Sweep(ctx context.Context) error {
	var pending, oldest int64
	for bucket := range s.cfg.DB.Buckets().All() {
		rows, err := s.stale(ctx, bucket, uuid.Nil)
		for ; err == nil && len(rows) > 0; rows, err = s.stale(ctx, bucket, rows[len(rows)-1].DeviceID) {
			for _, row := range rows {
				if row.Expired {
					if err := s.Expire(ctx, row.DeviceID); err != nil {
						return err
					}
				}
				pending, oldest = pending+int64(row.Pending), max(oldest, row.Age)
			}
		}
		if err != nil {
			return err
		}
	}
	s.pending.Store(pending)
	s.oldest.Store(oldest)
	return s.sweepReceipts(ctx)
}

func (s *Service) stale(ctx context.Context, bucket int16, after core.DeviceID) ([]db.StaleMailboxesRow, error) {
	ctx, cancel := context.WithTimeout(ctx, s.txTime)
	defer cancel()
	return storage.Ask(ctx, s.cfg.DB, storage.Queries.StaleMailboxes, db.StaleMailboxesParams{
		Bucket: bucket, AfterDevice: after, MaxRows: sweepStep, Lifetime: storage.Interval(core.EnvelopeLifetime)})
}

// receiptsIn reports whether there is a receipt in a slot.
func receiptsIn(ctx context.Context, tx *storage.Tx, slot int16) (holds bool, err error) {
	for bucket := range tx.All() {
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
