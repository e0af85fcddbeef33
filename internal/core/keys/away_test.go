package keys_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/keys"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// inEach makes three users with a device each, one in each of three buckets, and five one-time keys
// for each device.
func (b *bench) inEach(t *testing.T) (users, devices [3]uuid.UUID) {
	t.Helper()
	for left := 3; left > 0; {
		p := b.device(t)
		if at := b.buckets.Bucket(p.Device); users[at] == uuid.Nil {
			users[at], devices[at] = p.User, p.Device
			left--
		}
	}
	b.stock(t, 1, 5, 33, devices[:]...)
	return users, devices
}

// One bucket is away: of fetches at once only those fail that ask for a device in it.
func TestABucketThatIsAwayHoldsUpItsOwnBundlesOnly(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 3)
	b := newBenchOn(t, url)
	users, _ := b.inEach(t)
	all := append(users[:], uuid.New())
	back := testdb.Away(t, url, 0)
	for nth := range 2 {
		bundles, errs := make([][]keys.Bundle, len(all)), make([]error, len(all))
		var fetching sync.WaitGroup
		for i, user := range all {
			fetching.Go(func() { bundles[i], errs[i] = b.Bundles(t.Context(), user) })
		}
		fetching.Wait()
		for i, err := range errs {
			switch {
			case i == 0 && core.KindOf(err) != core.Unavailable:
				t.Errorf("of the bucket that is away: %v", err)
			case i == 3 && !errors.Is(err, keys.ErrUserUnknown), i > 0 && i < 3 && err != nil:
				t.Errorf("fetch %d: %v", i, err)
			case i > 0 && i < 3 && (len(bundles[i]) != 1 || bundles[i][0].OneTime.ID != int32(nth)+1):
				t.Errorf("fetch %d: %+v", i, bundles[i])
			case i == 3 && bundles[i] != nil:
				t.Errorf("of nobody: %+v", bundles[i])
			}
		}
	}
	back()
	b.mustTake(t, core.Principal{User: users[0]}, 1)
	b.mustTake(t, core.Principal{User: users[1]}, 3)
}

// One bucket hangs: fetches of devices in the others are answered meanwhile.
func TestABucketThatHangsHoldsUpItsOwnBundlesOnly(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 3)
	b := newBenchOn(t, url)
	users, _ := b.inEach(t)
	back := testdb.Hang(t, url, 0)
	hung := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _, err := b.Bundles(ctx, users[0]); hung <- err }()
	testdb.AwaitWaiting(t, b.sql, 1)
	for bucket := 1; bucket < 3; bucket++ {
		b.mustTake(t, core.Principal{User: users[bucket]}, 1, 2)
	}
	if len(hung) > 0 {
		t.Errorf("the one that hangs was not waited out: %v", <-hung)
	}
	back()
	if err := <-hung; err != nil {
		t.Error(err)
	}
}

// A user has devices in several buckets, of which one is away. The first fetch finds that out;
// those that follow use up no key of the others.
func TestFetchesThatFailUseUpNoKeys(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 3)
	b := newBenchOn(t, url)
	users, devices := b.inEach(t)
	b.exec(t, "UPDATE devices d SET user_id = $1, number = array_position($2, d.id) WHERE id = ANY($2)", users[0],
		devices[:])
	back := testdb.Away(t, url, 1)
	for range 4 {
		if bundles, err := b.Bundles(t.Context(), users[0]); core.KindOf(err) != core.Unavailable {
			t.Fatalf("%v, %v", bundles, err)
		}
	}
	back()
	bundles, err := b.Bundles(t.Context(), users[0])
	var numbers []uint8
	var ids []int32
	for _, bundle := range bundles {
		numbers, ids = append(numbers, bundle.DeviceNumber), append(ids, bundle.OneTime.ID)
	}
	if err != nil || !slices.Equal(numbers, []uint8{1, 2, 3}) || !slices.Equal(ids, []int32{2, 1, 2}) {
		t.Fatalf("devices %v with keys %v, %v", numbers, ids, err)
	}
	if bundles, err = b.Bundles(t.Context(), users[0], devices[2], devices[0]); err != nil || len(bundles) != 2 ||
		bundles[0].Device != devices[0] || bundles[1].Device != devices[2] || bundles[1].OneTime.ID != 3 {
		t.Errorf("%+v, %v", bundles, err)
	}
}
