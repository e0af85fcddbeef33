package push

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// cancelLinger is how long devices are collected before their wake-ups are cancelled: well below
// Ask.
const cancelLinger = 20 * time.Millisecond

// Schedule says that these devices may have mail and no live socket. It costs the caller an entry
// in a set; what is true of it is found out later, in one statement for all.
func (s *Service) Schedule(devices ...core.DeviceID) { s.due.add(devices) }

// Cancel says that these devices have a live socket.
func (s *Service) Cancel(devices ...core.DeviceID) {
	s.due.remove(devices)
	s.cancelled.add(devices)
}

func (s *Service) schedule(ctx context.Context, devices []core.DeviceID) error {
	for bucket, some := range s.cfg.DB.Buckets().Divide(devices) {
		jitters := make([]int64, len(some))
		for i := range jitters {
			jitters[i] = rand.N(s.cfg.Times.Jitter + 1).Milliseconds()
		}
		if _, err := ask(ctx, s, storage.Queries.ScheduleWakeups, db.ScheduleWakeupsParams{Bucket: bucket,
			DeviceIds: some, JittersMs: jitters, Kinds: s.kinds, Grace: storage.Interval(s.cfg.Times.Grace),
			Pause: storage.Interval(s.cfg.Times.Pause)}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) cancel(ctx context.Context, devices []core.DeviceID) (err error) {
	for bucket, some := range s.cfg.DB.Buckets().Divide(devices) {
		var n int64
		if n, err = ask(ctx, s, storage.Queries.CancelWakeups,
			db.CancelWakeupsParams{Bucket: bucket, DeviceIds: some}); err != nil {
			break
		}
		s.cfg.Counters.WakeupsCancelled(int(n))
	}
	if err != nil && s.flushFailed.allow() {
		s.cfg.Logger.Warn("could not cancel wake-ups; looked at again when they are due", "component", "push", "error",
			err)
	}
	return nil
}

// sweepStep is how many tokens one step of a sweep looks at.
const sweepStep = 1000

// Sweep walks all tokens in bounded steps and schedules what was forgotten with a process.
func (s *Service) Sweep(ctx context.Context) error {
	for bucket := range s.cfg.DB.Buckets().All() {
		for after := uuid.Nil; ; {
			devices, err := ask(ctx, s, storage.Queries.PushTokensAfter,
				db.PushTokensAfterParams{Bucket: bucket, AfterDevice: after, MaxRows: sweepStep})
			if err != nil {
				return err
			}
			if len(devices) == 0 {
				break
			}
			if err := s.schedule(ctx, devices); err != nil {
				return err
			}
			after = devices[len(devices)-1]
		}
	}
	return nil
}
