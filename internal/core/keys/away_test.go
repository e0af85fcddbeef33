package keys_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// One bucket is away: of a batch only those fetches fail that ask for a device in it.
func TestABucketThatIsAwayHoldsUpItsOwnBundlesOnly(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 3)
	b := newBenchOn(t, url)
	var users, devices [3]uuid.UUID // one in each bucket
	for left := 3; left > 0; {
		p := b.device(t)
		if at := b.buckets.Bucket(p.Device); users[at] == uuid.Nil {
			users[at], devices[at] = p.User, p.Device
			left--
		}
	}
	b.stock(t, 1, 5, 33, devices[:]...)
	all := append(users[:], uuid.New())
	back := testdb.Away(t, url, 0)
	for nth := range 2 {
		bundles, errs := b.HandOut(t.Context(), all)
		for i, err := range errs {
			switch {
			case i == 0 && core.KindOf(err) != core.Unavailable:
				t.Errorf("of the bucket that is away: %v", err)
			case i > 0 && err != nil:
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
