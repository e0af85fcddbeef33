package keys_test

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/keys"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
)

// taken is what one fetch got: the ids of the one-time keys, -1 for none and 0 for a last-resort
// key.
type taken struct {
	ec, kyber int32
	err       error
}

// take fetches the bundles of a user with one device. Of its keys all one-time ones have ids from 1
// on.
func (b *bench) take(p core.Principal) taken {
	bundles, err := b.Bundles(context.Background(), p.User)
	if err != nil || len(bundles) != 1 {
		return taken{err: err}
	}
	got := taken{ec: -1}
	if k := bundles[0].OneTime; k != nil {
		got.ec = k.ID
	}
	// The last-resort key of a bench device is zeros, of full length.
	if k := bundles[0].Kyber; k != nil && (len(k.Public) != 1569 || k.Public[0] != 0) {
		got.kyber = k.ID
	}
	return got
}

func (b *bench) mustTake(t testing.TB, p core.Principal, want ...int32) {
	t.Helper()
	for _, id := range want {
		if got := b.take(p); got.err != nil || got.ec != id || got.kyber != max(id, 0) {
			t.Fatalf("a fetch got EC %d, Kyber %d, %v; want %d", got.ec, got.kyber, got.err, id)
		}
	}
}

// begin opens a transaction that holds a device's stock, as an upload does, and returns the number
// of the upload.
func (b *bench) begin(t testing.TB, p core.Principal) (pgx.Tx, int64) {
	t.Helper()
	tx, err := b.sql.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stock, err := storage.Queries.LockPreKeyStock(t.Context(), tx, db.LockPreKeyStockParams(b.buckets.Place(p.Device)))
	if err != nil {
		t.Fatal(err)
	}
	return tx, stock.Uploads
}

func someKeys(ids ...int32) *keys.Publication {
	u := &keys.Publication{}
	for _, id := range ids {
		u.EC = append(u.EC, keys.PreKey{ID: id, Public: make([]byte, 33)})
		u.Kyber = append(u.Kyber, keys.SignedPreKey{ID: id, Public: make([]byte, 33), Signature: make([]byte, 64)})
	}
	return u
}

func commit(t testing.TB, tx pgx.Tx) {
	t.Helper()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// The hand-out began before the upload was committed, so it does not see the new keys. It must not
// raise the floor above them.
func TestAHandOutThatWaitedForAnUploadHidesNoneOfItsKeys(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.device(t)
	b.stock(t, 100, 3, 33, p.Device)
	b.mustTake(t, p, 100) // the floor is 101 now

	tx, upload := b.begin(t, p)
	got := make(chan taken, 1)
	go func() { got <- b.take(p) }()
	testdb.AwaitWaiting(t, b.sql, 1)
	if err := keys.Store(t.Context(), b.in(tx), p, upload, false, someKeys(7, 8)); err != nil {
		t.Fatal(err)
	}
	commit(t, tx)
	if first := <-got; first.err != nil || first.ec != 101 || first.kyber != 101 {
		t.Fatalf("the hand-out that waited got %+v, want the key that it could see, 101", first)
	}
	b.mustTake(t, p, 7, 8, 102, -1)
	b.wantCounts(t, p, 0, 0)
}

func TestAHandOutThatFoundNothingHidesNoneOfTheKeysThatCameMeanwhile(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.device(t)
	b.stock(t, 50, 1, 33, p.Device)
	b.mustTake(t, p, 50, -1)

	tx, upload := b.begin(t, p)
	got := make(chan taken, 1)
	go func() { got <- b.take(p) }()
	testdb.AwaitWaiting(t, b.sql, 1)
	if err := keys.Store(t.Context(), b.in(tx), p, upload, false, someKeys(3, 60)); err != nil {
		t.Fatal(err)
	}
	commit(t, tx)
	if first := <-got; first.err != nil || first.ec != -1 {
		t.Fatalf("the hand-out that waited got %+v", first)
	}
	b.wantCounts(t, p, 2, 2)
	b.mustTake(t, p, 3, 60, -1)
}

// A hand-out on another node is under way: whoever waited gets the next key, and the same one when
// the other was undone.
func TestAHandOutThatWaitedForAnotherTakesWhatThatOneLeft(t *testing.T) {
	t.Parallel()
	for name, undo := range map[string]bool{"committed": false, "undone": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			p := b.device(t)
			b.stock(t, 1, 4, 33, p.Device)
			tx, err := b.sql.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			rows, err := storage.Queries.TakeBundles(
				t.Context(),
				tx,
				db.TakeBundlesParams{
					UserIds:   []core.UserID{p.User},
					DeviceIds: make([]core.DeviceID, 1),
					Counts:    []int32{2},
					Bucket:    b.buckets.Bucket(p.Device),
				},
			)
			if err != nil || len(rows) != 1 || !slices.Equal(rows[0].EcIds, []int32{1, 2}) ||
				!slices.Equal(rows[0].KyberIds, []int32{1, 2}) {
				t.Fatalf("%v, %v", rows, err)
			}
			got := make(chan taken, 1)
			go func() { got <- b.take(p) }()
			testdb.AwaitWaiting(t, b.sql, 1)
			want, left := int32(3), int32(1)
			if undo {
				want, left = 1, 3
				if err := tx.Rollback(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				commit(t, tx)
			}
			if next := <-got; next.err != nil || next.ec != want || next.kyber != want {
				t.Errorf("the hand-out that waited got %+v, want %d", next, want)
			}
			b.wantCounts(t, p, left, left)
		})
	}
}

func TestAHandOutWhoseConnectionIsKilledLosesNoKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.device(t)
	b.stock(t, 1, 3, 33, p.Device)
	tx, _ := b.begin(t, p)
	got := make(chan taken, 1)
	go func() { got <- b.take(p) }()
	for _, pid := range testdb.AwaitWaiting(t, b.sql, 1) {
		b.exec(t, "SELECT pg_terminate_backend($1)", pid)
	}
	if killed := <-got; core.KindOf(killed.err) != core.Unavailable {
		t.Errorf("the killed hand-out answered %+v, want core.Unavailable", killed)
	}
	commit(t, tx)
	b.wantCounts(t, p, 3, 3)
	b.mustTake(t, p, 1, 2, 3, -1)
}

// What an inventory shows must be of one moment: here an upload that rotates the signed pre-key and
// brings one-time keys is under way when the inventory begins.
func TestAnInventoryIsOfOneMoment(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.device(t)
	tx, upload := b.begin(t, p)
	got := make(chan keys.Inventory, 1)
	go func() {
		inventory, err := b.Inventory(context.Background(), p.Device)
		if err != nil {
			t.Error(err)
		}
		got <- inventory
	}()
	testdb.AwaitWaiting(t, b.sql, 1)
	u := someKeys(5)
	u.Signed = &keys.SignedPreKey{ID: 2, Public: make([]byte, 33), Signature: make([]byte, 64)}
	if err := keys.Store(t.Context(), b.in(tx), p, upload, false, u); err != nil {
		t.Fatal(err)
	}
	commit(t, tx)
	inventory := <-got
	if inventory.SignedID != 2 || !slices.Equal(inventory.EC, []int32{5}) {
		t.Errorf("signed pre-key %d with one-time keys %v: parts of two moments", inventory.SignedID, inventory.EC)
	}
}

func (b *bench) wantCounts(t testing.TB, p core.Principal, ec, kyber int32) {
	t.Helper()
	left, err := b.Counts(t.Context(), p.Device)
	if want := (keys.Count{EC: ec, Kyber: kyber}); err != nil || left[p.Device] != want {
		t.Errorf("counted are %+v, %v; want %+v", left[p.Device], err, want)
	}
	inventory, err := b.Inventory(t.Context(), p.Device)
	if err != nil || len(inventory.EC) != int(ec) || len(inventory.Kyber) != int(kyber) {
		t.Errorf("%d EC and %d Kyber keys are listed, %v; want %d and %d", len(inventory.EC), len(inventory.Kyber), err,
			ec, kyber)
	}
}
