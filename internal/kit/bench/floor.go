package bench

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
	"github.com/obscura-relay/obscura/internal/storage"
)

// The floor is what PostgreSQL and the mailbox's own statements can do on this machine when nobody
// has to be talked to: the relay has ended, and this process hands the same submissions to the same
// use case, in memory, from as many goroutines as there were senders.
//
// Per request: one receipt; per submission: its mailbox locked and advanced, one row inserted, and,
// once its commit has returned, the row deleted again by the batched acknowledgements. Batches form
// as they do in the relay: what arrives while one commits is the next. Not in it: HTTP, tokens,
// protobuf, WebSockets, notices, and the read that delivers what does not go out from memory.

// silentCounters counts nothing.
type silentCounters struct{}

func (silentCounters) Accepted(int)                {}
func (silentCounters) Acknowledged(int)            {}
func (silentCounters) Dropped(core.GapReason, int) {}

// As the relay is configured by default.
const (
	floorConns      = 16
	floorAsyncConns = 4
)

// floor returns how many envelopes a second were stored and deleted again.
func (t *target) floor(ctx context.Context, p *people, cfg RelayConfig) (perSecond float64, err error) {
	line := newTicker(t.cfg.Progress)
	defer line.end()
	line.show("measuring the floor for %s", cfg.Duration)
	if err := t.stopRelay(); err != nil {
		return 0, err
	}
	life := context.WithoutCancel(ctx)
	main, err := storage.Open(life, t.cfg.DatabaseURL, storage.Options{MaxConns: floorConns})
	if err != nil {
		return 0, err
	}
	defer main.Close()
	async, err := storage.Open(life, t.cfg.DatabaseURL, storage.Options{MaxConns: floorAsyncConns, AsyncCommit: true})
	if err != nil {
		return 0, err
	}
	defer async.Close()
	if err := errors.Join(main.CheckSchema(ctx), async.CheckSchema(ctx)); err != nil {
		return 0, err
	}
	f := &floor{cfg: cfg, people: p, next: make([]atomic.Int64, len(p.devices)),
		service: mailbox.New(mailbox.Config{DB: main, Async: async, Counters: silentCounters{},
			Sockets: silentSockets{}})}
	return f.run(ctx)
}

// silentSockets take everything.
type silentSockets struct{}

func (silentSockets) Offer(core.DeviceID, []core.Envelope) bool { return true }
func (silentSockets) Announce(core.Notice)                      {}

type floor struct {
	cfg     RelayConfig
	people  *people
	service *mailbox.Service
	// next is, per device, the sequence below the next one to acknowledge. Sequences are dense and
	// nobody else sends, so after so many returned sends so many sequences are committed.
	next   []atomic.Int64
	stored atomic.Int64
}

func (f *floor) run(ctx context.Context) (float64, error) {
	ids := make([]core.DeviceID, len(f.people.devices))
	place := make(map[core.DeviceID]int, len(ids))
	for i, d := range f.people.devices {
		ids[i], place[d.id] = d.id, i
	}
	heads, err := f.service.Heads(ctx, ids, false)
	if err != nil {
		return 0, err
	}
	if len(heads) != len(ids) {
		return 0, errors.New("the database is not the relay's: it does not know the devices")
	}
	for _, h := range heads {
		f.next[place[h.Device]].Store(h.Last)
	}

	workers, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return f.service.RunSends(workers) })
	g.Go(func() error { return f.service.RunAcknowledgements(workers) })
	began := time.Now()
	err = f.send(ctx, began.Add(f.cfg.Duration))
	stop()
	err = errors.Join(err, g.Wait()) // the acknowledgements that wait are worked off first
	return float64(f.stored.Load()) / time.Since(began).Seconds(), err
}

// send runs the goroutines that stand for the senders.
func (f *floor) send(ctx context.Context, until time.Time) error {
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for i := range f.cfg.Senders {
		wg.Go(func() {
			source := mathrand.New(mathrand.NewPCG(uint64(i), 1))
			body := make([]byte, f.cfg.Size)
			for n := uint64(0); time.Now().Before(until) && ctx.Err() == nil && failed.Load() == nil; n++ {
				for b := 0; b+8 <= len(body); b += 8 { // does not compress
					binary.BigEndian.PutUint64(body[b:], source.Uint64())
				}
				if err := f.once(ctx, source, i, body); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return ctx.Err()
}

func (f *floor) once(ctx context.Context, source *mathrand.Rand, sender int, body []byte) error {
	from := f.people.devices[sender%len(f.people.devices)]
	b := mailbox.Batch{Key: uuid.New(), Digest: sha256.Sum256(body),
		Submissions: make([]mailbox.Submission, f.cfg.Batch)}
	to := make([]int, f.cfg.Batch)
	for i := range to {
		to[i] = source.IntN(len(f.people.devices))
		b.Submissions[i] = mailbox.Submission{Device: f.people.devices[to[i]].id, Message: body}
	}
	invalid, err := f.service.Send(ctx, core.Principal{User: from.user.id, Device: from.id, DeviceNumber: 1}, b)
	if err != nil {
		return err
	}
	if len(invalid) > 0 {
		return errors.New("a device has gone")
	}
	f.stored.Add(int64(len(to)))
	for _, d := range to {
		sequence := f.next[d].Add(1)
		if err := f.service.Acknowledge(f.people.devices[d].id, []int64{sequence}, nil); err != nil {
			return err
		}
	}
	return nil
}
