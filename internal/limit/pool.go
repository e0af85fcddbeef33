package limit

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/obscura-relay/obscura/internal/core"
)

// Pool lets a few callers do something costly at once, has some more wait, and refuses the rest at
// once. So they neither spend what others need nor pile up.
type Pool struct {
	places      *semaphore.Weighted
	waiting     atomic.Int64
	mostWaiting int64
}

// NewPool makes a pool with a number of places, and of callers that may wait for one.
func NewPool(places, waiting int) *Pool {
	return &Pool{places: semaphore.NewWeighted(int64(places)), mostWaiting: int64(waiting)}
}

// Enter takes a place; the caller calls Leave. It fails at once when too many wait, and when ctx
// ends.
func (p *Pool) Enter(ctx context.Context) error {
	if p.places.TryAcquire(1) { // nobody waits
		return nil
	}
	defer p.waiting.Add(-1)
	if p.waiting.Add(1) > p.mostWaiting {
		return fmt.Errorf("more than %d wait", p.mostWaiting)
	}
	begun := time.Now()
	err := p.places.Acquire(ctx, 1)
	core.Waited(ctx, time.Since(begun))
	return err
}

// Full returns how much of the places to wait is taken: 1 when there is none.
func (p *Pool) Full() float64 { return float64(p.waiting.Load()) / float64(p.mostWaiting) }

// Waiting returns how many callers wait for a place.
func (p *Pool) Waiting() int { return int(p.waiting.Load()) }

// Leave gives a place back.
func (p *Pool) Leave() { p.places.Release(1) }
