package testdb_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

func TestAPgBouncerLeadsToTheDatabase(t *testing.T) {
	for _, mode := range []string{"session", "transaction"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			conn, err := pgx.Connect(t.Context(), testdb.NewPgBouncer(t, testdb.NewURL(t), mode))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close(t.Context()) }()
			var tables int
			if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM users",
				pgx.QueryExecModeSimpleProtocol).Scan(&tables); err != nil {
				t.Error(err)
			}
		})
	}
}
