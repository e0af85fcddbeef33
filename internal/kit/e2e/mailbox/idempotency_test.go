package mailbox_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core/mailbox"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/storage"
)

func TestARepeatedBatchGetsTheFirstAnswerAndStoresNothing(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	key, gone := uuid.New(), uuid.New()
	good, bad := relaytest.To(bob.ID, "once"), relaytest.To(gone, "never")
	_, first := alice.TrySend(t, &key, bad, good)
	if status, again := alice.TrySend(t, &key, bad, good); status != http.StatusOK || string(again) != string(first) ||
		len(first) == 0 {
		t.Errorf("again: status %d, %q, first %q", status, again, first)
	}
	socket := bob.Connect(t)
	backlog, _, last := socket.Drain()
	if e2e.Texts(backlog) != "once" || last != 1 {
		t.Fatalf("stored: %s", e2e.Texts(backlog))
	}
	// After the recipient has acknowledged it.
	socket.Ack(backlog...)
	db := e2e.Database(t, relay)
	e2e.Pending(t, db, bob.ID, 0)
	if _, again := alice.TrySend(t, &key, bad, good); string(again) != string(first) {
		t.Errorf("after the acknowledgement: %q", again)
	}
	// Another body under the same key is refused, and the first answer stays.
	status, answer := alice.TrySend(t, &key, bad, relaytest.To(bob.ID, "other"))
	if status != http.StatusConflict || !strings.Contains(string(answer), "idempotency_key_reused") {
		t.Errorf("another body: status %d, %s", status, answer)
	}
	if _, again := alice.TrySend(t, &key, bad, good); string(again) != string(first) {
		t.Errorf("after the conflict: %q", again)
	}
	// After a restart.
	relay.Stop()
	relay = relaytest.StartOn(t, relay.DatabaseURL)
	if _, again := alice.On(relay).TrySend(t, &key, bad, good); string(again) != string(first) {
		t.Errorf("after a restart: %q", again)
	}
	if n := e2e.Count(t, db, "SELECT next_seq FROM mailboxes WHERE device_id = $1", bob.ID); n != 2 {
		t.Errorf("%d were stored", n-1)
	}
}

func TestTheSameBatchAtTheSameInstantIsStoredOnce(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t)
	two := relaytest.StartOn(t, one.DatabaseURL)
	alice, bob := one.Register(t).NewDevice(t), one.Register(t).NewDevice(t)
	const rounds, copies = 20, 4
	for range rounds {
		key, submission := uuid.New(), relaytest.To(bob.ID, "once")
		var good atomic.Int32
		e2e.Together(copies, func(i int) { // two connections to each of two nodes
			node := []*relaytest.Relay{one, two}[i%2]
			if status, answer := alice.On(node).TrySend(t, &key, submission); status == http.StatusOK &&
				len(answer) == 0 {
				good.Add(1)
			}
		})
		if good.Load() != copies {
			t.Fatalf("%d of %d heard success", good.Load(), copies)
		}
	}
	backlog, _, _ := bob.Connect(t).Drain()
	if e2e.InOrder(t, backlog, 1); len(backlog) != rounds {
		t.Errorf("%d envelopes, want %d", len(backlog), rounds)
	}
}

func TestTwoBodiesWithOneKeyAtTheSameInstantStoreOne(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t)
	two := relaytest.StartOn(t, one.DatabaseURL)
	alice, bob, carol := one.Register(t).NewDevice(t), one.Register(t).NewDevice(t), one.Register(t).NewDevice(t)
	for range 10 {
		key := uuid.New()
		var statuses [2]int
		e2e.Together(2, func(i int) {
			to := []uuid.UUID{bob.ID, carol.ID}[i]
			statuses[i], _ = alice.On([]*relaytest.Relay{one, two}[i]).TrySend(t, &key, relaytest.To(to, "body"))
		})
		if statuses[0]+statuses[1] != http.StatusOK+http.StatusConflict {
			t.Fatalf("statuses %v", statuses)
		}
	}
	toBob, _, _ := bob.Connect(t).Drain()
	toCarol, _, _ := carol.Connect(t).Drain()
	if len(toBob)+len(toCarol) != 10 {
		t.Errorf("%d and %d were stored", len(toBob), len(toCarol))
	}
}

func TestAKeyBelongsToItsDevice(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	phone, tablet, other, bob := user.NewDevice(t), user.NewDevice(t), relay.Register(t).NewDevice(t),
		relay.Register(t).NewDevice(t)
	key := uuid.New()
	for _, sender := range []*relaytest.Device{phone, tablet, other} {
		if failed := sender.Send(t, &key, relaytest.To(bob.ID, sender.ID.String())); len(failed) != 0 {
			t.Errorf("failed: %v", failed)
		}
	}
	backlog, _, _ := bob.Connect(t).Drain()
	if len(backlog) != 3 {
		t.Errorf("%d stored, want 3", len(backlog))
	}
}

func TestWithoutAHeaderTheSubmissionIdsAreTheKey(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob, carol := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	a, b := relaytest.To(bob.ID, "a"), relaytest.To(carol.ID, "b")
	b.SubmissionId = a.SubmissionId // two submissions to two devices may share an id
	for range 3 {
		if failed := alice.Send(t, nil, a, b); len(failed) != 0 {
			t.Errorf("failed: %v", failed)
		}
	}
	changed := relaytest.To(bob.ID, "changed")
	changed.SubmissionId = a.SubmissionId
	if status, _ := alice.TrySend(t, nil, changed, b); status != http.StatusConflict {
		t.Errorf("the same ids with another message: status %d", status)
	}
	if failed := alice.Send(t, nil, changed); len(failed) != 0 { // another list of ids
		t.Errorf("failed: %v", failed)
	}
	toBob, _, _ := bob.Connect(t).Drain()
	toCarol, _, _ := carol.Connect(t).Drain()
	if e2e.Texts(toBob) != "a changed" || e2e.Texts(toCarol) != "b" {
		t.Errorf("stored %q and %q", e2e.Texts(toBob), e2e.Texts(toCarol))
	}
}

func TestAKeyIsRememberedFor24Hours(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	db := e2e.Database(t, relay)
	key, submission := uuid.New(), relaytest.To(bob.ID, "x")
	sweep := func() {
		t.Helper()
		pool, err := storage.Open(t.Context(), relay.DatabaseURL, storage.Options{MaxConns: 2})
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		if err := pool.CheckSchema(t.Context()); err != nil {
			t.Fatal(err)
		}
		box := mailbox.New(mailbox.Config{DB: pool, Async: pool})
		if err := box.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// Receipts stand in the slot of their day; moved by one, they were written a day earlier.
	const yesterday = "UPDATE receipts SET slot = (slot + 2) % 3"
	alice.Send(t, &key, submission)
	e2e.Change(t, db, yesterday)
	sweep()
	alice.Send(t, &key, submission)
	if status, _ := alice.TrySend(t, &key, relaytest.To(bob.ID, "other")); status != http.StatusConflict {
		t.Errorf("another body on the next day: status %d", status)
	}
	if n := e2e.Count(t, db, "SELECT count(*) FROM messages"); n != 1 {
		t.Fatalf("%d stored within 24 hours", n)
	}
	e2e.Change(t, db, yesterday)
	sweep()
	alice.Send(t, &key, submission)
	// The sweep rests in the last hour of a day (UTC).
	lastHour := e2e.Count(t, db, "SELECT extract(hour FROM now() AT TIME ZONE 'UTC')::int") == 23
	if n := e2e.Count(t, db, "SELECT count(*) FROM messages"); n != 2 && !lastHour {
		t.Errorf("%d stored after two days, want 2", n)
	}
}
