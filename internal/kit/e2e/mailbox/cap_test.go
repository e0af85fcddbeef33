package mailbox_test

import (
	"fmt"
	"testing"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

func TestAFloodEvictsItselfAndNotOthersMail(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	friend, flooder, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t),
		relay.Register(t).NewDevice(t)
	db := e2e.Database(t, relay)
	e2e.SendMany(t, friend, bob, "friend", 20)     // 1 to 20
	e2e.SendMany(t, flooder, bob, "flooder", 1100) // 21 to 1120, of which 120 do not fit
	if n := e2e.Count(t, db, "SELECT count(*) FROM messages"); n != core.MailboxCap {
		t.Fatalf("the mailbox holds %d", n)
	}
	e2e.SendMany(t, friend, bob, "late", 5) // 1121 to 1125; the flooder makes room
	envelopes, gaps, last := bob.Connect(t).Drain()
	if last != 1125 || len(envelopes) != core.MailboxCap {
		t.Fatalf("%d envelopes up to %d", len(envelopes), last)
	}
	if len(gaps) != 1 || gaps[0].GetFrom() != 21 || gaps[0].GetTo() != 145 ||
		gaps[0].GetReason() != obscurapb.Gap_REASON_CAP {
		t.Errorf("gaps %v, want 21 to 145 because of the cap", gaps)
	}
	if e2e.Texts(envelopes[:20]) != friendly("friend", 20) || e2e.Texts(envelopes[995:]) != friendly("late", 5) {
		t.Error("the friend's mail has gone")
	}
	e2e.InOrder(t, envelopes[:20], 1)
	e2e.InOrder(t, envelopes[20:], 146)
}

func friendly(name string, n int) string {
	var all []*obscurapb.Envelope
	for i := range n {
		all = append(all, &obscurapb.Envelope{Message: fmt.Appendf(nil, "%s-%d", name, i)})
	}
	return e2e.Texts(all)
}

func TestAGapIsToldBeforeWhatFollowsItUntilALaterEnvelopeIsAcknowledged(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	e2e.SendMany(t, alice, bob, "a", 1003)
	for range 2 { // told, not settled, told again
		socket := bob.Connect(t)
		if frame := socket.Next(); frame.GetGap().GetFrom() != 1 || frame.GetGap().GetTo() != 3 {
			t.Fatalf("the first frame is %v", frame)
		}
		envelopes, gaps, _ := socket.Drain()
		if e2e.InOrder(t, envelopes, 4); len(envelopes) != 1000 || len(gaps) != 0 {
			t.Fatalf("%d envelopes, gaps %v", len(envelopes), gaps)
		}
		e2e.Disconnect(socket)
	}
	socket := bob.Connect(t)
	envelopes, _, _ := socket.Drain()
	socket.Ack(envelopes[10])
	db := e2e.Database(t, relay)
	e2e.Pending(t, db, bob.ID, 999)
	e2e.Disconnect(socket)
	if _, gaps, _ := bob.Connect(t).Drain(); len(gaps) != 0 {
		t.Errorf("still told: %v", gaps)
	}
}

// A connected device that acknowledges late: each sequence is seen, or told as a gap, in order, and
// the mailbox never holds more than its cap.
func TestAFloodWhileConnectedLosesNothingSilently(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	db := e2e.Database(t, relay)
	socket := bob.Connect(t)
	const total = 2500
	flood := make(chan struct{})
	go func() {
		defer close(flood)
		e2e.SendMany(t, alice, bob, "a", total)
	}()
	var unacknowledged []*obscurapb.Envelope
	for seen := uint64(0); seen < total; {
		frame := socket.Next()
		if gap := frame.GetGap(); gap != nil {
			if gap.GetFrom() > seen+1 || gap.GetReason() != obscurapb.Gap_REASON_CAP {
				t.Fatalf("gap %v after %d", gap, seen)
			}
			seen = max(seen, gap.GetTo())
		}
		for _, e := range frame.GetEnvelopeBatch().GetEnvelopes() {
			if e.GetSequence() > seen+1 {
				t.Fatalf("%d follows %d without a gap", e.GetSequence(), seen)
			}
			seen = max(seen, e.GetSequence())
			unacknowledged = append(unacknowledged, e)
		}
		if n := e2e.Count(t, db, "SELECT count(*) FROM messages"); n > core.MailboxCap {
			t.Fatalf("the mailbox holds %d", n)
		}
		if len(unacknowledged) >= core.MailboxCap { // the relay waits for this
			if seen < total/2 {
				wait.Eventually(t, "the flood is over", func() bool {
					return e2e.Count(t, db, "SELECT next_seq FROM mailboxes WHERE device_id = $1", bob.ID) == total+1
				})
			}
			socket.Ack(unacknowledged...)
			unacknowledged = nil
		}
	}
	<-flood
	socket.Ack(unacknowledged...)
	e2e.Pending(t, db, bob.ID, 0)
}
