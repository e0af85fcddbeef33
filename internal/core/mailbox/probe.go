package mailbox

import (
	"context"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Probe proves that mail can be stored: in one transaction, on disk when it returns, it makes a
// mailbox, puts an envelope into it by the statements of a send, deletes that as an acknowledgement
// does, and removes what is left. Nobody else ever sees any of it.
func (s *Service) Probe(ctx context.Context) error {
	device, key := uuid.New(), uuid.New()
	requests := []*sendRequest{{sender: core.Principal{User: device, Device: device, DeviceNumber: 1},
		batch:   Batch{Key: key, Submissions: []Submission{{Device: device, Message: []byte("probe")}}},
		receipt: receiptKey{device, key}}}
	return s.cfg.DB.InPipeline(ctx, func(tx *storage.Tx) error {
		if err := Create(ctx, tx, device); err != nil {
			return err
		}
		if err := newPass(tx.Bucket(device), requests).store(ctx, tx); err != nil {
			return err
		}
		if _, err := storage.Queries.DeleteMessages(ctx, tx,
			db.DeleteMessagesParams{Bucket: tx.Bucket(device),
				DeviceIds: []uuid.UUID{device}, Seqs: []int64{1}}); err != nil {
			return err
		}
		left := removals{}
		left.add(device, 1, 1)
		if err := left.settle(ctx, tx); err != nil {
			return err
		}
		return Erase(ctx, tx, device)
	})
}
