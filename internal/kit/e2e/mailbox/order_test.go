package mailbox_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestSequencesHaveNoHolesWithManySendersOnTwoNodes(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t)
	two := relaytest.StartOn(t, one.DatabaseURL)
	user, others := one.Register(t), one.Register(t)
	recipients := []*relaytest.Device{one.Register(t).NewDevice(t), one.Register(t).NewDevice(t)}
	sockets := []*relaytest.Socket{recipients[0].Connect(t), recipients[1].On(two).Connect(t)}
	const senders, each = 8, 25
	devices := make([]*relaytest.Device, senders)
	for i := range devices {
		devices[i] = []*relaytest.User{user, others}[i%2].NewDevice(t).On([]*relaytest.Relay{one, two}[i/2%2])
	}
	e2e.Together(senders, func(i int) {
		for n := range each { // two recipients, named in changing order: locks must not cross
			batch := []*obscurapb.Submission{
				relaytest.To(recipients[0].ID, fmt.Sprintf("%d-%d", i, n)),
				relaytest.To(recipients[1].ID, fmt.Sprintf("%d-%d", i, n))}
			if (i+n)%2 == 0 {
				batch[0], batch[1] = batch[1], batch[0]
			}
			if failed := devices[i].Send(t, nil, batch...); len(failed) != 0 {
				t.Errorf("failed: %v", failed)
			}
		}
	})
	for i, socket := range sockets {
		envelopes := make([]*obscurapb.Envelope, 0, senders*each)
		for len(envelopes) < senders*each {
			envelopes = append(envelopes, socket.Next().GetEnvelopeBatch().GetEnvelopes()...)
		}
		e2e.InOrder(t, envelopes, 1)
		e2e.InSenderOrder(t, envelopes)
		// What comes again is the same, and in the same order.
		e2e.Disconnect(socket)
		again, gaps, last := recipients[i].Connect(t).Drain()
		if last != senders*each || len(gaps) != 0 || e2e.Texts(again) != e2e.Texts(envelopes) {
			t.Errorf("again: %d envelopes up to %d, gaps %v", len(again), last, gaps)
		}
		for n := range again {
			if again[n].GetTimestamp() != envelopes[n].GetTimestamp() ||
				[16]byte(again[n].GetId()) != [16]byte(envelopes[n].GetId()) {
				t.Fatalf("envelope %d has another id or time the second time", n)
			}
		}
	}
}

func TestABatchArrivesInItsOrderAndSequencesBelongToTheRecipient(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice := relay.Register(t).NewDevice(t)
	bob, carol := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	socket := bob.Connect(t)
	socket.Drain()
	var batch []*obscurapb.Submission
	for i := range 50 {
		batch = append(batch, relaytest.To(bob.ID, fmt.Sprintf("b-%d", i)),
			relaytest.To(carol.ID, fmt.Sprintf("c-%d", i)))
	}
	alice.Send(t, nil, batch...)
	toBob := socket.Envelopes(50)
	e2e.InOrder(t, toBob, 1)
	e2e.InSenderOrder(t, toBob)
	toCarol, _, last := carol.Connect(t).Drain()
	e2e.InOrder(t, toCarol, 1)
	e2e.InSenderOrder(t, toCarol)
	if last != 50 || len(toCarol) != 50 {
		t.Errorf("%d of %d", len(toCarol), last)
	}
	seen := map[uuid.UUID]bool{}
	for _, e := range append(toBob, toCarol...) {
		if id := uuid.UUID(e.GetId()); seen[id] || id.Version() != 4 || id.Variant() != uuid.RFC4122 {
			t.Fatalf("the envelope id %s is not a version 4 UUID of its own", id)
		}
		seen[uuid.UUID(e.GetId())] = true
	}
}
