package push

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

const (
	// sendsAtOnce bounds what is on its way to one push service. Endpoints of Web Push are
	// anybody's: one that hangs holds its place for the whole Times.Send.
	sendsAtOnce = 64
	// strangersAtOnce bounds, beside, what is on its way to endpoints of Web Push that have never
	// answered, or not the last time: anybody can name many that hang, and only such others wait
	// for them.
	strangersAtOnce = 8
	// takeAtOnce bounds what is leased in one statement, and batchesAtOnce how many such batches
	// there are in all buckets: most of their time they wait for the other nodes.
	takeAtOnce    = 100
	batchesAtOnce = 16
)

// lane is one kind of wake-ups: a service that hangs holds up its own only.
type lane struct {
	kind             Kind
	sender           Sender
	slots, strangers chan struct{} // hold a token for every send under way
}

// work is done on the wake-ups of a lane in a bucket until ctx ends.
func (s *Service) work(ctx context.Context, l lane, in *bucket) {
	batches := make(chan struct{}, share(batchesAtOnce, s.cfg.DB.Buckets()))
	var working sync.WaitGroup
	defer working.Wait()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case batches <- struct{}{}:
		}
		b := leasedBatch{lane: l, in: in, taken: time.Now()}
		if err := s.take(ctx, &b); err != nil && ctx.Err() == nil && s.logLimits[l.kind].allow() {
			s.cfg.Logger.Warn("could not read the queue of wake-ups; tried again", "component", "push", "kind",
				l.kind.String(), "error", err)
		}
		working.Go(func() {
			defer func() { <-batches }()
			s.wake(ctx, &b)
		})
		if len(b.leases) == takeAtOnce {
			continue // there may be more
		}
		select {
		case <-ctx.Done():
		case <-time.After(s.cfg.Times.Poll/2 + rand.N(s.cfg.Times.Poll)):
		}
	}
}

// leasedBatch is what was leased together.
type leasedBatch struct {
	lane
	in     *bucket
	taken  time.Time
	leases []lease
}

// lease is one wake-up that this node works on.
type lease struct {
	device   core.DeviceID
	attempts int32
}

// take leases what is due. It is not interrupted: a lease that nobody knows of would have to run
// out.
func (s *Service) take(ctx context.Context, b *leasedBatch) error {
	rows, err := ask(context.WithoutCancel(ctx), s, b.in, storage.Queries.TakeWakeups, db.TakeWakeupsParams{
		Bucket: b.in.number, Kind: int16(b.kind), Lease: storage.Interval(s.cfg.Times.Lease), MaxRows: takeAtOnce})
	for _, row := range rows {
		b.leases = append(b.leases, lease{row.DeviceID, row.Attempts})
	}
	return err
}

// wake finds out which of the leased wake-ups are still wanted, and sends those.
func (s *Service) wake(ctx context.Context, b *leasedBatch) {
	rows, err := s.confirm(ctx, b.in, b.leases)
	if err != nil {
		if ctx.Err() == nil && s.logLimits[b.kind].allow() {
			s.cfg.Logger.Warn("could not look whether wake-ups are still needed; tried again when their lease ends",
				"component", "push", "kind", b.kind.String(), "error", err)
		}
		return // the leases run out
	}
	var sending sync.WaitGroup
	for i := range rows {
		sending.Go(func() { s.finish(ctx, s.send(ctx, b, &rows[i])) })
	}
	sending.Wait()
}

// confirm asks the other nodes for live sockets, gives them a moment to cancel, and reads what is
// left.
func (s *Service) confirm(ctx context.Context, in *bucket, leases []lease) ([]db.LeasedWakeupsRow, error) {
	arg := db.LeasedWakeupsParams{Bucket: in.number, Patience: storage.Interval(s.cfg.Times.Patience)}
	var here []core.DeviceID
	for _, l := range leases {
		if s.cfg.Live(l.device) {
			here = append(here, l.device)
			continue
		}
		arg.DeviceIds, arg.Attempts = append(arg.DeviceIds, l.device), append(arg.Attempts, l.attempts)
	}
	s.Cancel(here...)
	if len(arg.DeviceIds) == 0 {
		return nil, nil
	}
	s.cfg.Ask(arg.DeviceIds)
	select {
	case <-ctx.Done():
	case <-time.After(s.cfg.Times.Ask):
	}
	return ask(context.WithoutCancel(ctx), s, in, storage.Queries.LeasedWakeups, arg)
}

// send sends one wake-up, if it is still wanted.
func (s *Service) send(ctx context.Context, b *leasedBatch, row *db.LeasedWakeupsRow) result {
	r := result{lease: lease{row.DeviceID, row.Attempts}, registeredAt: row.RegisteredAt, seq: row.Seq, kind: b.kind,
		late: row.Late}
	if !row.Wanted {
		return r
	}
	// Whoever waits so long for a slot that the lease would run out gives the wake-up back.
	slots, patience, until := b.slots, s.cfg.Times.Send, b.taken.Add(s.cfg.Times.Lease-s.cfg.Times.Send)
	if b.kind == WebPush {
		if row.Answered && row.Attempts == 1 {
			patience /= 4 // who is slower is a stranger the next time
		} else {
			slots, until = b.strangers, time.Now().Add(s.cfg.Times.Send/10)
		}
	}
	waiting, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	select {
	case <-waiting.Done():
		r.interrupted, r.crowded = true, slots == b.strangers && ctx.Err() == nil
		return r
	case slots <- struct{}{}:
	}
	defer func() { <-slots }()
	if s.cfg.Live(row.DeviceID) {
		return r
	}
	sending, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r.Result = b.sender.Send(sending, Token{Kind: b.kind, Address: row.Address, P256dh: row.P256dh, Auth: row.Auth})
	r.interrupted = r.Outcome == Failed && ctx.Err() != nil
	return r
}
