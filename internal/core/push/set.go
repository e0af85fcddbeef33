package push

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
)

// maxSet bounds the devices that wait in memory; beyond it they are dropped, and the sweep finds
// them.
const maxSet = 100_000

// set collects devices, each once. Its methods do not wait.
type set struct {
	most   int
	signal chan struct{} // holds one token when there may be something to take

	mu  sync.Mutex
	ids map[core.DeviceID]struct{} // guarded by mu
}

func newSet(most int) *set {
	return &set{most: most, signal: make(chan struct{}, 1), ids: map[core.DeviceID]struct{}{}}
}

func (s *set) add(ids []core.DeviceID) {
	if len(ids) == 0 {
		return
	}
	s.mu.Lock()
	for _, id := range ids {
		if len(s.ids) >= s.most {
			break
		}
		s.ids[id] = struct{}{}
	}
	s.mu.Unlock()
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

func (s *set) remove(ids []core.DeviceID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.ids, id)
	}
}

func (s *set) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ids)
}

// take empties the set. The devices are in the order of their locks.
func (s *set) take() []core.DeviceID {
	s.mu.Lock()
	taken := s.ids
	s.ids = map[core.DeviceID]struct{}{}
	s.mu.Unlock()
	return core.LockOrder(slices.Collect(maps.Keys(taken)))
}

const (
	// flushStep is how many devices go into one statement.
	flushStep = 2000
	// lastFlush bounds the statements after the end.
	lastFlush = 2 * time.Second
)

// drain empties a set through flush, a while after something came in, until ctx ends, and once
// more. What the database does not take stays for the next time.
func (s *Service) drain(ctx context.Context, b *bucket, from *set, linger time.Duration,
	flush func(context.Context, *bucket, []core.DeviceID) error) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-from.signal:
		}
		select {
		case <-ctx.Done():
		case <-time.After(linger):
			s.flush(ctx, b, from, flush)
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
	defer cancel()
	s.flush(last, b, from, flush)
}

func (s *Service) flush(ctx context.Context, b *bucket, from *set,
	flush func(context.Context, *bucket, []core.DeviceID) error) {
	devices := from.take()
	for part := range slices.Chunk(devices, flushStep) {
		if err := flush(ctx, b, part); err != nil {
			from.add(part)
			if s.flushFailed.allow() {
				s.cfg.Logger.Warn("could not schedule wake-ups; tried again, and the sweep finds the rest", "component",
					"push", "error", err)
			}
		}
	}
}
