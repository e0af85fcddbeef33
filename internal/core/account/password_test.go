package account

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/limit"
)

func TestAHashMatchesItsPasswordAndNoOther(t *testing.T) {
	t.Parallel()
	h := newHasher(Cost{})
	first, err := h.hash(t.Context(), "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	second, err := h.hash(t.Context(), "correct horse battery")
	if err != nil || first == second {
		t.Errorf("two hashes of one password are the same: %v", err)
	}
	for password, want := range map[string]bool{"correct horse battery": true, "correct horse batterY": false,
		"": false, "correct horse battery ": false} {
		if got, err := h.check(t.Context(), password, first); err != nil || got != want {
			t.Errorf("%q: %v, %v", password, got, err)
		}
	}
	if cost, salt, hash, err := decode(first); err != nil || cost != FullCost || len(salt) < 16 || len(hash) != 32 {
		t.Errorf("salt of %d, hash of %d bytes, %v", len(salt), len(hash), err)
	}
	for _, bad := range []string{"x", "$argon2id$v=19$m=19456,t=1,p=1$c2FsdA$aGFzaA",
		strings.Replace(first, "t=2", "t=0", 1), strings.Replace(first, "p=1", "p=2", 1), first[:len(first)-5],
		strings.Replace(first, "argon2id", "argon2i", 1)} {
		if ok, err := h.check(t.Context(), "x", bad); err == nil || ok || strings.Contains(err.Error(), bad) &&
			len(bad) > 1 {
			t.Errorf("%q: %v, %v", bad, ok, err)
		}
	}
}

// TestNobodysPasswordCostsTheSame compares the work for a name that does not exist with that for
// one that does: the same function over the same parameters, and times within a factor that a
// shortcut would break.
func TestNobodysPasswordCostsTheSame(t *testing.T) {
	h := newHasher(Cost{})
	phc, err := h.hash(t.Context(), "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	if len(h.decoy) != len(phc) || h.decoy[:31] != phc[:31] {
		t.Errorf("the decoy %q is not of the form of %q", h.decoy, phc)
	}
	least := map[string]time.Duration{}
	even := func() bool { return least[""] > least[phc]/2 && least[phc] > least[""]/2 }
	for round := 0; round < 7 || round < 50 && !even(); round++ { // in turn, so that a busy machine slows both
		for _, hash := range []string{phc, ""} {
			begun := time.Now()
			if ok, err := h.check(t.Context(), "wrong password", hash); ok || err != nil {
				t.Fatal(ok, err)
			}
			if took := time.Since(begun); least[hash] == 0 || took < least[hash] {
				least[hash] = took
			}
		}
	}
	if !even() {
		t.Errorf("a known name takes %v, an unknown one %v", least[phc], least[""])
	}
	if ok, err := h.check(t.Context(), "", ""); ok || err != nil {
		t.Errorf("nobody logs in: %v %v", ok, err)
	}
}

func TestHashingIsBoundedAndWhoCannotWaitIsToldSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(Cost{})
		slots := limit.Cores
		for range slots { // all slots are taken
			if err := h.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for range maxHashWaiters {
			wg.Go(func() {
				if err := h.enter(t.Context()); err != nil {
					t.Error(err)
				}
				h.pool.Leave()
			})
		}
		synctest.Wait()
		if _, err := h.hash(t.Context(), "x"); core.KindOf(err) != core.Unavailable {
			t.Errorf("one more: %v", err)
		}
		if _, err := h.check(t.Context(), "x", ""); core.KindOf(err) != core.Unavailable {
			t.Errorf("one more: %v", err)
		}
		for range slots {
			h.pool.Leave()
		}
		wg.Wait()

		// Who waits longer than the request may take is told to come back, and gives up the place.
		for range slots {
			_ = h.enter(t.Context())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.enter(ctx); core.KindOf(err) != core.Unavailable {
			t.Errorf("after a second: %v", err)
		}
	})
}
