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
	return s.acks.add(ack{device: device, seqs: sequences, gaps: reported})
}

// forget works on a batch of acknowledgements, again and again until it is done or the process must
// end: then the envelopes are delivered once more.
func (s *Service) forget(ctx context.Context, acks []*ack) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.givenUp, cancel)()
	for pause := 50 * time.Millisecond; s.tryForget(ctx, acks) != nil; pause = min(2*pause, 2*time.Second) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
	select {
	case s.acked <- struct{}{}:
	default:
	}
}

// GiveUp makes acknowledgements that have not been worked on be forgotten, now: the database is
// unavailable and the process has to end.
func (s *Service) GiveUp() { s.giveUp() }

func (s *Service) tryForget(ctx context.Context, acks []*ack) error {
	ctx, cancel := context.WithTimeout(ctx, s.txTime)
	defer cancel()
	var deletes db.DeleteMessagesParams
	var gaps db.ForgetGapsParams
	var skips db.CountSkippedParams
	var devices []core.DeviceID
	for _, a := range acks {
		devices = append(devices, a.device)
		for _, seq := range a.seqs {
			deletes.DeviceIds, deletes.Seqs = append(deletes.DeviceIds, a.device), append(deletes.Seqs, seq)
		}
		for _, g := range a.gaps {
			gaps.DeviceIds = append(gaps.DeviceIds, a.device)
			gaps.FromSeqs, gaps.ToSeqs = append(gaps.FromSeqs, g.From), append(gaps.ToSeqs, g.To)
		}
		for _, seq := range a.skipped {
			skips.DeviceIds, skips.Seqs = append(skips.DeviceIds, a.device), append(skips.Seqs, seq)
		}
	}
	devices = core.LockOrder(devices)
	deleted, quarantined := 0, 0
	err := s.async.InPipeline(ctx, func(tx db.DBTX) error {
		if err := storage.Queries.HoldMailboxes(ctx, tx, devices); err != nil {
			return err
		}
		rows, err := storage.Queries.DeleteMessages(ctx, tx, deletes)
		if err != nil {
			return err
		}
		left := map[core.DeviceID]removed{}
		for _, row := range rows {
			g := left[row.DeviceID]
			left[row.DeviceID] = removed{n: g.n + 1, acked: max(g.acked, row.Seq)}
		}
		if len(gaps.FromSeqs) > 0 {
			if err := storage.Queries.ForgetGaps(ctx, tx, gaps); err != nil {
				return err
			}
		}
		deleted = len(rows)
		if quarantined, err = passOver(ctx, tx, skips, left); err != nil {
			return err
		}
		return settle(ctx, tx, left)
	})
	if err == nil {
		s.counters.Acknowledged(deleted)
		s.counters.Dropped(core.GapQuarantined, quarantined)
	}
	return err
}
