package keys_test

import (
	"bytes"
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/keys"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
)

// held is a one-time key in the model; upload orders the uploads.
type held struct {
	public []byte
	upload int
}

// model is what the contract says a device's published keys are.
type model struct {
	identity           *prekeytest.Identity
	signed, lastResort *keys.SignedPreKey
	ec, kyber          map[int32]held
	// goneEC and goneKyber are the public keys that were handed out, under whatever identity.
	goneEC, goneKyber map[string]bool
	uploads           int
}

// material makes keys once: a public key is chosen by an id and a variant.
var material = sync.OnceValue(func() (m struct{ ec, kyber [2][300][]byte }) {
	for variant := range 2 {
		for id := range m.ec[variant] {
			m.ec[variant][id] = prekeytest.NewKeyPair().Public
			m.kyber[variant][id] = prekeytest.NewKyberPublicKey()
		}
	}
	return m
})

// rotate is the rule of the signed pre-key and of the last-resort key.
func rotate(stored, next *keys.SignedPreKey) (*keys.SignedPreKey, error) {
	switch {
	case next == nil:
		return stored, nil
	case stored == nil || next.ID > stored.ID:
		return next, nil
	case next.ID < stored.ID:
		return nil, keys.ErrKeyIDNotHigher
	case !bytes.Equal(next.Public, stored.Public):
		return nil, keys.ErrKeyIDTwice
	}
	return stored, nil
}

// add is the rule of the one-time keys.
func add(stored map[int32]held, gone map[string]bool, ids []int32, publics [][]byte,
	upload int) (map[int32]held, error) {
	next := maps.Clone(stored)
	for i, id := range ids {
		if gone[string(publics[i])] {
			continue
		}
		if before, ok := next[id]; ok && !bytes.Equal(before.public, publics[i]) {
			return nil, keys.ErrKeyIDTwice
		} else if !ok {
			next[id] = held{publics[i], upload}
		}
	}
	order := slices.SortedFunc(maps.Keys(next), func(a, b int32) int {
		return cmp.Or(cmp.Compare(next[a].upload, next[b].upload), cmp.Compare(a, b))
	})
	for len(order) > core.MaxPreKeys {
		delete(next, order[0])
		order = order[1:]
	}
	return next, nil
}

func (m *model) accept(u *keys.Publication, identity *prekeytest.Identity) error {
	next := *m
	if identity != m.identity {
		if u.Signed == nil {
			return keys.ErrTakeoverUnsigned
		}
		next = model{identity: identity, uploads: m.uploads, goneEC: m.goneEC, goneKyber: m.goneKyber}
	}
	next.uploads++
	var err [4]error
	next.signed, err[0] = rotate(next.signed, u.Signed)
	next.lastResort, err[1] = rotate(next.lastResort, u.LastResort)
	var ids [2][]int32
	var publics [2][][]byte
	for _, k := range u.EC {
		ids[0], publics[0] = append(ids[0], k.ID), append(publics[0], k.Public)
	}
	for _, k := range u.Kyber {
		ids[1], publics[1] = append(ids[1], k.ID), append(publics[1], k.Public)
	}
	if next.ec == nil {
		next.ec, next.kyber = map[int32]held{}, map[int32]held{}
	}
	next.ec, err[2] = add(next.ec, m.goneEC, ids[0], publics[0], next.uploads)
	next.kyber, err[3] = add(next.kyber, m.goneKyber, ids[1], publics[1], next.uploads)
	if e := cmp.Or(err[0], err[1], err[2], err[3]); e != nil {
		return e
	}
	*m = next
	return nil
}

// drawUpload draws an upload, sometimes a takeover, sometimes one that breaks a rule.
func drawUpload(t *rapid.T, m *model) (*keys.Publication, *prekeytest.Identity) {
	u, identity := &keys.Publication{}, m.identity
	if rapid.IntRange(0, 7).Draw(t, "takeover") == 0 {
		identity = prekeytest.NewIdentity()
		u.Identity, u.RegistrationID = identity.Public, 7
	}
	pool := material()
	variant := func() int { return max(0, rapid.IntRange(-12, 1).Draw(t, "variant")) }
	if rapid.IntRange(0, 2).Draw(t, "signed") > 0 || u.Identity != nil {
		id := rapid.Int32Range(0, 9).Draw(t, "signed id")
		public := pool.ec[variant()][id]
		u.Signed = &keys.SignedPreKey{ID: id, Public: public, Signature: identity.Sign(public)}
	}
	if rapid.IntRange(0, 3).Draw(t, "last resort") == 0 {
		id := rapid.Int32Range(0, 9).Draw(t, "last-resort id")
		public := pool.kyber[variant()][290+id] // never a one-time key
		u.LastResort = &keys.SignedPreKey{ID: id, Public: public, Signature: identity.Sign(public)}
	}
	first, n, v := rapid.Int32Range(0, 180).Draw(t, "first"), rapid.Int32Range(0, 100).Draw(t, "ec"), variant()
	for id := first; id < first+n; id++ {
		u.EC = append(u.EC, keys.PreKey{ID: id, Public: pool.ec[v][id]})
	}
	first, n, v = rapid.Int32Range(0, 180).Draw(t, "first"), rapid.Int32Range(0, 3).Draw(t, "kyber"), variant()
	n *= n * n * 3 // mostly few: signatures cost time
	for id := first; id < first+n; id++ {
		public := pool.kyber[v][id]
		u.Kyber = append(u.Kyber, keys.SignedPreKey{ID: id, Public: public, Signature: identity.Sign(public)})
	}
	return u, identity
}

// Whatever devices upload and others fetch, the relay holds and hands out what the model says.
func TestTheStockFollowsItsModel(t *testing.T) {
	t.Parallel()
	b, whole := newBench(t), t
	rapid.Check(t, func(t *rapid.T) {
		p := b.device(whole)
		m := &model{identity: prekeytest.NewIdentity(), ec: map[int32]held{}, kyber: map[int32]held{},
			goneEC: map[string]bool{}, goneKyber: map[string]bool{}}
		public := material().ec[0][0]
		first := &keys.Publication{Identity: m.identity.Public, RegistrationID: 7,
			Signed: &keys.SignedPreKey{Public: public, Signature: m.identity.Sign(public)}}
		if err := b.Publish(t.Context(), p, *first); err != nil { // the device's identity of zeros goes
			t.Fatal(err)
		}
		m.signed = first.Signed
		t.Repeat(map[string]func(*rapid.T){
			"upload": func(t *rapid.T) {
				u, identity := drawUpload(t, m)
				want := m.accept(u, identity)
				if got := b.Publish(t.Context(), p, *u); (want == nil) != (got == nil) || want != nil && !isOneOf(got) {
					t.Fatalf("upload: %v, want %v", got, want)
				}
			},
			"fetch": func(t *rapid.T) { fetchLikeTheModel(t, b, p, m, rapid.IntRange(1, 40).Draw(t, "fetchers")) },
			"":      func(t *rapid.T) { compare(t, b, p, m) },
		})
	})
}

// isOneOf accepts the rules' errors: an upload that breaks two rules may be told of either.
func isOneOf(err error) bool {
	return errors.Is(err, keys.ErrKeyIDTwice) || errors.Is(err, keys.ErrKeyIDNotHigher) ||
		errors.Is(err, keys.ErrTakeoverUnsigned)
}
