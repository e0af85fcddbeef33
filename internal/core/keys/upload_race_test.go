package keys_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/keys"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
)

// replaceIdentity does what a takeover does to the keys.
func replaceIdentity(t testing.TB, tx *storage.Tx, p core.Principal, upload int64, identity []byte,
	next *keys.Publication) {
	t.Helper()
	q := storage.Queries
	for _, err := range []error{
		q.ClearLastResort(t.Context(), tx, p.Device),
		q.SetIdentity(t.Context(), tx, db.SetIdentityParams{ID: p.Device, IdentityKey: identity, RegistrationID: 2}),
		keys.Store(t.Context(), tx, p, upload, true, next),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A bundle must not mix two identities, even when the new one has keys with the ids of the old one.
func TestAHandOutThatWaitedForATakeoverTakesNoneOfTheNewKeys(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.device(t)
	b.stock(t, 1, 2, 33, p.Device)
	tx, upload := b.begin(t, p)
	got := make(chan keys.Bundle, 1)
	go func() {
		bundles, err := b.Bundles(context.Background(), p.User)
		if err != nil || len(bundles) != 1 {
			t.Errorf("%d bundles, %v", len(bundles), err)
			bundles = make([]keys.Bundle, 1)
		}
		got <- bundles[0]
	}()
	testdb.AwaitWaiting(t, b.sql, 1)
	identity := prekeytest.NewIdentity().Public
	replaceIdentity(t, b.in(tx), p, upload, identity, someKeys(1, 2))
	commit(t, tx)
	if old := <-got; bytes.Equal(old.Identity, identity) || old.OneTime != nil {
		t.Errorf("identity %x with one-time key %v: parts of two identities", old.Identity, old.OneTime)
	}
	bundles, err := b.Bundles(t.Context(), p.User)
	if err != nil || !bytes.Equal(bundles[0].Identity, identity) || bundles[0].OneTime == nil ||
		bundles[0].OneTime.ID != 1 {
		t.Errorf("afterwards: %+v, %v", bundles, err)
	}
	b.wantCounts(t, p, 1, 1)
}

// Its keys were checked under the identity that is being replaced.
func TestAnUploadThatMeetsATakeoverIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.device(t)
	identity := prekeytest.NewIdentity()
	b.exec(t, "UPDATE devices SET identity_key = $1 WHERE id = $2", identity.Public, p.Device)
	kyber := identity.KyberPreKey(1)
	tx, upload := b.begin(t, p)
	got := make(chan error, 1)
	go func() {
		got <- b.Publish(context.Background(), p,
			keys.Publication{Kyber: []keys.SignedPreKey{{ID: 1, Public: kyber.PublicKey, Signature: kyber.Signature}}})
	}()
	testdb.AwaitWaiting(t, b.sql, 1)
	replaceIdentity(t, b.in(tx), p, upload, prekeytest.NewIdentity().Public, someKeys(9))
	commit(t, tx)
	if err := <-got; !errors.Is(err, keys.ErrIdentityChanged) {
		t.Errorf("upload: %v, want ErrIdentityChanged", err)
	}
	b.wantCounts(t, p, 1, 1)
}

func TestOfTwoKeysForOneIdAtOnceOneIsStored(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.device(t)
	b.exec(t, "UPDATE devices SET identity_key = $1 WHERE id = $2", prekeytest.NewIdentity().Public, p.Device)
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		public := prekeytest.NewKeyPair().Public
		wg.Go(func() {
			errs[i] = b.Publish(context.Background(), p, keys.Publication{EC: []keys.PreKey{{ID: 4, Public: public}}})
		})
	}
	wg.Wait()
	stored := 0
	for _, err := range errs {
		if err == nil {
			stored++
		} else if !errors.Is(err, keys.ErrKeyIDTwice) {
			t.Errorf("upload: %v, want ErrKeyIDTwice", err)
		}
	}
	if stored != 1 {
		t.Errorf("%d of them were stored", stored)
	}
	b.wantCounts(t, p, 1, 0)
}

func TestTooManyFetchesAtOnceAreRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.device(t)
	b.stock(t, 1, 10, 33, p.Device)
	tx, _ := b.begin(t, p)
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	refused := 0
	var wg sync.WaitGroup
	for range 3000 { // more than a batch and the queue before it
		wg.Go(func() {
			_, err := b.Bundles(ctx, p.User)
			mu.Lock()
			defer mu.Unlock()
			if core.KindOf(err) == core.Unavailable && !errors.Is(err, context.Canceled) {
				if refused++; refused == 500 {
					cancel() // the others need not wait
				}
			}
		})
	}
	wg.Wait()
	cancel()
	if refused < 500 {
		t.Errorf("%d of 3000 were refused", refused)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}
