package mailbox_test

import (
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// ledger is what a device knows of its mailbox: the sentence of the contract, kept by hand.
type ledger struct {
	accepted     uint64
	acknowledged map[uint64]bool
	told         map[uint64]bool // in gaps
	pending      map[uint64]bool // seen on the newest connection and not acknowledged
}

// note reads a connection up to Drained and checks that every sequence is one of the three.
func (l *ledger) note(t *testing.T, socket *relaytest.Socket) []*obscurapb.Envelope {
	t.Helper()
	envelopes, gaps, last := socket.Drain()
	l.pending = map[uint64]bool{}
	for _, g := range gaps {
		for seq := g.GetFrom(); seq <= g.GetTo(); seq++ {
			l.told[seq] = true
		}
	}
	previous := uint64(0)
	for _, e := range envelopes {
		seq := e.GetSequence()
		if seq <= previous || l.acknowledged[seq] || l.told[seq] {
			t.Fatalf("%d after %d: acknowledged %t, told %t", seq, previous, l.acknowledged[seq], l.told[seq])
		}
		l.pending[seq], previous = true, seq
	}
	if last != l.accepted {
		t.Fatalf("drained up to %d, accepted %d", last, l.accepted)
	}
	for seq := uint64(1); seq <= last; seq++ {
		if !l.acknowledged[seq] && !l.told[seq] && !l.pending[seq] {
			t.Fatalf("%d is neither delivered nor pending nor in a gap", seq)
		}
	}
	return envelopes
}

// settled waits until the relay has worked on what was acknowledged.
func (l *ledger) settled(t *testing.T, db *pgxpool.Pool, device uuid.UUID) {
	t.Helper()
	e2e.Pending(t, db, device, len(l.pending))
}

func TestAcceptedIsDeliveredPlusPendingPlusGaps(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	senders := []*relaytest.Device{relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t),
		relay.Register(t).NewDevice(t)}
	bob := relay.Register(t).NewDevice(t)
	db := e2e.Database(t, relay)
	seed := rand.Uint64()
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	l := &ledger{acknowledged: map[uint64]bool{}, told: map[uint64]bool{}}
	for range 40 {
		switch random.IntN(5) {
		case 0, 1: // a few, or more than a mailbox holds
			n := []int{1, 7, 60, 450}[random.IntN(4)]
			e2e.SendMany(t, senders[random.IntN(len(senders))], bob, "m", n)
			l.accepted += uint64(n)
		case 2, 3: // a connection that acknowledges some
			socket := bob.Connect(t)
			envelopes := l.note(t, socket)
			var some []*obscurapb.Envelope
			for _, e := range envelopes {
				if random.IntN(3) > 0 {
					some = append(some, e)
					l.acknowledged[e.GetSequence()] = true
					delete(l.pending, e.GetSequence())
				}
			}
			for len(some) > 0 {
				n := min(len(some), 1+random.IntN(300))
				socket.Ack(some[:n]...)
				some = some[n:]
			}
			l.settled(t, db, bob.ID)
			e2e.Disconnect(socket)
		case 4: // the oldest expire
			if _, err := db.Exec(t.Context(), `UPDATE messages SET accepted_at = now() - interval '31 days'
				WHERE seq <= (SELECT min(seq) + $1 FROM messages)`, random.IntN(40)); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.note(t, bob.Connect(t))
}
