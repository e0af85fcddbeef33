package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"github.com/obscura-relay/obscura/schema"
)

// A table that a migration changes may be in use: by a dump, or a vacuum of another node. While the
// migration waits for it, everybody else does too, so it gives way after a second, and tries again
// after a pause.
const (
	tableWait     = "1s"
	tablePause    = 2 * time.Second
	tablePatience = time.Minute
	lockTimedOut  = "55P03"
)

// Migrate brings the schema up to date. Nodes that start at once wait for each other: one migrates.
func (d *DB) Migrate(ctx context.Context) error {
	return d.withProvider(func(p *goose.Provider) error {
		for end := time.Now().Add(tablePatience); ; {
			_, err := p.Up(ctx)
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || pg.Code != lockTimedOut || time.Now().After(end) {
				return d.explainMigration(err)
			}
			d.logger.Warn("a table is in use, by a backup or a vacuum for example; the migration is tried again",
				"component", "database")
			select {
			case <-ctx.Done():
				return d.explainMigration(err)
			case <-time.After(tablePause):
			}
		}
	})
}

// explainMigration says why the schema cannot be changed: what the server says about tables, not
// about rows.
func (d *DB) explainMigration(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return Redact(err)
	}
	text := describe(pg)
	var partial *goose.PartialError
	if errors.As(err, &partial) && partial.Failed != nil && partial.Failed.Source != nil {
		text = path.Base(partial.Failed.Source.Path) + ": " + text
	}
	if pg.Code == lockTimedOut {
		return errors.New("database: " + text +
			": a table is in use: wait until the backup or the vacuum has ended, and start again; what was done stays")
	}
	if pg.Code == "42501" {
		cfg := d.pool.Config().ConnConfig
		return fmt.Errorf("%s: %s: the user %q must own the database %q and what is in it, or name another user in %s",
			text, pg.Message, cfg.User, cfg.Database, setting)
	}
	return errors.New("database: " + text)
}

// loudLocker says that it waits.
type loudLocker struct {
	lock.SessionLocker
	logger *slog.Logger
}

// SessionLock implements lock.SessionLocker.
func (l loudLocker) SessionLock(ctx context.Context, conn *sql.Conn) error {
	locked := make(chan struct{})
	var saying sync.WaitGroup
	defer saying.Wait()
	defer close(locked)
	saying.Go(func() {
		tick := time.NewTicker(warnEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.logger.Warn("waiting for the lock of migrations, which another node holds", "component", "database")
			case <-locked:
				return
			}
		}
	})
	return l.SessionLocker.SessionLock(ctx, conn)
}

// errOldSchema says that the database needs migrations that this binary brings.
var errOldSchema = errors.New("the database schema is older than this binary: run `obscura migrate`")

// CheckSchema refuses a schema older than this binary needs and accepts a newer one. It learns how
// many buckets there are.
func (d *DB) CheckSchema(ctx context.Context) error {
	err := d.CheckVersion(ctx)
	if err == nil {
		err = d.LearnBuckets(ctx)
	}
	return err
}

// CheckVersion is CheckSchema for those who need no buckets, which may lie on several servers.
func (d *DB) CheckVersion(ctx context.Context) error {
	version, err := d.SchemaVersion(ctx)
	if err == nil && version < schema.Version {
		err = errOldSchema
	}
	return err
}

// SchemaVersion is the number of the last migration that was applied, 0 for an empty database. It
// changes nothing.
func (d *DB) SchemaVersion(ctx context.Context) (version int64, err error) {
	if any, err := Queries.HasMigrations(ctx, d.pool); err != nil || !any {
		return 0, Redact(err)
	}
	err = d.withProvider(func(p *goose.Provider) (err error) {
		version, err = p.GetDBVersion(ctx)
		return Redact(err)
	})
	return version, err
}

func (d *DB) withProvider(fn func(*goose.Provider) error) error {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return err
	}
	// Connections of its own: a migration of a large table takes its time, and may be planned
	// otherwise.
	cfg := d.pool.Config().ConnConfig
	pin(cfg, "obscura", map[string]string{"statement_timeout": "0", "lock_timeout": tableWait, "search_path": d.path})
	sqlDB := stdlib.OpenDB(*cfg)
	provider, err := goose.NewProvider(database.DialectPostgres, sqlDB, schema.FS,
		goose.WithSessionLocker(loudLocker{locker, d.logger}))
	if err != nil {
		return errors.Join(err, sqlDB.Close())
	}
	return errors.Join(fn(provider), provider.Close())
}

// Ready reports whether the database answers now.
func (d *DB) Ready(ctx context.Context) error {
	_, err := Queries.Ping(ctx, d.pool)
	return classify(ctx, err)
}

// warnEvery is how often the log is told what is waited for.
const warnEvery = 3 * time.Second

// AwaitReady waits until the database answers, at most for the given time. It says what it waits
// for, and does not wait when the server refuses for a reason that will not pass.
func (d *DB) AwaitReady(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var warned time.Time
	deadline, _ := ctx.Deadline() // also the caller's own, if that is sooner
	patience := time.Until(deadline).Round(100 * time.Millisecond)
	reason := "PostgreSQL at " + where(&d.pool.Config().ConnConfig.Config) + ": no answer in time"
	for {
		_, err := Queries.Ping(ctx, d.pool)
		var connect *pgconn.ConnectError
		switch {
		case err == nil:
			return d.checkEncoding(ctx)
		case errors.As(err, &connect):
			var final bool
			if reason, final = explain(connect); final {
				return errors.New("cannot use " + reason)
			}
		case errors.Is(err, errDistributes):
			reason = errDistributes.Error()
		case ctx.Err() == nil:
			reason = Redact(err).Error()
		}
		if ctx.Err() == nil && time.Since(warned) >= warnEvery {
			warned = time.Now()
			d.logger.Warn("waiting for the database", "component", "database", "reason", reason)
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return errors.New("stopped while the database was waited for: " + reason)
			}
			return fmt.Errorf("the database was not ready within %v: %s", patience, reason)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
