// Package batch joins concurrent calls into one piece of work: calls that arrive while the previous
// batch is being worked on form the next one. A lone call is worked on at once, under load a batch
// carries hundreds, and while many calls come a small batch waits a moment: see Limits.Gather.
//
// Invariants: every accepted call is worked on exactly once, by the one goroutine that is in Run;
// light calls in the order of arrival, and heavy ones too (see Limits.Light); what waits is bounded
// by count and by weight. On failure a batch fails as a whole and each of its callers gets the
// error. When Run stops it first works off what was accepted; afterwards calls are refused.
package batch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
)

// ErrFull says that the queue has no room: the caller should be told to try again.
var ErrFull = errors.New("too many requests wait for the database: the queue is full")

// errStopped says that Run has ended.
var errStopped = errors.New("the relay is stopping")

// TxTime bounds one transaction of a batch, beyond the database's own limits on statements and
// locks: all callers wait for it, so a connection that does not answer any more must not hold them
// up until TCP gives it up.
const TxTime = 15 * time.Second

// Limits bound one batch and the queue before it. All but Light and Gather are required.
type Limits struct {
	// BatchItems and BatchWeight end a batch; a batch holds at least one item.
	BatchItems, BatchWeight int
	// QueueItems and QueueWeight are how much may wait.
	QueueItems, QueueWeight int
	// Light is the weight up to which a call need not wait for the heavier ones before it: a batch
	// takes the oldest heavy call, which counts for half of BatchWeight at most, then light ones,
	// then heavy ones. 0: all calls are light.
	Light int
	// Gather is how long a small batch waits for more calls while so many come that it is worth it.
	// A batch costs much more than a call in it. 0: it never waits.
	Gather time.Duration
}

// When a batch waits for more calls.
const (
	// enough is how many more calls must be expected.
	enough = 1.5
	// crowd is the number of calls that need no company.
	crowd = 16
	// rateTime is the time over which calls are counted.
	rateTime = 50 * time.Millisecond
)

// Batcher joins calls with items T and answers R. Make it with New.
type Batcher[T, R any] struct {
	limits Limits
	work   func(ctx context.Context, items []T) ([]R, error)
	signal chan struct{} // holds one token when there may be work

	recent  float64   // calls of about the last rateTime; the goroutine in Run owns it
	counted time.Time // when recent was true; the goroutine in Run owns it

	mu      sync.Mutex
	light   []*call[T, R] // guarded by mu
	heavy   []*call[T, R] // guarded by mu
	weight  int           // guarded by mu: of both
	stopped bool          // guarded by mu
}

type call[T, R any] struct {
	item   T
	weight int
	begun  time.Time
	done   chan outcome[R] // buffered
}

type outcome[R any] struct {
	answer R
	err    error
	waited time.Duration
}

// New makes a batcher. work gets a batch and returns one answer per item, in order, or an error for
// all of them; its context ends only when the process must.
func New[T, R any](limits Limits, work func(ctx context.Context, items []T) ([]R, error)) *Batcher[T, R] {
	return &Batcher[T, R]{limits: limits, work: work, signal: make(chan struct{}, 1)}
}

// Do hands in an item and waits for its answer. Returns core.Busy at once when there is no room,
// and when ctx ends first: then the item may still be worked on.
func (b *Batcher[T, R]) Do(ctx context.Context, item T, weight int) (R, error) {
	var none R
	c := &call[T, R]{item: item, weight: weight, begun: time.Now(), done: make(chan outcome[R], 1)}
	if err := b.enqueue(c); err != nil {
		return none, err
	}
	select {
	case o := <-c.done:
		core.Waited(ctx, o.waited)
		return o.answer, o.err
	case <-ctx.Done():
		core.Waited(ctx, time.Since(c.begun))
		return none, core.Busy(ctx.Err())
	}
}

func (b *Batcher[T, R]) enqueue(c *call[T, R]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return core.Busy(errStopped)
	}
	waiting := len(b.light) + len(b.heavy)
	if waiting > 0 && (waiting >= b.limits.QueueItems || b.weight+c.weight > b.limits.QueueWeight) {
		return core.Busy(ErrFull)
	}
	queue := &b.light
	if b.limits.Light > 0 && c.weight > b.limits.Light {
		queue = &b.heavy
	}
	*queue = append(*queue, c)
	b.weight += c.weight
	select {
	case b.signal <- struct{}{}:
	default:
	}
	return nil
}

// Run works until ctx ends, then works off the queue and returns nil.
func (b *Batcher[T, R]) Run(ctx context.Context) error {
	work := context.WithoutCancel(ctx)
	for {
		select {
		case <-b.signal:
			b.drain(work)
		case <-ctx.Done():
			b.mu.Lock()
			b.stopped = true
			b.mu.Unlock()
			b.drain(work)
			return nil
		}
	}
}

func (b *Batcher[T, R]) drain(ctx context.Context) {
	for {
		b.gather()
		calls := b.take()
		b.recent += float64(len(calls))
		if len(calls) == 0 {
			return
		}
		taken := time.Now()
		items := make([]T, len(calls))
		for i, c := range calls {
			items[i] = c.item
		}
		answers, err := b.work(ctx, items)
		if err == nil && len(answers) != len(items) {
			err = fmt.Errorf("batch: %d answers for %d items", len(answers), len(items))
		}
		for i, c := range calls {
			o := outcome[R]{err: err, waited: taken.Sub(c.begun)}
			if err == nil {
				o.answer = answers[i]
			}
			c.done <- o
		}
	}
}

// gather waits for more calls if enough of them come.
func (b *Batcher[T, R]) gather() {
	now := time.Now()
	b.recent *= math.Exp(-now.Sub(b.counted).Seconds() / rateTime.Seconds())
	b.counted = now
	expected := b.recent * b.limits.Gather.Seconds() / rateTime.Seconds()
	if waiting := b.Len(); waiting > 0 && waiting < crowd && expected >= enough {
		<-time.After(b.limits.Gather)
	}
}

// take removes the next batch from the queues.
func (b *Batcher[T, R]) take() (calls []*call[T, R]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	weight := 0
	move := func(queue *[]*call[T, R], most int) {
		n := 0
		for n < min(len(*queue), most) && len(calls)+n < b.limits.BatchItems &&
			(len(calls)+n == 0 || weight+(*queue)[n].weight <= b.limits.BatchWeight) {
			weight += (*queue)[n].weight
			n++
		}
		calls = append(calls, (*queue)[:n]...)
		clear((*queue)[:n]) // or they would live as long as what is behind them
		if *queue = (*queue)[n:]; len(*queue) == 0 {
			*queue = nil
		}
	}
	move(&b.heavy, 1) // or it might wait for ever
	beyond := max(0, weight-b.limits.BatchWeight/2)
	weight -= beyond // or it might leave no room for light ones, batch after batch
	move(&b.light, b.limits.BatchItems)
	move(&b.heavy, b.limits.BatchItems)
	b.weight -= weight + beyond
	return calls
}

// Full returns how full the queue is, by count or by weight: 1 when there is no room.
func (b *Batcher[T, R]) Full() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(float64(len(b.light)+len(b.heavy))/float64(b.limits.QueueItems),
		float64(b.weight)/float64(b.limits.QueueWeight))
}

// Len returns how many items wait: for metrics.
func (b *Batcher[T, R]) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.light) + len(b.heavy)
}
