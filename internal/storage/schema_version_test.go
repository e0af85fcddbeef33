package storage_test

import (
	"testing"

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
