package testdb

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// Waiting are the process ids of the relay's backends of this database that wait for a lock.
func Waiting(t testing.TB, db *pgxpool.Pool) []int32 {
	t.Helper()
	rows, err := db.Query(t.Context(), `SELECT pid FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'obscura'`)
	if err != nil {
		t.Fatal(err)
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

// AwaitWaiting returns when n of the relay's backends of this database wait for a lock, with their
// process ids.
func AwaitWaiting(t testing.TB, db *pgxpool.Pool, n int) (pids []int32) {
	t.Helper()
	wait.Eventually(t, "backends wait for a lock", func() bool { pids = Waiting(t, db); return len(pids) == n })
	return pids
}
