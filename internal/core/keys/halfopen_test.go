package keys_test

import (
	"context"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/keys"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// All fetches share one statement at a time. The connection to the database is dead and nobody says
// so: the statement fails after a bounded time, the next one finds another connection, and Run can
// end.
func TestADeadConnectionHoldsNoFetchUpForLong(t *testing.T) {
	t.Parallel()
	direct := testdb.NewURL(t)
	proxy, other := testdb.NewProxy(t, direct), newBenchOn(t, direct)
	behind := newBenchOn(t, proxy.URL, func(s *keys.Service) { s.SetTxTime(500 * time.Millisecond) })
	t.Cleanup(proxy.Close)
	bob := other.device(t)
	other.stock(t, 1, 50, 1569, bob.Device)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	fetch := func() error {
		bundles, err := behind.Bundles(ctx, bob.User)
		if err == nil && (len(bundles) != 1 || bundles[0].OneTime == nil) {
			t.Errorf("%d bundles", len(bundles))
		}
		return err
	}
	if err := fetch(); err != nil { // a connection is open
		t.Fatal(err)
	}
	proxy.Die()
	for range 2 { // those that wait behind the first one fail, too
		if err := fetch(); core.KindOf(err) != core.Unavailable || ctx.Err() != nil {
			t.Fatalf("a fetch on a dead connection heard %v", err)
		}
	}
	proxy.Revive()
	for ctx.Err() == nil && fetch() != nil { // each try is bounded, and ends the connection that it tried
	}
	if err := ctx.Err(); err != nil {
		t.Fatalf("fetches did not work again: %v", err)
	}
	proxy.Die()
	late := make(chan error, 1)
	go func() { late <- fetch() }()
	behind.stop()
	if err := <-late; err == nil || ctx.Err() != nil {
		t.Errorf("a fetch as the service stops heard %v", err)
	}
}
