package core

import (
	"context"
	"sync/atomic"
	"time"
)

type waitedKey struct{}

// WithWaited has a context sum how long it was waited for a turn on its behalf: in a queue, for a
// place to hash a password, for a connection to the database. The sum is for the log.
func WithWaited(ctx context.Context) (_ context.Context, sum func() time.Duration) {
	waited := new(atomic.Int64)
	return context.WithValue(ctx, waitedKey{}, waited), func() time.Duration { return time.Duration(waited.Load()) }
}

// Waited adds to the sum, if there is one.
func Waited(ctx context.Context, d time.Duration) {
	if waited, ok := ctx.Value(waitedKey{}).(*atomic.Int64); ok {
		waited.Add(int64(d))
	}
}
