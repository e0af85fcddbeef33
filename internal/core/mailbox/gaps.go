package mailbox

import (
	"context"
	"slices"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// gapRows is how many gaps one read brings.
const gapRows = 256

// Gaps returns, in order, what was dropped and not forgotten yet: the next gaps that reach above a
// sequence and begin at or below last. There may be more above the last of them.
func (s *Service) Gaps(ctx context.Context, device core.DeviceID, after, last int64) (gaps []core.Gap, more bool,
	err error) {
	rows, err := storage.Ask(ctx, s.cfg.DB.Of(device), storage.Queries.NextGaps,
		db.NextGapsParams{Bucket: s.cfg.DB.Buckets().Bucket(device), DeviceID: device, AfterSeq: after,
			LastSeq: last, MaxRows: gapRows})
	gaps = make([]core.Gap, len(rows))
	for i, row := range rows {
		gaps[i] = core.Gap{From: row.FromSeq, To: row.ToSeq, Reason: core.GapReason(row.Reason)}
	}
	return gaps, len(rows) == gapRows, err
}

// gapRanges names gaps of mailboxes of one bucket, as the statements take them.
type gapRanges db.ForgetGapsParams

func (r *gapRanges) add(device core.DeviceID, from, to int64) {
	r.DeviceIds = append(r.DeviceIds, device)
	r.FromSeqs, r.ToSeqs = append(r.FromSeqs, from), append(r.ToSeqs, to)
}

func (r *gapRanges) forget(ctx context.Context, tx *storage.Tx) error {
	if len(r.FromSeqs) == 0 {
		return nil
	}
	return storage.Queries.ForgetGaps(ctx, tx, db.ForgetGapsParams(*r))
}

// gapStart is the primary key of a gap.
type gapStart struct {
	device core.DeviceID
	from   int64
}

// recordGaps writes down what was dropped from mailboxes whose locks are held. Ranges that touch
// become one, so a mailbox under a flood for weeks has few. Only what is next to them is looked up:
// it costs by what was dropped, not by what has been. All are of one bucket.
func recordGaps(ctx context.Context, tx *storage.Tx, dropped envelopes, reason core.GapReason) error {
	all := map[core.DeviceID][]core.Gap{}
	for i, seq := range dropped.Seqs {
		device := dropped.DeviceIds[i]
		all[device] = append(all[device], core.Gap{From: seq, To: seq, Reason: reason})
	}
	around := gapRanges{Bucket: dropped.Bucket}
	for device, gaps := range all {
		all[device] = mergeGaps(gaps)
		for _, g := range all[device] {
			around.add(device, g.From, g.To)
		}
	}
	rows, err := storage.Queries.GapNeighbours(ctx, tx, db.GapNeighboursParams(around))
	if err != nil {
		return err
	}
	known := map[gapStart]int64{} // where the gaps that are there end
	for _, row := range rows {
		for _, g := range [...]core.Gap{{From: row.BeforeFrom, To: row.BeforeTo,
			Reason: core.GapReason(row.BeforeReason)},
			{From: row.AfterFrom, To: row.AfterTo, Reason: core.GapReason(row.AfterReason)}} {
			at := gapStart{row.DeviceID, g.From}
			if _, twice := known[at]; g.From > 0 && !twice {
				known[at] = g.To
				all[row.DeviceID] = append(all[row.DeviceID], g)
			}
		}
	}
	return writeGaps(ctx, tx, dropped.Bucket, all, known, reason)
}

// writeGaps writes what differs from the gaps that are known to be there, in mailboxes of a bucket.
func writeGaps(ctx context.Context, tx *storage.Tx, bucket int16, all map[core.DeviceID][]core.Gap,
	known map[gapStart]int64, reason core.GapReason) error {
	forget := gapRanges{Bucket: bucket}
	var insert, extend gapRanges
	for device, gaps := range all {
		for _, g := range mergeGaps(gaps) {
			at := gapStart{device, g.From}
			to, there := known[at]
			delete(known, at)
			switch {
			case !there:
				insert.add(device, g.From, g.To)
			case to != g.To:
				extend.add(device, g.From, g.To)
			}
		}
	}
	for at, to := range known { // part of the one before now
		forget.add(at.device, at.from, to)
	}
	if err := forget.forget(ctx, tx); err != nil {
		return err
	}
	if len(extend.FromSeqs) > 0 {
		if err := storage.Queries.ExtendGaps(ctx, tx, db.ExtendGapsParams{Bucket: bucket, DeviceIds: extend.DeviceIds,
			FromSeqs: extend.FromSeqs, ToSeqs: extend.ToSeqs}); err != nil {
			return err
		}
	}
	if len(insert.FromSeqs) == 0 {
		return nil
	}
	return storage.Queries.InsertGaps(ctx, tx, db.InsertGapsParams{Bucket: bucket, DeviceIds: insert.DeviceIds,
		FromSeqs: insert.FromSeqs, ToSeqs: insert.ToSeqs, Reason: int16(reason)})
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
