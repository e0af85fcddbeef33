package mailbox

import (
	"context"
	"slices"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// lockBoxes locks the mailboxes of these devices, which must be in order. Devices without one are left
// out of the result.
func lockBoxes(ctx context.Context, tx db.DBTX, devices []core.DeviceID) (map[core.DeviceID]*box, error) {
	boxes := make(map[core.DeviceID]*box, len(devices))
	if len(devices) == 0 {
		return boxes, nil
	}
	rows, err := storage.Queries.LockMailboxes(ctx, tx, devices)
	for _, row := range rows {
		boxes[row.DeviceID] = &box{next: row.NextSeq, floor: row.FloorSeq, pending: row.Pending, now: row.Now}
	}
	return boxes, err
}

// makeRoom drops from the mailboxes that are over the cap, each time the oldest envelope of the sender
// who holds most of the box: a flood evicts itself, not others' mail. A box is read once however much
// was added, so the cost is bounded by the cap and does not depend on the size of any table.
func makeRoom(ctx context.Context, tx db.DBTX, boxes map[core.DeviceID]*box, done *stored) error {
	for device, b := range boxes {
		if b.pending <= core.MailboxCap {
			continue
		}
		q := storage.Queries
		rows, err := q.PendingSenders(ctx, tx, db.PendingSendersParams{DeviceID: device, FloorSeq: b.floor})
		if err != nil {
			return err
		}
		dropped := surplus(rows, len(rows)-core.MailboxCap)
		if err := q.DropSequences(ctx, tx, db.DropSequencesParams{DeviceID: device, Seqs: dropped}); err != nil {
			return err
		}
		b.pending -= int32(len(dropped)) //nolint:gosec // at most a batch
		b.dropped = dropped
		done.dropped += len(dropped)
		if err := recordGaps(ctx, tx, device, dropped, core.GapCap); err != nil {
			return err
		}
	}
	return nil
}

// surplus chooses n envelopes to drop, one by one: the oldest of the sender who holds most, and of two
// who hold the same the one with the older envelope.
func surplus(rows []db.PendingSendersRow, n int) []int64 {
	held := map[core.UserID][]int64{}
	var senders []core.UserID // in the order of their oldest envelope
	for _, row := range rows {
		if held[row.SenderID] == nil {
			senders = append(senders, row.SenderID)
		}
		held[row.SenderID] = append(held[row.SenderID], row.Seq)
	}
	dropped := make([]int64, 0, n)
	for range n {
		heaviest := slices.MaxFunc(senders, func(a, b core.UserID) int {
			if d := len(held[a]) - len(held[b]); d != 0 {
				return d
			}
			return int(held[b][0] - held[a][0])
		})
		dropped = append(dropped, held[heaviest][0])
		held[heaviest] = held[heaviest][1:]
	}
	return dropped
}

// recordGaps writes down what was dropped from a mailbox whose lock is held. Ranges that touch become
// one, so a mailbox under a flood for weeks has few.
func recordGaps(ctx context.Context, tx db.DBTX, device core.DeviceID, dropped []int64, reason core.GapReason) error {
	q := storage.Queries
	rows, err := q.LockGaps(ctx, tx, device)
	if err != nil {
		return err
	}
	known := make([]core.Gap, 0, len(rows)+len(dropped))
	for _, row := range rows {
		known = append(known, core.Gap{From: row.FromSeq, To: row.ToSeq, Reason: core.GapReason(row.Reason)})
	}
	all := slices.Clone(known)
	for _, seq := range dropped {
		all = append(all, core.Gap{From: seq, To: seq, Reason: reason})
	}
	all = mergeGaps(all)
	forget, insert := db.ForgetGapsParams{}, db.InsertGapsParams{DeviceID: device}
	for _, g := range known {
		if !slices.Contains(all, g) {
			forget.DeviceIds = append(forget.DeviceIds, device)
			forget.FromSeqs, forget.ToSeqs = append(forget.FromSeqs, g.From), append(forget.ToSeqs, g.To)
		}
	}
	for _, g := range all {
		if !slices.Contains(known, g) {
			insert.FromSeqs, insert.ToSeqs = append(insert.FromSeqs, g.From), append(insert.ToSeqs, g.To)
			insert.Reasons = append(insert.Reasons, int16(g.Reason))
		}
	}
	if err := q.ForgetGaps(ctx, tx, forget); err != nil {
		return err
	}
	return q.InsertGaps(ctx, tx, insert)
}

// mergeGaps sorts ranges that do not overlap and joins those that touch and have one reason.
func mergeGaps(gaps []core.Gap) []core.Gap {
	slices.SortFunc(gaps, func(a, b core.Gap) int { return int(a.From - b.From) })
	merged := gaps[:0]
	for _, g := range gaps {
		if last := len(merged) - 1; last >= 0 && merged[last].To+1 == g.From && merged[last].Reason == g.Reason {
			merged[last].To = g.To
			continue
		}
		merged = append(merged, g)
	}
	return merged
}

// TakeOver drops all pending mail of a device whose identity key is being replaced, records the gap,
// and makes its open sockets out of date: those below the returned generation.
func TakeOver(ctx context.Context, tx db.DBTX, device core.DeviceID) (generation int64, err error) {
	q := storage.Queries
	if generation, err = q.SupersedeSockets(ctx, tx, device); err != nil { // locks the mailbox
		return 0, err
	}
	dropped, err := q.DropAll(ctx, tx, device)
	if err != nil || len(dropped) == 0 {
		return generation, err
	}
	return generation, settleOne(ctx, tx, device, dropped, core.GapTakeover)
}

// gone is how many envelopes left a mailbox, and the highest of them that was acknowledged.
type gone struct {
	n     int32
	acked int64
}

// settle writes that envelopes have gone from mailboxes whose locks are held.
func settle(ctx context.Context, tx db.DBTX, boxes map[core.DeviceID]gone) error {
	arg := db.SettleMailboxesParams{}
	for device, g := range boxes {
		arg.DeviceIds, arg.Gone, arg.AckedSeqs = append(arg.DeviceIds, device), append(arg.Gone, g.n), append(arg.AckedSeqs, g.acked)
	}
	if len(arg.Gone) == 0 {
		return nil
	}
	return storage.Queries.SettleMailboxes(ctx, tx, arg)
}

// settleOne writes that envelopes of one mailbox were dropped.
func settleOne(ctx context.Context, tx db.DBTX, device core.DeviceID, dropped []int64, reason core.GapReason) error {
	if err := recordGaps(ctx, tx, device, dropped, reason); err != nil {
		return err
	}
	return settle(ctx, tx, map[core.DeviceID]gone{device: {n: int32(len(dropped))}}) //nolint:gosec // at most the cap
}

// expireStep is how many expired envelopes one transaction drops.
const expireStep = 500

// Expire drops the expired envelopes of a mailbox and records the gap, a bounded number in each
// transaction.
func (s *Service) Expire(ctx context.Context, device core.DeviceID) error {
	for {
		var dropped []int64
		err := s.db.InTx(ctx, func(tx db.DBTX) error {
			boxes, err := lockBoxes(ctx, tx, []core.DeviceID{device})
			if err != nil || boxes[device] == nil {
				return err
			}
			dropped, err = storage.Queries.DropExpired(ctx, tx, db.DropExpiredParams{DeviceID: device,
				FloorSeq: boxes[device].floor, Lifetime: storage.Interval(core.EnvelopeLifetime), MaxRows: expireStep})
			if err != nil || len(dropped) == 0 {
				return err
			}
			return settleOne(ctx, tx, device, dropped, core.GapExpired)
		})
		if err != nil {
			return err
		}
		if len(dropped) == 0 {
			return nil
		}
		s.counters.Dropped(core.GapExpired, len(dropped))
	}
}
