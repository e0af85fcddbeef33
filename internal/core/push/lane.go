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
	// sendsAtOnce bounds what is on its way to one push service. Endpoints of Web Push are anybody's: one
	// that hangs holds its place for the whole Times.Send.
	sendsAtOnce = 64
	// takeAtOnce bounds what is leased in one statement.
	takeAtOnce = 100
)

// lane works on the wake-ups of one kind until ctx ends, so that a service that hangs holds up its own
// only.
func (s *Service) lane(ctx context.Context, kind Kind, sender Sender) {
	slots := make(chan struct{}, sendsAtOnce)
	var working sync.WaitGroup
	defer working.Wait()
	for ctx.Err() == nil {
		free := acquire(ctx, slots)
		leases, err := s.take(ctx, kind, free)
		for range free - len(leases) {
			<-slots
		}
		if err != nil && ctx.Err() == nil && s.said[kind].allow() {
			s.cfg.Logger.Warn("the queue of wake-ups cannot be read", "kind", kind.String(), "error", err)
		}
		if len(leases) > 0 {
			working.Go(func() { s.wake(ctx, kind, sender, leases, slots) })
			if len(leases) == free {
				continue // there may be more
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(s.cfg.Times.Poll/2 + rand.N(s.cfg.Times.Poll)):
		}
	}
}

// acquire waits for a slot, and takes more while there are.
func acquire(ctx context.Context, slots chan struct{}) int {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	for n := 1; n < takeAtOnce; n++ {
		select {
		case slots <- struct{}{}:
		default:
			return n
		}
	}
	return takeAtOnce
}

// lease is one wake-up that this node works on.
type lease struct {
	device   core.DeviceID
	attempts int32
}

func (s *Service) take(ctx context.Context, kind Kind, n int) ([]lease, error) {
	if n == 0 {
		return nil, nil
	}
	var leases []lease
	err := s.do(ctx, func(ctx context.Context, conn db.DBTX) error {
		rows, err := storage.Queries.TakeWakeups(ctx, conn, db.TakeWakeupsParams{Kind: int16(kind), MaxRows: int32(n), //nolint:gosec // at most 100
			Lease: storage.Interval(s.cfg.Times.Lease)})
		for _, row := range rows {
			leases = append(leases, lease{row.DeviceID, row.Attempts})
		}
		return err
	})
	return leases, err
}

// wake finds out which of the leased wake-ups are still wanted, and sends those.
func (s *Service) wake(ctx context.Context, kind Kind, sender Sender, leases []lease, slots chan struct{}) {
	held := len(leases)
	defer func() {
		for range held {
			<-slots
		}
	}()
	rows, err := s.confirm(ctx, leases)
	if err != nil {
		if ctx.Err() == nil && s.said[kind].allow() {
			s.cfg.Logger.Warn("wake-ups not sent; they are tried again", "kind", kind.String(), "error", err)
		}
		return // the leases run out
	}
	var sending sync.WaitGroup
	for i := range rows {
		held--
		sending.Go(func() {
			defer func() { <-slots }()
			s.finish(ctx, s.send(ctx, kind, sender, &rows[i]))
		})
	}
	sending.Wait()
}

// confirm asks the other nodes for live sockets, gives them a moment to cancel, and reads what is left.
func (s *Service) confirm(ctx context.Context, leases []lease) ([]db.LeasedWakeupsRow, error) {
	arg := db.LeasedWakeupsParams{Patience: storage.Interval(s.cfg.Times.Patience)}
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
	var rows []db.LeasedWakeupsRow
	err := s.do(context.WithoutCancel(ctx), func(ctx context.Context, conn db.DBTX) (err error) {
		rows, err = storage.Queries.LeasedWakeups(ctx, conn, arg)
		return err
	})
	return rows, err
}

// send sends one wake-up, if it is still wanted.
func (s *Service) send(ctx context.Context, kind Kind, sender Sender, row *db.LeasedWakeupsRow) result {
	r := result{lease: lease{row.DeviceID, row.Attempts}, registeredAt: row.RegisteredAt, seq: row.Seq, kind: kind, late: row.Late}
	switch {
	case !row.Wanted || s.cfg.Live(row.DeviceID):
		return r
	case ctx.Err() != nil:
		r.interrupted = true
		return r
	}
	sending, cancel := context.WithTimeout(ctx, s.cfg.Times.Send)
	defer cancel()
	r.Result = sender.Send(sending, Token{Kind: kind, Address: row.Address, P256dh: row.P256dh, Auth: row.Auth})
	r.interrupted = r.Outcome == Failed && ctx.Err() != nil
	return r
}
