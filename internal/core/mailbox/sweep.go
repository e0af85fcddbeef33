package mailbox

import (
	"context"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// sweepStep is how many mailboxes, or old receipts, one step of a sweep looks at.
const sweepStep = 1000

// Sweep walks all mailboxes in bounded steps, drops what has expired, and deletes old receipts.
func (s *Service) Sweep(ctx context.Context) error {
	for after := uuid.Nil; ; {
		var rows []db.StaleMailboxesRow
		err := s.db.Do(ctx, func(conn db.DBTX) (err error) {
			rows, err = storage.Queries.StaleMailboxes(ctx, conn, db.StaleMailboxesParams{AfterDevice: after,
				MaxRows: sweepStep, Lifetime: storage.Interval(core.EnvelopeLifetime)})
			return err
		})
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return s.sweepReceipts(ctx)
		}
		for _, row := range rows {
			if row.Expired {
				if err := s.Expire(ctx, row.DeviceID); err != nil {
					return err
				}
			}
			after = row.DeviceID
		}
	}
}

func (s *Service) sweepReceipts(ctx context.Context) error {
	for {
		var n int64
		err := s.async.Do(ctx, func(conn db.DBTX) (err error) {
			n, err = storage.Queries.DeleteOldReceipts(ctx, conn, db.DeleteOldReceiptsParams{
				Lifetime: storage.Interval(core.ReceiptLifetime), MaxRows: sweepStep})
			return err
		})
		if err != nil || n < sweepStep {
			return err
		}
	}
}
