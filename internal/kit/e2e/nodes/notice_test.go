package nodes_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// cutBus ends the connections on which the nodes of this database hear each other.
func cutBus(ctx context.Context, db *pgxpool.Pool) (n int, err error) {
	err = db.QueryRow(ctx, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE application_name = 'obscura-notices' AND datname = current_database()`).Scan(&n)
	return n, err
}

func TestMailCrossesNodesAtOnce(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t, e2e.SlowPoll)
	two := relaytest.StartOn(t, one.DatabaseURL, e2e.SlowPoll)
	alice, bob := one.Register(t).NewDevice(t), one.Register(t).NewDevice(t)
	socket := bob.On(two).Connect(t)
	socket.Drain()
	for i := range 30 {
		alice.Send(t, nil, relaytest.To(bob.ID, fmt.Sprint(i)))
		if got := socket.Envelopes(1); string(got[0].GetMessage()) != fmt.Sprint(i) {
			t.Fatalf("%d: %v", i, got)
		}
	}
}

// The bus is cut again and again: mail still arrives within the poll interval, which is a second
// here.
func TestMailArrivesAlthoughNoticesAreLost(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t)
	two := relaytest.StartOn(t, one.DatabaseURL)
	alice, bob := one.Register(t).NewDevice(t), one.Register(t).NewDevice(t)
	socket := bob.On(two).Connect(t)
	socket.Drain()
	db := e2e.Database(t, one)
	ctx, cancel := context.WithCancel(t.Context())
	cutting := make(chan struct{})
	var cuts atomic.Int64
	go func() {
		defer close(cutting)
		for ctx.Err() == nil {
			n, err := cutBus(ctx, db)
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			cuts.Add(int64(n))
		}
	}()
	for i := 0; i < 5 || cuts.Load() < 5 && i < 10_000; i++ {
		alice.Send(t, nil, relaytest.To(bob.ID, fmt.Sprint(i)))
		start := time.Now()
		if got := socket.Envelopes(1); string(got[0].GetMessage()) != fmt.Sprint(i) {
			t.Fatalf("%d: %v", i, got)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("it took %s", took)
		}
	}
	cancel()
	<-cutting
	if n := cuts.Load(); n < 5 {
		t.Errorf("the bus was cut %d times", n)
	}
	// The bus comes back by itself.
	wait.Eventually(t, "mail crosses in less than the poll interval", func() bool {
		start := time.Now()
		alice.Send(t, nil, relaytest.To(bob.ID, "again"))
		socket.Envelopes(1)
		return time.Since(start) < 100*time.Millisecond
	})
}

// After a cut the node looks at once, without waiting for its poll.
func TestANodeThatHearsAgainLooksAtEveryMailbox(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t, e2e.SlowPoll)
	two := relaytest.StartOn(t, one.DatabaseURL, e2e.SlowPoll)
	alice, bob := one.Register(t).NewDevice(t), one.Register(t).NewDevice(t)
	socket := bob.On(two).Connect(t)
	socket.Drain()
	db := e2e.Database(t, one)
	for i := range 5 {
		if n, err := cutBus(t.Context(), db); err != nil || n == 0 {
			t.Fatalf("%d cut, %v", n, err)
		}
		alice.Send(t, nil, relaytest.To(bob.ID, fmt.Sprint(i)))
		if got := socket.Envelopes(1); string(got[0].GetMessage()) != fmt.Sprint(i) {
			t.Fatalf("%d: %v", i, got)
		}
		wait.Eventually(t, "both nodes listen again", func() bool {
			return e2e.Count(t, db, `SELECT count(*) FROM pg_stat_activity
				WHERE application_name = 'obscura-notices' AND datname = current_database()`) == 2
		})
	}
}
