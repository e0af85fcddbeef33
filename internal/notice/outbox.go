package notice

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// maxOutbox bounds the devices that wait to be announced; hints beyond it are dropped, and the
// sessions' polls find the mail.
const maxOutbox = 1 << 17

// outbox coalesces hints: a device stands in it once, however much mail it has.
type outbox struct {
	signal chan struct{} // holds one token when there is something to send

	mu        *sync.Mutex
	mail      map[uuid.UUID]struct{} // guarded by mu
	keys      map[uuid.UUID]struct{} // guarded by mu
	due       map[uuid.UUID]struct{} // guarded by mu
	displaced map[uuid.UUID]int64    // guarded by mu: device to generation
}

func newOutbox() outbox {
	o := outbox{signal: make(chan struct{}, 1), mu: new(sync.Mutex)}
	o.clear()
	return o
}

func (o *outbox) clear() {
	o.mail, o.keys, o.due = map[uuid.UUID]struct{}{}, map[uuid.UUID]struct{}{}, map[uuid.UUID]struct{}{}
	o.displaced = map[uuid.UUID]int64{}
}

// Publish tells the other nodes, soon and without waiting. Only hints travel so; revocations are
// sent by the transaction that makes them.
func (b *Bus) Publish(n core.Notice) {
	o := &b.out
	o.mu.Lock()
	if len(o.mail)+len(o.keys)+len(o.due)+len(o.displaced) < maxOutbox {
		for _, id := range n.IDs {
			switch n.Kind {
			case core.NoticeMail:
				o.mail[id] = struct{}{}
			case core.NoticeKeys:
				o.keys[id] = struct{}{}
			case core.NoticeDue:
				o.due[id] = struct{}{}
			case core.NoticeDisplaced:
				o.displaced[id] = max(o.displaced[id], n.Generation)
			}
		}
	}
	o.mu.Unlock()
	select {
	case o.signal <- struct{}{}:
	default:
	}
}

func (b *Bus) send(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.out.signal:
		}
		payloads := b.out.take()
		if len(payloads) == 0 {
			continue
		}
		if err := b.hint(ctx, payloads); err != nil && ctx.Err() == nil {
			b.cfg.Logger.Warn("could not notify the other nodes; their polls find the mail", "component", "notices",
				"error", err)
			select { // the database is unavailable: collect, do not hammer
			case <-ctx.Done():
			case <-time.After(pulse):
			}
		}
	}
}

func (o *outbox) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var payloads []string
	payloads = append(payloads, hints(core.NoticeMail, o.mail)...)
	payloads = append(payloads, hints(core.NoticeKeys, o.keys)...)
	payloads = append(payloads, hints(core.NoticeDue, o.due)...)
	for id, generation := range o.displaced {
		n := core.Notice{Kind: core.NoticeDisplaced, IDs: []uuid.UUID{id}, Generation: generation}
		payloads = append(payloads, n.Payloads()...)
	}
	o.clear()
	return payloads
}

func hints(kind core.NoticeKind, ids map[uuid.UUID]struct{}) []string {
	n := core.Notice{Kind: kind}
	for id := range ids {
		n.IDs = append(n.IDs, id)
	}
	return n.Payloads()
}

// hint sends what may be lost.
func (b *Bus) hint(ctx context.Context, payloads []string) error {
	if h := b.nats.Load(); h != nil {
		return h.publish(payloads)
	}
	return b.notify(ctx, payloads)
}

func (b *Bus) notify(ctx context.Context, payloads []string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return b.cfg.DB.Do(ctx, func(conn db.DBTX) error {
		return storage.Queries.Notify(ctx, conn, db.NotifyParams{Channel: core.NoticeChannel, Payloads: payloads})
	})
}
