// Package limit keeps rate limits in memory, one token bucket per key.
//
// Invariants: there are MaxKeys keys at most, and Sweep forgets those at rest. Limits are per node. On
// overflow some keys are forgotten, and with the process all: either can only let a caller through.
package limit

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// MaxKeys bounds the keys of one limiter.
const MaxKeys = 1 << 18

// Rate is a number of events in a time, written "20/1m". A burst may use all of them at once.
type Rate struct {
	Events int
	Per    time.Duration
}

// UnmarshalText reads "20/1m".
func (r *Rate) UnmarshalText(text []byte) error {
	events, per, found := strings.Cut(string(text), "/")
	n, err := strconv.Atoi(events)
	d, derr := time.ParseDuration(per)
	if !found || err != nil || derr != nil || n < 1 || d <= 0 {
		return fmt.Errorf("a rate is written EVENTS/DURATION, for example 20/1m")
	}
	r.Events, r.Per = n, d
	return nil
}

// String writes the rate as UnmarshalText reads it.
func (r Rate) String() string { return fmt.Sprintf("%d/%s", r.Events, r.Per) }

// Limiter counts events by key. A nil Limiter allows everything.
type Limiter[K comparable] struct {
	rate rate.Limit
	size int

	mu      sync.Mutex
	buckets map[K]*rate.Limiter // guarded by mu
}

// New makes a limiter for a rate.
func New[K comparable](r Rate) *Limiter[K] {
	return &Limiter[K]{
		rate:    rate.Limit(float64(r.Events) / r.Per.Seconds()),
		size:    r.Events,
		buckets: map[K]*rate.Limiter{},
	}
}

// Take counts one event of a key. It returns 0 when the event is allowed, else how long to wait; a
// refused event is not counted.
func (l *Limiter[K]) Take(key K) time.Duration {
	if l == nil {
		return 0
	}
	now := time.Now()
	l.mu.Lock()
	bucket := l.buckets[key]
	if bucket == nil {
		if len(l.buckets) >= MaxKeys {
			l.makeRoom(now)
		}
		bucket = rate.NewLimiter(l.rate, l.size)
		l.buckets[key] = bucket
	}
	l.mu.Unlock()
	r := bucket.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return wait
	}
	return 0
}

// Sweep forgets the keys at rest, which have all their events to come.
func (l *Limiter[K]) Sweep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(time.Now())
}

func (l *Limiter[K]) sweep(now time.Time) {
	for key, bucket := range l.buckets {
		if bucket.TokensAt(now) >= float64(l.size) {
			delete(l.buckets, key)
		}
	}
}

// makeRoom forgets the keys at rest, and any when there are still too many: a quarter at once, so that a
// flood of keys does not pay for it each time.
func (l *Limiter[K]) makeRoom(now time.Time) {
	l.sweep(now)
	if len(l.buckets) < MaxKeys {
		return
	}
	for key := range l.buckets {
		if delete(l.buckets, key); len(l.buckets) <= MaxKeys*3/4 {
			return
		}
	}
}
