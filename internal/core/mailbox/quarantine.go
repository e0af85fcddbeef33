package mailbox

import (
	"context"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// maxSkips is on how many sockets a client may pass an envelope over.
const maxSkips = 10

// PassedOver counts that a socket of a device has ended which was sent these envelopes, and whose
// client acknowledged something later on it and not them. An envelope that has been passed over on
// maxSkips sockets is dropped and recorded as a gap. It does not wait. What is not taken, or lost
// in a crash, is counted once less.
func (s *Service) PassedOver(device core.DeviceID, sequences []int64) {
	_ = s.of(device).acks.add(ack{device: device, skipped: sequences})
}

// passOver counts envelopes that were passed over in mailboxes whose locks are held, drops those
// that were so too often, adds them to what has gone from each mailbox, and returns how many they
// are.
func passOver(ctx context.Context, tx *storage.Tx, skips envelopes, left removals) (n int, err error) {
	if len(skips.Seqs) == 0 {
		return 0, nil
	}
	rows, err := storage.Queries.CountSkipped(ctx, tx, db.CountSkippedParams(skips))
	if err != nil {
		return 0, err
	}
	dropped := envelopes{Bucket: skips.Bucket}
	for _, row := range rows {
		if row.Skipped >= maxSkips {
			dropped.add(row.DeviceID, []int64{row.Seq})
			left.add(row.DeviceID, 1, 0)
		}
	}
	return len(dropped.Seqs), drop(ctx, tx, dropped, core.GapQuarantined)
}
