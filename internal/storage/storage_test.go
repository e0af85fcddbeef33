package storage_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
)

func TestMain(m *testing.M) { testdb.Main(m) }

func open(t *testing.T, url string) *storage.DB {
	t.Helper()
	d, err := storage.Open(t.Context(), url, storage.Options{MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func exec(ctx context.Context, d *storage.DB, sql string, args ...any) error {
	return d.InTx(ctx, func(tx *storage.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	})
}

func TestADriversErrorIsTurnedIntoOurs(t *testing.T) {
	t.Parallel()
	d := open(t, testdb.NewURL(t))
	raise := func(code string) string {
		return "DO $$ BEGIN RAISE EXCEPTION 'a secret message' USING ERRCODE = '" + code +
			"', DETAIL = 'a secret detail'; END $$"
	}
	for code, kind := range map[string]core.Kind{
		"08006": core.Unavailable, "53100": core.Unavailable, "53300": core.Unavailable, "57P01": core.Unavailable,
		"57P02": core.Unavailable,
		"57P03": core.Unavailable, "57014": core.Unavailable, "55P03": core.Unavailable, "40001": core.Unavailable,
		"40P01": core.Unavailable,
		"25006": core.Unavailable, "22021": core.Invalid, "23505": 0, "42P01": 0, "22012": 0, "XX000": 0,
	} {
		err := exec(t.Context(), d, raise(code))
		if err == nil || core.KindOf(err) != kind || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: kind %d, want %d: %v", code, core.KindOf(err), kind, err)
		}
	}
	if err := exec(t.Context(), d, "SELECT $1::text", "a\x00b"); core.KindOf(err) != core.Invalid {
		t.Errorf("the character zero: %v", err)
	}
	err := d.Do(t.Context(), func(conn *storage.Tx) error {
		_, err := storage.Queries.UserByID(t.Context(), conn, uuid.New())
		return err
	})
	if !storage.IsNoRows(err) || !errors.Is(storage.NoRowsAs(err, context.Canceled), context.Canceled) {
		t.Errorf("no rows: %v", err)
	}
	ours := core.NewError(core.Conflict, "x", "X.")
	if err := d.InTx(t.Context(), func(*storage.Tx) error { return ours }); !errors.Is(err, ours) {
		t.Errorf("an error of ours: %v", err)
	}
}

func TestADatabaseThatIsAwayIsUnavailable(t *testing.T) {
	t.Parallel()
	d := open(t, "postgres://somebody:hunter2hunter2@127.0.0.1:1/nothing?sslmode=disable")
	for _, err := range []error{exec(t.Context(), d, "SELECT 1"), d.AwaitReady(t.Context(), 300*time.Millisecond)} {
		if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "somebody") {
			t.Errorf("%v", err)
		}
	}
	if err := exec(t.Context(), d, "SELECT 1"); core.KindOf(err) != core.Unavailable {
		t.Errorf("%v", err)
	}
	there := open(t, testdb.NewURL(t))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := exec(ctx, there, "SELECT pg_sleep(10)"); core.KindOf(err) != core.Unavailable {
		t.Errorf("too slow: %v", err)
	}
	there.Close()
	if err := exec(t.Context(), there, "SELECT 1"); core.KindOf(err) != core.Unavailable {
		t.Errorf("a closed pool: %v", err)
	}
	_, err := storage.Open(t.Context(), "postgres://u:hunter2hunter2@h:notaport/d", storage.Options{MaxConns: 4})
	if err == nil || !strings.HasPrefix(err.Error(), "the database URL is not valid: its port must be a number") ||
		strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}

func TestAFailedTransactionChangesNothing(t *testing.T) {
	t.Parallel()
	d := open(t, testdb.NewURL(t))
	if err := exec(t.Context(), d, "CREATE TABLE counted (n int)"); err != nil {
		t.Fatal(err)
	}
	ours := errors.New("no")
	err := d.InTx(t.Context(), func(tx *storage.Tx) error {
		if _, err := tx.Exec(t.Context(), "INSERT INTO counted VALUES (1)"); err != nil {
			return err
		}
		return ours
	})
	if !errors.Is(err, ours) {
		t.Error(err)
	}
	var n int
	if err := d.Pool().QueryRow(t.Context(), "SELECT count(*) FROM counted").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows, %v", n, err)
	}
}

func TestALockIsHeldByOneAtATime(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	one, two := open(t, url), open(t, url)
	ran, err := one.WithLock(t.Context(), 7, func() error {
		ran, err := two.WithLock(t.Context(), 7, func() error { t.Error("it ran"); return nil })
		if ran || err != nil {
			t.Errorf("the second: %v %v", ran, err)
		}
		ran, err = two.WithLock(t.Context(), 8, func() error { return nil })
		if !ran || err != nil {
			t.Errorf("another lock: %v %v", ran, err)
		}
		return nil
	})
	if !ran || err != nil {
		t.Errorf("the first: %v %v", ran, err)
	}
	if ran, err := two.WithLock(t.Context(), 7, func() error { return nil }); !ran || err != nil {
		t.Errorf("afterwards: %v %v", ran, err)
	}
}
