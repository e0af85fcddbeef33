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

// A message that many submissions share is counted for each of them, with its prefix: a batch joins
// them all.
func TestASharedMessageCountsForEachRecipient(t *testing.T) {
	t.Parallel()
	message, alone := make([]byte, 1000), Batch{}
	shared := Batch{Submissions: make([]Submission, 16)}
	for i := range shared.Submissions {
		shared.Submissions[i] = Submission{Prefix: make([]byte, 24), Message: message}
		alone.Submissions = append(alone.Submissions, Submission{Message: make([]byte, 1024)})
	}
	if got, want := shared.weight(), alone.weight(); got != want {
		t.Errorf("16 recipients of one message weigh %d, of a message each %d", got, want)
	}
}
