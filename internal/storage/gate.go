package storage

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/core"
)

const (
	// silence is how long a question was on its connection, unanswered, when its bucket counts as
	// one that does not answer.
	silence = time.Second / 2
	// silencePause is how long such a bucket is not asked.
	silencePause = time.Second / 2
)

// errSilent says that a bucket is not asked now.
var errSilent = errors.New("the bucket does not answer; it is asked again in half a second")

// gate shares the connections of a pool among buckets, where there are several: one that takes
// questions and does not answer would hold all of them. A bucket has its share at any time, and
// more while less than half of the pool is in use. Whoever finds no place waits for it. A bucket
// that did not answer is not asked but once in a moment, and all such buckets together hold a
// quarter of the pool then: others hear core.Unavailable at once.
type gate struct {
	most, share, tries int
	logger             *slog.Logger

	mu      sync.Mutex
	held    int      // guarded by mu: connections of all buckets
	trying  int      // guarded by mu: of them, those of buckets that did not answer
	waiting int      // guarded by mu: who waits for a place
	buckets []places // guarded by mu: the last of them is for what touches several
}

// places are the connections of a bucket.
type places struct {
	held    int
	failed  bool         // the last question failed, and not by an answer
	silent  bool         // and took long to do so
	again   time.Time    // when it may be asked, if it is silent
	waiting []chan error // who waits for a place, in order
}

func newGate(most, buckets int, logger *slog.Logger) *gate {
	return &gate{most: most, share: max(1, most/buckets), tries: max(1, most/4), logger: logger,
		buckets: make([]places, buckets+1)}
}

// enter waits for a place. try: the bucket did not answer, and this tries whether it does.
func (g *gate) enter(ctx context.Context, bucket int16) (try bool, err error) {
	g.mu.Lock()
	b := &g.buckets[bucket]
	switch {
	case b.silent && (g.trying >= g.tries || time.Now().Before(b.again)):
		g.mu.Unlock()
		return false, core.Busy(errSilent)
	case b.silent:
		try, b.again = true, time.Now().Add(silencePause)
		g.trying++
		g.take(b)
	case g.room(b):
		g.take(b)
	default:
		place := make(chan error, 1)
		b.waiting = append(b.waiting, place)
		g.waiting++
		g.mu.Unlock()
		return false, g.wait(ctx, bucket, place)
	}
	g.mu.Unlock()
	return try, nil
}

// wait waits until it has a place, or there is none to be had.
func (g *gate) wait(ctx context.Context, bucket int16, place chan error) error {
	select {
	case err := <-place:
		return err
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	b := &g.buckets[bucket]
	if i := slices.Index(b.waiting, place); i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
		g.waiting--
	} else if <-place == nil { // it has just got one
		g.give(b)
	}
	return core.Busy(ctx.Err())
}

// room reports whether a bucket may hold one more. The caller holds the lock, as below.
func (g *gate) room(b *places) bool { return b.held < g.share || g.held < g.most/2 }

func (g *gate) take(b *places) {
	b.held++
	g.held++
}

// give gives a place back, and what has become free to those who wait: first to those for the same
// bucket.
func (g *gate) give(b *places) {
	b.held--
	g.held--
	g.admit(b)
	for i := 0; i < len(g.buckets) && g.waiting > 0 && g.held < g.most/2; i++ {
		g.admit(&g.buckets[i])
	}
}

func (g *gate) admit(b *places) {
	for len(b.waiting) > 0 && g.room(b) {
		g.take(b)
		g.dismiss(b, nil)
	}
}

// dismiss tells the first who waits for a bucket that there is a place, or why there is none.
func (g *gate) dismiss(b *places, err error) {
	b.waiting[0] <- err
	b.waiting = b.waiting[1:]
	g.waiting--
}

// verdict is what a question tells of its bucket.
type verdict uint8

const (
	unknown   verdict = iota // who asked has given up
	available                // it answered, perhaps with an error
	away                     // it cannot be reached
	silent                   // it did not answer for long
)

// leave gives a place back, and heeds what has become of the question.
func (g *gate) leave(bucket int16, try bool, v verdict) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := &g.buckets[bucket]
	if try {
		g.trying--
	}
	if int(bucket) == len(g.buckets)-1 {
		v = unknown // it does not tell which of them
	}
	if v != unknown {
		if b.failed != (v >= away) {
			g.tell(bucket, v)
		}
		b.failed, b.silent = v >= away, v == silent
	}
	if v == silent {
		b.again = time.Now().Add(silencePause)
		for len(b.waiting) > 0 {
			g.dismiss(b, core.Busy(errSilent))
		}
	}
	g.give(b)
}

// tell logs that a bucket has become unavailable, or is available again.
func (g *gate) tell(bucket int16, v verdict) {
	if v == available {
		g.logger.Info("a bucket of the database answers again", "component", "storage", "bucket", bucket)
		return
	}
	g.logger.Warn("a bucket of the database does not answer; its devices wait, and it is asked again and again",
		"component", "storage", "bucket", bucket)
}

// verdictOn is what an error tells of a bucket, after a time on a connection.
func verdictOn(ctx context.Context, err error, took time.Duration) verdict {
	switch {
	case err == nil || !unavailable(err) && ctx.Err() == nil || isAnswer(err):
		return available
	case took >= silence && isSilence(ctx, err):
		return silent
	case ctx.Err() != nil:
		return unknown
	}
	return away
}

// isSilence reports an error that comes of waiting: a time that is over, or, of a server that asks
// another one, that the other one does not answer. A connection that ends is none.
func isSilence(ctx context.Context, err error) bool {
	return ctx.Err() != nil || pgconn.Timeout(err) || hasState(err, "57014") || hasState(err, "08006")
}

// isAnswer reports an error by which a server that serves says that it cannot serve this question
// now.
func isAnswer(err error) bool {
	for _, state := range []string{"55P03", "40001", "40P01", "25006"} {
		if hasState(err, state) {
			return true
		}
	}
	return false
}

// In is the database for what touches one bucket and no other. Where there are several it bounds
// what the bucket holds of the pool; otherwise it is d.
func (d *DB) In(bucket int16) *DB {
	if parts := d.parts.Load(); parts != nil {
		return (*parts)[bucket]
	}
	return d
}

// Across is In for what touches several buckets.
func (d *DB) Across() *DB { return d.In(int16(d.Buckets())) } //nolint:gosec // see LearnBuckets

// Of is In for the bucket of a device.
func (d *DB) Of(device core.DeviceID) *DB { return d.In(d.Buckets().Bucket(device)) }

// Failing reports whether a bucket could not be asked the last time.
func (d *DB) Failing(bucket int16) bool {
	in := d.In(bucket)
	if in.gate == nil {
		return false
	}
	in.gate.mu.Lock()
	defer in.gate.mu.Unlock()
	return in.gate.buckets[bucket].failed
}

// divide makes what In returns.
func (d *DB) divide(n Buckets) {
	if parts := d.parts.Load(); n == 1 || parts != nil && len(*parts) == int(n)+1 {
		return
	}
	g := newGate(int(d.pool.Stat().MaxConns()), int(n), d.logger)
	parts := make([]*DB, n+1)
	for i := range parts {
		parts[i] = &DB{pool: d.pool, logger: d.logger, path: d.path, gate: g, bucket: int16(i)}
		parts[i].buckets.Store(int32(n))
	}
	d.parts.Store(&parts)
}

// hold is a connection of a pool, on behalf of a bucket where there are several.
type hold struct {
	*pgxpool.Conn
	db    *DB
	try   bool
	since time.Time
}

// acquire takes a connection, which release gives back.
func (d *DB) acquire(ctx context.Context) (h hold, err error) {
	h.db = d
	if d.gate != nil {
		if h.try, err = d.gate.enter(ctx, d.bucket); err != nil {
			return h, err
		}
	}
	begun := time.Now()
	h.Conn, err = d.pool.Acquire(ctx)
	h.since = time.Now()
	if err != nil && d.gate != nil {
		took := h.since.Sub(begun)
		if ctx.Err() != nil { // it may have waited for others
			took = 0
		}
		d.gate.leave(d.bucket, h.try, verdictOn(ctx, err, took))
	}
	return h, err
}

// release gives the connection back, with the error that came of what it was used for.
func (h *hold) release(ctx context.Context, err error) {
	h.Release()
	if h.db.gate != nil {
		h.db.gate.leave(h.db.bucket, h.try, verdictOn(ctx, err, time.Since(h.since)))
	}
}
