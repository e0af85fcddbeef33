package testdb_test

import (
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/schema"
)

func TestMain(m *testing.M) { testdb.Main(m) }

func TestDatabasesAreMigratedAndSeparate(t *testing.T) {
	for _, name := range []string{"one", "two"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.New(t)
			var version int
			if err := db.QueryRow(t.Context(),
				"SELECT max(version_id) FROM goose_db_version").Scan(&version); err != nil {
				t.Fatal(err)
			}
			if version != schema.Version {
				t.Errorf("version %d, want %d", version, schema.Version)
			}
			if _, err := db.Exec(t.Context(), "CREATE TABLE mine ()"); err != nil {
				t.Error(err)
			}
		})
	}
}
