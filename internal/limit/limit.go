// Package limit keeps rate limits in memory, one token bucket per key.
//
// Invariants: memory is bounded by the number of keys that are not at rest, and by MaxKeys at most;
// a key at rest costs nothing. Limits are per node. On overflow some keys are forgotten, which can
// only let a caller through.
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
	swept   time.Time           // guarded by mu
}

// New makes a limiter for a rate.
func New[K comparable](r Rate) *Limiter[K] {
	return &Limiter[K]{
		rate:    rate.Limit(float64(r.Events) / r.Per.Seconds()),
		size:    r.Events,
		buckets: map[K]*rate.Limiter{},
		swept:   time.Now(),
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
		l.makeRoom(now)
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

// makeRoom forgets the keys at rest, from time to time, and any when there are too many.
func (l *Limiter[K]) makeRoom(now time.Time) {
	full := len(l.buckets) >= MaxKeys
	if !full && now.Sub(l.swept) < time.Minute {
		return
	}
	l.swept = now
	for key, bucket := range l.buckets {
		if bucket.TokensAt(now) >= float64(l.size) {
			delete(l.buckets, key)
		}
	}
	if len(l.buckets) < MaxKeys {
		return
	}
	for key := range l.buckets { // a quarter at once, so that a flood of keys does not pay this each time
		if delete(l.buckets, key); len(l.buckets) <= MaxKeys*3/4 {
			return
		}
	}
}
