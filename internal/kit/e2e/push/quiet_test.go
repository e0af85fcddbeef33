package push_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core/push"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/pushtest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// quietly makes a submission for which nobody is woken up.
func quietly(device uuid.UUID) *obscurapb.Submission {
	s := relaytest.To(device, "typing")
	s.Quiet = true
	return s
}

// quietStreet is a relay with a sender, Bob, who may be woken up, and Carol, who is woken up last.
type quietStreet struct {
	t                 *testing.T
	web               *pushtest.WebPush
	relay             *relaytest.Relay
	alice, bob, carol *relaytest.Device
	bobs, carols      *pushtest.Subscription
}

func newQuietStreet(t *testing.T, change ...func(*push.Times)) *quietStreet {
	t.Helper()
	s := &quietStreet{t: t, web: pushtest.NewWebPush(t)}
	s.relay = start(t, towards(s.web, change...))
	s.alice, s.bob, s.carol = s.relay.Register(t).NewDevice(t), s.relay.Register(t).NewDevice(t),
		s.relay.Register(t).NewDevice(t)
	s.bobs, s.carols = subscribe(t, s.relay, s.bob, s.web), subscribe(t, s.relay, s.carol, s.web)
	return s
}

// bobIsWokenUp expects so many wake-ups of Bob, once Carol, to whom loud mail is sent now, has had
// hers.
func (s *quietStreet) bobIsWokenUp(times int) {
	s.t.Helper()
	s.alice.Send(s.t, nil, relaytest.To(s.carol.ID, "hello"))
	got := map[string]int{}
	for _, w := range wakes(s.t, &s.web.Service, times+1) {
		got[w.Address]++
	}
	nothingScheduled(s.t, s.relay)
	if got[s.bobs.Endpoint] != times || got[s.carols.Endpoint] != 1 || len(s.web.Wakes()) != times+1 {
		s.t.Errorf("%v and then %d", got, len(s.web.Wakes()))
	}
}

// Quiet mail wakes nobody and waits like other mail.
func TestQuietMailWakesNobody(t *testing.T) {
	t.Parallel()
	s := newQuietStreet(t)
	id := uuid.New()
	s.alice.Send(t, nil, quietly(s.bob.ID), quietly(s.bob.ID))
	if status, answer := s.alice.TryRequest(t, nil, &obscurapb.SendMessageRequest{
		Shared: []*obscurapb.SharedSubmission{{Message: []byte("shared"), Quiet: true,
			Recipients: []*obscurapb.SharedRecipient{{SubmissionId: id[:], DeviceId: s.bob.ID[:]}}}}}); status != 200 ||
		len(answer) > 0 {
		t.Fatalf("%d %s", status, answer)
	}
	s.bobIsWokenUp(0)
	envelopes, _, last := s.bob.Connect(t).Drain()
	if e2e.Texts(envelopes) != "typing typing shared" || last != 3 {
		t.Errorf("%q, up to %d", e2e.Texts(envelopes), last)
	}
}

func TestMailBesideQuietMailWakesOnce(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(s *quietStreet){
		"quiet, then loud": func(s *quietStreet) {
			s.alice.Send(s.t, nil, quietly(s.bob.ID))
			s.alice.Send(s.t, nil, relaytest.To(s.bob.ID, "hello"))
		},
		"loud, then quiet before it is scheduled": func(s *quietStreet) {
			s.alice.Send(s.t, nil, relaytest.To(s.bob.ID, "hello"), quietly(s.bob.ID))
			s.alice.Send(s.t, nil, quietly(s.bob.ID))
		},
		"loud, then quiet after the wake-up": func(s *quietStreet) {
			s.alice.Send(s.t, nil, relaytest.To(s.bob.ID, "hello"))
			wakes(s.t, &s.web.Service, 1)
			nothingScheduled(s.t, s.relay)
			s.alice.Send(s.t, nil, quietly(s.bob.ID), quietly(s.bob.ID))
		},
		"loud that was left unread, then quiet": func(s *quietStreet) {
			socket := s.bob.Connect(s.t)
			socket.Drain()
			s.alice.Send(s.t, nil, relaytest.To(s.bob.ID, "hello"), quietly(s.bob.ID))
			socket.Ack(socket.Envelopes(2)[1])
			e2e.Disconnect(socket)
		},
		// It advances next_seq and knows of no other column.
		"loud of the previous binary between quiet": func(s *quietStreet) {
			s.alice.Send(s.t, nil, quietly(s.bob.ID))
			db := e2e.Database(s.t, s.relay)
			e2e.Execute(s.t, db, `INSERT INTO messages
					(device_id, seq, sender_id, sender_device_id, sender_number, accepted_at, body)
				SELECT device_id, next_seq, $2, $3, 1, now(), 'hello' FROM mailboxes WHERE device_id = $1`,
				s.bob.ID, s.alice.User.ID, s.alice.ID)
			e2e.Change(s.t, db, "UPDATE mailboxes SET next_seq = next_seq + 1, pending = pending + 1 WHERE device_id = $1",
				s.bob.ID)
			s.alice.Send(s.t, nil, quietly(s.bob.ID))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newQuietStreet(t, func(p *push.Times) { p.Linger = 200 * time.Millisecond })
			do(s)
			s.bobIsWokenUp(1)
		})
	}
}

// Whoever has read what is loud is not woken up for what is quiet, sent or left behind.
func TestQuietMailAfterReadMailWakesNobody(t *testing.T) {
	t.Parallel()
	s := newQuietStreet(t)
	socket := s.bob.Connect(t)
	socket.Drain()
	s.alice.Send(t, nil, relaytest.To(s.bob.ID, "hello"), quietly(s.bob.ID))
	socket.Ack(socket.Envelopes(2)[0])
	e2e.Pending(t, e2e.Database(t, s.relay), s.bob.ID, 1)
	e2e.Disconnect(socket)
	s.alice.Send(t, nil, quietly(s.bob.ID))
	s.bobIsWokenUp(0)
}
