package mailbox

import (
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// Somebody reads the receipts for long, as a backup does. The sweep must not wait for him for long:
// every send waits behind it.
func TestASweepBesideABackupHoldsUpNoSend(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	n, backup := start(t, url), start(t, url)
	device := n.newBox(t)
	from := n.senderBeside(device) // one receipt a send
	n.send(t, from, to(device, "old")...)
	n.moveReceipts(t, -2)
	tx := backup.hold(t, "LOCK TABLE receipts, receipts_0, receipts_1, receipts_2 IN ACCESS SHARE MODE")
	swept := make(chan error, 1)
	go func() { swept <- n.Sweep(t.Context()) }()
	var longest time.Duration
	for sweeping := true; sweeping; {
		began := time.Now()
		n.send(t, from, to(device, "new")...)
		longest = max(longest, time.Since(began))
		select {
		case err := <-swept:
			if sweeping = false; err != nil {
				t.Errorf("sweep: %v", err)
			}
		default:
		}
	}
	if longest > 3*time.Second { // a lock is waited for 5 s
		t.Errorf("a send took %v", longest)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	const spent = "SELECT count(*) FROM receipts WHERE slot = (extract(epoch FROM now())::bigint / 86400 + 1) % 3"
	late := one[bool](t, n, "SELECT extract(epoch FROM now())::bigint % 86400 >= 82000")
	if left := one[int](t, n, spent); left != 1 {
		t.Errorf("%d spent receipts are left while they are read", left)
	}
	if err := n.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := one[int](t, n, spent); left != 0 && !late {
		t.Errorf("%d spent receipts are left afterwards", left)
	}
}

func TestASweepSaysHowMuchIsPending(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	n := start(t, url)
	device, other, from := n.newBox(t), n.newBox(t), newSender()
	n.newBox(t) // empty
	n.send(t, from, to(device, "one", "two")...)
	n.send(t, from, to(other, "three")...)
	one[int](t, n, "WITH u AS (UPDATE messages SET accepted_at = accepted_at - interval '1 hour' WHERE device_id = '"+
		device.String()+"' RETURNING 1) SELECT count(*) FROM u")
	if err := n.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n.Pending() != 3 || n.Oldest() < 3600 || n.Oldest() > 3700 {
		t.Errorf("%d pending, the oldest for %d s", n.Pending(), n.Oldest())
	}
}
