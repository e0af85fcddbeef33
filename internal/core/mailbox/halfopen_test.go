package mailbox

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// The connection to the database is dead and nobody says so. The batch fails after a bounded time,
// and the next one finds another connection; acknowledgements are worked on in the end.
func TestADeadConnectionHoldsNobodyUpForLong(t *testing.T) {
	t.Parallel()
	direct := testdb.NewURL(t)
	proxy, other := testdb.NewProxy(t, direct), start(t, direct)
	n := idleNode(t, proxy.URL)
	n.txTime = 500 * time.Millisecond
	n.run()
	t.Cleanup(n.stop)
	device, from := n.newBox(t), newSender()
	n.send(t, from, to(device, "a", "b")...)
	n.acknowledge(t, device, []int64{1}) // both pools have an open connection
	proxy.Die()
	lost := batchOf(to(device, "c")...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := n.Send(ctx, from, lost); core.KindOf(err) != core.Unavailable || ctx.Err() != nil {
		t.Errorf("a send on a dead connection heard %v", err)
	}
	if err := n.Acknowledge(device, []int64{2}, nil); err != nil {
		t.Fatal(err)
	}
	if err := n.Sweep(ctx); core.KindOf(err) != core.Unavailable || ctx.Err() != nil { // it holds the sweeper's lock
		t.Errorf("a sweep on a dead connection: %v", err)
	}
	proxy.Revive()
	wait.Eventually(t, "the same batch is stored", func() bool {
		_, err := n.Send(ctx, from, lost)
		return err == nil
	})
	n.barrier(t)
	if texts, _ := other.texts(t, device, 0); !slices.Equal(texts, []string{"c"}) {
		t.Errorf("left: %v", texts)
	}
}
