package mailbox

import (
	"context"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// Very many small submissions fill the queue as few large ones do.
func TestSmallSubmissionsCountForMoreThanTheirBytes(t *testing.T) {
	t.Parallel()
	b := Batch{Submissions: many(uuid.New(), core.MaxSubmissions, "x")}
	full := sendLimits.QueueWeight / b.weight()
	if full > 1500 || sendLimits.BatchWeight/b.weight()*core.MaxSubmissions > 8192 {
		t.Fatalf("%d requests of %d submissions find room, %d in a batch", full, core.MaxSubmissions,
			sendLimits.BatchWeight/b.weight())
	}
	n := idleNode(t, testdb.NewURL(t))
	t.Cleanup(func() { n.stop() })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range full {
		wg.Go(func() { _, _ = n.Send(ctx, newSender(), b) })
	}
	wait.Eventually(t, "they wait", func() bool { return n.WaitingSends() == full })
	_, err := n.Send(t.Context(), newSender(), b)
	busy(t, err)
	cancel()
	wg.Wait()
}
