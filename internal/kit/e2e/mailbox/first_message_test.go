package mailbox_test

import (
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestFirstMessage(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)

	// Bob is away.
	if failed := alice.Send(t, nil, relaytest.To(bob.ID, "one"), relaytest.To(bob.ID, "two")); len(failed) != 0 {
		t.Fatalf("failed: %v", failed)
	}
	socket := bob.Connect(t)
	backlog, gaps, drained := socket.Drain()
	if len(backlog) != 2 || string(backlog[0].GetMessage()) != "one" || string(backlog[1].GetMessage()) != "two" {
		t.Fatalf("backlog: %v", backlog)
	}
	if len(gaps) != 0 || drained != 2 || backlog[0].GetSequence() != 1 || backlog[1].GetSequence() != 2 {
		t.Errorf("gaps %v, drained %d, sequences %d %d", gaps, drained, backlog[0].GetSequence(),
			backlog[1].GetSequence())
	}
	if [16]byte(backlog[0].GetSenderId()) != alice.User.ID || [16]byte(backlog[0].GetSenderDeviceId()) != alice.ID ||
		backlog[0].GetSenderDeviceNumber() != uint32(alice.Number) {
		t.Errorf("the sender is wrong: %v", backlog[0])
	}
	socket.Ack(backlog...)

	// Bob is here.
	alice.Send(t, nil, relaytest.To(bob.ID, "three"))
	live := socket.Envelopes(1)
	if string(live[0].GetMessage()) != "three" || live[0].GetSequence() != 3 {
		t.Errorf("live: %v", live)
	}
	socket.Ack(live...)
	if socket.Status.GetOneTimePreKeyCount() != 5 || socket.Status.GetKyberPreKeyCount() != 2 ||
		socket.Status.GetMinThreshold() != 20 {
		t.Errorf("status: %v", socket.Status)
	}
}
