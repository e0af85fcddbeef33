// Package mailbox is the heart of the relay: it accepts envelopes, keeps them until their device
// has acknowledged them, and accounts for each.
//
// Invariants, for every device at every time: accepted = acknowledged + pending + recorded in gaps.
// Sequences count 1, 2, 3 and so on in commit order: they are assigned under the lock of the
// mailbox's row, which is held until the commit, so a cursor over them never skips. What is dropped
// is recorded in the transaction that drops it. A mailbox holds at most core.MailboxCap envelopes.
// On failure a request stores nothing, and a repeated batch hears its first answer.
package mailbox

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/batch"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Counters is what a Service counts.
type Counters interface {
	// Accepted counts stored envelopes.
	Accepted(n int)
	// Acknowledged counts envelopes that left because their device has them.
	Acknowledged(n int)
	// Dropped counts envelopes that left otherwise.
	Dropped(reason core.GapReason, n int)
}

// Config is what a Service needs.
type Config struct {
	DB *storage.DB
	// Async is a pool whose commits need not reach the disk: acknowledgements go through it.
	Async    *storage.DB
	Sockets  Sockets
	Counters Counters
}

// Sockets hear of what was committed; mail that none here has taken is announced. They must not
// wait.
type Sockets interface {
	core.Announcer
	// Offer gives committed envelopes of a device, in order, to its socket on this node, and
	// reports false when there is none.
	Offer(core.DeviceID, []core.Envelope) bool
}

// Service is the use cases of mailboxes. Make it with New; its Run does the work.
type Service struct {
	cfg     Config
	buckets []*bucket // in order
	// openings looks up delivery tokens.
	openings *batch.Batcher[*sendRequest, struct{}]
	sealed   atomic.Int64 // what sealed requests weigh that wait or are being stored
	senders  senders
	// pending and oldest are what the last sweep saw.
	pending, oldest atomic.Int64
	givenUp         context.Context // ends when acknowledgements are to be forgotten
	giveUp          context.CancelFunc
	txTime          time.Duration // bounds one transaction, and one step of a sweep
}

// bucket works on what lies in one bucket, in transactions that touch no other.
type bucket struct {
	number  int16
	sends   *batch.Batcher[*sendRequest, sendAnswer]
	marks   *batch.Batcher[core.DeviceID, struct{}]
	sockets *batch.Batcher[newSocket, Opened]
	acks    *ackQueue
	acked   chan struct{} // holds one token after acknowledgements were worked on
}

// sendLimits: the queues of sends hold at most 64 MiB by Batch.weight, and a batch at most 8192
// submissions; a full queue answers 503. Above 1500 requests a second a batch waits a millisecond.
// A request of 64 KiB or less does not wait for the large ones before it.
var sendLimits = batch.Limits{BatchItems: 512, BatchWeight: 4 << 20, QueueItems: 8192, QueueWeight: 64 << 20,
	Light: 64 << 10, Gather: time.Millisecond}

// New makes a Service.
func New(cfg Config) *Service {
	s := &Service{cfg: cfg, txTime: batch.TxTime}
	s.givenUp, s.giveUp = context.WithCancel(context.Background())
	s.openings = batch.New(openingLimits, s.open)
	for number := range cfg.DB.Buckets().AllBuckets() {
		b := &bucket{number: number, acked: make(chan struct{}, 1)}
		b.sends = batch.New(s.share(sendLimits),
			func(ctx context.Context, requests []*sendRequest) ([]sendAnswer, error) {
				return s.store(ctx, b, requests)
			})
		b.marks = batch.New(s.share(senderLimits),
			func(ctx context.Context, devices []core.DeviceID) ([]struct{}, error) {
				return s.mark(ctx, b, devices)
			})
		b.sockets = batch.New(s.share(socketLimits),
			func(ctx context.Context, sockets []newSocket) ([]Opened, error) {
				return s.openSockets(ctx, b, sockets)
			})
		b.acks = newAckQueue(func(ctx context.Context, acks []*ack) { s.forget(ctx, b, acks) })
		s.buckets = append(s.buckets, b)
	}
	return s
}

// share is what one bucket has of the room in which requests wait.
func (s *Service) share(l batch.Limits) batch.Limits {
	n := int(s.cfg.DB.Buckets())
	l.QueueItems, l.QueueWeight = max(1, l.QueueItems/n), max(1, l.QueueWeight/n)
	return l
}

// of is the bucket of a device.
func (s *Service) of(device core.DeviceID) *bucket {
	return s.buckets[s.cfg.DB.Buckets().Bucket(device)]
}

// RunSends stores what is sent, and opens sockets, until ctx ends.
func (s *Service) RunSends(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return s.openings.Run(ctx) })
	for _, b := range s.buckets {
		g.Go(func() error { return b.marks.Run(ctx) })
		g.Go(func() error { return b.sends.Run(ctx) })
		g.Go(func() error { return b.sockets.Run(ctx) })
	}
	return g.Wait()
}

// RunAcknowledgements deletes what is acknowledged until ctx ends. Stop it after the gateway.
func (s *Service) RunAcknowledgements(ctx context.Context) error {
	var g errgroup.Group
	for _, b := range s.buckets {
		g.Go(func() error { b.acks.run(ctx); return nil })
	}
	return g.Wait()
}

// WaitingSends is how many requests wait to be stored.
func (s *Service) WaitingSends() (n int) {
	for _, b := range s.buckets {
		n += b.sends.Len()
	}
	return n
}

// FullSends is how full the fullest queue of requests to store is, up to 1.
func (s *Service) FullSends() (full float64) {
	for _, b := range s.buckets {
		full = max(full, b.sends.Full())
	}
	return full
}

// WaitingAcknowledgements is how many acknowledged envelopes and reported gaps wait to be deleted,
// and envelopes that were passed over to be counted, or are being worked on.
func (s *Service) WaitingAcknowledgements() (n int) {
	for _, b := range s.buckets {
		waiting, taken := b.acks.len()
		n += waiting + taken
	}
	return n
}

// Create makes the mailbox of a new device.
func Create(ctx context.Context, tx *storage.Tx, device core.DeviceID) error {
	return storage.Queries.InsertMailbox(ctx, tx, db.InsertMailboxParams(tx.Place(device)))
}

// Erase deletes a device's mailbox with all that is in it. Afterwards the device cannot be sent to.
func Erase(ctx context.Context, tx *storage.Tx, device core.DeviceID) error {
	q, place := storage.Queries, tx.Place(device)
	// The row first: whoever is storing envelopes holds its lock, and we wait for them.
	if _, err := q.DeleteMailbox(ctx, tx, db.DeleteMailboxParams(place)); err != nil {
		return err
	}
	if err := q.EraseMessages(ctx, tx, db.EraseMessagesParams(place)); err != nil {
		return err
	}
	if err := q.DeleteGaps(ctx, tx, db.DeleteGapsParams(place)); err != nil {
		return err
	}
	return q.DeleteReceiptsOf(ctx, tx, db.DeleteReceiptsOfParams(place))
}
