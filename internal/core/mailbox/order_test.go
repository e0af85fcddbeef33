package mailbox

import (
	"context"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// waiting counts the statements of other connections of this database that wait for a lock.
func (n *node) waiting(t failer) int {
	return one[int](t, n, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
}

// hold begins a transaction that a test ends by itself.
func (n *node) hold(t testing.TB, sql string, args ...any) pgx.Tx {
	t.Helper()
	tx, err := n.main.Pool().Begin(t.Context())
	if err == nil {
		err = execIn(tx, sql, args...)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

// inOrder makes two mailboxes in a bucket, the one that is locked first first.
func (n *node) inOrder(t failer) (first, second core.DeviceID) {
	device := n.newBox(t)
	order := core.LockOrder([]core.DeviceID{device, n.newBoxBeside(t, device)})
	return order[0], order[1]
}

// Two overlapping sends on two nodes: the earlier one has begun, is held up before it reaches the
// mailbox, and commits last. A reader with a cursor sees both.
func TestAReaderSkipsNothingWhenTheEarlierSendCommitsLast(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	early, late := start(t, url), start(t, url)
	other, device := early.inOrder(t)
	tx := late.hold(t, "SELECT FROM mailboxes WHERE device_id = $1 FOR UPDATE", other)

	done := make(chan error, 1)
	go func() {
		_, err := early.Send(context.Background(), early.senderBeside(other), batchOf(to(other, "aside")[0], to(device, "early")[0]))
		done <- err
	}()
	wait.Eventually(t, "the early send waits", func() bool { return late.waiting(t) == 1 })
	late.send(t, newSender(), to(device, "late")...)
	texts, sequences := late.texts(t, device, 0)
	if !slices.Equal(texts, []string{"late"}) || !slices.Equal(sequences, []int64{1}) {
		t.Fatalf("read %v %v", texts, sequences)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	texts, sequences = late.texts(t, device, 1) // the cursor
	if !slices.Equal(texts, []string{"early"}) || !slices.Equal(sequences, []int64{2}) {
		t.Errorf("behind the cursor: %v %v", texts, sequences)
	}
}

// The earlier send has its sequence already and commits last of all it can: a later one waits for
// it, so that nothing with a higher sequence can be seen before.
func TestASequenceIsSeenOnlyAfterAllLowerOnes(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	early, late := start(t, url), start(t, url)
	device := early.newBox(t)
	from := early.senderBeside(device)
	first, second := batchOf(to(device, "early")...), batchOf(to(device, "late")...)
	// The early send holds the mailbox and waits for a receipt that somebody is writing.
	tx := late.hold(t, `INSERT INTO receipts (sender_device_id, key, slot, digest, invalid)
		VALUES ($1, $2, extract(epoch FROM now())::bigint / 86400 % 3, '', '{}')`, from.Device, first.Key)
	done := make(chan error, 2)
	go func() { _, err := early.Send(context.Background(), from, first); done <- err }()
	wait.Eventually(t, "the early send holds the mailbox", func() bool { return late.waiting(t) == 1 })
	go func() { _, err := late.Send(context.Background(), late.senderBeside(device), second); done <- err }()
	wait.Eventually(t, "the late send waits for the early one", func() bool { return late.waiting(t) == 2 })
	if texts, _ := late.texts(t, device, 0); len(texts) != 0 {
		t.Errorf("read %v before the first has committed", texts)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if texts, sequences := late.texts(t, device, 0); !slices.Equal(texts, []string{"early", "late"}) ||
		!slices.Equal(sequences, []int64{1, 2}) {
		t.Errorf("read %v %v", texts, sequences)
	}
}

func TestEnvelopesAreReadInPagesInOrder(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	device, from := n.newBox(t), newSender()
	const all = 3*pageRows + 1
	n.send(t, from, many(device, all, "x")...)
	_, sequences := n.texts(t, device, 0)
	if len(sequences) != all || sequences[0] != 1 || sequences[all-1] != all || !slices.IsSorted(sequences) {
		t.Errorf("read %v", sequences)
	}
	// By size: a page ends with the envelope that crosses its limit.
	large := n.newBox(t)
	n.send(t, from, many(large, 4, string(make([]byte, pageBytes/2+1)))...)
	page, err := n.Read(t.Context(), large, 0)
	if err != nil || len(page.Envelopes) != 2 || !page.More {
		t.Errorf("%d large envelopes, more: %v, %v", len(page.Envelopes), page.More, err)
	}
	e := page.Envelopes[0]
	if e.Sender != from.User || e.SenderDevice != from.Device || e.SenderNumber != from.DeviceNumber ||
		e.AcceptedAt.IsZero() {
		t.Errorf("envelope %+v", e)
	}
	if page, err := n.Read(t.Context(), uuid.New(), 0); err != nil || len(page.Envelopes) != 0 || page.More {
		t.Errorf("nobody's mailbox: %+v, %v", page, err)
	}
}

// What is committed for a device with a socket here is offered to it; the others are announced,
// once.
func TestCommittedMailIsOfferedHereOrAnnouncedElsewhere(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	here := n.newBox(t)
	away, from := n.newBoxBeside(t, here), newSender()
	n.here.Store(here, true)
	b := batchOf(to(here, "a")[0], to(away, "b")[0], to(here, "c")[0], to(uuid.New(), "d")[0])
	for range 2 { // a repeated batch is not announced again
		if invalid, err := n.Send(t.Context(), from, b); err != nil || !slices.Equal(invalid, []int16{3}) {
			t.Fatalf("%v %v", invalid, err)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	got := n.offered[here]
	if len(got) != 2 || got[0].Sequence != 1 || got[1].Sequence != 2 ||
		string(got[0].Message)+string(got[1].Message) != "ac" {
		t.Errorf("offered %+v", got)
	}
	if len(n.announced) != 1 || n.announced[0].Kind != core.NoticeMail ||
		!slices.Equal(n.announced[0].IDs, []core.DeviceID{away}) {
		t.Errorf("announced %+v", n.announced)
	}
}
