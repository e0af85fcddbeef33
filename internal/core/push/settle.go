package push

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/storage"
)

// result is what became of a lease.
type result struct {
	lease
	// Result is zero when the wake-up was not wanted any more.
	Result
	kind         Kind
	registeredAt time.Time
	// seq is up to which sequence the wake-up told of mail.
	seq int64
	// late: it has been tried for long enough.
	late bool
	// interrupted: it was not tried to the end, since the relay stops or others were too slow.
	interrupted bool
	// crowded: so many strangers were tried that there was no place for this one.
	crowded bool
}

// outcomes names them for metrics.
var outcomes = map[Outcome]string{0: "unneeded", Delivered: "delivered", Invalid: "invalid", Rejected: "rejected",
	Failed: "failed"}

// finish counts a result and joins it to those that are settled together.
func (s *Service) finish(ctx context.Context, r result) {
	if r.Outcome != 0 || !r.interrupted {
		s.cfg.Counters.Wakeup(r.kind.String(), outcomes[r.Outcome])
	}
	if (r.Outcome == Rejected || r.Outcome == Failed) && !r.interrupted && s.logLimits[r.kind].allow() {
		next := "tried again"
		if r.Outcome == Rejected {
			next = "given up"
		}
		s.cfg.Logger.Warn("a push service did not take a wake-up", "component", "push", "kind", r.kind.String(),
			"reason", r.Reason, "next", next)
	}
	if _, err := s.of(r.device).results.Do(context.WithoutCancel(ctx), r, 1); err != nil && s.settleFailed.allow() {
		s.cfg.Logger.Warn("could not record push results; these wake-ups may be sent again", "component", "push",
			"error", err)
	}
}

// settle records what became of a batch of leases of a bucket. Recording one twice
// does no harm: a lease is known by its number of attempts.
func (s *Service) settle(ctx context.Context, b *bucket, results []result) ([]struct{}, error) {
	var invalid db.ForgetPushTokensParams
	var told db.MarkWokenParams
	var end db.EndWakeupsParams
	var postpone db.PostponeWakeupsParams
	var delays []time.Duration
	for _, r := range results {
		later, anew, done := s.cfg.Times.Grace, true, true // for what came while we were at it
		switch {
		case r.crowded:
			later, anew, done = s.backoff(1, 0), false, false
		case r.interrupted: // which is no reason to make it a stranger
			later, anew, done = 0, r.attempts == 1, false
		case r.Outcome == Failed && !r.late:
			later, anew, done = s.backoff(r.attempts, r.RetryAfter), false, false
		case r.Outcome == Invalid:
			invalid.DeviceIds = append(invalid.DeviceIds, r.device)
			invalid.RegisteredAts = append(invalid.RegisteredAts, r.registeredAt)
		case r.Outcome != 0:
			told.DeviceIds = append(told.DeviceIds, r.device)
			told.RegisteredAts = append(told.RegisteredAts, r.registeredAt)
			told.Seqs = append(told.Seqs, r.seq)
			later = s.cfg.Times.Pause
		}
		if done {
			end.DeviceIds = append(end.DeviceIds, r.device)
			end.Attempts = append(end.Attempts, r.attempts)
			end.Seqs = append(end.Seqs, r.seq)
		}
		postpone.DeviceIds = append(postpone.DeviceIds, r.device)
		postpone.Attempts = append(postpone.Attempts, r.attempts)
		delays = append(delays, later)
		postpone.Anew = append(postpone.Anew, anew)
	}
	bucket := b.number
	invalid.Bucket, told.Bucket, end.Bucket, postpone.Bucket = bucket, bucket, bucket, bucket
	ctx, cancel := context.WithTimeout(ctx, txTime)
	defer cancel()
	err := s.cfg.Async.In(b.number).InTx(ctx, func(tx *storage.Tx) error {
		q := storage.Queries
		if err := q.LockPushTokens(ctx, tx,
			db.LockPushTokensParams{Bucket: bucket, DeviceIds: postpone.DeviceIds}); err != nil {
			return err
		}
		now, err := q.LockWakeups(ctx, tx, db.LockWakeupsParams{Bucket: bucket, DeviceIds: postpone.DeviceIds})
		if err != nil {
			return err
		}
		if len(invalid.DeviceIds) > 0 {
			if err := q.ForgetPushTokens(ctx, tx, invalid); err != nil {
				return err
			}
		}
		if len(told.DeviceIds) > 0 {
			if err := q.MarkWoken(ctx, tx, told); err != nil {
				return err
			}
		}
		if err := q.EndWakeups(ctx, tx, end); err != nil {
			return err
		}
		if len(now) == 0 { // they are gone
			return nil
		}
		postpone.Now = now[0]
		for _, delay := range delays {
			postpone.DueAts = append(postpone.DueAts, postpone.Now.Add(delay))
		}
		return q.PostponeWakeups(ctx, tx, postpone)
	})
	return make([]struct{}, len(results)), err
}

// backoff doubles with every attempt, is jittered by a fifth, and heeds what the service asked for.
func (s *Service) backoff(attempts int32, asked time.Duration) time.Duration {
	d := s.cfg.Times.MaxBackoff
	if doublings := attempts - 1; doublings < 20 {
		d = min(d, s.cfg.Times.Backoff<<doublings)
	}
	d = d*9/10 + rand.N(d/5+1)
	return max(d, min(asked, s.cfg.Times.MaxBackoff))
}
