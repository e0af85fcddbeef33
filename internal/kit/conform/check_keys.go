package conform

import (
	"bytes"
	"net/http"
	"slices"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
)

// badKeys are uploads of a new device that are good but for the form of one thing.
var badKeys = map[string]func(id *prekeytest.Identity, u *client.NewDevice){
	"an identity key of 32 bytes": func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.IdentityKey = u.IdentityKey[1:]
	},
	"an identity key that begins with 0x04": func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.IdentityKey = slices.Concat([]byte{4}, u.IdentityKey[1:])
	},
	"registration id 0":     func(_ *prekeytest.Identity, u *client.NewDevice) { u.RegistrationID = 0 },
	"registration id 16384": func(_ *prekeytest.Identity, u *client.NewDevice) { u.RegistrationID = 16384 },
	"a negative key id":     func(_ *prekeytest.Identity, u *client.NewDevice) { u.OneTimePreKeys[1].KeyID = -1 },
	"a signed pre-key of 32 bytes": func(id *prekeytest.Identity, u *client.NewDevice) {
		u.SignedPreKey.PublicKey = u.SignedPreKey.PublicKey[1:]
		u.SignedPreKey.Signature = id.Sign(u.SignedPreKey.PublicKey)
	},
	"a one-time key of 34 bytes": func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.OneTimePreKeys[1].PublicKey = append(slices.Clone(u.OneTimePreKeys[1].PublicKey), 0)
	},
	"a one-time key that begins with 0x08": func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.OneTimePreKeys[1].PublicKey = slices.Concat([]byte{8}, u.OneTimePreKeys[1].PublicKey[1:])
	},
	"a Kyber key of 1568 bytes": func(id *prekeytest.Identity, u *client.NewDevice) {
		k := &u.KyberPreKeys[1]
		k.PublicKey = k.PublicKey[:1568]
		k.Signature = id.Sign(k.PublicKey)
	},
	"a last-resort key that begins with 0x07": func(id *prekeytest.Identity, u *client.NewDevice) {
		k := u.LastResortKyberPreKey
		k.PublicKey = slices.Concat([]byte{7}, k.PublicKey[1:])
		k.Signature = id.Sign(k.PublicKey)
	},
}

// badSignatures are uploads whose keys are good and one of whose signatures is not.
var badSignatures = map[string]func(id *prekeytest.Identity, u *client.NewDevice){
	"by another identity": func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.SignedPreKey.Signature = newIdentity(false).Sign(u.SignedPreKey.PublicKey)
	},
	"of the signed pre-key with one bit changed": func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.SignedPreKey.Signature = bytes.Clone(u.SignedPreKey.Signature)
		u.SignedPreKey.Signature[5] ^= 1
	},
	"over the key without its first byte": func(id *prekeytest.Identity, u *client.NewDevice) {
		u.SignedPreKey.Signature = id.Sign(u.SignedPreKey.PublicKey[1:])
	},
	"of 63 bytes": func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.SignedPreKey.Signature = u.SignedPreKey.Signature[:63]
	},
	"of another key": func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.KyberPreKeys[1].Signature = u.KyberPreKeys[0].Signature
	},
	"of the last-resort key by another identity": func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.LastResortKyberPreKey.Signature = newIdentity(false).Sign(u.LastResortKyberPreKey.PublicKey)
	},
}

// refused tries spoiled keys for a new device and as a refill: 400, and nothing is stored.
func (t *try) refused(d *device, what string, spoil func(*prekeytest.Identity, *client.NewDevice)) {
	fresh := func(id *prekeytest.Identity) client.NewDevice {
		upload := newUpload(id, 0, 0)
		upload.SignedPreKey, upload.LastResortKyberPreKey = id.SignedPreKey(2000), lastResort(id, 2000)
		upload.OneTimePreKeys, upload.KyberPreKeys = prekeytest.PreKeys(50, 3), id.KyberPreKeys(50, 3)
		spoil(id, &upload)
		return upload
	}
	t.call("POST", "/v1/devices", d.user.token, fresh(newIdentity(false))).wantError(http.StatusBadRequest,
		"("+what+")")
	bad := fresh(d.identity)
	t.unchanged(d, what, func() {
		t.upload(d, client.KeyUpload{IdentityKey: &bad.IdentityKey, RegistrationID: &bad.RegistrationID,
			SignedPreKey:   &bad.SignedPreKey,
			OneTimePreKeys: bad.OneTimePreKeys, KyberPreKeys: bad.KyberPreKeys,
			LastResortKyberPreKey: bad.LastResortKyberPreKey},
			http.StatusBadRequest, "("+what+")")
	})
}

var uploadChecks = []check{
	{"keys.form", "A key of another length or type, or an id out of range, is 400, for a new device and as a refill.",
		func(t *try) {
			d := t.deviceOf(t.user(), 2, 2)
			for what, spoil := range badKeys {
				t.refused(d, what, spoil)
			}
		}},
	{"keys.signatures", "A signature that the identity key did not make over the serialised key is 400, for a new device and as a refill.", func(t *try) {
		d := t.deviceOf(t.user(), 2, 2)
		for what, spoil := range badSignatures {
			t.refused(d, "a signature "+what, spoil)
		}
	}},
	{"keys.signature-rule", "Signatures are verified as libsignal does: the top bit of the last byte is a sign, the two below it must be 0.", func(t *try) {
		u := t.user()
		for _, sign := range []bool{false, true} {
			identity := newIdentity(sign)
			d := t.deviceWith(u, identity, newUpload(identity, 1, 1))
			t.upload(d, client.KeyUpload{KyberPreKeys: identity.KyberPreKeys(50, 1)}, http.StatusOK, "(a good signature)")
			for _, change := range []byte{0x80, 0x40, 0x20} {
				key := identity.SignedPreKey(2000)
				key.Signature[63] ^= change
				t.upload(d, client.KeyUpload{SignedPreKey: &key}, http.StatusBadRequest,
					"(a bit of the signature's last byte changed)")
			}
		}
	}},
	{"keys.all-or-nothing", "One bad signature among 100 good keys refuses the whole upload, and nothing of it is stored.", func(t *try) {
		d := t.device()
		keys := client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(1000, 100),
			KyberPreKeys: d.identity.KyberPreKeys(1000, 100)}
		keys.KyberPreKeys[57].Signature = newIdentity(false).Sign(keys.KyberPreKeys[57].PublicKey)
		before := t.inventory(d)
		t.upload(d, keys, http.StatusBadRequest, "(one bad signature)")
		after := t.inventory(d)
		t.must(bytes.Equal(before.Digest, after.Digest),
			"keys of an upload that was refused are held: %d EC and %d Kyber, before %d and %d",
			after.OneTimePreKeyCount, after.KyberPreKeyCount, before.OneTimePreKeyCount, before.KyberPreKeyCount)
	}},
	{"keys.registration-id", "An identity key without a registration id is 400.", func(t *try) {
		d := t.device()
		t.unchanged(d, "an identity key alone", func() {
			t.upload(d, client.KeyUpload{IdentityKey: &d.identity.Public}, http.StatusBadRequest,
				"(an identity key without a registration id)")
		})
	}},
	{"keys.hundred", "An upload has at most 100 one-time keys of a kind (400), and at most 100 are held: older ones go first.", func(t *try) {
		d := t.deviceOf(t.owner(), 60, 60)
		t.unchanged(d, "101 keys", func() {
			t.upload(d, client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(1000, 101)}, http.StatusBadRequest, "(101 EC keys)")
			t.upload(d, client.KeyUpload{KyberPreKeys: d.identity.KyberPreKeys(1000, 101)}, http.StatusBadRequest,
				"(101 Kyber keys)")
		})
		t.upload(d, client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(1000, 70),
			KyberPreKeys: d.identity.KyberPreKeys(1000, 70)},
			http.StatusOK, "(70 keys of each kind)")
		got := t.inventory(d)
		for kind, held := range map[string][]int32{"EC": got.OneTimePreKeyIds, "Kyber": got.KyberPreKeyIds} {
			t.must(len(held) == 100, "%d %s keys are held, want 100", len(held), kind)
			newer := len(slices.DeleteFunc(slices.Clone(held), func(id int32) bool { return id < 1000 }))
			t.must(newer == 70, "%d of 70 newer %s keys are held", newer, kind)
		}
	}},
	{"keys.inventory", "GET /v1/devices/keys tells counts, ids and the digest of what is held.", func(t *try) {
		d := t.deviceOf(t.owner(), 5, 3)
		got := t.inventory(d)
		k := d.keys
		t.must(got.RegistrationID == k.RegistrationID && bytes.Equal(got.IdentityKey, k.IdentityKey),
			"another identity key or registration id")
		t.must(got.SignedPreKeyID == 10 && got.LastResortKyberPreKeyID != nil && *got.LastResortKyberPreKeyID == 1000,
			"another signed or last-resort key")
		t.must(got.OneTimePreKeyCount == 5 && slices.Equal(got.OneTimePreKeyIds, []int32{1, 2, 3, 4, 5}),
			"not the EC one-time keys")
		t.must(got.KyberPreKeyCount == 3 && slices.Equal(got.KyberPreKeyIds, []int32{1, 2, 3}),
			"not the Kyber one-time keys")
		want := digest(k.IdentityKey, k.SignedPreKey, k.LastResortKyberPreKey, k.OneTimePreKeys, k.KyberPreKeys)
		t.must(bytes.Equal(got.Digest, want), "the digest is not that of the keys")
	}},
}
