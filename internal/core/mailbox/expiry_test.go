package mailbox

import (
	"context"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
)

// age makes envelopes as old as an interval says.
func (n *node) age(t failer, device core.DeviceID, age string, from, to int64) {
	t.Helper()
	n.exec(t, "UPDATE messages SET accepted_at = now() - $2::text::interval WHERE device_id = $1 AND seq BETWEEN $3 AND $4", device, age, from, to)
}

func TestAnEnvelopeIsDeliveredForThirtyDaysAndNotLater(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	device := n.newBox(t)
	n.send(t, newSender(), to(device, "gone", "due now", "just in time", "new")...)
	n.age(t, device, "31 days", 1, 1)
	n.age(t, device, "30 days", 2, 2)
	n.age(t, device, "30 days -1 minute", 3, 3)
	if texts, _ := n.texts(t, device, 0); !slices.Equal(texts, []string{"just in time", "new"}) {
		t.Errorf("delivered %v", texts)
	}
	if gaps := n.gaps(t, device); !slices.Equal(gaps, []core.Gap{{From: 1, To: 2, Reason: core.GapExpired}}) {
		t.Errorf("gaps %v", gaps)
	}
	if pending := one[int](t, n, "SELECT pending FROM mailboxes WHERE device_id = $1", device); pending != 2 {
		t.Errorf("%d pending", pending)
	}
	if got := n.counts.dropped[core.GapExpired].Load(); got != 2 {
		t.Errorf("%d counted as expired", got)
	}
}

// No sweeper has run: an old mailbox of any size is not delivered, wherever reading begins.
func TestAFullMailboxExpiresAtTheFirstRead(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	device := n.newBox(t)
	n.send(t, newSender(), many(device, core.MailboxCap, "x")...)
	n.age(t, device, "30 days", 1, 990)
	if _, sequences := n.texts(t, device, 500); !slices.Equal(sequences,
		[]int64{991, 992, 993, 994, 995, 996, 997, 998, 999, 1000}) {
		t.Errorf("delivered %v", sequences)
	}
	if gaps := n.gaps(t, device); !slices.Equal(gaps, []core.Gap{{From: 1, To: 990, Reason: core.GapExpired}}) {
		t.Errorf("gaps %v", gaps)
	}
}

// Expired envelopes still fill their mailbox until somebody looks, and are dropped once.
func TestExpiryAndTheCapDoNotCountTwice(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	device, from := n.newBox(t), newSender()
	n.send(t, from, many(device, core.MailboxCap, "x")...)
	n.age(t, device, "30 days", 1, 4)
	n.send(t, from, many(device, 2, "y")...)
	if texts, _ := n.texts(t, device, 0); len(texts) != core.MailboxCap-2 {
		t.Errorf("%d delivered", len(texts))
	}
	if gaps := n.gaps(t, device); !slices.Equal(gaps,
		[]core.Gap{{From: 1, To: 2, Reason: core.GapCap}, {From: 3, To: 4, Reason: core.GapExpired}}) {
		t.Errorf("gaps %v", gaps)
	}
}

// The sweeper's walk is longer than one step and finds the stale mailbox at its end.
func TestTheSweepReachesEveryMailbox(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	n.exec(t, "INSERT INTO mailboxes (device_id) SELECT gen_random_uuid() FROM generate_series(1, $1)", sweepStep)
	first, last := uuid.UUID{}, uuid.Max
	first[15] = 1
	for _, device := range []core.DeviceID{first, last} {
		n.tx(t, func(tx *storage.Tx) error { return Create(context.Background(), tx, device) })
		n.send(t, newSender(), to(device, "old", "new")...)
		n.age(t, device, "40 days", 1, 1)
	}
	if err := n.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, device := range []core.DeviceID{first, last} {
		if got := one[int](t, n, "SELECT count(*) FROM messages WHERE device_id = $1", device); got != 1 {
			t.Errorf("%d left of %v", got, device)
		}
		if gaps := n.gaps(t, device); !slices.Equal(gaps, []core.Gap{{From: 1, To: 1, Reason: core.GapExpired}}) {
			t.Errorf("gaps %v", gaps)
		}
	}
	if err := n.Expire(t.Context(), uuid.New()); err != nil {
		t.Errorf("nobody's mailbox: %v", err)
	}
}
