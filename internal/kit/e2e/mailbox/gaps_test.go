package mailbox_test

import (
	"testing"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// A device that stays connected while its mailbox is flooded, acknowledges every second envelope at
// once and the others long after they were dropped: it is told of what was dropped, so that its
// later acknowledgements forget it, and the gaps do not pile up.
func TestTheGapsOfASocketThatStaysAreToldAndForgotten(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	db := e2e.Database(t, relay)
	socket := bob.Connect(t)
	socket.Drain()
	const rounds, each, keep = 25, 400, 800
	var kept []*obscurapb.Envelope
	told := 0
	take := func() []*obscurapb.Envelope {
		frame := socket.Next()
		if frame.GetGap() != nil {
			told++
		}
		return frame.GetEnvelopeBatch().GetEnvelopes()
	}
	for range rounds {
		e2e.SendMany(t, alice, bob, "a", each) // what is beyond the cap pushes out the oldest of those kept
		for seen := 0; seen < each; {
			var now []*obscurapb.Envelope
			for _, e := range take() {
				if seen++; e.GetSequence()%2 == 0 {
					now = append(now, e)
				} else {
					kept = append(kept, e)
				}
			}
			late := max(0, len(kept)-keep)
			now, kept = append(now, kept[:late]...), kept[late:]
			socket.Ack(now...)
		}
		wait.Eventually(t, "the acknowledgements are worked on", func() bool {
			return e2e.Count(t, db, "SELECT pending FROM mailboxes WHERE device_id = $1", bob.ID) <= keep
		})
	}
	rows := e2e.Count(t, db, "SELECT count(*) FROM gaps WHERE device_id = $1", bob.ID)
	if told < 2*core.MailboxCap || rows > 2*core.MailboxCap { // else there are some 4000 rows
		t.Errorf("%d were told, and %d gaps are left", told, rows)
	}
	e2e.SendMany(t, alice, bob, "last", 1)
	for len(take()) == 0 { // what is told comes before what follows it
	}
}
