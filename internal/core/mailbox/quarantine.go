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
	_ = s.acks.add(ack{device: device, skipped: sequences})
}

// passOver counts envelopes that were passed over in mailboxes whose locks are held, drops those
// that were so too often, adds them to what has gone from each mailbox, and returns how many they
// are.
func passOver(ctx context.Context, tx db.DBTX, skips db.CountSkippedParams, left map[core.DeviceID]removed) (n int,
	err error) {
	if len(skips.Seqs) == 0 {
		return 0, nil
	}
	rows, err := storage.Queries.CountSkipped(ctx, tx, skips)
	if err != nil {
		return 0, err
	}
	var drops db.DeleteMessagesParams
	dropped := map[core.DeviceID][]int64{}
	for _, row := range rows {
		if row.Skipped < maxSkips {
			continue
		}
		drops.DeviceIds, drops.Seqs = append(drops.DeviceIds, row.DeviceID), append(drops.Seqs, row.Seq)
		dropped[row.DeviceID] = append(dropped[row.DeviceID], row.Seq)
		g := left[row.DeviceID]
		left[row.DeviceID] = removed{n: g.n + 1, acked: g.acked}
	}
	if len(drops.Seqs) == 0 {
		return 0, nil
	}
	if _, err := storage.Queries.DeleteMessages(ctx, tx, drops); err != nil {
		return 0, err
	}
	return len(drops.Seqs), recordGaps(ctx, tx, dropped, core.GapQuarantined)
}
