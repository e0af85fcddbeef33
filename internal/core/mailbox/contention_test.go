package mailbox

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/storage"
)

// sane: no error may reach a caller, not even that the relay is busy.
func sane(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// Everything at once on two nodes, over the same mailboxes in any order: nobody waits for somebody
// who waits for him. PostgreSQL would end such a wait with an error, and every other error is one
// as well.
func TestNothingDeadlocks(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	nodes := []*node{start(t, url), start(t, url)}
	const boxes, rounds = 12, 15
	devices := make([]core.DeviceID, boxes)
	for i := range devices {
		devices[i] = nodes[0].newBox(t)
		nodes[0].send(t, newSender(), many(devices[i], core.MailboxCap-10, "x")...)
	}
	ctx := context.Background()
	var wg sync.WaitGroup
	worker := func(seed uint64, work func(r *rand.Rand, n *node, round int)) {
		for k, n := range nodes {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(k)))
				for round := range rounds {
					work(r, n, round)
				}
			})
		}
	}
	shared := make([]Batch, rounds) // the same keys are sent from both nodes
	from := newSender()
	for i := range shared {
		shared[i] = batchOf(to(devices[i%boxes], "shared")[0], to(devices[(i+5)%boxes], "shared")[0])
	}
	for seed := range uint64(6) {
		worker(seed, func(r *rand.Rand, n *node, _ int) {
			var submissions []Submission
			for range 8 {
				submissions = append(submissions, to(devices[r.IntN(boxes)], "y")...)
			}
			_, err := n.Send(ctx, newSender(), batchOf(submissions...))
			sane(t, "send", err)
		})
	}
	worker(10, func(_ *rand.Rand, n *node, round int) {
		_, err := n.Send(ctx, from, shared[round])
		sane(t, "shared key", err)
	})
	worker(11, func(r *rand.Rand, n *node, _ int) {
		for range 10 {
			seq := r.Int64N(1000)
			sane(t, "acknowledge", n.Acknowledge(devices[r.IntN(boxes)], []int64{seq, seq + 1},
				[]core.Gap{{From: 1, To: 1, Reason: core.GapCap}}))
		}
	})
	worker(12, func(r *rand.Rand, n *node, _ int) {
		sane(t, "take over", n.main.InTx(ctx, func(tx *storage.Tx) error {
			_, _, err := TakeOver(ctx, tx, devices[r.IntN(boxes-1)], 0)
			return err
		}))
	})
	worker(13, func(r *rand.Rand, n *node, _ int) {
		device := devices[r.IntN(boxes)]
		_, err := n.main.Pool().Exec(ctx,
			"UPDATE messages SET accepted_at = now() - interval '31 days' WHERE device_id = $1 AND seq % 50 = 0 AND seq = ANY(SELECT seq FROM messages WHERE device_id = $1 LIMIT 3)", device)
		sane(t, "age", err)
		_, err = n.Read(ctx, device, 0)
		sane(t, "read", err)
		n.PassedOver(device, []int64{r.Int64N(100), r.Int64N(100)})
		_, err = n.Open(ctx, core.Principal{Device: device})
		sane(t, "open", err)
		sane(t, "expire", n.Expire(ctx, device))
	})
	worker(14, func(r *rand.Rand, n *node, _ int) { // an account with its devices, in order, goes and comes
		lot := []core.DeviceID{uuid.New(), uuid.New()}
		slices.SortFunc(lot, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
		sane(t, "create and erase", n.main.InTx(ctx, func(tx *storage.Tx) error {
			for _, device := range lot {
				if err := Create(ctx, tx, device); err != nil {
					return err
				}
			}
			return nil
		}))
		_, err := n.Send(ctx, from, batchOf(to(lot[1], "a")[0], to(lot[0], "b")[0], to(devices[r.IntN(boxes)], "c")[0]))
		sane(t, "send", err)
		sane(t, "erase", n.main.InTx(ctx, func(tx *storage.Tx) error {
			for _, device := range lot {
				if err := Erase(ctx, tx, device); err != nil {
					return err
				}
			}
			return nil
		}))
	})
	wg.Wait()
	nodes[0].barrier(t)
	nodes[1].barrier(t)
	for _, device := range devices {
		nodes[0].balanced(t, device)
	}
}

// balanced checks what holds without a ledger: the count is the rows', and every sequence is at
// most one of pending and in a gap.
func (n *node) balanced(t failer, device core.DeviceID) {
	t.Helper()
	var pending, rows, both, beyond int
	err := n.main.Pool().QueryRow(context.Background(), `SELECT m.pending,
		(SELECT count(*) FROM messages WHERE device_id = $1),
		(SELECT count(*) FROM messages x JOIN gaps g ON g.device_id = x.device_id AND x.seq BETWEEN g.from_seq AND g.to_seq WHERE x.device_id = $1),
		(SELECT count(*) FROM messages x WHERE x.device_id = $1 AND (x.seq >= m.next_seq OR x.seq <= m.floor_seq))
		FROM mailboxes m WHERE m.device_id = $1`, device).Scan(&pending, &rows, &both, &beyond)
	if err != nil || pending != rows || rows > core.MailboxCap || both != 0 || beyond != 0 {
		t.Errorf("pending %d, rows %d, also in gaps %d, out of range %d, %v", pending, rows, both, beyond, err)
	}
}

// A device that goes while others send to it: each send either came before, and went with the
// mailbox, or hears that there is no such device; nothing stays behind.
func TestAnErasedMailboxLeavesNothing(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	nodes := []*node{start(t, url), start(t, url)}
	device, from := nodes[0].newBox(t), newSender()
	neighbour := nodes[0].newBox(t)
	nodes[0].send(t, sender{User: uuid.New(), Device: device}, to(neighbour, "outlives its sender")...)
	nodes[0].send(t, from, many(device, core.MailboxCap+3, "x")...)
	var wg sync.WaitGroup
	refused := make(chan struct{})
	var once sync.Once
	for i := range 6 {
		wg.Go(func() {
			for {
				invalid, err := nodes[i%2].Send(context.Background(), from, batchOf(to(device, "y")...))
				if err != nil {
					t.Errorf("send: %v", err)
				}
				if len(invalid) > 0 || err != nil {
					once.Do(func() { close(refused) })
					return
				}
			}
		})
	}
	wait.Eventually(t, "sends are under way", func() bool { return nodes[0].counts.accepted.Load() > core.MailboxCap+20 })
	nodes[1].tx(t, func(tx *storage.Tx) error { return Erase(context.Background(), tx, device) })
	<-refused
	wg.Wait()
	nodes[0].acknowledge(t, device, []int64{1, 2, 3})
	left := one[int](t, nodes[0], `SELECT (SELECT count(*) FROM mailboxes WHERE device_id = $1) + (SELECT count(*) FROM messages WHERE device_id = $1)
		+ (SELECT count(*) FROM gaps WHERE device_id = $1) + (SELECT count(*) FROM receipts WHERE sender_device_id = $1)`, device)
	if left != 0 {
		t.Errorf("%d rows are left", left)
	}
	if texts, _ := nodes[0].texts(t, neighbour, 0); len(texts) != 1 {
		t.Errorf("what it had sent: %v", texts)
	}
}
