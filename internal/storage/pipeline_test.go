package storage_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/storage"
)

// pipelines opens a database with an empty table t (n integer primary key, checked at the commit).
func pipelines(t *testing.T) *storage.DB {
	t.Helper()
	d := open(t, testdb.NewURL(t))
	if err := exec(t.Context(), d, "CREATE TABLE t (n integer PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)"); err != nil {
		t.Fatal(err)
	}
	return d
}

func numbers(t *testing.T, d *storage.DB) (n int) {
	t.Helper()
	err := d.Do(t.Context(), func(conn *storage.Tx) error {
		return conn.QueryRow(t.Context(), "SELECT coalesce(sum(n), 0) FROM t").Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAPipelineIsOneTransaction(t *testing.T) {
	t.Parallel()
	d := pipelines(t)
	ctx := t.Context()
	insert := func(tx *storage.Tx, n int) error {
		_, err := tx.Exec(ctx, "INSERT INTO t VALUES ($1)", n)
		return err
	}
	err := d.InPipeline(ctx, func(tx *storage.Tx) error {
		if err := insert(tx, 1); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "SELECT n FROM t")
		if err != nil {
			return err
		}
		seen := 0
		for rows.Next() {
			seen++
		}
		rows.Close()
		if seen != 1 || rows.Err() != nil {
			t.Errorf("%d rows of its own, %v", seen, rows.Err())
		}
		if err := insert(tx, 2); err != nil {
			return err
		}
		var sum int
		if err := tx.QueryRow(ctx, "SELECT sum(n) FROM t").Scan(&sum); err != nil || sum != 3 {
			t.Errorf("sum %d, %v", sum, err)
		}
		if before := numbers(t, d); before != 0 {
			t.Errorf("others see %d before the commit", before)
		}
		return insert(tx, 4)
	})
	if err != nil || numbers(t, d) != 7 {
		t.Errorf("%d, %v", numbers(t, d), err)
	}
}

// TestAFailedPipelineChangesNothing fails in every place where a pipeline can, on one connection,
// which must be good for the next one.
func TestAFailedPipelineChangesNothing(t *testing.T) {
	t.Parallel()
	d := pipelines(t)
	ctx := t.Context()
	ours := core.NewError(core.Conflict, "x", "X.")
	run := func(ctx context.Context, tx *storage.Tx, query bool, statements ...string) error {
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		if !query {
			return nil
		}
		rows, err := tx.Query(ctx, "SELECT 1 / (n - 5) FROM t")
		if err != nil {
			return err
		}
		rows.Close()
		return rows.Err()
	}
	const one, five, broken = "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (5)", "SELECT 1 / 0"
	for name, fn := range map[string]func(tx *storage.Tx) error{
		"of the caller, nothing sent": func(tx *storage.Tx) error { return errors.Join(run(ctx, tx, false, one), ours) },
		"of the caller, later":        func(tx *storage.Tx) error { return errors.Join(run(ctx, tx, true, one), ours) },
		"before a query":              func(tx *storage.Tx) error { return run(ctx, tx, true, one, broken) },
		"in a query":                  func(tx *storage.Tx) error { return run(ctx, tx, true, one, five) },
		"before a single row": func(tx *storage.Tx) error {
			return errors.Join(run(ctx, tx, false, one, broken), tx.QueryRow(ctx, "SELECT 1").Scan(new(int)))
		},
		"with the commit": func(tx *storage.Tx) error { return run(ctx, tx, false, one, broken) },
		"of the commit":   func(tx *storage.Tx) error { return run(ctx, tx, false, one, one) },
		"a syntax error":  func(tx *storage.Tx) error { return run(ctx, tx, true, one, "INSERT INTO") },
	} {
		if err := d.InPipeline(ctx, fn); err == nil {
			t.Errorf("%s: no error", name)
		}
		if n := numbers(t, d); n != 0 {
			t.Errorf("%s: %d was kept", name, n)
		}
		if n := d.Pool().Stat().AcquiredConns(); n != 0 {
			t.Errorf("%s: %d connections are held", name, n)
		}
	}
	if err := d.InPipeline(ctx, func(*storage.Tx) error { return ours }); !errors.Is(err, ours) {
		t.Errorf("an error of ours: %v", err)
	}
}

func TestAPipelineEndsWithItsContext(t *testing.T) {
	t.Parallel()
	d := pipelines(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := d.InPipeline(ctx, func(tx *storage.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO t SELECT 1 FROM pg_sleep(60)")
		return err
	})
	if core.KindOf(err) != core.Unavailable || numbers(t, d) != 0 {
		t.Errorf("%v", err)
	}
	away := open(t, "postgres://somebody@127.0.0.1:1/nothing?sslmode=disable")
	if err := away.InPipeline(t.Context(),
		func(*storage.Tx) error { return nil }); core.KindOf(err) != core.Unavailable {
		t.Errorf("a database that is unavailable: %v", err)
	}
}

func TestAConnectionThatIsWaitedForIsSaid(t *testing.T) {
	t.Parallel()
	d, err := storage.Open(t.Context(), testdb.NewURL(t), storage.Options{MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	held := time.Now()
	conn, err := d.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, sum := core.WithWaited(t.Context())
	answered := make(chan error, 1)
	before := time.Since(held)
	go func() { answered <- d.InTx(ctx, func(*storage.Tx) error { return nil }) }()
	wait.Eventually(t, "somebody waits for a connection",
		func() bool { return time.Since(held) > before+100*time.Millisecond })
	conn.Release()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if most := time.Since(held); sum() < 50*time.Millisecond || sum() > most {
		t.Errorf("waited %s of %s", sum(), most)
	}
}
