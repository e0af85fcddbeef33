package storage_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
)

// book keeps a log, and passes on that something was logged.
type book struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
	new chan struct{}
}

func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.new <- struct{}{}:
	default:
	}
	return b.buf.Write(p)
}

func (b *book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// logging opens a database and its log, warnings and worse.
func logging(t *testing.T, url string) (*storage.DB, *book) {
	t.Helper()
	b := &book{new: make(chan struct{}, 1)}
	d, err := storage.Open(t.Context(), url,
		storage.Options{MaxConns: 2, Logger: slog.New(slog.NewTextHandler(b, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d, b
}

func TestAFailedStatementIsLoggedByItsNameAlone(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	device := uuid.New()
	q, mailbox := storage.Queries, db.InsertMailboxParams{DeviceID: device}
	for name, c := range map[string]struct {
		broken, want string
		run          func(d *storage.DB) error
	}{
		"alone": {"ALTER TABLE users RENAME TO away", `query=UserByID state="SQLSTATE 42P01 (undefined table)"`,
			func(d *storage.DB) error {
				return d.Do(ctx, func(conn *storage.Tx) error { _, err := q.UserByID(ctx, conn, device); return err })
			}},
		"in a transaction": {"ALTER TABLE mailboxes ADD CONSTRAINT none CHECK (next_seq > 1)",
			`query=InsertMailbox state="SQLSTATE 23514 constraint none"`, func(d *storage.DB) error {
				return d.InTx(ctx, func(tx *storage.Tx) error { return q.InsertMailbox(ctx, tx, mailbox) })
			}},
		"in a pipeline": {"ALTER TABLE mailboxes ADD CONSTRAINT none CHECK (next_seq > 1)",
			`query=InsertMailbox state="SQLSTATE 23514 constraint none"`, func(d *storage.DB) error {
				return d.InPipeline(ctx, func(tx *storage.Tx) error { return q.InsertMailbox(ctx, tx, mailbox) })
			}},
		"in a pipeline, before it is run": {"ALTER TABLE mailboxes RENAME TO away",
			`query=InsertMailbox state="SQLSTATE 42P01 (undefined table)"`, func(d *storage.DB) error {
				return d.InPipeline(ctx, func(tx *storage.Tx) error { return q.InsertMailbox(ctx, tx, mailbox) })
			}},
		"in a pipeline, as the second": {"ALTER TABLE gaps RENAME TO away",
			`query=DeleteGaps state="SQLSTATE 42P01 (undefined table)"`, func(d *storage.DB) error {
				return d.InPipeline(ctx, func(tx *storage.Tx) error {
					if err := q.InsertMailbox(ctx, tx, mailbox); err != nil {
						return err
					}
					return q.DeleteGaps(ctx, tx, db.DeleteGapsParams{DeviceID: device})
				})
			}},
		"which is there already": {"INSERT INTO mailboxes (device_id) VALUES ('" + device.String() + "')",
			`query=InsertMailbox state="SQLSTATE 23505 constraint mailboxes_pkey"`, func(d *storage.DB) error {
				return d.InTx(ctx, func(tx *storage.Tx) error { return q.InsertMailbox(ctx, tx, mailbox) })
			}},
		"which takes too long": {"SELECT 1", `query=SELECT state="SQLSTATE 57014 (statement timeout)"`,
			func(d *storage.DB) error {
				return d.InTx(ctx, func(tx *storage.Tx) error {
					_, err := tx.Exec(ctx, "SET LOCAL statement_timeout = '50ms'")
					if err == nil {
						_, err = tx.Exec(ctx, "SELECT pg_sleep(20)")
					}
					return err
				})
			}},
	} {
		d, log := logging(t, testdb.NewURL(t))
		if err := exec(ctx, d, c.broken); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			err := c.run(d)
			if err == nil || !strings.Contains(err.Error(), "SQLSTATE ") ||
				strings.HasSuffix(err.Error(), "constraint ") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "level=WARN") ||
			!strings.Contains(log.String(), c.want) || strings.Contains(log.String(), device.String()) ||
			strings.Count(log.String(), "component=") != 1 {
			t.Errorf("%s: the log: %s", name, log)
		}
	}
}

func TestAnExpectedFailureIsNotLogged(t *testing.T) {
	t.Parallel()
	d, log := logging(t, testdb.NewURL(t))
	err := d.Do(t.Context(), func(conn *storage.Tx) error {
		_,
			err := storage.Queries.UserByName(t.Context(), conn, "a\x00")
		return err
	})
	if core.KindOf(err) != core.Invalid {
		t.Error(err)
	}
	if log.String() != "" {
		t.Errorf("the log: %s", log)
	}
}

func TestTheLockOfMigrationsIsWaitedForAloud(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	release := holdGooseLock(t, url)
	d, log := logging(t, url+"&search_path=empty") // where everything has to be made
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- d.Migrate(ctx) }()
	select {
	case <-log.new:
	case err := <-ended:
		t.Fatalf("it did not wait: %v", err)
	}
	if !strings.Contains(log.String(), "waiting for the lock of migrations, which another node holds") {
		t.Errorf("the log: %s", log)
	}
	release()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// holdGooseLock makes a schema named empty, and holds goose's lock until release is called.
func holdGooseLock(t *testing.T, url string) (release func()) {
	t.Helper()
	conn, err := open(t, url).Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() {
		_, _ = conn.Exec(context.Background(), "SELECT pg_advisory_unlock_all()")
		conn.Release()
	})
	t.Cleanup(release)
	if _, err := conn.Exec(t.Context(), "CREATE SCHEMA empty; SELECT pg_advisory_lock(4097083626)"); err != nil {
		t.Fatal(err)
	}
	return release
}
