package storage

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/core"
)

// tracer logs statements that the server refuses: the name of the query and the SQLSTATE, never a
// value and never the server's message, which may hold one.
type tracer struct {
	logger *slog.Logger

	mu     sync.Mutex
	logged map[string]time.Time // guarded by mu: when a failure was logged last
}

// expected are the failures that callers make something of.
var expected = map[string]bool{
	"22021": true, // a text that cannot be stored
	"55P03": true, // a lock that was not to be had in time
}

// sameFailure is for how long the same failure is logged once: a database that refuses to write
// refuses every request.
const sameFailure = 5 * time.Second

type statementKey struct{}

type acquireKey struct{}

// TraceAcquireStart implements pgxpool.AcquireTracer.
func (*tracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool,
	_ pgxpool.TraceAcquireStartData) context.Context {
	return context.WithValue(ctx, acquireKey{}, time.Now())
}

// TraceAcquireEnd implements pgxpool.AcquireTracer.
func (*tracer) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireEndData) {
	if begun, ok := ctx.Value(acquireKey{}).(time.Time); ok {
		core.Waited(ctx, time.Since(begun))
	}
}

// TraceQueryStart implements pgx.QueryTracer.
func (*tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, statementKey{}, data.SQL)
}

// TraceQueryEnd implements pgx.QueryTracer.
func (t *tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	if data.Err != nil {
		sql, _ := ctx.Value(statementKey{}).(string)
		t.failed(sql, data.Err)
	}
}

// TraceBatchStart implements pgx.BatchTracer.
func (*tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer.
func (t *tracer) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	if data.Err != nil {
		t.failed(data.SQL, data.Err)
	}
}

// TraceBatchEnd implements pgx.BatchTracer: a statement that cannot be prepared is not a query yet.
func (t *tracer) TraceBatchEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	var early pgx.ErrPreprocessingBatch
	if errors.As(data.Err, &early) {
		t.failed(early.SQL(), data.Err)
	}
}

func (t *tracer) failed(sql string, err error) {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return // no answer of the server: the caller says that it is unavailable
	}
	level := slog.LevelWarn
	if expected[pg.Code] {
		level = slog.LevelDebug
	}
	name, state := queryName(sql), describe(pg)
	if t.due(name + " " + state) {
		t.logger.Log(context.Background(), level, "a statement failed; its request fails", "component", "database",
			"query", name, "state", state)
	}
}

// due reports that this failure has not been logged in the last seconds.
func (t *tracer) due(failure string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.logged[failure]) < sameFailure {
		return false
	}
	if t.logged == nil || len(t.logged) > 1000 {
		t.logged = map[string]time.Time{}
	}
	t.logged[failure] = time.Now()
	return true
}

// queryName is the name that sqlc writes before a statement, or the statement's first word.
func queryName(sql string) string {
	if rest, ok := strings.CutPrefix(sql, "-- name: "); ok {
		name, _, _ := strings.Cut(rest, " ")
		return name
	}
	word, _, _ := strings.Cut(strings.TrimSpace(sql), " ")
	return word
}
