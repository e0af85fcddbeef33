package storage

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// InPipeline is InTx with fewer round trips, for transactions that thousands of requests wait for.
// Statements without a result do not wait for their answer: they travel with the next query, and
// the last ones with the COMMIT, so their errors come from there and their command tags are empty.
func (d *DB) InPipeline(ctx context.Context, fn func(tx *Tx) error) error {
	conn, err := d.acquire(ctx)
	if err != nil {
		return classify(ctx, err)
	}
	defer func() { conn.release(ctx, err) }()
	p := &pipeline{conn: conn.Conn.Conn(), waiting: &pgx.Batch{}}
	p.waiting.Queue("begin")
	if err = fn(&Tx{p, d.Buckets()}); err == nil {
		p.waiting.Queue("commit")
		var tag pgconn.CommandTag
		if tag, err = p.flush(ctx); err == nil && tag.String() != "COMMIT" {
			err = pgx.ErrTxCommitRollback
		}
	}
	if err != nil && p.conn.PgConn().TxStatus() != 'I' && !p.conn.IsClosed() {
		const enough = 5 * time.Second // beyond it the connection is thrown away
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), enough)
		defer cancel()
		_, stuck := p.conn.Exec(back, "rollback")
		err = errors.Join(err, stuck)
	}
	return classify(ctx, err)
}

// pipeline is a transaction whose statements wait for the next round trip.
type pipeline struct {
	conn    *pgx.Conn
	waiting *pgx.Batch
}

// flush sends what waits and returns the tag of the last statement.
func (p *pipeline) flush(ctx context.Context) (tag pgconn.CommandTag, err error) {
	sent := p.waiting
	p.waiting = &pgx.Batch{}
	results := p.conn.SendBatch(ctx, sent)
	for range sent.Len() {
		if tag, err = results.Exec(); err != nil {
			break
		}
	}
	if closed := results.Close(); err == nil {
		err = closed
	}
	return tag, err
}

// Exec implements db.DBTX.
func (p *pipeline) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	p.waiting.Queue(sql, args...)
	return pgconn.CommandTag{}, nil
}

// Query implements db.DBTX.
func (p *pipeline) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	before := p.waiting.Len()
	p.waiting.Queue(sql, args...)
	results := p.conn.SendBatch(ctx, p.waiting)
	p.waiting = &pgx.Batch{}
	for range before {
		if _, err := results.Exec(); err != nil {
			_ = results.Close()
			return nil, err
		}
	}
	rows, err := results.Query()
	return &lastRows{rows, results}, err
}

// QueryRow implements db.DBTX.
func (p *pipeline) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if _, err := p.flush(ctx); err != nil {
		return failed{err}
	}
	return p.conn.QueryRow(ctx, sql, args...)
}

// failed is a row that cannot be had.
type failed struct{ error }

// Scan implements pgx.Row.
func (f failed) Scan(...any) error { return f.error }

// lastRows are the rows of the last statement of a round trip, which ends with them.
type lastRows struct {
	pgx.Rows
	results pgx.BatchResults
}

// Close implements pgx.Rows.
func (r *lastRows) Close() {
	r.Rows.Close()
	_ = r.results.Close() // its error is that of the rows
}
