package mailbox

import (
	"context"
	"time"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Acknowledge deletes envelopes by sequence, and gaps that were reported before one of them. It
// takes them without waiting, to be worked on for many devices at once and tried again until it is
// done. An error means that nothing was taken: the relay stops, or far more of the device waits
// than its mailbox holds. Sequences that are not in the mailbox are ignored.
func (s *Service) Acknowledge(device core.DeviceID, sequences []int64, reported []core.Gap) error {
	if len(sequences) == 0 {
		return nil
	}
	return s.of(device).acks.add(ack{device: device, seqs: sequences, gaps: reported})
}

// forget works on a batch of acknowledgements, again and again until it is done or the process must
// end: then the envelopes are delivered once more.
func (s *Service) forget(ctx context.Context, b *bucket, acks []*ack) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.givenUp, cancel)()
	for pause := 50 * time.Millisecond; s.tryForget(ctx, b, acks) != nil; pause = min(2*pause, 2*time.Second) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
	select {
	case b.acked <- struct{}{}:
	default:
	}
}

// GiveUp makes acknowledgements that have not been worked on be forgotten, now: the database is
// unavailable and the process has to end.
func (s *Service) GiveUp() { s.giveUp() }

func (s *Service) tryForget(ctx context.Context, b *bucket, acks []*ack) error {
	ctx, cancel := context.WithTimeout(ctx, s.txTime)
	defer cancel()
	deletes, skips := envelopes{Bucket: b.number}, envelopes{Bucket: b.number}
	told := gapRanges{Bucket: b.number}
	var devices []core.DeviceID
	for _, a := range acks {
		devices = append(devices, a.device)
		deletes.add(a.device, a.seqs)
		skips.add(a.device, a.skipped)
		for _, g := range a.gaps {
			told.add(a.device, g.From, g.To)
		}
	}
	devices = core.LockOrder(devices)
	deleted, quarantined := 0, 0
	err := s.cfg.Async.In(b.number).InPipeline(ctx, func(tx *storage.Tx) error {
		if err := storage.Queries.HoldMailboxes(ctx, tx,
			db.HoldMailboxesParams{Bucket: b.number, DeviceIds: devices}); err != nil {
			return err
		}
		rows, err := storage.Queries.DeleteMessages(ctx, tx, db.DeleteMessagesParams(deletes))
		if err != nil {
			return err
		}
		left := removals{}
		for _, row := range rows {
			left.add(row.DeviceID, 1, row.Seq)
		}
		if err := told.forget(ctx, tx); err != nil {
			return err
		}
		deleted = len(rows)
		if quarantined, err = passOver(ctx, tx, skips, left); err != nil {
			return err
		}
		return left.settle(ctx, tx)
	})
	if err == nil {
		s.cfg.Counters.Acknowledged(deleted)
		s.cfg.Counters.Dropped(core.GapQuarantined, quarantined)
	}
	return err
}
