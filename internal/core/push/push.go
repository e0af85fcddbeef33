// Package push wakes up devices that have mail and no live socket.
//
// Invariants: a wake-up carries nothing, neither content nor sender, and there is at most one a
// device in each Pause. It is sent only when mail was left waiting for Grace, no node has a live
// socket of the device, and no earlier wake-up has told of that mail. What is scheduled is a row in
// the database: it survives restarts, and one node at a time works on it. On failure a wake-up is
// repeated, never lost silently for longer than until the next sweep; a needless one does no harm.
package push

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/batch"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Kind is the push service that a token is for.
type Kind int16

// The kinds, as they are stored.
const (
	FCM     Kind = 1
	APNs    Kind = 2
	WebPush Kind = 3
)

// String names a kind for metrics and logs.
func (k Kind) String() string {
	return map[Kind]string{FCM: "fcm", APNs: "apns", WebPush: "web_push"}[k]
}

// Outcome is what became of a wake-up.
type Outcome uint8

// The outcomes.
const (
	// Delivered: the push service has taken it.
	Delivered Outcome = iota + 1
	// Invalid: the service does not know the token, or not any more.
	Invalid
	// Rejected: the service does not want this wake-up, and would not want it later.
	Rejected
	// Failed: it may succeed later.
	Failed
)

// Result is the answer of a push service.
type Result struct {
	Outcome Outcome
	// RetryAfter is what the service asked for, 0 for nothing.
	RetryAfter time.Duration
	// Reason is for the log. It never holds a token, an endpoint or what the service said.
	Reason string
}

// Sender is one push provider. Send heeds its context, and is used from many goroutines; Close lets
// go of idle connections.
type Sender interface {
	Send(ctx context.Context, to Token) Result
	Close()
}

// Counters is what a Service counts.
type Counters interface {
	// Wakeup counts one wake-up by kind and result.
	Wakeup(kind, result string)
	// WakeupsCancelled counts wake-ups whose device connected in time.
	WakeupsCancelled(n int)
}

// Times are the delays of a Service. Those that are zero have their defaults.
type Times struct {
	// Grace (2 s) is how long mail waits before its wake-up, and Jitter (500 ms) how much longer at
	// random.
	Grace, Jitter time.Duration
	// Pause (30 s) is between two wake-ups of a device.
	Pause time.Duration
	// Linger (1 s) is how long devices are collected before they are scheduled in one statement.
	Linger time.Duration
	// Ask (300 ms) is how long other nodes have to say that they have a device's socket.
	Ask time.Duration
	// Poll (500 ms, jittered by half) is how often the queue is looked at.
	Poll time.Duration
	// Send (10 s) bounds one try, and Lease (60 s) the whole work on it: then another node may try.
	Send, Lease time.Duration
	// Backoff (5 s) is the delay after the first failure; it doubles up to MaxBackoff (1 h).
	Backoff, MaxBackoff time.Duration
	// Patience (24 h) is how long one wake-up is tried.
	Patience time.Duration
}

func (t Times) withDefaults() Times {
	for _, d := range []struct {
		at    *time.Duration
		value time.Duration
	}{
		{&t.Grace, 2 * time.Second}, {&t.Jitter, 500 * time.Millisecond}, {&t.Pause, 30 * time.Second},
		{&t.Linger, time.Second}, {&t.Ask, 300 * time.Millisecond}, {&t.Poll, 500 * time.Millisecond},
		{&t.Send, 10 * time.Second}, {&t.Lease, time.Minute}, {&t.Backoff, 5 * time.Second}, {&t.MaxBackoff, time.Hour},
		{&t.Patience, 24 * time.Hour},
	} {
		*d.at = cmp.Or(*d.at, d.value)
	}
	return t
}

// Config is what a Service needs.
type Config struct {
	DB *storage.DB
	// Async is a pool whose commits need not reach the disk: the queue goes through it.
	Async *storage.DB
	// PublicKey is that of the VAPID key, an uncompressed point.
	PublicKey []byte
	// Senders are the push services that are configured. Tokens of the others are kept for better
	// days.
	Senders map[Kind]Sender
	// PrivateNetworks allows endpoints of Web Push in private networks and at any port.
	PrivateNetworks bool
	// Live reports whether a device has a live socket on this node; Ask asks the other nodes to
	// cancel the wake-ups of devices that have one there.
	Live     func(core.DeviceID) bool
	Ask      func([]core.DeviceID)
	Times    Times
	Counters Counters
	Logger   *slog.Logger
}

// Service is the use cases of push. Make it with New; its Run schedules and sends.
type Service struct {
	cfg                       Config
	buckets                   []*bucket // in order
	kinds                     []int16
	logLimits                 map[Kind]*logLimiter // read only
	flushFailed, settleFailed logLimiter
}

// bucket works on the devices of one bucket, in statements that touch no other: one that is
// unavailable holds up its own wake-ups only. What is bounded is shared among the buckets.
type bucket struct {
	number         int16
	due, cancelled *set
	results        *batch.Batcher[result, struct{}]
}

// New makes a Service.
func New(cfg Config) *Service {
	cfg.Times = cfg.Times.withDefaults()
	s := &Service{cfg: cfg, logLimits: map[Kind]*logLimiter{}}
	for kind := range cfg.Senders {
		s.kinds = append(s.kinds, int16(kind))
		s.logLimits[kind] = &logLimiter{}
	}
	for number := range cfg.DB.Buckets().AllBuckets() {
		room := share(4096, cfg.DB.Buckets())
		b := &bucket{number: number, due: newSet(share(maxSet, cfg.DB.Buckets())),
			cancelled: newSet(share(maxSet, cfg.DB.Buckets()))}
		b.results = batch.New(batch.Limits{BatchItems: 256, BatchWeight: 256, QueueItems: room, QueueWeight: room},
			func(ctx context.Context, results []result) ([]struct{}, error) {
				return s.settle(ctx, b, results)
			})
		s.buckets = append(s.buckets, b)
	}
	return s
}

// share is what one of n buckets has of a whole.
func share(whole int, n storage.Buckets) int { return max(1, whole/int(n)) }

// of is the bucket of a device.
func (s *Service) of(device core.DeviceID) *bucket {
	return s.buckets[s.cfg.DB.Buckets().Bucket(device)]
}

// Run schedules, sends and settles until ctx ends; then it schedules what it still knows of.
func (s *Service) Run(ctx context.Context) error {
	settling, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var lanes, settler sync.WaitGroup
	for _, b := range s.buckets {
		settler.Go(func() { _ = b.results.Run(settling) })
		lanes.Go(func() { s.drain(ctx, b, b.due, s.cfg.Times.Linger, s.schedule) })
		lanes.Go(func() { s.drain(ctx, b, b.cancelled, cancelLinger, s.cancel) })
	}
	for kind, sender := range s.cfg.Senders {
		l := lane{kind, sender, make(chan struct{}, sendsAtOnce), make(chan struct{}, strangersAtOnce)}
		for _, b := range s.buckets {
			lanes.Go(func() { s.work(ctx, l, b) })
		}
	}
	lanes.Wait()
	for _, sender := range s.cfg.Senders {
		sender.Close()
	}
	stop()
	settler.Wait()
	return nil
}

// Waiting is how many devices wait to be scheduled.
func (s *Service) Waiting() (n int) {
	for _, b := range s.buckets {
		n += b.due.len()
	}
	return n
}

// txTime bounds one statement of the queue, beyond the database's own limits.
const txTime = batch.TxTime

func ask[P, R any](ctx context.Context, s *Service, b *bucket, question func(context.Context, db.DBTX, P) (R, error),
	about P) (R, error) {
	ctx, cancel := context.WithTimeout(ctx, txTime)
	defer cancel()
	return storage.Ask(ctx, s.cfg.Async.In(b.number), question, about)
}
