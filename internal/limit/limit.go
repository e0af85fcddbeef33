// Package limit keeps rate limits in memory: one number for each key, the time at which the key is
// at rest again (the generic cell rate algorithm, ITU-T I.371).
//
// Invariants: a limiter has maxKeys keys at most, so its memory is bounded: some 5 MiB. When it is
// full, a new key takes the place of one of those that have counted least, so that a flood of keys
// neither brings back the events of a key that has spent them nor keeps out new keys. Limits are
// per node, and the process forgets them when it ends: either can only let a caller through.
package limit

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxKeys bounds the keys of one limiter.
const maxKeys = 1 << 16

// sampled is how many keys are looked at to find one that gives up its place.
const sampled = 8

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
func (r Rate) String() string {
	per := r.Per.String() // 1h0m0s
	if strings.HasSuffix(per, "m0s") {
		per = strings.TrimSuffix(per, "0s")
	}
	if strings.HasSuffix(per, "h0m") {
		per = strings.TrimSuffix(per, "0m")
	}
	return fmt.Sprintf("%d/%s", r.Events, per)
}

// Limiter counts events by key.
type Limiter[K comparable] struct {
	// per is the time in which a key that has spent all its events gets them back, each that for
	// one.
	per, each time.Duration
	begun     time.Time

	mu   sync.Mutex
	rest map[K]time.Duration // guarded by mu: from begun until the key has all its events again
}

// New makes a limiter for a rate.
func New[K comparable](r Rate) *Limiter[K] {
	return &Limiter[K]{per: r.Per, each: max(1, r.Per/time.Duration(r.Events)), begun: time.Now(),
		rest: map[K]time.Duration{}}
}

// Take counts one event of a key. It returns 0 when the event is allowed, else how long to wait; a
// refused event is not counted.
func (l *Limiter[K]) Take(key K) time.Duration {
	now := time.Since(l.begun)
	l.mu.Lock()
	defer l.mu.Unlock()
	rest, known := l.rest[key]
	rest = max(rest, now) + l.each
	if wait := rest - now - l.per; wait > 0 {
		return wait
	}
	if !known && len(l.rest) >= maxKeys {
		l.makeRoom()
	}
	l.rest[key] = rest
	return 0
}

// GiveBack takes back an event that was allowed and turned out not to count.
func (l *Limiter[K]) GiveBack(key K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if rest, known := l.rest[key]; known {
		l.rest[key] = rest - l.each
	}
}

// Sweep forgets the keys at rest.
func (l *Limiter[K]) Sweep() {
	now := time.Since(l.begun)
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, rest := range l.rest {
		if rest <= now {
			delete(l.rest, key)
		}
	}
}

// makeRoom forgets the key nearest to rest of some. A map is walked from a random place on.
func (l *Limiter[K]) makeRoom() {
	var nearest K
	seen := 0
	for key, rest := range l.rest {
		if seen == 0 || rest < l.rest[nearest] {
			nearest = key
		}
		if seen++; seen == sampled {
			break
		}
	}
	delete(l.rest, nearest)
}
