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
	device := uuid.New()
	requests := []*sendRequest{{sender: core.Principal{User: device, Device: device, DeviceNumber: 1},
		batch: Batch{Key: uuid.New(), Submissions: []Submission{{Device: device, Message: []byte("probe")}}}}}
	return s.db.InPipeline(ctx, func(tx db.DBTX) error {
		q := storage.Queries
		if err := Create(ctx, tx, device); err != nil {
			return err
		}
		boxes, err := lockMailboxes(ctx, tx, []core.DeviceID{device})
		if err != nil {
			return err
		}
		_, now, err := insertReceipts(ctx, tx, requests, make([]sendAnswer, 1))
		if err != nil {
			return err
		}
		insert := db.InsertMessagesParams{AcceptedAt: now}
		add(&insert, requests[0], boxes)
		if err := q.InsertMessages(ctx, tx, insert); err != nil {
			return err
		}
		if err := advance(ctx, tx, boxes); err != nil {
			return err
		}
		if _, err := q.DeleteMessages(ctx, tx,
			db.DeleteMessagesParams{DeviceIds: insert.DeviceIds, Seqs: insert.Seqs}); err != nil {
			return err
		}
		if err := settle(ctx, tx, map[core.DeviceID]removed{device: {n: 1, acked: 1}}); err != nil {
			return err
		}
		return Erase(ctx, tx, device)
	})
}
