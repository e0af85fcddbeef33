package app_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// openDatabase is a look inside a relay's database, to move its clocks.
func openDatabase(t testing.TB, relay *relaytest.Relay) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(relay.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConns = 2
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// changeRows runs a statement that must change at least one row.
func changeRows(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	tag, err := pool.Exec(t.Context(), sql, args...)
	if err != nil || tag.RowsAffected() == 0 {
		t.Fatalf("%s: %v, %d rows", sql, err, tag.RowsAffected())
	}
}

// count returns what a query for one number returns.
func count(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) int {
	t.Helper()
	var n int
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// pending waits until a mailbox holds n envelopes: acknowledgements are worked on in the background.
func pending(t testing.TB, pool *pgxpool.Pool, device uuid.UUID, n int) {
	t.Helper()
	relaytest.Eventually(t, fmt.Sprintf("the mailbox holds %d envelopes", n), func() bool {
		return count(t, pool, "SELECT count(*) FROM messages WHERE device_id = $1", device) == n &&
			count(t, pool, "SELECT pending FROM mailboxes WHERE device_id = $1", device) == n
	})
}

// post sends a body as it is and returns status and body of the answer.
func post(t testing.TB, relay *relaytest.Relay, path, token, contentType string, body io.Reader) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, relay.API+path, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := relay.HTTP().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

// texts are the messages of envelopes, as one text.
func texts(envelopes []*obscurapb.Envelope) string {
	parts := make([]string, len(envelopes))
	for i, e := range envelopes {
		parts[i] = string(e.GetMessage())
	}
	return strings.Join(parts, " ")
}

// inOrder fails unless sequences are from, from+1 and so on.
func inOrder(t testing.TB, envelopes []*obscurapb.Envelope, from uint64) {
	t.Helper()
	for i, e := range envelopes {
		if e.GetSequence() != from+uint64(i) {
			t.Fatalf("position %d has sequence %d, want %d", i, e.GetSequence(), from+uint64(i))
		}
	}
}

// together runs functions at the same instant and waits for them.
func together(n int, do func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	wg.Wait()
}

// ticket makes a gateway ticket.
func ticket(t testing.TB, d *relaytest.Device) string {
	t.Helper()
	got, err := d.CreateGatewayTicketWithResponse(t.Context())
	if err != nil || got.JSON201 == nil {
		t.Fatalf("no ticket: %v, %v", err, got)
	}
	return got.JSON201.Ticket
}

// disconnect ends a socket and waits for nothing.
func disconnect(s *relaytest.Socket) { _ = s.CloseNow() }

// writeRaw sends a frame of any kind.
func writeRaw(t testing.TB, s *relaytest.Socket, kind websocket.MessageType, data []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
	defer cancel()
	if err := s.Write(ctx, kind, data); err != nil {
		t.Fatal(err)
	}
}

// slowPoll makes the poll so rare that only notices deliver in time.
func slowPoll(cfg *app.Config) { cfg.PollInterval = time.Hour }
