package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"github.com/obscura-relay/obscura/schema"
)

// Migrate brings the schema up to date. Nodes that start at once wait for each other: one migrates.
func (d *DB) Migrate(ctx context.Context) error {
	return d.withProvider(func(p *goose.Provider) error {
		_, err := p.Up(ctx)
		return err
	})
}

// ErrOldSchema says that the database needs migrations that this binary brings.
var ErrOldSchema = errors.New("the database schema is older than this binary: run `obscura migrate`")

// CheckSchema refuses a schema older than this binary needs and accepts a newer one.
func (d *DB) CheckSchema(ctx context.Context) error {
	return d.withProvider(func(p *goose.Provider) error {
		version, err := p.GetDBVersion(ctx)
		if err == nil && version < schema.Version {
			err = ErrOldSchema
		}
		return err
	})
}

func (d *DB) withProvider(fn func(*goose.Provider) error) error {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return err
	}
	// Connections of its own: a migration of a large table takes its time, and may be planned otherwise.
	cfg := d.pool.Config().ConnConfig
	for _, name := range []string{"statement_timeout", "enable_seqscan", "enable_hashjoin", "enable_mergejoin", "plan_cache_mode"} {
		delete(cfg.RuntimeParams, name)
	}
	sqlDB := stdlib.OpenDB(*cfg)
	provider, err := goose.NewProvider(database.DialectPostgres, sqlDB, schema.FS, goose.WithSessionLocker(locker))
	if err != nil {
		return errors.Join(err, sqlDB.Close())
	}
	return errors.Join(fn(provider), provider.Close())
}

// AwaitReady waits until the database answers, at most for the given time.
func (d *DB) AwaitReady(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		_, err := Queries.Ping(ctx, d.pool)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the database does not answer: %w", redact(err))
		case <-time.After(200 * time.Millisecond):
		}
	}
}
