package account_test

import (
	"net/http"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// Exports that stand still in the database hold two of its connections; some wait without one, and
// the rest are told to come back. Everything else goes on.
func TestExportsLeaveTheConnectionsToOthers(t *testing.T) {
	t.Parallel()
	const inside, waiting, refused = 2, 16, 12 // and the relay has 8 connections
	relay := relaytest.Start(t)
	pair := [2]*relaytest.Device{relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)}
	database := e2e.Database(t, relay)
	tx, err := database.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	// only exports read it here
	if _, err := tx.Exec(t.Context(), "LOCK TABLE attachments IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	export := e2e.Ask{Method: "GET", Path: "/v1/account", Token: pair[0].Token}
	replies := make(chan e2e.Reply, inside+waiting+refused)
	for range cap(replies) {
		go func() { replies <- export.To(t, relay) }()
	}
	for range refused {
		if r := (<-replies).Want(t, http.StatusServiceUnavailable, "unavailable"); r.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	wait.Eventually(t, "as many stand still as may", func() bool {
		return e2e.Count(t, database,
			"SELECT count(*) FROM pg_locks WHERE relation = 'attachments'::regclass AND NOT granted") == inside
	})
	export.To(t, relay).Want(t, http.StatusServiceUnavailable, "unavailable")
	pair[0].Send(t, nil, relaytest.To(pair[1].ID, "meanwhile"))
	if len(replies) > 0 {
		t.Error("an export did not wait")
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range inside + waiting {
		(<-replies).Want(t, http.StatusOK, "")
	}
}
