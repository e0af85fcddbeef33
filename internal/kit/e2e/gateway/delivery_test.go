package gateway_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestAFreshDeviceHearsItsKeysThenDrained(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	socket := relay.Register(t).NewDevice(t).Connect(t)
	first, err := socket.Frame()
	if err != nil || first.GetPreKeyStatus().GetOneTimePreKeyCount() != 5 ||
		first.GetPreKeyStatus().GetKyberPreKeyCount() != 2 ||
		first.GetPreKeyStatus().GetMinThreshold() != 20 {
		t.Errorf("the first frame is %v, %v", first, err)
	}
	second, err := socket.Frame()
	if err != nil || second.GetDrained() == nil || second.GetDrained().GetSequence() != 0 {
		t.Errorf("the second frame is %v, %v", second, err)
	}
}

// A sender that writes while a socket is being opened: whatever the instant, the message comes, on
// the notice and not on the poll.
func TestDeliveryBeginsAtTheFirstMomentOfASocket(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, e2e.SlowPoll)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	db := e2e.Database(t, relay)
	for round := range 100 {
		var socket *relaytest.Socket
		e2e.Together(2, func(i int) {
			if i == 0 {
				alice.Send(t, nil, relaytest.To(bob.ID, fmt.Sprint(round)))
				return
			}
			socket, _ = relay.Dial(t, "", bearer(bob.Token))
		})
		if socket == nil {
			t.Fatal("not connected")
		}
		got := dropDrained(socket)
		if len(got) != 1 || string(got[0].GetMessage()) != fmt.Sprint(round) ||
			got[0].GetSequence() != uint64(round)+1 {
			t.Fatalf("round %d: %v", round, got)
		}
		socket.Ack(got...)
		e2e.Disconnect(socket)
		e2e.Pending(t, db, bob.ID, 0)
	}
}

func TestWhatWasNotAcknowledgedComesAgain(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	e2e.SendMany(t, alice, bob, "m", 6)
	db := e2e.Database(t, relay)
	socket := bob.Connect(t)
	all, _, _ := socket.Drain()
	socket.Ack(all[1], all[4])
	socket.Ack(all[1], all[1]) // twice does nothing
	e2e.Pending(t, db, bob.ID, 4)
	e2e.Disconnect(socket)
	socket = bob.Connect(t)
	again, gaps, last := socket.Drain()
	if e2e.Texts(again) != "m-0 m-2 m-3 m-5" || len(gaps) != 0 || last != 6 {
		t.Fatalf("%q, gaps %v, last %d", e2e.Texts(again), gaps, last)
	}
	socket.Ack(all[1]) // after it has gone
	socket.Ack(again...)
	e2e.Pending(t, db, bob.ID, 0)
	e2e.Disconnect(socket)
	if rest, _, last := bob.Connect(t).Drain(); len(rest) != 0 || last != 6 {
		t.Errorf("%d left, drained at %d", len(rest), last)
	}
}

func TestOnlyItsDeviceCanAcknowledgeAnEnvelope(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	bobUser := relay.Register(t)
	alice, bob, tablet := relay.Register(t).NewDevice(t), bobUser.NewDevice(t), bobUser.NewDevice(t)
	alice.Send(t, nil, relaytest.To(bob.ID, "for the phone"), relaytest.To(tablet.ID, "for the tablet"))
	mine, _, _ := bob.Connect(t).Drain()
	db := e2e.Database(t, relay)
	for _, thief := range []*relaytest.Device{alice, tablet} {
		socket := thief.Connect(t)
		own, _, _ := socket.Drain()
		ids := [][]byte{mine[0].GetId(), nil, {}, make([]byte, 15), make([]byte, 17), uuid.Nil[:], uuid.Max[:],
			bob.ID[:]}
		random := uuid.New()
		ids = append(ids, random[:])
		socket.WriteFrame(&obscurapb.WebSocketFrame{
			Payload: &obscurapb.WebSocketFrame_Ack{Ack: &obscurapb.AckMessage{MessageIds: ids}}})
		socket.WriteFrame(&obscurapb.WebSocketFrame{
			Payload: &obscurapb.WebSocketFrame_Ack{Ack: &obscurapb.AckMessage{}}})
		socket.Ack(own...)
		// The socket is as it was: nothing is revealed.
		alice.Send(t, nil, relaytest.To(thief.ID, "next"))
		if got := socket.Envelopes(1); e2e.Texts(got) != "next" {
			t.Errorf("%q", e2e.Texts(got))
		} else {
			socket.Ack(got...)
		}
		e2e.Pending(t, db, thief.ID, 0)
	}
	if again, gaps, _ := bob.Connect(t).Drain(); e2e.Texts(again) != "for the phone" || len(gaps) != 0 {
		t.Errorf("the owner finds %q, gaps %v", e2e.Texts(again), gaps)
	}
}

// The backlog at connect is told to have ended although mail keeps coming, and nothing is twice or
// out of order.
func TestDrainedEndsTheBacklogWhileMailKeepsComing(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	e2e.SendMany(t, alice, bob, "m", 300)
	stop, stopped := make(chan struct{}), make(chan struct{})
	sent := 300
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				alice.Send(t, nil, relaytest.To(bob.ID, fmt.Sprintf("m-%d", sent)))
				sent++
			}
		}
	}()
	socket := bob.Connect(t)
	envelopes, gaps, last := socket.Drain()
	if last < 300 || len(gaps) != 0 || uint64(len(envelopes)) < last {
		t.Errorf("drained at %d after %d envelopes, gaps %v", last, len(envelopes), gaps)
	}
	for range 20 {
		frame := socket.Next()
		if frame.GetDrained() != nil {
			t.Error("drained a second time")
		}
		envelopes = append(envelopes, frame.GetEnvelopeBatch().GetEnvelopes()...)
	}
	close(stop)
	<-stopped
	for len(envelopes) < sent {
		envelopes = append(envelopes, socket.Next().GetEnvelopeBatch().GetEnvelopes()...)
	}
	e2e.InOrder(t, envelopes, 1)
	e2e.InSenderOrder(t, envelopes)
}
