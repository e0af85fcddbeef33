package mailbox

import (
	"context"
	"sync"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/batch"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// sendersMost is how many senders a node knows to be marked: about 5 MB.
const sendersMost = 1 << 17

var senderLimits = batch.Limits{BatchItems: 512, BatchWeight: 512, QueueItems: 8192, QueueWeight: 8192}

// senders are the devices that are marked as such in the database: their mail bears their number,
// so it must rest when they are removed. They are marked before their first mail is stored. A node
// asks once about each device, for many at once; after that a send pays for a look at a map.
type senders struct {
	mu     sync.RWMutex
	marked map[core.DeviceID]struct{} // guarded by mu
}

func (s *senders) has(device core.DeviceID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.marked[device]
	return ok
}

func (s *senders) add(devices []core.DeviceID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marked == nil || len(s.marked)+len(devices) > sendersMost {
		s.marked = map[core.DeviceID]struct{}{}
	}
	for _, device := range devices {
		s.marked[device] = struct{}{}
	}
}

// markSender returns when the device is marked.
func (s *Service) markSender(ctx context.Context, device core.DeviceID) error {
	if s.senders.has(device) {
		return nil
	}
	_, err := s.of(device).marks.Do(ctx, device, 1)
	return err
}

// mark marks those of a bucket that are not marked yet.
func (s *Service) mark(ctx context.Context, b *bucket, devices []core.DeviceID) ([]struct{}, error) {
	ctx, cancel := context.WithTimeout(ctx, s.txTime)
	defer cancel()
	err := s.cfg.DB.In(b.number).Do(ctx, func(conn *storage.Tx) error {
		return storage.Queries.MarkSenders(ctx, conn, db.MarkSendersParams{Bucket: b.number, DeviceIds: devices})
	})
	if err == nil {
		s.senders.add(devices)
	}
	return make([]struct{}, len(devices)), err
}
