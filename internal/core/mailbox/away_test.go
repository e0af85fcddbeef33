package mailbox

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// Of a mailbox whose bucket is away nothing is known, which is not the same as that it is gone.
func TestHeadsOfABucketThatIsAwayAreZero(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 3)
	n := start(t, url)
	devices := n.boxes(t)
	for _, device := range devices {
		n.send(t, n.senderBeside(device), to(device, "a", "b")...)
	}
	n.exec(t, "UPDATE mailboxes SET generation = 7")
	heads := func(of ...core.DeviceID) ([]Head, error) {
		found, err := n.Heads(t.Context(), of)
		slices.SortFunc(found, func(a, b Head) int { return int(n.of(a.Device).number - n.of(b.Device).number) })
		return found, err
	}
	want := []Head{{devices[0], 7, 2}, {devices[1], 7, 2}, {devices[2], 7, 2}}
	all := append(slices.Clone(devices), n.beside(devices[0]), uuid.New()) // the last two do not exist
	if found, err := heads(all...); err != nil || !slices.Equal(found, want) {
		t.Fatalf("%v, %v", found, err)
	}
	back := testdb.Away(t, url, 0)
	if found, err := heads(devices...); err != nil ||
		!slices.Equal(found, []Head{{devices[0], 0, 0}, want[1], want[2]}) {
		t.Errorf("bucket 0 is away: %v, %v", found, err)
	}
	if found, err := heads(devices[0]); core.KindOf(err) != core.Unavailable {
		t.Errorf("bucket 0, which is away: %v, %v", found, err)
	}
	back()
	wait.Eventually(t, "the bucket is asked again", func() bool {
		found, err := heads(devices...)
		return err == nil && slices.Equal(found, want)
	})
}

func TestASweepPassesOverABucketThatIsAway(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 3)
	n := start(t, url)
	devices := n.boxes(t)
	for _, device := range devices {
		n.send(t, n.senderBeside(device), to(device, "a", "b")...)
	}
	if err := n.Sweep(t.Context()); err != nil || n.Pending() != 6 {
		t.Fatalf("%d wait, %v", n.Pending(), err)
	}
	n.exec(t, "UPDATE messages SET accepted_at = now() - interval '31 days'")
	back := testdb.Away(t, url, 0)
	if err := n.Sweep(t.Context()); core.KindOf(err) != core.Unavailable {
		t.Errorf("heard %v", err)
	}
	back()
	if left := one[[]uuid.UUID](t, n, "SELECT array_agg(device_id) FROM messages"); !slices.Equal(left,
		[]uuid.UUID{devices[0], devices[0]}) {
		t.Errorf("left are %v", left)
	}
	if n.Pending() != 6 {
		t.Errorf("%d wait, as if all were known", n.Pending())
	}
	if err := n.Sweep(t.Context()); err != nil || n.Pending() != 2 {
		t.Errorf("%d wait, %v", n.Pending(), err)
	}
}
