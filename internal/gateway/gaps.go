package gateway

import (
	"cmp"
	"context"
	"slices"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
)

const (
	// lateGapsEvery is after how many acknowledgements the gaps are looked at behind the cursor.
	// Only between acknowledgements can drops leave gaps apart from each other, so this bounds
	// their number.
	lateGapsEvery = 512
	// maxReported is how many gaps a delivery remembers; those beyond it are told again. As many as
	// an acknowledging device can make of its mailbox between two looks, and as many that are being
	// forgotten.
	maxReported = 2 * (core.MailboxCap + lateGapsEvery)
)

// reported is a gap that was told on this socket, as it was stored then.
type reported struct {
	core.Gap
	// past says that a later envelope has been acknowledged. The mailbox forgets the gap, in a
	// moment; until a look has not found it any more it counts as told.
	past bool
}

// eachGap calls tell with each gap that reaches above a sequence and begins at or below last.
func (d *delivery) eachGap(more bool, after, last int64, tell func(core.Gap) error) error {
	for more {
		var gaps []core.Gap
		err := d.to.ask(func(ctx context.Context) (err error) {
			gaps, more, err = d.mailbox.Gaps(ctx, d.device, after, last)
			return err
		})
		if err != nil {
			return err
		}
		for _, gap := range gaps {
			if err := tell(gap); err != nil {
				return err
			}
			after = gap.To
		}
	}
	return nil
}

// sendGap tells of a part of a gap. Once its end is told the gap may be forgotten, as it is stored
// now.
func (d *delivery) sendGap(gap core.Gap, from, to int64) error {
	if err := d.tell(core.Gap{From: from, To: to, Reason: gap.Reason}); err != nil {
		return err
	}
	d.told = max(d.told, to)
	if to == gap.To {
		d.remember(gap)
	}
	return nil
}

func (d *delivery) tell(gap core.Gap) error {
	return d.to.send(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Gap{Gap: &obscurapb.Gap{
		From: uint64(gap.From), To: uint64(gap.To), Reason: obscurapb.Gap_Reason(gap.Reason)}}}, 0) //nolint:gosec // positive
}

// remember notes that all of a gap has been told. What it has grown out of is told with it.
func (d *delivery) remember(gap core.Gap) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, j := d.overlapping(gap)
	d.reported = slices.Replace(d.reported, i, j, reported{Gap: gap})
	d.reported = d.reported[:min(len(d.reported), maxReported)]
}

// overlapping returns where in reported the gaps are that share sequences with one.
func (d *delivery) overlapping(gap core.Gap) (i, j int) {
	i, _ = slices.BinarySearchFunc(d.reported, gap.From, func(r reported, from int64) int {
		return cmp.Compare(r.To, from)
	})
	for j = i; j < len(d.reported) && d.reported[j].From <= gap.To; j++ { // they do not overlap each other
	}
	return i, j
}

// untold returns the parts of a gap that have not been told on this socket, and marks the others as
// found.
func (d *delivery) untold(gap core.Gap, found map[int64]bool) (parts []core.Gap) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, j := d.overlapping(gap)
	next := gap.From
	for _, r := range d.reported[i:j] {
		found[r.From] = true
		if r.From > next {
			parts = append(parts, core.Gap{From: next, To: r.From - 1, Reason: gap.Reason})
		}
		next = r.To + 1
	}
	if next <= gap.To {
		parts = append(parts, core.Gap{From: next, To: gap.To, Reason: gap.Reason})
	}
	return parts
}

// passed takes out the reported gaps that an acknowledgement of a sequence makes forgotten. The
// caller holds the lock.
func (d *delivery) passed(sequence int64) (gaps []core.Gap) {
	for i := range d.reported {
		if r := &d.reported[i]; !r.past && r.To < sequence {
			r.past = true
			gaps = append(gaps, r.Gap)
		}
	}
	return gaps
}

// sendLateGaps tells of what was sent on this socket and dropped since, so that it can be
// forgotten. What was told is not told again, also when it is still stored.
func (d *delivery) sendLateGaps() error {
	cursor, found := d.cursor.Load(), map[int64]bool{}
	d.mu.Lock()
	before := slices.Clone(d.reported)
	d.mu.Unlock()
	err := d.eachGap(d.begun, 0, cursor, func(gap core.Gap) error {
		parts := d.untold(gap, found)
		if gap.To > cursor { // it goes on, and is told with what follows it
			return nil
		}
		for _, part := range parts {
			if err := d.tell(part); err != nil {
				return err
			}
		}
		if len(parts) > 0 {
			d.remember(gap)
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range before { // what the mailbox has forgotten never comes back
		if i, j := d.overlapping(r.Gap); r.past && !found[r.From] && j == i+1 && d.reported[i] == r {
			d.reported = slices.Delete(d.reported, i, j)
		}
	}
	return nil
}
