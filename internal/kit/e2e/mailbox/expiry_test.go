package mailbox_test

import (
	"testing"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestAnExpiredEnvelopeIsNeverDelivered(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	db := e2e.Database(t, relay)
	e2e.SendMany(t, alice, bob, "a", 150)
	e2e.Change(t, db, "UPDATE messages SET accepted_at = now() - interval '30 days 1 second' WHERE seq <= 120")
	e2e.Change(t, db, "UPDATE messages SET accepted_at = now() - interval '29 days 23 hours 59 minutes' WHERE seq > 120")
	socket := bob.Connect(t)
	if frame := socket.Next(); frame.GetGap().GetFrom() != 1 || frame.GetGap().GetTo() != 120 ||
		frame.GetGap().GetReason() != obscurapb.Gap_REASON_EXPIRED {
		t.Errorf("the first frame is %v", frame)
	}
	envelopes, gaps, last := socket.Drain()
	if e2e.InOrder(t, envelopes, 121); len(envelopes) != 30 || len(gaps) != 0 || last != 150 {
		t.Errorf("%d envelopes, gaps %v, last %d", len(envelopes), gaps, last)
	}
	e2e.Pending(t, db, bob.ID, 30)
}

func TestAMailboxThatHasExpiredAsAWholeIsToldAsAGap(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	db := e2e.Database(t, relay)
	e2e.SendMany(t, alice, bob, "a", 5)
	e2e.Change(t, db, "UPDATE messages SET accepted_at = now() - interval '31 days'")
	socket := bob.Connect(t)
	envelopes, gaps, last := socket.Drain()
	if len(envelopes) != 0 || last != 5 || len(gaps) != 1 || gaps[0].GetFrom() != 1 || gaps[0].GetTo() != 5 {
		t.Errorf("%d envelopes, gaps %v, last %d", len(envelopes), gaps, last)
	}
	alice.Send(t, nil, relaytest.To(bob.ID, "later"))
	next := socket.Envelopes(1)
	if next[0].GetSequence() != 6 {
		t.Errorf("the next sequence is %d", next[0].GetSequence())
	}
	socket.Ack(next...)
	e2e.Pending(t, db, bob.ID, 0)
	if n := e2e.Count(t, db, "SELECT count(*) FROM gaps"); n != 0 {
		t.Errorf("%d gaps left after the acknowledgement of what followed", n)
	}
}

// One expired between others of the device: the rest arrives, the hole is told where it is.
func TestExpiryInTheMiddleIsToldInItsPlace(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	db := e2e.Database(t, relay)
	e2e.SendMany(t, alice, bob, "a", 9)
	e2e.Change(t, db, "UPDATE messages SET accepted_at = now() - interval '31 days' WHERE seq BETWEEN 4 AND 6")
	socket := bob.Connect(t)
	before, frame := socket.Envelopes(3), socket.Next()
	if gap := frame.GetGap(); gap.GetFrom() != 4 || gap.GetTo() != 6 {
		t.Errorf("after the third came %v", frame)
	}
	after, _, _ := socket.Drain()
	e2e.InOrder(t, before, 1)
	e2e.InOrder(t, after, 7)
	// An acknowledgement of what came before the gap does not settle it.
	socket.Ack(before...)
	e2e.Pending(t, db, bob.ID, 3)
	e2e.Disconnect(socket)
	if _, gaps, _ := bob.Connect(t).Drain(); len(gaps) != 1 {
		t.Errorf("gaps %v, want the one of before", gaps)
	}
}
