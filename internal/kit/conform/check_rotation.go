package conform

import (
	"bytes"
	"net/http"
	"slices"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
)

var rotationChecks = []check{
	{"keys.refill", "A refill may carry one-time keys alone; a key that is held already changes nothing.",
		func(t *try) {
			d := t.deviceOf(t.owner(), 2, 2)
			more := client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(50, 2)}
			t.upload(d, more, http.StatusOK, "(EC keys alone)")
			t.upload(d, client.KeyUpload{KyberPreKeys: d.identity.KyberPreKeys(50, 1)}, http.StatusOK, "(Kyber keys alone)")
			got := t.inventory(d)
			t.must(slices.Equal(got.OneTimePreKeyIds, []int32{1, 2, 50, 51}) && slices.Equal(got.KyberPreKeyIds,
				[]int32{1, 2, 50}), "a refill was not added to what was held")
			t.unchanged(d, "a refill that is held already", func() {
				t.upload(d, more, http.StatusOK, "(the same EC keys again)")
				t.upload(d, client.KeyUpload{KyberPreKeys: d.keys.KyberPreKeys}, http.StatusOK,
					"(the same Kyber keys again)")
			})
		}},
	{"keys.conflict", "Another key under the id of a one-time key that is held is 409, and nothing of the upload is stored.", func(t *try) {
		d := t.deviceOf(t.owner(), 2, 2)
		t.unchanged(d, "a key id in use", func() {
			t.upload(d, client.KeyUpload{OneTimePreKeys: append(prekeytest.PreKeys(50, 2),
				prekeytest.PreKeys(2, 1)...)}, http.StatusConflict,
				"(other bytes under an EC id)")
			t.upload(d, client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(60, 1),
				KyberPreKeys: append(d.identity.KyberPreKeys(50, 2), d.identity.KyberPreKeys(1, 1)...)},
				http.StatusConflict, "(other bytes under a Kyber id)")
		})
	}},
	{"keys.rotation", "A signed pre-key that is stored may come again; a lower id is 400, the same id with another key 409.", func(t *try) {
		d := t.device()
		same, lower, other := d.keys.SignedPreKey, d.identity.SignedPreKey(9), d.identity.SignedPreKey(10)
		t.unchanged(d, "a signed pre-key that is no newer", func() {
			t.upload(d, client.KeyUpload{SignedPreKey: &same}, http.StatusOK, "(the stored one again)")
			t.upload(d, client.KeyUpload{SignedPreKey: &lower, OneTimePreKeys: prekeytest.PreKeys(50, 1)},
				http.StatusBadRequest,
				"(a lower id)")
			t.upload(d, client.KeyUpload{SignedPreKey: &other, OneTimePreKeys: prekeytest.PreKeys(50, 1)},
				http.StatusConflict,
				"(the same id, another key)")
		})
	}},
	{"keys.rotation-last-resort", "The same rules hold for the last-resort Kyber key.", func(t *try) {
		d := t.deviceOf(t.owner(), 0, 1)
		t.unchanged(d, "a last-resort key that is no newer", func() {
			t.upload(d, client.KeyUpload{LastResortKyberPreKey: d.keys.LastResortKyberPreKey}, http.StatusOK,
				"(the stored one again)")
			t.upload(d, client.KeyUpload{LastResortKyberPreKey: lastResort(d.identity, 999),
				OneTimePreKeys: prekeytest.PreKeys(50, 1)}, http.StatusBadRequest, "(a lower id)")
			t.upload(d, client.KeyUpload{LastResortKyberPreKey: lastResort(d.identity, 1000),
				OneTimePreKeys: prekeytest.PreKeys(50, 1)}, http.StatusConflict, "(the same id, another key)")
		})
	}},
	{"keys.newest", "Bundles carry the newest signed pre-key and the newest last-resort key.", func(t *try) {
		caller, target := t.device(), t.user()
		d := t.deviceOf(target, 0, 1)
		t.bundle(caller, target.id) // takes the one Kyber key
		newer, newerLast := d.identity.SignedPreKey(11), lastResort(d.identity, 1001)
		t.upload(d, client.KeyUpload{SignedPreKey: &newer, LastResortKyberPreKey: newerLast}, http.StatusOK,
			"(higher ids)")
		b := t.bundle(caller, target.id)
		t.must(b.SignedPreKey.KeyID == 11 && bytes.Equal(b.SignedPreKey.PublicKey, newer.PublicKey) &&
			bytes.Equal(b.SignedPreKey.Signature, newer.Signature),
			"the bundle does not carry the newest signed pre-key")
		t.must(b.KyberPreKey != nil && b.KyberPreKey.KeyID == 1001 && bytes.Equal(b.KyberPreKey.PublicKey,
			newerLast.PublicKey),
			"the bundle does not carry the newest last-resort key")
	}},
}
