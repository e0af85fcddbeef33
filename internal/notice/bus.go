// Package notice carries notices between the nodes that share a database: by PostgreSQL's LISTEN
// and NOTIFY, and the hints by NATS when it is configured.
//
// Invariants: a notice is a hint or a revocation, never data. Hints may be lost, doubled or late,
// and nothing breaks: sessions poll as well. Revocations travel in the transaction that makes them;
// a node trusts what it has cached only while Fresh says that it has heard of everything up to a
// second ago: a probe, notified through the pool that commits revocations, has come back on the
// listening connection. After every reconnect a node starts anew (Resync). On failure the bus
// reconnects by itself.
package notice

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

const (
	// pulse is the pause between two probes: a node notifies at most four times a second.
	pulse = 250 * time.Millisecond
	// trust is how long a probe that came back counts, from the moment it was sent.
	trust = time.Second
	// patience bounds one question to the database, and the way of a probe after its commit.
	patience = 3 * time.Second
)

// noticeProbe is the kind of the notices that prove the bus; it never leaves this package.
const noticeProbe core.NoticeKind = 'p'

// Config is what a Bus needs.
type Config struct {
	// URL names the database to listen on; the connection is the bus's own.
	URL string
	// Requests is the pool through which revocations are committed. Probes are notified through it.
	Requests *storage.DB
	// DB sends hints. Its commits need not reach the disk.
	DB *storage.DB
	// NATSURL names a NATS server for the hints; "" sends them through the database too.
	NATSURL string
	// Receive is called for every notice, also this node's own, from any goroutine.
	Receive func(core.Notice)
	// Resync is called after every (re)connect: notices may have been missed.
	Resync func()
	Logger *slog.Logger
}

// Bus is this node's end. Make it with New; its Run does the work.
type Bus struct {
	cfg Config
	// heard is when every notice is known to have been received, in nanoseconds after begin: the
	// clock of the wall may be put back.
	heard     atomic.Int64
	begin     time.Time
	out       outbox
	nats      atomic.Pointer[hintBus]
	listening chan struct{} // closed when it listens for the first time
	listens   sync.Once     // closes it

	mu     sync.Mutex
	probes map[uuid.UUID]chan struct{} // guarded by mu
}

// New makes a Bus.
func New(cfg Config) *Bus {
	b := &Bus{cfg: cfg, out: outbox{signal: make(chan struct{}, 1), hints: map[hint]int64{}}, begin: time.Now(),
		probes: map[uuid.UUID]chan struct{}{}, listening: make(chan struct{})}
	b.heard.Store(-int64(time.Hour)) // never
	return b
}

// Run listens and sends until ctx ends.
func (b *Bus) Run(ctx context.Context) error {
	if b.cfg.NATSURL != "" {
		h, err := dialNATS(b.cfg.NATSURL, b.receive, b.cfg.Resync, b.cfg.Logger)
		if err != nil {
			return err
		}
		defer h.close()
		b.nats.Store(h)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.listen(ctx) })
	g.Go(func() error { return b.send(ctx) })
	return g.Wait()
}

// Fresh reports that this node has heard of everything that was committed up to a second ago.
func (b *Bus) Fresh() bool { return b.Silence() < trust }

// Silence returns how long ago this node had certainly heard of everything that had been committed.
func (b *Bus) Silence() time.Duration { return time.Since(b.begin) - time.Duration(b.heard.Load()) }

// RoundTrip proves the bus: it sends a notice, each way there is, and waits until it comes back. A
// bus that has just been started is waited for.
func (b *Bus) RoundTrip(ctx context.Context) error {
	select {
	case <-b.listening:
	case <-ctx.Done():
		return errNotYet
	}
	if h := b.nats.Load(); h != nil {
		if err := b.probe(ctx, func(_ context.Context, payload string) error {
			return h.publish([]string{payload})
		}); err != nil {
			return fmt.Errorf("NATS: %w", err)
		}
	}
	return b.probe(ctx, b.notifyProbe)
}

func (b *Bus) receive(payload string) {
	n, err := core.ParseNotice(payload)
	if err != nil {
		b.cfg.Logger.Warn("could not read a notice of another node, which may be newer; ignored, polls find the mail",
			"component", "notices")
		return
	}
	if n.Kind != noticeProbe {
		b.cfg.Receive(n)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if back := b.probes[n.IDs[0]]; back != nil {
		close(back)
		delete(b.probes, n.IDs[0])
	}
}
