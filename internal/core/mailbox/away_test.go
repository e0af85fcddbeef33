package mailbox

import (
	"context"
	"slices"
	"sync"
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
	n.exec(t, "UPDATE mailboxes SET generation = 7, socket_session = device_id")
	heads := func(of ...core.DeviceID) ([]Head, error) {
		found, err := n.Heads(t.Context(), of, false)
		slices.SortFunc(found, func(a, b Head) int { return int(n.of(a.Device).number - n.of(b.Device).number) })
		return found, err
	}
	want := make([]Head, len(devices))
	for i, device := range devices {
		want[i] = Head{Device: device, Generation: 7, Last: 2}
	}
	all := append(slices.Clone(devices), n.beside(devices[0]), uuid.New()) // the last two do not exist
	if found, err := heads(all...); err != nil || !slices.Equal(found, want) {
		t.Fatalf("%v, %v", found, err)
	}
	back := testdb.Away(t, url, 0)
	if found, err := heads(devices...); core.KindOf(err) != core.Unavailable ||
		!slices.Equal(found, []Head{{Device: devices[0]}, want[1], want[2]}) {
		t.Errorf("bucket 0 is away: %v, %v", found, err)
	}
	if found, err := heads(devices[0]); core.KindOf(err) != core.Unavailable || found != nil {
		t.Errorf("bucket 0, which is away: %v, %v", found, err)
	}
	back()
	if found, err := heads(devices...); err != nil || !slices.Equal(found, want) {
		t.Errorf("bucket 0 is back: %v, %v", found, err)
	}
	buggy := &Service{cfg: n.cfg, buckets: []*bucket{nil, n.buckets[1], n.buckets[2]}}
	if found, err := buggy.Heads(t.Context(), devices, false); err == nil || len(found) != 3 ||
		!slices.Contains(found, Head{Device: devices[0]}) || !slices.Contains(found, want[1]) {
		t.Errorf("bucket 0 panics: %v, %v", found, err)
	}
}

// A bucket hangs: as many of its devices as there are connections are read from, and the rest goes
// on. Nobody waits for its heads for long.
func TestABucketThatHangsHoldsUpItsOwnReadersOnly(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 3)
	n, other := start(t, url), start(t, url)
	devices := n.boxes(t)
	for _, device := range devices {
		n.send(t, n.senderBeside(device), to(device, "a")...)
	}
	back := testdb.Hang(t, url, 0)
	hanging, giveUp := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	for range 2 * n.main.Pool().Stat().MaxConns() {
		reading.Go(func() { _, _ = n.Read(hanging, devices[0], 0) })
	}
	defer reading.Wait()
	defer giveUp()
	testdb.AwaitWaiting(t, other.main.Pool(), int(n.main.Pool().Stat().MaxConns())/2)
	n.send(t, n.senderBeside(devices[1]), to(devices[1], "b")...)
	if page, err := n.Read(t.Context(), devices[1], 0); err != nil || len(page.Envelopes) != 2 {
		t.Errorf("%d envelopes, %v", len(page.Envelopes), err)
	}
	wait.Eventually(t, "the others' heads are known", func() bool {
		found, err := n.Heads(t.Context(), devices, false)
		slices.SortFunc(found, func(a, b Head) int { return int(n.of(a.Device).number - n.of(b.Device).number) })
		return core.KindOf(err) == core.Unavailable && slices.Equal(found, []Head{{Device: devices[0]},
			{Device: devices[1], Last: 2, TakenOver: true}, {Device: devices[2], Last: 1, TakenOver: true}})
	})
	back()
	giveUp()
	reading.Wait()
	wait.Eventually(t, "the bucket is asked again", func() bool {
		_, err := n.Heads(t.Context(), devices, false)
		return err == nil
	})
}

// Who asks for heads and does not wait for them has not found out that a bucket hangs.
func TestACallersOwnDeadlinePausesNoBucket(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 3)
	n := start(t, url)
	devices := n.boxes(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Heads(ctx, devices, false); core.KindOf(err) != core.Unavailable {
		t.Error(err)
	}
	if found, err := n.Heads(t.Context(), devices, false); err != nil || len(found) != 3 {
		t.Errorf("%v, %v", found, err)
	}
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
