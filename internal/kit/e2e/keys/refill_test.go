package keys_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func idRange(first, n int32) []int32 {
	var ids []int32
	for i := range n {
		ids = append(ids, first+i)
	}
	return ids
}

func wantStock(t testing.TB, d *relaytest.Device, ec, kyber []int32) {
	t.Helper()
	inventory := keyInventory(t, d)
	if !slices.Equal(inventory.OneTimePreKeyIds, ec) || int(inventory.OneTimePreKeyCount) != len(ec) {
		t.Errorf("EC keys %v (%d), want %v", inventory.OneTimePreKeyIds, inventory.OneTimePreKeyCount, ec)
	}
	if !slices.Equal(inventory.KyberPreKeyIds, kyber) || int(inventory.KyberPreKeyCount) != len(kyber) {
		t.Errorf("Kyber keys %v (%d), want %v", inventory.KyberPreKeyIds, inventory.KyberPreKeyCount, kyber)
	}
}

func TestARefillMayCarryOneTimeKeysAlone(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	d := e2e.PlainDevice(t, relay.Register(t), 1)
	e2e.WantUpload(t, d, client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(10, 3)}, http.StatusOK, "")
	wantStock(t, d, []int32{1, 10, 11, 12}, []int32{1})
	e2e.WantUpload(t, d, client.KeyUpload{KyberPreKeys: d.Identity.KyberPreKeys(5, 2)}, http.StatusOK, "")
	wantStock(t, d, []int32{1, 10, 11, 12}, []int32{1, 5, 6})
	wantUnchanged(t, d, func() { e2e.WantUpload(t, d, client.KeyUpload{}, http.StatusOK, "") })
}

func TestAOneTimeKeyMayComeAgainUnchanged(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	caller, d := relay.Register(t).NewDevice(t), e2e.PlainDevice(t, relay.Register(t), 0)
	ec, kyber := prekeytest.PreKeys(1, 3), d.Identity.KyberPreKeys(1, 3)
	e2e.WantUpload(t, d, client.KeyUpload{OneTimePreKeys: ec, KyberPreKeys: kyber}, http.StatusOK, "")
	wantUnchanged(t, d, func() {
		e2e.WantUpload(t, d, client.KeyUpload{OneTimePreKeys: ec, KyberPreKeys: kyber}, http.StatusOK, "")
		// The same id with other bytes: nothing of the upload is stored.
		e2e.WantUpload(t, d, client.KeyUpload{OneTimePreKeys: append(prekeytest.PreKeys(8, 2),
			prekeytest.PreKeys(2, 1)...)},
			http.StatusConflict, "key_id_conflict")
		e2e.WantUpload(t, d, client.KeyUpload{KyberPreKeys: append(d.Identity.KyberPreKeys(8, 2),
			d.Identity.KyberPreKeys(2, 1)...),
			OneTimePreKeys: prekeytest.PreKeys(8, 2), SignedPreKey: signedKey(d.Identity, 2),
			LastResortKyberPreKey: kyberKey(d.Identity, 2)},
			http.StatusConflict, "key_id_conflict")
	})
	// Some that are held and some that are new.
	e2e.WantUpload(t, d, client.KeyUpload{OneTimePreKeys: append(slices.Clone(ec), prekeytest.PreKeys(4, 1)...)},
		http.StatusOK, "")
	wantStock(t, d, []int32{1, 2, 3, 4}, []int32{1, 2, 3})

	// Once handed out, an id is free again for another key; the old one changes nothing.
	e2e.FetchBundle(t, caller, d.User.ID)
	e2e.FetchBundle(t, caller, d.User.ID)
	wantStock(t, d, []int32{3, 4}, []int32{3})
	e2e.WantUpload(t, d, client.KeyUpload{OneTimePreKeys: append(prekeytest.PreKeys(1, 1), ec[1]),
		KyberPreKeys: d.Identity.KyberPreKeys(2, 1)}, http.StatusOK, "")
	wantStock(t, d, []int32{1, 3, 4}, []int32{2, 3})
	if b := e2e.FetchBundle(t, caller, d.User.ID); b.OneTimePreKey.KeyID != 1 ||
		slices.Equal(b.OneTimePreKey.PublicKey, ec[0].PublicKey) || b.KyberPreKey.KeyID != 2 {
		t.Errorf("bundle: %+v %+v", b.OneTimePreKey, b.KyberPreKey)
	}
}

func TestAnIdMayStandTwiceInAnUploadForOneKeyOnly(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	d := e2e.PlainDevice(t, relay.Register(t), 0)
	ec, kyber := prekeytest.PreKeys(1, 2), d.Identity.KyberPreKeys(1, 2)
	wantUnchanged(t, d, func() {
		e2e.WantUpload(t, d, client.KeyUpload{OneTimePreKeys: append(slices.Clone(ec), prekeytest.PreKeys(2, 1)...)},
			http.StatusConflict, "key_id_conflict")
		e2e.WantUpload(t, d, client.KeyUpload{KyberPreKeys: append(slices.Clone(kyber),
			d.Identity.KyberPreKeys(1, 1)...)}, http.StatusConflict, "key_id_conflict")
	})
	e2e.WantUpload(t, d, client.KeyUpload{OneTimePreKeys: append(slices.Clone(ec), ec...),
		KyberPreKeys: append(slices.Clone(kyber), kyber...)}, http.StatusOK, "")
	wantStock(t, d, []int32{1, 2}, []int32{1, 2})
}

func TestAtMost100KeysOfAKindAreHeldAndTheOldestGoFirst(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	caller, d := relay.Register(t).NewDevice(t), e2e.PlainDevice(t, relay.Register(t), 0)
	top := int32(1<<31 - 60)
	// Ids near their end, and then from the beginning again: what is old is told by the upload, not
	// by the id.
	e2e.WantUpload(t, d, client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(int(top), 60),
		KyberPreKeys: d.Identity.KyberPreKeys(int(top), 60)}, http.StatusOK, "")
	e2e.WantUpload(t, d, client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(1, 70),
		KyberPreKeys: d.Identity.KyberPreKeys(1, 70)},
		http.StatusOK, "")
	want := append(idRange(1, 70), idRange(top+30, 30)...)
	wantStock(t, d, want, want)
	if b := e2e.FetchBundle(t, caller, d.User.ID); b.OneTimePreKey.KeyID != 1 || b.KyberPreKey.KeyID != 1 {
		t.Errorf("bundle: %d and %d, want the lowest ids", b.OneTimePreKey.KeyID, b.KyberPreKey.KeyID)
	}
	// A full upload displaces everything that is older, whatever the ids.
	e2e.WantUpload(t, d, client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(1000, 100)}, http.StatusOK, "")
	wantStock(t, d, idRange(1000, 100), slices.Concat(idRange(2, 69), idRange(top+30, 30)))
	e2e.WantUpload(t, d, client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(2, 1)}, http.StatusOK, "")
	wantStock(t, d, slices.Concat([]int32{2}, idRange(1001, 99)), slices.Concat(idRange(2, 69), idRange(top+30, 30)))
	if b := e2e.FetchBundle(t, caller, d.User.ID); b.OneTimePreKey.KeyID != 2 {
		t.Errorf("bundle: %d, want 2", b.OneTimePreKey.KeyID)
	}
}

func TestASignedPreKeyIsReplacedByAHigherId(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	caller, d := relay.Register(t).NewDevice(t), e2e.PlainDevice(t, relay.Register(t), 0)
	for name, upload := range map[string]func(key client.SignedPreKey, kyber client.KyberPreKey) client.KeyUpload{
		"signed": func(key client.SignedPreKey, _ client.KyberPreKey) client.KeyUpload {
			return client.KeyUpload{SignedPreKey: &key}
		},
		"last-resort": func(_ client.SignedPreKey, key client.KyberPreKey) client.KeyUpload {
			return client.KeyUpload{LastResortKyberPreKey: &key}
		},
	} {
		make := func(id int) client.KeyUpload { return upload(*signedKey(d.Identity, id), *kyberKey(d.Identity, id)) }
		ten := make(10)
		e2e.WantUpload(t, d, ten, http.StatusOK, "")
		wantUnchanged(t, d, func() {
			e2e.WantUpload(t, d, ten, http.StatusOK, "") // with every refill
			again := ten                                 // XEdDSA is randomised: the same key, signed again
			if again.SignedPreKey != nil {
				again.SignedPreKey = &client.SignedPreKey{KeyID: 10, PublicKey: ten.SignedPreKey.PublicKey,
					Signature: d.Identity.Sign(ten.SignedPreKey.PublicKey)}
			}
			e2e.WantUpload(t, d, again, http.StatusOK, "")
			lower := make(9)
			lower.OneTimePreKeys = prekeytest.PreKeys(1, 1)
			e2e.WantUpload(t, d, lower, http.StatusBadRequest, "key_id_not_higher")
			other := make(10)
			other.OneTimePreKeys = prekeytest.PreKeys(1, 1)
			e2e.WantUpload(t, d, other, http.StatusConflict, "key_id_conflict")
		})
		eleven := make(11)
		e2e.WantUpload(t, d, eleven, http.StatusOK, "")
		b := e2e.FetchBundle(t, caller, d.User.ID)
		if name == "signed" &&
			(b.SignedPreKey.KeyID != 11 || !slices.Equal(b.SignedPreKey.PublicKey, eleven.SignedPreKey.PublicKey) ||
				!slices.Equal(b.SignedPreKey.Signature, eleven.SignedPreKey.Signature)) {
			t.Errorf("the bundle does not carry the newest signed pre-key: %d", b.SignedPreKey.KeyID)
		}
		if name == "last-resort" && (b.KyberPreKey == nil || b.KyberPreKey.KeyID != 11 ||
			!slices.Equal(b.KyberPreKey.PublicKey, eleven.LastResortKyberPreKey.PublicKey)) {
			t.Errorf("the bundle does not carry the newest last-resort key: %v", b.KyberPreKey)
		}
		e2e.WantUpload(t, d, ten, http.StatusBadRequest, "key_id_not_higher")
	}
}

func TestAnIdentityKeyComesWithARegistrationId(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	d := relay.Register(t).NewDevice(t)
	wantUnchanged(t, d, func() {
		e2e.WantUpload(t, d, client.KeyUpload{IdentityKey: &d.Identity.Public,
			OneTimePreKeys: prekeytest.PreKeys(100, 1)},
			http.StatusBadRequest, "registration_id_missing")
	})
	if got, err := d.User.UploadKeysWithResponse(t.Context(),
		client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(100, 1)}); err != nil ||
		got.StatusCode() != http.StatusForbidden {
		t.Errorf("with a user-scoped token: %d %s, %v", got.StatusCode(), got.Body, err)
	}
	if got, err := d.User.GetKeyInventoryWithResponse(t.Context()); err != nil ||
		got.StatusCode() != http.StatusForbidden {
		t.Errorf("inventory with a user-scoped token: %d %s, %v", got.StatusCode(), got.Body, err)
	}
}
