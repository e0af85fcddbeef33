package mailbox

import (
	"container/heap"
	"context"
	"errors"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// maxFull is how many full mailboxes one transaction makes room in: each costs a read of the cap's
// worth of rows, and while it lasts their owners' acknowledgements wait.
const maxFull = 64

// errManyFull asks for smaller batches.
var errManyFull = errors.New("too many full mailboxes for one transaction")

// makeRoom drops from the mailboxes that are over the cap, each time the oldest envelope of the
// sender who holds most of the box: a flood evicts itself, not others' mail. A box is read once
// however much was added, so the cost is bounded by the cap and does not depend on the size of any
// table.
func (p *pass) makeRoom(ctx context.Context) error {
	full := db.PendingSendersParams{Bucket: p.bucket}
	for device, m := range p.mailboxes {
		if m.pending > core.MailboxCap {
			full.DeviceIds, full.FloorSeqs = append(full.DeviceIds, device), append(full.FloorSeqs, m.floor)
		}
	}
	if len(full.DeviceIds) == 0 {
		return nil
	}
	if len(full.DeviceIds) > maxFull && len(p.requests) > 1 {
		return errManyFull
	}
	rows, err := storage.Queries.PendingSenders(ctx, p.tx, full)
	if err != nil {
		return err
	}
	dropped := envelopes{Bucket: p.bucket}
	for len(rows) > 0 {
		device, n := rows[0].DeviceID, 0
		for n < len(rows) && rows[n].DeviceID == device {
			n++
		}
		m := p.mailboxes[device]
		m.dropped = surplus(rows[:n], max(0, n-core.MailboxCap))
		m.pending = int32(n - len(m.dropped)) //nolint:gosec // at most the cap; the rows decide, should the count ever be wrong
		dropped.add(device, m.dropped)
		rows = rows[n:]
	}
	p.dropped += len(dropped.Seqs)
	return drop(ctx, p.tx, dropped, core.GapCap)
}

// surplus chooses n envelopes of one mailbox to drop, one by one: the oldest of the sender who
// holds most, and of two who hold the same the one with the older envelope.
func surplus(rows []db.PendingSendersRow, n int) []int64 {
	held := map[core.UserID]int{} // the sender's place in all
	var all shares
	for _, row := range rows {
		i, known := held[row.SenderID]
		if !known {
			i = len(all)
			held[row.SenderID] = i
			all = append(all, nil)
		}
		all[i] = append(all[i], row.Seq)
	}
	heap.Init(&all)
	dropped := make([]int64, 0, n)
	for range n {
		dropped = append(dropped, all[0][0])
		if all[0] = all[0][1:]; len(all[0]) == 0 {
			heap.Pop(&all)
			continue
		}
		heap.Fix(&all, 0)
	}
	return dropped
}

// shares is a heap of what each sender holds, oldest first; on top is the sender who holds most.
// None is empty: there may be more senders with one envelope each than a mailbox holds.
type shares [][]int64

func (s shares) Len() int      { return len(s) }
func (s shares) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s shares) Less(i, j int) bool {
	if len(s[i]) != len(s[j]) {
		return len(s[i]) > len(s[j])
	}
	return s[i][0] < s[j][0]
}

// Push implements heap.Interface.
func (s *shares) Push(x any) { *s = append(*s, x.([]int64)) }

// Pop implements heap.Interface.
func (s *shares) Pop() any {
	last := len(*s) - 1
	x := (*s)[last]
	*s = (*s)[:last]
	return x
}

// TakeOver drops all pending mail of a device whose identity key is being replaced, records the
// gap, and makes its open sockets out of date: those below the returned generation. version is that
// of the user's devices from now on. It returns how many were dropped, to be counted after the
// commit.
func TakeOver(ctx context.Context, tx *storage.Tx, device core.DeviceID, version int64) (generation int64, n int,
	err error) {
	q, place := storage.Queries, tx.Place(device)
	// This locks the mailbox.
	if generation, err = q.SupersedeSockets(ctx, tx, db.SupersedeSocketsParams{TakeoverVersion: version,
		Bucket: place.Bucket, DeviceID: device}); err != nil {
		return 0, 0, err
	}
	dropped, err := q.DropAll(ctx, tx, db.DropAllParams(place))
	if err != nil || len(dropped) == 0 {
		return generation, 0, err
	}
	return generation, len(dropped), settleOne(ctx, tx, device, dropped, core.GapTakeover)
}

// envelopes names envelopes of mailboxes of one bucket, as the statements take them.
type envelopes db.DeleteMessagesParams

func (e *envelopes) add(device core.DeviceID, sequences []int64) {
	for _, seq := range sequences {
		e.DeviceIds, e.Seqs = append(e.DeviceIds, device), append(e.Seqs, seq)
	}
}

// drop deletes envelopes of mailboxes whose locks are held, and records the gaps.
func drop(ctx context.Context, tx *storage.Tx, dropped envelopes, reason core.GapReason) error {
	if len(dropped.Seqs) == 0 {
		return nil
	}
	if _, err := storage.Queries.DeleteMessages(ctx, tx, db.DeleteMessagesParams(dropped)); err != nil {
		return err
	}
	return recordGaps(ctx, tx, dropped, reason)
}

// removals are, of each mailbox, how many envelopes left it and the highest of them that was
// acknowledged.
type removals map[core.DeviceID]struct {
	n     int32
	acked int64
}

func (r removals) add(device core.DeviceID, n int, acked int64) {
	sum := r[device]
	sum.n += int32(n) //nolint:gosec // at most the cap
	sum.acked = max(sum.acked, acked)
	r[device] = sum
}

// settle writes that envelopes have left mailboxes of one bucket whose locks are held.
func (r removals) settle(ctx context.Context, tx *storage.Tx) error {
	arg := db.SettleMailboxesParams{}
	for device, sum := range r {
		arg.Bucket = tx.Bucket(device)
		arg.DeviceIds, arg.Gone = append(arg.DeviceIds, device), append(arg.Gone, sum.n)
		arg.AckedSeqs = append(arg.AckedSeqs, sum.acked)
	}
	if len(arg.Gone) == 0 {
		return nil
	}
	return storage.Queries.SettleMailboxes(ctx, tx, arg)
}

// settleOne writes that envelopes of one mailbox were dropped.
func settleOne(ctx context.Context, tx *storage.Tx, device core.DeviceID, sequences []int64,
	reason core.GapReason) error {
	dropped := envelopes{Bucket: tx.Bucket(device)}
	dropped.add(device, sequences)
	if err := recordGaps(ctx, tx, dropped, reason); err != nil {
		return err
	}
	left := removals{}
	left.add(device, len(sequences), 0)
	return left.settle(ctx, tx)
}

// expireStep is how many expired envelopes one transaction drops.
const expireStep = 500

// Expire drops the expired envelopes of a mailbox and records the gap, a bounded number in each
// transaction.
func (s *Service) Expire(ctx context.Context, device core.DeviceID) error {
	ctx, cancel := context.WithTimeout(ctx, s.txTime)
	defer cancel()
	for {
		var dropped []int64
		err := s.cfg.DB.Of(device).InTx(ctx, func(tx *storage.Tx) error {
			locked, err := lockMailboxes(ctx, tx, tx.Bucket(device), []core.DeviceID{device})
			if err != nil || locked[device] == nil {
				return err
			}
			dropped, err = storage.Queries.DropExpired(ctx, tx, db.DropExpiredParams{
				Bucket: tx.Bucket(device), DeviceID: device, FloorSeq: locked[device].floor,
				Lifetime: storage.Interval(core.EnvelopeLifetime), MaxRows: expireStep})
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
		s.cfg.Counters.Dropped(core.GapExpired, len(dropped))
	}
}
