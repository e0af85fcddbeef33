// Package storage is the door to PostgreSQL: the pool, transactions, the migration check, and the
// one place that knows the driver's errors.
//
// Invariants: an error that leaves this package is either a *core.Error or internal; the use case
// that calls InTx owns the transaction. On failure nothing of a transaction is kept. A database
// that is away, restarting or overloaded is core.Unavailable, so that callers hear 503 and try
// again.
package storage

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/gen/db"
)

// DB is a pool of connections to one database.
type DB struct {
	pool    *pgxpool.Pool
	logger  *slog.Logger
	path    string       // the search_path of its sessions
	renewed atomic.Int64 // when the pool was renewed last, in nanoseconds
	buckets atomic.Int32 // 0 until they are known

	parts  atomic.Pointer[[]*DB] // what In returns; nil where there is one bucket
	gate   *gate                 // of what In returns, where there are several
	bucket int16                 // that of the gate
}

// Queries is the generated accessor of everything under queries/.
var Queries = db.New()

// Options are the parts of a connection that the URL does not say.
type Options struct {
	// MaxConns bounds the pool.
	MaxConns int32
	// AsyncCommit lets commits return before they reach the disk. For acknowledgements only: one
	// that is lost with the database is an envelope delivered twice, never one lost.
	AsyncCommit bool
	// Logger hears what is waited for and which statements fail. Default: nobody does.
	Logger *slog.Logger
}

// CheckURL returns a sentence for a URL that Open cannot take.
func CheckURL(url string) error {
	if _, err := pgxpool.ParseConfig(url); err != nil {
		return fmt.Errorf("the database URL is not valid: %w", explainURL(err))
	}
	return nil
}

// Open makes a pool. It does not wait for the database: the first use does.
func Open(ctx context.Context, url string, opt Options) (*DB, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("the database URL is not valid: %w", explainURL(err))
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.ConnConfig.Tracer = &tracer{logger: opt.Logger}
	cfg.MaxConns = opt.MaxConns
	cfg.MaxConnIdleTime = 5 * time.Minute
	cfg.MaxConnLifetime = 10 * time.Minute // and with it the plans made when tables were empty
	cfg.MaxConnLifetimeJitter = 2 * time.Minute
	cfg.HealthCheckPeriod = 5 * time.Second
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	more := maps.Clone(planning)
	if opt.AsyncCommit {
		more["synchronous_commit"] = "off"
	}
	d := &DB{logger: opt.Logger, path: pin(cfg.ConnConfig, "obscura", more)}
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		registerUUID(conn)
		return d.admit(ctx, conn)
	}
	goOn := cfg.ConnConfig.OnPgError
	cfg.ConnConfig.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		if err.Code == "25006" { // read-only
			d.renew()
		}
		return goOn(conn, err)
	}
	if d.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, fmt.Errorf("cannot open the database pool: %w", err)
	}
	return d, nil
}

// Close waits for the connections in use and closes all.
func (d *DB) Close() { d.pool.Close() }

// Pool gives the composition root what metrics and the bus need.
func (d *DB) Pool() *pgxpool.Pool { return d.pool }

// InTx runs fn in one transaction: committed when fn returns nil, rolled back otherwise.
func (d *DB) InTx(ctx context.Context, fn func(tx *Tx) error) error {
	return d.on(ctx, func(conn connection) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return fn(&Tx{tx, d.Buckets()}) })
	})
}

// Do runs fn on the pool, each statement in a transaction of its own.
func (d *DB) Do(ctx context.Context, fn func(conn *Tx) error) error {
	return d.on(ctx, func(conn connection) error { return fn(&Tx{conn, d.Buckets()}) })
}

// Ask puts one question to the database, outside of any transaction.
func Ask[P, R any](ctx context.Context, d *DB, question func(context.Context, db.DBTX, P) (R, error),
	about P) (answer R, err error) {
	err = d.on(ctx, func(conn connection) (err error) {
		answer, err = question(ctx, conn, about)
		return err
	})
	return answer, err
}

// connection is one of a pool, or the pool.
type connection interface {
	db.DBTX
	Begin(ctx context.Context) (pgx.Tx, error)
}

// on runs fn on the pool, or within what a bucket may hold of it.
func (d *DB) on(ctx context.Context, fn func(connection) error) (err error) {
	if d.gate == nil {
		return classify(ctx, fn(d.pool))
	}
	conn, err := d.acquire(ctx)
	if err != nil {
		return classify(ctx, err)
	}
	defer func() { conn.release(ctx, err); err = classify(ctx, err) }()
	return fn(conn.Conn)
}

// WithLock runs fn while this node holds an advisory lock, and reports false without running it
// when another node does. The lock goes with its connection: fn must bear that another node begins.
func (d *DB) WithLock(ctx context.Context, key int64, fn func() error) (ran bool, err error) {
	err = d.InTx(ctx, func(tx *Tx) error {
		if ran, err = Queries.TryLock(ctx, tx, key); err != nil || !ran {
			return err
		}
		if err := Queries.MayIdle(ctx, tx); err != nil {
			return err
		}
		return fn()
	})
	return ran, err
}

// Vacuum makes room in the tables that fill and empty all the time. It uses a connection of its
// own, without a timeout, and skips tables that are being vacuumed.
func (d *DB) Vacuum(ctx context.Context) error {
	pooled, err := d.pool.Acquire(ctx)
	if err != nil {
		return classify(ctx, err)
	}
	conn := pooled.Hijack()
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, step := range []func(context.Context, db.DBTX) error{Queries.NoTimeout, Queries.VacuumMailboxes,
		Queries.VacuumKeys} {
		if err := step(ctx, conn); err != nil {
			return classify(ctx, err)
		}
	}
	return nil
}

// Interval converts a duration for a query.
func Interval(d time.Duration) pgtype.Interval {
	return pgtype.Interval{Microseconds: d.Microseconds(), Valid: true}
}
