package mailbox

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/batch"
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
	n := idleNode(t, testdb.NewDivided(t, 1))
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

// Sealed requests have a part of the queue and no more: what is beyond it is refused at once, and
// named requests still find room.
func TestSealedRequestsLeaveRoomToNamedOnes(t *testing.T) {
	t.Parallel()
	n := idleNode(t, testdb.NewURL(t)) // nothing works on the queue
	defer n.stop()
	s := n.Service
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	message := make([]byte, core.MaxMessage)
	var waiting sync.WaitGroup
	refused := make(chan error, 64)
	for range cap(refused) { // 16 MiB
		waiting.Go(func() {
			r := &sendRequest{batch: Batch{Submissions: []Submission{{Message: message}}}, opened: []bool{true}}
			_, err := s.storeSealed(ctx, r)
			refused <- err
		})
	}
	waiting.Wait()
	full := 0
	for range cap(refused) {
		if err := <-refused; errors.Is(err, batch.ErrFull) {
			full++
		}
	}
	if full < 32 || full > 34 {
		t.Errorf("%d of 64 were refused, want half", full)
	}
	if left := s.sealed.Load(); left != 0 {
		t.Errorf("%d bytes are counted for ever", left)
	}
}
