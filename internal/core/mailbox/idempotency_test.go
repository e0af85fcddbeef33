package mailbox

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/storage"
)

// again sends a batch that was sent before and expects the first answer.
func (n *node) again(t *testing.T, from sender, b Batch, first ...int16) {
	t.Helper()
	if invalid, err := n.Send(t.Context(), from, b); err != nil || !slices.Equal(invalid, first) {
		t.Errorf("again: %v, %v; the first answer was %v", invalid, err, first)
	}
}

func (n *node) last(t *testing.T, device core.DeviceID) int64 {
	t.Helper()
	return one[int64](t, n, "SELECT next_seq - 1 FROM mailboxes WHERE device_id = $1", device)
}

// The first answer holds whatever has happened since: acknowledged, restarted, another node, and
// even when the device that was missing has come.
func TestARepeatedBatchHearsItsFirstAnswerAndStoresNothing(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	n, other := start(t, url), start(t, url)
	device, from, missing := n.newBox(t), newSender(), uuid.New()
	b := batchOf(to(device, "a")[0], to(missing, "b")[0], to(device, "c")[0], to(uuid.New(), "d")[0])
	n.again(t, from, b, 1, 3) // the first
	n.again(t, from, b, 1, 3)
	other.again(t, from, b, 1, 3)
	n.acknowledge(t, device, []int64{1, 2})
	other.again(t, from, b, 1, 3)
	n.tx(t, func(tx *storage.Tx) error { return Create(t.Context(), tx, missing) })
	n.stop()
	start(t, url).again(t, from, b, 1, 3)
	if last := other.last(t, device); last != 2 {
		t.Errorf("%d were accepted", last)
	}
	if last := other.last(t, missing); last != 0 {
		t.Errorf("%d were accepted for the device that came later", last)
	}
	// The key belongs to its device, and to its body.
	stranger := newSender()
	other.again(t, stranger, b, 3)
	changed := batchOf(to(device, "changed")...)
	changed.Key = b.Key
	if _, err := other.Send(t.Context(), from, changed); !errors.Is(err, errKeyReused) ||
		core.KindOf(err) != core.Conflict {
		t.Errorf("another body: %v", err)
	}
	empty := batchOf()
	other.again(t, from, empty)
	other.again(t, from, empty)
	if last := other.last(t, device); last != 4 { // the stranger's two
		t.Errorf("%d were accepted", last)
	}
}

// The same batch many times at once: within one transaction of a node, and on two nodes.
func TestABatchSentManyTimesAtOnceIsStoredOnce(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	one, two := idleNode(t, url), idleNode(t, url)
	t.Cleanup(func() { one.stop(); two.stop() })
	device := one.newBox(t)
	from := one.senderBeside(device)
	b, changed := batchOf(to(device, "a", "b")...), batchOf(to(device, "c")...)
	changed.Key = b.Key
	var wg sync.WaitGroup
	for range 5 {
		for _, n := range []*node{one, two} {
			wg.Go(func() {
				if invalid, err := n.Send(context.Background(), from, b); err != nil || len(invalid) != 0 {
					t.Errorf("%v %v", invalid, err)
				}
			})
		}
	}
	wait.Eventually(t, "all wait", func() bool { return one.WaitingSends() == 5 && two.WaitingSends() == 5 })
	for _, n := range []*node{one, two} {
		wg.Go(func() {
			if _, err := n.Send(context.Background(), from, changed); !errors.Is(err, errKeyReused) {
				t.Errorf("another body: %v", err)
			}
		})
	}
	wait.Eventually(t, "the others wait as well", func() bool { return one.WaitingSends() == 6 && two.WaitingSends() == 6 })
	one.run()
	two.run()
	wg.Wait()
	if texts, _ := one.texts(t, device, 0); !slices.Equal(texts, []string{"a", "b"}) {
		t.Errorf("stored %v", texts)
	}
}

// moveReceipts puts all receipts into the slot of another day.
func (n *node) moveReceipts(t failer, days int) {
	n.exec(t, "UPDATE receipts SET slot = (extract(epoch FROM now())::bigint / 86400 + 3 + $1::int) % 3", days)
}

func TestAReceiptOfYesterdayIsFound(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	device := n.newBox(t)
	from := n.senderBeside(device)
	b := batchOf(to(device, "a")[0], to(n.beside(device), "b")[0])
	n.again(t, from, b, 1)
	n.moveReceipts(t, -1)
	n.again(t, from, b, 1)
	if err := n.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.again(t, from, b, 1)
	if got := one[int](t, n, "SELECT count(*) FROM receipts"); got != 1 {
		t.Errorf("%d receipts", got)
	}
	if last := n.last(t, device); last != 1 {
		t.Errorf("%d were accepted", last)
	}
}

// The sweep empties the slot of the day before yesterday, which tomorrow needs, and no other;
// shortly before midnight it waits.
func TestOnlySpentReceiptsAreSwept(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	device := n.newBox(t)
	from := n.senderBeside(device) // one receipt a send
	for _, day := range []int{0, -1, -2} {
		n.send(t, from, to(device, "x")...)
		n.exec(t, `UPDATE receipts SET slot = (extract(epoch FROM now())::bigint / 86400 + 3 + $1::int) % 3
			WHERE slot = extract(epoch FROM now())::bigint / 86400 % 3 AND $1 <> 0
			AND key = (SELECT key FROM receipts r WHERE r.slot = extract(epoch FROM now())::bigint / 86400 % 3 LIMIT 1)`, day)
	}
	late := one[bool](t, n, "SELECT extract(epoch FROM now())::bigint % 86400 >= 82000")
	if err := n.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := one[[]int32](t, n,
		`SELECT array_agg((extract(epoch FROM now())::bigint / 86400 + 3 - slot) % 3 ORDER BY key) FROM receipts`)
	slices.Sort(left)
	if want := []int32{0, 1}; !slices.Equal(left, want) && (!late || !slices.Equal(left, []int32{0, 1, 2})) {
		t.Errorf("receipts left by age in days: %v, want %v", left, want)
	}
}

func TestTheDayIsInDoubtOnlyAroundMidnight(t *testing.T) {
	t.Parallel()
	for at, want := range map[string]bool{
		"2026-03-01T00:00:00Z": true, "2026-03-01T00:04:59Z": true, "2026-03-01T00:05:01Z": false,
		"2026-03-01T12:00:00Z": false, "2026-03-01T23:54:59Z": false, "2026-03-01T23:55:01Z": true,
		"2026-12-31T23:59:59Z": true, "2027-01-01T00:00:01Z": true, "2026-03-01T02:03:00+02:00": true,
		"2026-03-01T00:03:00+02:00": false,
	} {
		moment, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if got := aroundMidnight(moment); got != want {
			t.Errorf("%s: %v, want %v", at, got, want)
		}
	}
}
