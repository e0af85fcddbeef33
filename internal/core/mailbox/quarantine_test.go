package mailbox

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

func (n *node) passOver(t failer, device core.DeviceID, sequences ...int64) {
	t.Helper()
	n.PassedOver(device, sequences)
	n.barrier(t)
}

// An envelope is set aside when the tenth socket has passed it over; until then it is read. Of what
// has left nothing is counted, also when it leaves in the same moment.
func TestAPoisonEnvelopeIsSetAsideAfterTenSockets(t *testing.T) {
	t.Parallel()
	n := start(t, testdb.NewURL(t))
	device, other := n.newBox(t), n.newBox(t)
	n.send(t, newSender(), to(device, "poison", "also", "late", "fine")...)
	n.send(t, newSender(), to(other, "other's")...)
	n.acknowledge(t, device, []int64{4})
	for range maxSkips - 1 {
		n.passOver(t, device, 1, 2)
	}
	n.passOver(t, other, 1)
	if texts, _ := n.texts(t, device, 0); !slices.Equal(texts, []string{"poison", "also", "late"}) {
		t.Fatalf("after nine sockets: %v", texts)
	}
	both := ack{device: device, seqs: []int64{2}, skipped: []int64{1, 2, 4, 9, -1}}
	if err := n.of(device).acks.add(both); err != nil {
		t.Fatal(err)
	}
	n.passOver(t, uuid.New(), 1)
	if texts, _ := n.texts(t, device, 0); !slices.Equal(texts, []string{"late"}) {
		t.Errorf("left: %v", texts)
	}
	if gaps := n.gaps(t, device); !slices.Equal(gaps, []core.Gap{{From: 1, To: 1, Reason: core.GapQuarantined}}) {
		t.Errorf("gaps %v", gaps)
	}
	if acked, set := n.counts.acknowledged.Load(), n.counts.dropped[core.GapQuarantined].Load(); acked != 2 ||
		set != 1 {
		t.Errorf("counted: %d acknowledged, %d set aside", acked, set)
	}
	if pending := one[int](t, n, "SELECT pending FROM mailboxes WHERE device_id = $1", device); pending != 1 {
		t.Errorf("the count says %d", pending)
	}
	if texts, _ := n.texts(t, other, 0); len(texts) != 1 {
		t.Errorf("the other mailbox: %v", texts)
	}
	if _, err := n.Open(t.Context(), core.Principal{Device: uuid.New()}); !errors.Is(err, errNoMailbox) {
		t.Errorf("open nobody's mailbox: %v", err)
	}
}
