package storage_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/schema"
)

// turkish makes databases in which lower('I') is not i.
const turkish = "ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'"

// beforeNames is the newest migration before the one of the names.
const beforeNames = 9

// The statements of the binary before the migration.
const (
	oldInsert = `INSERT INTO users (id, username, username_key, password_hash) VALUES ($1, $2, lower($2), '')
		ON CONFLICT (username_key) DO NOTHING`
	oldLookup = `SELECT count(*) FROM users WHERE username_key = lower($1)`
)

type namesWorld struct {
	t    *testing.T
	conn *pgx.Conn
	up   *goose.Provider
}

func newNamesWorld(t *testing.T, options string) *namesWorld {
	t.Helper()
	database := testdb.Bare(t, options)
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	up, err := goose.NewProvider(goose.DialectPostgres, stdlib.OpenDB(*conn.Config()), schema.FS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = up.Close() })
	if _, err := up.UpTo(t.Context(), beforeNames); err != nil {
		t.Fatal(err)
	}
	return &namesWorld{t: t, conn: conn, up: up}
}

func (w *namesWorld) register(name string) int64 {
	w.t.Helper()
	tag, err := w.conn.Exec(w.t.Context(), oldInsert, uuid.New(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return tag.RowsAffected()
}

func (w *namesWorld) count(sql string, args ...any) (n int) {
	w.t.Helper()
	if err := w.conn.QueryRow(w.t.Context(), sql, args...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestNamesOfThePreviousBinaryAreFolded(t *testing.T) {
	t.Parallel()
	const known = "SELECT count(*) FROM users WHERE name_key = $1"
	for label, options := range map[string]string{"C": "", "Turkish": turkish} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			w := newNamesWorld(t, options)
			w.register("IRIS_x")
			if _, err := w.up.UpTo(t.Context(), beforeNames+1); err != nil {
				t.Fatal(err)
			}
			w.register("ILIAS")
			for _, key := range []string{"iris_x", "ilias"} {
				if w.count(known, key) != 1 {
					t.Errorf("nobody has %s", key)
				}
			}
			if w.count(oldLookup, "IRIS_x") != 1 || w.register("IRIS_x") != 0 {
				t.Error("the previous binary does not find what it wrote")
			}
			if _, err := w.conn.Exec(t.Context(), oldInsert, uuid.New(), "iris_x"); label == "Turkish" && err == nil {
				t.Error("a stranger has the name")
			}
			if _, err := w.up.DownTo(t.Context(), beforeNames); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNamesThatDifferInCaseStopTheMigration(t *testing.T) {
	t.Parallel()
	w := newNamesWorld(t, turkish)
	w.register("IRIS_x")
	w.register("iris_x")
	_, err := w.up.UpTo(t.Context(), beforeNames+1)
	if err == nil || !strings.Contains(err.Error(), "Some users have names that differ in nothing but case.") {
		t.Fatalf("got %v", err)
	}
	if _, err := w.conn.Exec(t.Context(),
		"UPDATE users SET username = 'iris_y' WHERE username = 'iris_x'"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.up.UpTo(t.Context(), beforeNames+1); err != nil {
		t.Error(err)
	}
}
