package mailbox

import (
	"context"
	"slices"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// maxSends is how often an envelope is sent that is never acknowledged while later ones are.
const maxSends = 10

// Resend counts that skipped envelopes of a device are about to be sent again, and sets aside those
// that have been sent maxSends times: they are dropped, recorded as a gap and returned.
func (s *Service) Resend(ctx context.Context, device core.DeviceID, sequences []int64) (quarantined []int64, err error) {
	err = s.db.InTx(ctx, func(tx db.DBTX) error {
		quarantined = nil
		boxes, err := lockBoxes(ctx, tx, []core.DeviceID{device})
		if err != nil || boxes[device] == nil {
			return err
		}
		rows, err := storage.Queries.CountSkipped(ctx, tx, db.CountSkippedParams{DeviceID: device, Seqs: sequences})
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.Skipped >= maxSends { // the first sending was not counted, this one has not been made
				quarantined = append(quarantined, row.Seq)
			}
		}
		if quarantined == nil {
			return nil
		}
		drops := db.DeleteMessagesParams{DeviceIds: slices.Repeat([]core.DeviceID{device}, len(quarantined)), Seqs: quarantined}
		if _, err := storage.Queries.DeleteMessages(ctx, tx, drops); err != nil {
			return err
		}
		return settleOne(ctx, tx, device, quarantined, core.GapQuarantined)
	})
	if err != nil {
		return nil, err
	}
	if quarantined != nil {
		s.counters.Dropped(core.GapQuarantined, len(quarantined))
	}
	return quarantined, nil
}
