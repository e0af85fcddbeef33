package notice

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/postgres"
)

// deaf runs a bus that listens at one URL and sends on another until it has connected a second
// time, and fails the test if it was fresh meanwhile.
func (e *ear) deaf(t *testing.T) {
	t.Helper()
	if err := Prove(t.Context(), e.cfg.URL, e.db); err == nil || !strings.Contains(err.Error(), "pool_mode = session") {
		t.Errorf("before the start: %v", err)
	}
	e.start(t)
	deadline, tick := time.After(wait), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-e.resyncs:
			return
		case <-deadline:
			t.Error("it did not listen again")
			return
		case <-tick.C:
		}
		if e.Fresh() {
			t.Error("fresh, although it hears nothing")
			return
		}
	}
}

// A pooler lends its connections to the server for a transaction: the one that listened is somebody
// else's.
func TestAListenerBehindATransactionPoolIsNotFresh(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	idle(t, testdb.NewPgBouncer(t, url, "transaction"), url).deaf(t)
}

func TestAListenerBehindASessionPoolIsFresh(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	e := idle(t, testdb.NewPgBouncer(t, url, "session"), url)
	if err := Prove(t.Context(), e.cfg.URL, e.db); err != nil {
		t.Error(err)
	}
	e.start(t)
	e.freshBecomes(t, true, wait)
	e.roundTrip(t)
}

// Whoever asks right after the start is not told that notices are lost.
func TestARoundTripWaitsForTheStart(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	e := idle(t, url, url)
	result := make(chan error, 1)
	go func() { result <- e.RoundTrip(t.Context()) }()
	asked := func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.probes) > 0
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for soon := time.After(200 * time.Millisecond); !asked(); {
		select {
		case <-tick.C:
			continue
		case <-soon:
		}
		break
	}
	e.start(t)
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// Two databases stand for two servers of which one is no longer the primary.
func TestAListenerOnAnotherServerIsNotFresh(t *testing.T) {
	t.Parallel()
	idle(t, testdb.NewURL(t), testdb.NewURL(t)).deaf(t)
}

// After a fail-over the pool is on the new primary. The listening connection is left on the old
// one, which answers it as ever.
func TestAListenerIsNotFreshUntilItFollowsAFailOver(t *testing.T) {
	t.Parallel()
	proxy := testdb.NewProxy(t, cluster(t))
	e := idle(t, proxy.URL, proxy.URL).start(t)
	e.freshBecomes(t, true, wait)
	proxy.Turn(t, cluster(t))
	e.db.Pool().Reset()
	e.freshBecomes(t, false, wait)
	e.resynced(t)
	e.freshBecomes(t, true, wait)
	e.roundTrip(t)
}

// cluster starts a PostgreSQL server of its own and returns its URL.
func cluster(t *testing.T) string {
	t.Helper()
	c, err := postgres.Start(t.Context(), postgres.Config{DataDir: t.TempDir(), BinDir: testdb.BinDir(),
		MaxConnections: 20,
		Settings:       map[string]string{"fsync": "off"}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return c.URL()
}
