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
	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/storage"
)

// boxes makes a mailbox in each bucket.
func (n *node) boxes(t failer) []core.DeviceID {
	t.Helper()
	out := make([]core.DeviceID, len(n.buckets))
	for left := len(out); left > 0; {
		if id := uuid.New(); out[n.of(id).number] == uuid.Nil {
			out[n.of(id).number] = id
			n.tx(t, func(tx *storage.Tx) error { return Create(context.Background(), tx, id) })
			left--
		}
	}
	return out
}

// toAll makes submissions of a text to devices, and one to nobody in the middle and at the end.
func toAll(devices []core.DeviceID, text string) (all []Submission, invalid []int16) {
	for i, device := range devices {
		if i == 1 {
			all = append(all, to(uuid.New(), "lost")...)
		}
		all = append(all, to(device, text)...)
	}
	return append(all, to(uuid.New(), "lost")...), []int16{1, int16(len(devices)) + 1}
}

// holds checks what lies in a mailbox of each bucket, in order.
func (n *node) holds(t *testing.T, devices []core.DeviceID, want ...string) {
	t.Helper()
	for i, device := range devices {
		if texts, _ := n.texts(t, device, 0); !slices.Equal(texts, want) {
			t.Errorf("bucket %d: %v, want %v", i, texts, want)
		}
		n.balanced(t, device)
	}
}

// The first answer holds for a batch in parts too: on another node, when the recipients have
// acknowledged, and when a device that was missing has come.
func TestABatchForSeveralBucketsIsStoredOnce(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 3)
	n, other := start(t, url), start(t, url)
	devices, from := n.boxes(t), newSender()
	all, invalid := toAll(devices, "a")
	b := batchOf(all...)
	n.again(t, from, b, invalid...)
	other.again(t, from, b, invalid...)
	n.holds(t, devices, "a")
	for _, device := range devices {
		n.acknowledge(t, device, []int64{1})
	}
	n.tx(t, func(tx *storage.Tx) error { return Create(t.Context(), tx, all[1].Device) })
	n.moveReceipts(t, -1) // the next day
	other.again(t, from, b, invalid...)
	n.holds(t, append(devices, all[1].Device))
	changed := batchOf(to(devices[0], "b")...)
	for _, device := range devices { // wherever another body goes
		changed = batchOf(to(device, "b")...)
		changed.Key = b.Key
		if _, err := n.Send(t.Context(), from, changed); !errors.Is(err, errKeyReused) {
			t.Errorf("another body: %v", err)
		}
	}
	n.again(t, newSender(), changed) // the key belongs to its device
	if got := n.counts.accepted.Load() + other.counts.accepted.Load(); got != 4 {
		t.Errorf("%d were accepted", got)
	}
}

// A batch that lies in one bucket is stored in one transaction, with one receipt; one in parts has
// a receipt that claims the key and one for each part. Only the claim says whose it is.
func TestOnlyABatchInPartsIsClaimed(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewDivided(t, 3))
	devices := n.boxes(t)
	whole, divided := n.senderBeside(devices[1]), n.senderBeside(devices[1])
	n.send(t, whole, to(devices[1], "a", "b")...)
	if got := one[string](t, n, "SELECT string_agg(sender_device_id || ' ' || claim, '') FROM receipts"); got != whole.Device.String()+" false" {
		t.Errorf("receipts: %s", got)
	}
	n.exec(t, "DELETE FROM receipts")
	n.send(t, divided, to(devices[1], "a")[0], to(devices[2], "b")[0])
	if claims, parts := one[int](t, n, "SELECT count(*) FROM receipts WHERE claim AND sender_device_id = $1 AND bucket = 1", divided.Device),
		one[int](t, n, "SELECT count(*) FROM receipts WHERE NOT claim AND sender_device_id <> $1 AND bucket IN (1, 2)",
			divided.Device); claims != 1 || parts != 2 {
		t.Errorf("%d claims, %d parts", claims, parts)
	}
}

// A claim stores nothing by itself, also when a mailbox that its batch names is locked for another
// request of the same transaction.
func TestAClaimStoresNoEnvelope(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewDivided(t, 3))
	device := n.newBox(t)
	var requests []*sendRequest
	for _, claim := range []bool{false, true} {
		from := n.senderBeside(device)
		b := batchOf(to(device, "a")...)
		requests = append(requests,
			&sendRequest{sender: from, batch: b, receipt: receiptKey{from.Device, b.Key}, claim: claim})
	}
	p := newPass(n.of(device).number, requests)
	n.storePass(t, p)
	if p.answers[0].claimed || !p.answers[1].claimed {
		t.Errorf("answers %+v", p.answers)
	}
	n.holds(t, []core.DeviceID{device}, "a")
}

// One bucket does not take anything for a while. The sender hears that it has to try again, and the
// others' parts are stored; each repetition meanwhile stores nothing; the last stores the rest.
func TestAPartThatFailedIsStoredByARepetition(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 3)
	for home := range 3 { // the bucket of the claim: that which fails, and others
		t.Run(fmt.Sprint("claim in bucket ", home), func(t *testing.T) {
			t.Parallel()
			n, other := start(t, url), start(t, url)
			devices := n.boxes(t)
			from := n.senderBeside(devices[home])
			all, invalid := toAll(devices, "a")
			b := batchOf(all...)
			tx := other.hold(t, "SELECT FROM mailboxes WHERE device_id = $1 FOR UPDATE", devices[2])
			for range 2 {
				failed := make(chan error, 1)
				go func() { _, err := n.Send(context.Background(), from, b); failed <- err }()
				wait.Eventually(t, "a part waits", func() bool { return other.waitingFor(t, tx.Conn().PgConn().PID()) == 1 })
				wait.Eventually(t, "the others are stored", func() bool {
					return one[int](t, other, "SELECT count(*) FROM messages WHERE device_id = ANY($1)", devices) == 2
				})
				one[int](t, other, terminateBlockedBy, tx.Conn().PgConn().PID())
				if err := <-failed; core.KindOf(err) != core.Unavailable {
					t.Fatalf("heard %v", err)
				}
			}
			changed := batchOf(to(devices[0], "b")...)
			changed.Key = b.Key
			if _, err := other.Send(t.Context(), from, changed); !errors.Is(err, errKeyReused) {
				t.Errorf("another body: %v", err)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			other.again(t, from, b, invalid...)
			n.again(t, from, b, invalid...)
			n.holds(t, devices, "a")
		})
	}
}

// terminateBlockedBy ends the connections that a connection holds up.
const terminateBlockedBy = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE $1::int = ANY(pg_blocking_pids(pid))"

// waitingFor counts those.
func (n *node) waitingFor(t failer, pid uint32) int {
	return one[int](t, n, "SELECT count(*) FROM pg_stat_activity WHERE $1::int = ANY(pg_blocking_pids(pid))", pid)
}

// A bucket that takes nothing holds up those who send to it, and nobody else.
func TestABucketThatHangsHoldsUpItsOwnMailOnly(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 3)
	n, other := start(t, url), start(t, url)
	devices := n.boxes(t)
	tx := other.hold(t, "SELECT FROM mailboxes WHERE device_id = $1 FOR UPDATE", devices[2])
	held := make(chan error, 1)
	go func() {
		_, err := n.Send(context.Background(), newSender(), batchOf(to(devices[2], "a")...))
		held <- err
	}()
	wait.Eventually(t, "it hangs", func() bool { return other.waiting(t) == 1 })
	n.send(t, n.senderBeside(devices[0]), to(devices[0], "a")[0], to(devices[1], "a")[0])
	n.acknowledge(t, devices[0], []int64{1})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-held; err != nil {
		t.Error(err)
	}
	n.holds(t, devices[1:], "a")
}

// The same batch, and another under its key, many times at once on two nodes: the one that claims
// the key first is stored, once, and whoever sent the other hears of the conflict.
func TestOfTwoBodiesUnderAKeyOneIsStoredInAllBuckets(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 3)
	nodes := []*node{start(t, url), start(t, url)}
	devices := nodes[0].boxes(t)
	for range 5 {
		from, bodies, stored := newSender(), []Batch{}, make([]int, 2)
		for _, text := range []string{"a", "b"} {
			var all []Submission
			for _, device := range devices {
				all = append(all, to(device, text)...)
			}
			bodies = append(bodies, batchOf(all...))
		}
		bodies[1].Key = bodies[0].Key
		var wg sync.WaitGroup
		var mu sync.Mutex
		for i := range 8 {
			wg.Go(func() {
				_, err := nodes[i%2].Send(context.Background(), from, bodies[i/2%2])
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					stored[i/2%2]++
				} else if !errors.Is(err, errKeyReused) {
					t.Errorf("heard %v", err)
				}
			})
		}
		wg.Wait()
		slices.Sort(stored)
		if !slices.Equal(stored, []int{0, 4}) {
			t.Fatalf("heard that it is stored: %v of each body", stored)
		}
	}
	for _, device := range devices {
		if texts, _ := nodes[0].texts(t, device, 0); len(texts) != 5 {
			t.Errorf("stored %v", texts)
		}
	}
}

// Whoever hears that a batch is stored and then sends the next one has them in this order in every
// mailbox, and a full one makes room in its bucket.
func TestBatchesInPartsKeepTheirOrderAndTheCap(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 3)
	nodes := []*node{start(t, url), start(t, url)}
	devices, from := nodes[0].boxes(t), newSender()
	nodes[0].send(t, newSender(), many(devices[1], core.MailboxCap-2, "before")...)
	var want []string
	for i := range 6 {
		text := fmt.Sprint(i)
		nodes[i%2].send(t, from, to(devices[0], text)[0], to(devices[1], text)[0], to(devices[2], text)[0])
		want = append(want, text)
	}
	nodes[0].holds(t, []core.DeviceID{devices[0], devices[2]}, want...)
	texts, sequences := nodes[0].texts(t, devices[1], 0)
	if len(texts) != core.MailboxCap || !slices.Equal(texts[core.MailboxCap-6:], want) || sequences[0] != 5 {
		t.Errorf("%d envelopes from %d on, the last are %v", len(texts), sequences[0], texts[len(texts)-6:])
	}
	if gaps := nodes[0].gaps(t, devices[1]); !slices.Equal(gaps, []core.Gap{{From: 1, To: 4, Reason: core.GapCap}}) {
		t.Errorf("gaps %v", gaps)
	}
}

// A batch that was stored as a whole, before its database was divided, is not stored again.
func TestABatchOfTheTimeBeforeTheDivisionIsNotStoredAgain(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 1)
	n := start(t, url)
	devices, from := []core.DeviceID{n.newBox(t)}, newSender()
	for storage.Buckets(3).Bucket(devices[0]) == storage.Buckets(3).Bucket(from.Device) {
		from = newSender()
	}
	b := batchOf(to(devices[0], "a")[0], to(uuid.New(), "b")[0])
	n.again(t, from, b, 1)
	n.stop()
	testdb.Exec(t, url, `INSERT INTO buckets VALUES (1), (2);
		CREATE FUNCTION b(id uuid) RETURNS int
			RETURN (get_byte(uuid_send(id), 0) * 256 + get_byte(uuid_send(id), 1)) % 3;
		UPDATE mailboxes SET bucket = b(device_id); UPDATE messages SET bucket = b(device_id);
		UPDATE receipts SET bucket = b(sender_device_id)`)
	divided := start(t, url)
	divided.again(t, from, b, 1)
	divided.holds(t, devices, "a")
}

// What a sealed request may write is known before its transaction. When it has waited for a lock
// for so long that a token may have been removed, it is sent back, and a repetition looks again.
func TestASealedRequestThatWaitedLongForALockIsSentBack(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewDivided(t, 3))
	device := n.newBox(t)
	r := &sendRequest{batch: batchOf(to(device, "a")...), receipt: receiptKey{n.beside(device), uuid.New()},
		opened: []bool{true}, openedAt: time.Now().Add(-tokenRevocation)}
	p := newPass(n.of(device).number, []*sendRequest{r})
	n.storePass(t, p)
	busy(t, p.answers[0].err)
	n.holds(t, []core.DeviceID{device})
	if got := one[int](t, n, "SELECT count(*) FROM receipts"); got != 0 {
		t.Errorf("%d receipts", got)
	}
}

func (n *node) storePass(t *testing.T, p *pass) {
	t.Helper()
	store := func(tx *storage.Tx) error { return p.store(t.Context(), tx) }
	if err := n.main.InPipeline(t.Context(), store); err != nil {
		t.Fatal(err)
	}
}

// The name of a part's receipt lies in its bucket, and another key, sender, body or bucket gives
// another.
func TestAPartIsNamedByAllThatItIs(t *testing.T) {
	t.Parallel()
	pure(t, func(t *rapid.T) {
		r := &sendRequest{receipt: receiptKey{uuid.New(), uuid.New()}}
		bucket := int16(rapid.IntRange(0, 32766).Draw(t, "bucket"))
		name := r.part(bucket)
		if got := storage.Buckets(32767).Bucket(name.device); got != bucket {
			t.Fatalf("it lies in %d, not in %d", got, bucket)
		}
		others := []sendRequest{*r, *r, *r}
		others[0].receipt.device, others[1].receipt.key, others[2].batch.Digest = uuid.New(), uuid.New(), [32]byte{1}
		for i := range others {
			if others[i].part(bucket) == name {
				t.Fatalf("another has the same name: %d", i)
			}
		}
		if r.part(bucket+1-2*(bucket%2)) == name || r.part(bucket) != name {
			t.Fatal("the bucket does not tell")
		}
	})
}
