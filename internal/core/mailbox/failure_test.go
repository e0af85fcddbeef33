package mailbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/batch"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// terminateWaiting ends the connections that wait for a lock, in the middle of their transaction.
const terminateWaiting = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
	WHERE datname = current_database() AND wait_event_type = 'Lock'`

// The connection goes in the middle of a batch: each of its requests hears that it may try again,
// and when it does, exactly once is stored.
func TestABatchWhoseConnectionGoesIsStoredOnceInTheEnd(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	n, other := idleNode(t, url), start(t, url)
	t.Cleanup(func() { n.stop() })
	device, held := n.inOrder(t)
	tx := other.hold(t, "SELECT FROM mailboxes WHERE device_id = $1 FOR UPDATE", held)
	const requests = 8
	batches, from := make([]Batch, requests), n.senderBeside(device)
	errs := make(chan error, requests)
	for i := range batches {
		batches[i] = batchOf(to(device, fmt.Sprint(i))[0], to(held, fmt.Sprint(i))[0])
		go func() { _, err := n.Send(context.Background(), from, batches[i]); errs <- err }()
	}
	wait.Eventually(t, "they form one batch", func() bool { return n.WaitingSends() == requests })
	n.run()
	wait.Eventually(t, "the batch is in its transaction", func() bool { return other.waiting(t) == 1 })
	if killed := one[int](t, other, terminateWaiting); killed != 1 {
		t.Fatalf("%d connections ended", killed)
	}
	for range batches {
		if err := <-errs; core.KindOf(err) != core.Unavailable {
			t.Errorf("a request of the batch heard %v", err)
		}
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := one[int](t, other, "SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM receipts)"); got != 0 {
		t.Errorf("%d rows of a failed batch", got)
	}
	for range 2 {
		for _, b := range batches {
			n.again(t, from, b)
		}
	}
	if texts, _ := n.texts(t, device, 0); len(texts) != requests {
		t.Errorf("stored %v", texts)
	}
	n.balanced(t, device)
}

// Connections end at any moment, also between the commit and its answer. Senders who hear an error
// try again until they succeed; the ledger is that of a quiet day.
func TestEverySendIsStoredOnceWhileConnectionsAreCut(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	nodes := []*node{start(t, url), start(t, url)}
	device, cutter := nodes[0].newBox(t), start(t, url)
	const senders, each = 6, 15
	var sending, cutting sync.WaitGroup
	for i := range senders {
		sending.Go(func() {
			from := newSender()
			for k := range each {
				b := batchOf(to(device, fmt.Sprintf("%d %d", i, k))...)
				for try := 0; ; try++ {
					_, err := nodes[(i+try)%2].Send(context.Background(), from, b)
					if err == nil {
						break
					}
					if core.KindOf(err) != core.Unavailable || try > 1000 {
						t.Errorf("send: %v", err)
						return
					}
				}
			}
		})
	}
	stop := make(chan struct{})
	cutting.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			_, err := cutter.main.Pool().Exec(context.Background(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ~ 'InsertMessages|AdvanceMailboxes|commit'`)
			if err != nil {
				t.Errorf("cut: %v", err)
			}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	})
	sending.Wait()
	close(stop)
	cutting.Wait()
	quiet := start(t, url) // none of its connections has been cut
	texts, sequences := quiet.texts(t, device, 0)
	if len(texts) != senders*each || sequences[len(sequences)-1] != senders*each {
		t.Errorf("%d stored, want %d", len(texts), senders*each)
	}
	slices.Sort(texts)
	if len(slices.Compact(texts)) != senders*each {
		t.Error("something was stored twice")
	}
	quiet.balanced(t, device)
}

// The database takes no acknowledgements for a while: they wait, and are worked on when it does.
func TestAcknowledgementsAreTriedAgainUntilTheyAreDone(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	n, other := start(t, url), start(t, url)
	device := n.newBox(t)
	n.send(t, newSender(), to(device, "a", "b", "c")...)
	tx := other.hold(t, "SELECT FROM mailboxes WHERE device_id = $1 FOR UPDATE", device)
	if err := n.Acknowledge(device, []int64{1, 3}, nil); err != nil {
		t.Fatal(err)
	}
	for range 3 { // three tries fail
		wait.Eventually(t, "a try", func() bool { return other.waiting(t) == 1 })
		one[int](t, other, terminateWaiting)
		wait.Eventually(t, "its end", func() bool { return other.waiting(t) == 0 })
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.stop() // works off what was accepted
	if texts, _ := other.texts(t, device, 0); !slices.Equal(texts, []string{"b"}) {
		t.Errorf("left: %v", texts)
	}
	other.balanced(t, device)
}

// The database never comes back and the process must end: it ends, and the envelopes stay.
func TestGivingUpEndsWhatTheDatabaseDoesNotTake(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	n, other := start(t, url), start(t, url)
	device := n.newBox(t)
	n.send(t, newSender(), to(device, "a", "b")...)
	other.hold(t, "LOCK mailboxes")
	if err := n.Acknowledge(device, []int64{1}, nil); err != nil {
		t.Fatal(err)
	}
	wait.Eventually(t, "a try", func() bool { return other.waiting(t) == 1 })
	for range 5 * ackDevices { // many more batches wait
		if err := n.Acknowledge(uuid.New(), []int64{2}, nil); err != nil {
			t.Fatal(err)
		}
	}
	n.GiveUp()
	ended := make(chan struct{})
	go func() { n.stop(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(4 * time.Second): // each further batch would wait for its lock
		t.Error("it goes on trying")
		<-ended
	}
	if err := n.Acknowledge(device, []int64{1}, nil); err == nil {
		t.Error("an acknowledgement was accepted afterwards")
	}
}

// When too much waits, the caller hears at once when to come again.
func TestAFullQueueAnswersThatTheRelayIsBusy(t *testing.T) {
	t.Parallel()
	n := idleNode(t, testdb.NewURL(t))
	t.Cleanup(func() { n.stop() })
	device := n.newBox(t)
	b := n.of(device)
	b.sends = batch.New(batch.Limits{BatchItems: 2, BatchWeight: 1 << 20, QueueItems: 3, QueueWeight: 1 << 20},
		func(ctx context.Context, requests []*sendRequest) ([]sendAnswer, error) {
			return n.store(ctx, b, requests)
		})
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			b := batchOf(to(device, fmt.Sprint(i))...)
			if _, err := n.Send(context.Background(), n.senderBeside(device), b); err != nil {
				t.Errorf("a send that was accepted: %v", err)
			}
		})
	}
	wait.Eventually(t, "the queue is full", func() bool { return n.WaitingSends() == 3 })
	_, err := n.Send(t.Context(), n.senderBeside(device), batchOf(to(device, "x")...))
	busy(t, err)
	n.run()
	wg.Wait()
	n.send(t, newSender(), to(device, "room again")...)
	n.stop()
	_, err = n.Send(context.Background(), newSender(), batchOf(to(device, "x")...))
	busy(t, err)
}

// A caller who cannot wait any longer hears that it may try again.
func TestASendThatTakesTooLongIsBusy(t *testing.T) {
	t.Parallel()
	n := idleNode(t, testdb.NewURL(t))
	t.Cleanup(func() { n.stop() })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := n.Send(ctx, newSender(), batchOf(to(n.newBox(t), "x")...))
	busy(t, err)
}

func busy(t *testing.T, err error) {
	t.Helper()
	e, ok := errors.AsType[*core.Error](err)
	if !ok || e.Kind != core.Unavailable || e.RetryAfter < time.Second {
		t.Errorf("heard %v", err)
	}
}

// One request cannot be stored, whatever the reason: its neighbours in the batch are, and only it
// fails.
func TestAPoisonedRequestFailsAlone(t *testing.T) {
	t.Parallel()
	n := idleNode(t, testdb.NewURL(t))
	t.Cleanup(func() { n.stop() })
	n.exec(t, "ALTER TABLE messages ADD CHECK (body NOT LIKE 'poison%')")
	device := n.newBox(t)
	from := n.senderBeside(device)
	const requests = 9
	errs := make([]error, requests)
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			text := fmt.Sprint(i)
			if i == 2 || i == 7 {
				text = "poison"
			}
			_, errs[i] = n.Send(context.Background(), from, batchOf(to(device, text)...))
		})
	}
	wait.Eventually(t, "they form one batch", func() bool { return n.WaitingSends() == requests })
	n.run()
	wg.Wait()
	for i, err := range errs {
		if poisoned := i == 2 || i == 7; poisoned != (err != nil) || core.KindOf(err) != 0 {
			t.Errorf("request %d heard %v", i, err)
		}
	}
	if texts, sequences := n.texts(t, device, 0); len(texts) != requests-2 || sequences[requests-3] != requests-2 {
		t.Errorf("stored %v as %v", texts, sequences)
	}
	n.balanced(t, device)
}
