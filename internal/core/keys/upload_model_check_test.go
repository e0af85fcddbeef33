package keys_test

import (
	"bytes"
	"maps"
	"slices"
	"sync"

	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/keys"
)

// fetchLikeTheModel fetches with n callers at once: together they get the n lowest keys, each once,
// and beyond those none and the last-resort key.
func fetchLikeTheModel(t *rapid.T, b *bench, p core.Principal, m *model, n int) {
	bundles := make([]keys.Bundle, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			got, err := b.Bundles(t.Context(), p.User)
			if err != nil || len(got) != 1 {
				t.Errorf("%d bundles, %v", len(got), err)
				return
			}
			bundles[i] = got[0]
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	var ec, kyber []int32
	for _, bundle := range bundles {
		if !bytes.Equal(bundle.Identity, m.identity.Public) || bundle.Signed.ID != m.signed.ID ||
			!bytes.Equal(bundle.Signed.Public, m.signed.Public) {
			t.Fatalf("signed pre-key %d, want %d of the current identity", bundle.Signed.ID, m.signed.ID)
		}
		if k := bundle.OneTime; k != nil {
			if !bytes.Equal(k.Public, m.ec[k.ID].public) {
				t.Fatalf("EC key %d is not the one that is held", k.ID)
			}
			ec = append(ec, k.ID)
		}
		switch k := bundle.Kyber; {
		case k == nil:
			if m.lastResort != nil {
				t.Fatal("no Kyber key, and there is a last-resort key")
			}
		case bytes.Equal(k.Public, m.kyber[k.ID].public):
			kyber = append(kyber, k.ID)
		case m.lastResort == nil || !bytes.Equal(k.Public, m.lastResort.Public):
			t.Fatalf("Kyber key %d is not held", k.ID)
		}
	}
	handedOut(t, "EC", ec, m.ec, m.goneEC, n)
	handedOut(t, "Kyber", kyber, m.kyber, m.goneKyber, n)
}

// handedOut takes the n lowest keys out of the model and compares their ids.
func handedOut(t *rapid.T, kind string, got []int32, stock map[int32]held, gone map[string]bool, n int) {
	lowest := slices.Sorted(maps.Keys(stock))
	lowest = lowest[:min(n, len(lowest))]
	slices.Sort(got)
	if !slices.Equal(got, lowest) {
		t.Fatalf("%s keys %v were handed out, want %v", kind, got, lowest)
	}
	for _, id := range lowest {
		gone[string(stock[id].public)] = true
		delete(stock, id)
	}
}

// compare holds the counts and the inventory against the model.
func compare(t *rapid.T, b *bench, p core.Principal, m *model) {
	inventory, err := b.Inventory(t.Context(), p.Device)
	if err != nil {
		t.Fatal(err)
	}
	if want := slices.Sorted(maps.Keys(m.ec)); !slices.Equal(inventory.EC, want) {
		t.Fatalf("EC keys %v, want %v", inventory.EC, want)
	}
	if want := slices.Sorted(maps.Keys(m.kyber)); !slices.Equal(inventory.Kyber, want) {
		t.Fatalf("Kyber keys %v, want %v", inventory.Kyber, want)
	}
	if inventory.SignedID != m.signed.ID || (inventory.LastResortID == nil) != (m.lastResort == nil) ||
		m.lastResort != nil && *inventory.LastResortID != m.lastResort.ID ||
		!bytes.Equal(inventory.Identity, m.identity.Public) {
		t.Fatalf("signed %d, last resort %v", inventory.SignedID, inventory.LastResortID)
	}
	left, err := b.Counts(t.Context(), p.Device)
	if n := left[p.Device]; err != nil || int(n.EC) != len(m.ec) || int(n.Kyber) != len(m.kyber) {
		t.Fatalf("counts %+v, want %d and %d, %v", n, len(m.ec), len(m.kyber), err)
	}
}
