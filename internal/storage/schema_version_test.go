package storage_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
	"github.com/obscura-relay/obscura/schema"
)

func TestSchemaVersionChangesNothing(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]int64{testdb.Bare(t, ""): 0, testdb.NewURL(t): schema.Version} {
		db, err := storage.Open(t.Context(), url, storage.Options{MaxConns: 2})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(db.Close)
		version, err := db.SchemaVersion(t.Context())
		if err != nil || version != want {
			t.Errorf("version %d, want %d: %v", version, want, err)
		}
		there, err := storage.Queries.HasMigrations(t.Context(), db.Pool())
		if err != nil || there != (want > 0) {
			t.Errorf("the table of migrations is there: %v, %v", there, err)
		}
	}
}

// A dump holds its lock on every table until it ends.
func TestMigrateGivesWayToADump(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	db, err := storage.Open(t.Context(), url, storage.Options{MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	testdb.Exec(t, url, "DELETE FROM goose_db_version WHERE version_id >= 22") // they can be repeated
	dump, err := db.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dump.Exec(t.Context(), "LOCK TABLE receipts IN ACCESS SHARE MODE"); err != nil {
		t.Fatal(err)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := db.Migrate(impatient); err == nil || !strings.Contains(err.Error(), "a table is in use") {
		t.Errorf("beside a dump: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- db.Migrate(t.Context()) }()
	testdb.AwaitWaiting(t, db.Pool(), 1)
	begun := time.Now()
	if _, err := db.Pool().Exec(t.Context(), "DELETE FROM receipts"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 4*time.Second { // it waits behind a try that gives way
		t.Errorf("another waited %v", took)
	}
	if err := dump.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("after the dump: %v", err)
	}
	if version, err := db.SchemaVersion(t.Context()); err != nil || version != schema.Version {
		t.Errorf("version %d, %v", version, err)
	}
}
