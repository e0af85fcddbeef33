package push

import (
	"context"
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
	_, err := ask(ctx, s, storage.Queries.ScheduleWakeups, db.ScheduleWakeupsParams{DeviceIds: devices, Kinds: s.kinds,
		Grace: storage.Interval(s.cfg.Times.Grace), Pause: storage.Interval(s.cfg.Times.Pause),
		Jitter: storage.Interval(s.cfg.Times.Jitter)})
	return err
}

func (s *Service) cancel(ctx context.Context, devices []core.DeviceID) error {
	n, err := ask(ctx, s, storage.Queries.CancelWakeups, devices)
	s.cfg.Counters.WakeupsCancelled(int(n))
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
	for after := uuid.Nil; ; {
		devices, err := ask(ctx, s, storage.Queries.PushTokensAfter,
			db.PushTokensAfterParams{AfterDevice: after, MaxRows: sweepStep})
		if err != nil || len(devices) == 0 {
			return err
		}
		if err := s.schedule(ctx, devices); err != nil {
			return err
		}
		after = devices[len(devices)-1]
	}
}
