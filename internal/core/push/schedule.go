package push

import (
	"context"
	"errors"
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
// in a set; what is true of it is found out later, in one statement for all of a bucket.
func (s *Service) Schedule(devices ...core.DeviceID) {
	for bucket, some := range s.cfg.DB.Buckets().Divide(devices) {
		s.buckets[bucket].due.add(some)
	}
}

// Cancel says that these devices have a live socket.
func (s *Service) Cancel(devices ...core.DeviceID) {
	for bucket, some := range s.cfg.DB.Buckets().Divide(devices) {
		s.buckets[bucket].due.remove(some)
		s.buckets[bucket].cancelled.add(some)
	}
}

func (s *Service) schedule(ctx context.Context, b *bucket, devices []core.DeviceID) error {
	jitters := make([]int64, len(devices))
	for i := range jitters {
		jitters[i] = rand.N(s.cfg.Times.Jitter + 1).Milliseconds()
	}
	_, err := ask(ctx, s, b, storage.Queries.ScheduleWakeups, db.ScheduleWakeupsParams{Bucket: b.number,
		DeviceIds: devices, JittersMs: jitters, Kinds: s.kinds, Grace: storage.Interval(s.cfg.Times.Grace),
		Pause: storage.Interval(s.cfg.Times.Pause)})
	return err
}

func (s *Service) cancel(ctx context.Context, b *bucket, devices []core.DeviceID) error {
	n, err := ask(ctx, s, b, storage.Queries.CancelWakeups,
		db.CancelWakeupsParams{Bucket: b.number, DeviceIds: devices})
	s.cfg.Counters.WakeupsCancelled(int(n))
	if err != nil && s.flushFailed.allow() {
		s.cfg.Logger.Warn("could not cancel wake-ups; looked at again when they are due", "component", "push", "error",
			err)
	}
	return nil
}

// sweepStep is how many tokens one step of a sweep looks at.
const sweepStep = 1000

// Sweep walks all tokens in bounded steps and schedules what was forgotten with a process. A bucket
// that is unavailable is left to the next sweep.
func (s *Service) Sweep(ctx context.Context) error {
	var errs []error
	for _, b := range s.buckets {
		errs = append(errs, s.sweep(ctx, b))
	}
	return errors.Join(errs...)
}

func (s *Service) sweep(ctx context.Context, b *bucket) error {
	for after := uuid.Nil; ; {
		devices, err := ask(ctx, s, b, storage.Queries.PushTokensAfter,
			db.PushTokensAfterParams{Bucket: b.number, AfterDevice: after, MaxRows: sweepStep})
		if err != nil || len(devices) == 0 {
			return err
		}
		if err := s.schedule(ctx, b, devices); err != nil {
			return err
		}
		after = devices[len(devices)-1]
	}
}
