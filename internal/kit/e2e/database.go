package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// Database opens a relay's database, to look and to change what time would.
func Database(t testing.TB, relay *relaytest.Relay) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(context.Background(), relay.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Execute runs a statement, whatever it changes.
func Execute(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// Change runs a statement that must change at least one row.
func Change(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	tag, err := pool.Exec(t.Context(), sql, args...)
	if err != nil || tag.RowsAffected() == 0 {
		t.Fatalf("%s: %v, %d rows", sql, err, tag.RowsAffected())
	}
}

// Count returns what a query for one number returns.
func Count(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) int {
	t.Helper()
	var n int
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Pending waits until a mailbox holds n envelopes: acknowledgements are worked on in the
// background.
func Pending(t testing.TB, pool *pgxpool.Pool, device uuid.UUID, n int) {
	t.Helper()
	wait.Eventually(t, fmt.Sprintf("the mailbox holds %d envelopes", n), func() bool {
		return Count(t, pool, "SELECT count(*) FROM messages WHERE device_id = $1", device) == n &&
			Count(t, pool, "SELECT pending FROM mailboxes WHERE device_id = $1", device) == n
	})
}
