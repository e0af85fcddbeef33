package notice

import (
	"context"
	"sync"
	"time"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// maxOutbox bounds the devices that wait to be announced; hints beyond it are dropped, and the
// sessions' polls find the mail.
const maxOutbox = 1 << 17

// hint is one device in one kind of hints.
type hint struct {
	kind   core.NoticeKind
	device core.DeviceID
}

// outbox coalesces hints: a device stands in it once a kind, however much mail it has.
type outbox struct {
	signal chan struct{} // holds one token when there is something to send

	mu    sync.Mutex
	hints map[hint]int64 // guarded by mu: to the highest generation
}

// Publish tells the other nodes, soon and without waiting. Only hints travel so; revocations are
// sent by the transaction that makes them.
func (b *Bus) Publish(n core.Notice) {
	o := &b.out
	o.mu.Lock()
	if len(o.hints) < maxOutbox && n.Kind != core.NoticeEnded && n.Kind != core.NoticeRevoked {
		for _, device := range n.IDs {
			h := hint{n.Kind, device}
			o.hints[h] = max(o.hints[h], n.Generation)
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
		if err := b.sendHints(ctx, payloads); err != nil && ctx.Err() == nil {
			b.cfg.Logger.Warn("could not notify the other nodes; their polls find the mail", "component", "notices",
				"error", err)
			select { // the database is unavailable: collect, do not hammer
			case <-ctx.Done():
			case <-time.After(pulse):
			}
		}
	}
}

// take empties the outbox into payloads: devices of one kind and generation share them.
func (o *outbox) take() (payloads []string) {
	o.mu.Lock()
	hints := o.hints
	o.hints = map[hint]int64{}
	o.mu.Unlock()
	type head struct {
		kind       core.NoticeKind
		generation int64
	}
	devices := map[head][]core.DeviceID{}
	for h, generation := range hints {
		devices[head{h.kind, generation}] = append(devices[head{h.kind, generation}], h.device)
	}
	for h, ids := range devices {
		payloads = append(payloads, core.Notice{Kind: h.kind, IDs: ids, Generation: h.generation}.Payloads()...)
	}
	return payloads
}

// sendHints sends what may be lost.
func (b *Bus) sendHints(ctx context.Context, payloads []string) error {
	if h := b.nats.Load(); h != nil {
		return h.publish(payloads)
	}
	return b.notify(ctx, payloads)
}

func (b *Bus) notify(ctx context.Context, payloads []string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return b.cfg.DB.Do(ctx, func(conn *storage.Tx) error {
		return storage.Queries.Notify(ctx, conn, db.NotifyParams{Channel: core.NoticeChannel, Payloads: payloads})
	})
}
