package keys_test

import (
	"bytes"
	"encoding/json"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// plusL adds n times the order of the group to the scalar of a signature: the equation of the
// signature still holds.
func plusL(signature []byte, n int64) []byte {
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989",
		10)
	out := slices.Clone(signature)
	sign := out[63] & 0x80
	out[63] &= 0x7f
	s := slices.Clone(out[32:])
	slices.Reverse(s)
	sum := new(big.Int).Add(new(big.Int).SetBytes(s), order.Mul(order, big.NewInt(n))).FillBytes(make([]byte, 32))
	slices.Reverse(sum)
	copy(out[32:], sum)
	out[63] |= sign
	return out
}

func flip(b []byte, at int) []byte {
	out := slices.Clone(b)
	out[at] ^= 1
	return out
}

// badUploads are uploads that are good but for one thing, with the code of their refusal.
var badUploads = []struct {
	name, code string
	spoil      func(id *prekeytest.Identity, u *client.NewDevice)
}{
	{"an identity key of 32 bytes", "invalid_request", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.IdentityKey = u.IdentityKey[:32]
	}},
	{"an identity key of 34 bytes", "invalid_request", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.IdentityKey = append(slices.Clone(u.IdentityKey), 0)
	}},
	{"an identity key of another type", "invalid_key", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.IdentityKey = flip(u.IdentityKey, 0)
	}},
	{"an identity key of zeros", "invalid_key", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.IdentityKey = append([]byte{5}, make([]byte, 32)...)
	}},
	{"registration id 0", "invalid_request", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.RegistrationID = 0
	}},
	{"registration id 16384", "invalid_request", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.RegistrationID = 16384
	}},
	{"a signed pre-key of zeros", "invalid_key", func(id *prekeytest.Identity, u *client.NewDevice) {
		zeros := append([]byte{5}, make([]byte, 32)...)
		u.SignedPreKey = client.SignedPreKey{KeyID: 9, PublicKey: zeros, Signature: id.Sign(zeros)}
	}},
	{"a signed pre-key of 32 bytes", "invalid_request", func(id *prekeytest.Identity, u *client.NewDevice) {
		u.SignedPreKey.PublicKey = u.SignedPreKey.PublicKey[1:]
		u.SignedPreKey.Signature = id.Sign(u.SignedPreKey.PublicKey)
	}},
	{"a signature without the type byte", "invalid_signature", func(id *prekeytest.Identity, u *client.NewDevice) {
		u.SignedPreKey.Signature = id.Sign(u.SignedPreKey.PublicKey[1:])
	}},
	{"a signature by somebody else", "invalid_signature", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.SignedPreKey.Signature = prekeytest.NewIdentity().Sign(u.SignedPreKey.PublicKey)
	}},
	{"a signature of the other sign", "invalid_signature", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.SignedPreKey.Signature = slices.Clone(u.SignedPreKey.Signature)
		u.SignedPreKey.Signature[63] ^= 0x80
	}},
	{"a signature whose scalar has high bits", "invalid_signature", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.SignedPreKey.Signature = plusL(u.SignedPreKey.Signature, 2)
	}},
	{"a signature of 63 bytes", "invalid_request", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.SignedPreKey.Signature = u.SignedPreKey.Signature[:63]
	}},
	{"a one-time key of zeros", "invalid_key", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.OneTimePreKeys[99].PublicKey = append([]byte{5}, make([]byte, 32)...)
	}},
	{"a one-time key of another type", "invalid_key", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.OneTimePreKeys[50].PublicKey = flip(u.OneTimePreKeys[50].PublicKey, 0)
	}},
	{"a one-time key of 34 bytes", "invalid_request", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.OneTimePreKeys[0].PublicKey = append(slices.Clone(u.OneTimePreKeys[0].PublicKey), 1)
	}},
	{"key id -1", "invalid_request", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.OneTimePreKeys[7].KeyID = -1
	}},
	{"101 one-time keys", "invalid_request", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.OneTimePreKeys = append(u.OneTimePreKeys, prekeytest.PreKeys(500, 1)...)
	}},
	{"101 Kyber keys", "invalid_request", func(id *prekeytest.Identity, u *client.NewDevice) {
		u.KyberPreKeys = append(u.KyberPreKeys, id.KyberPreKeys(500, 1)...)
	}},
	{"one bad signature among 100 Kyber keys", "invalid_signature", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.KyberPreKeys[61].Signature = flip(u.KyberPreKeys[61].Signature, 5)
	}},
	{"a Kyber key of 1568 bytes", "invalid_request", func(id *prekeytest.Identity, u *client.NewDevice) {
		k := u.KyberPreKeys[3].PublicKey[:1568]
		u.KyberPreKeys[3].PublicKey, u.KyberPreKeys[3].Signature = k, id.Sign(k)
	}},
	{"a Kyber key of 1570 bytes", "invalid_request", func(id *prekeytest.Identity, u *client.NewDevice) {
		k := append(slices.Clone(u.KyberPreKeys[3].PublicKey), 0)
		u.KyberPreKeys[3].PublicKey, u.KyberPreKeys[3].Signature = k, id.Sign(k)
	}},
	{"a Kyber key of another type", "invalid_key", func(id *prekeytest.Identity, u *client.NewDevice) {
		k := slices.Clone(u.KyberPreKeys[3].PublicKey)
		k[0] = 0x0a // ML-KEM-1024 in libsignal
		u.KyberPreKeys[3].PublicKey, u.KyberPreKeys[3].Signature = k, id.Sign(k)
	}},
	{"a last-resort key with coefficients out of range", "invalid_key",
		func(id *prekeytest.Identity, u *client.NewDevice) {
			k := append([]byte{8}, bytes.Repeat([]byte{0xff}, 1568)...)
			u.LastResortKyberPreKey = &client.KyberPreKey{KeyID: 2, PublicKey: k, Signature: id.Sign(k)}
		}},
	{"a last-resort key with a bad signature", "invalid_signature", func(_ *prekeytest.Identity, u *client.NewDevice) {
		u.LastResortKyberPreKey.Signature = flip(u.LastResortKyberPreKey.Signature, 40)
	}},
}

// goodUpload is one that is as full as it may be. Its keys are shared: spoilers replace what they
// change.
func goodUpload(id *prekeytest.Identity, first int, kyber []client.KyberPreKey) client.NewDevice {
	last := *kyberKey(id, first)
	return client.NewDevice{IdentityKey: id.Public, RegistrationID: 16383, SignedPreKey: *signedKey(id, first),
		OneTimePreKeys: prekeytest.PreKeys(first, 100), KyberPreKeys: slices.Clone(kyber), LastResortKyberPreKey: &last}
}

func TestOneBadKeyRefusesAWholeDevice(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user, identity := relay.Register(t), prekeytest.NewIdentity()
	kyber := identity.KyberPreKeys(1, 100)
	for _, tt := range badUploads {
		upload := goodUpload(identity, 1, kyber)
		tt.spoil(identity, &upload)
		got, err := user.CreateDeviceWithResponse(t.Context(), upload)
		if err != nil || e2e.RefusalOf(got.StatusCode(),
			got.Body) != (e2e.Refusal{Status: http.StatusBadRequest, Code: tt.code}) {
			t.Errorf("%s: %d %s, want 400 %s, %v", tt.name, got.StatusCode(), got.Body, tt.code, err)
		}
	}
	if list, err := user.ListDevicesWithResponse(t.Context()); err != nil || len(list.JSON200.Devices) != 0 {
		t.Errorf("devices: %v, %v", list.JSON200, err)
	}
	user.NewDeviceWith(t, identity, goodUpload(identity, 1, kyber)) // and without the spoilers it is good
}

func TestANewDeviceUsesAKeyIDOnce(t *testing.T) {
	t.Parallel()
	user := relaytest.Start(t).Register(t)
	upload := prekeytest.NewIdentity().NewDevice(3, 0)
	upload.OneTimePreKeys[2].KeyID = upload.OneTimePreKeys[0].KeyID
	got, err := user.CreateDeviceWithResponse(t.Context(), upload)
	if err != nil || got.JSON409 == nil || got.JSON409.Code != "key_id_conflict" {
		t.Errorf("%v %s", err, got.Body)
	}
}

func TestOneBadKeyRefusesAWholeUpload(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	d := relay.Register(t).NewDevice(t)
	kyber := d.Identity.KyberPreKeys(200, 100)
	body := func(u client.NewDevice) client.KeyUpload {
		return client.KeyUpload{IdentityKey: &u.IdentityKey, RegistrationID: &u.RegistrationID,
			SignedPreKey:   &u.SignedPreKey,
			OneTimePreKeys: u.OneTimePreKeys, KyberPreKeys: u.KyberPreKeys,
			LastResortKyberPreKey: u.LastResortKyberPreKey}
	}
	wantUnchanged(t, d, func() {
		for _, tt := range badUploads {
			upload := goodUpload(d.Identity, 200, kyber)
			tt.spoil(d.Identity, &upload)
			if got := e2e.UploadKeys(t, d, body(upload)); got != (e2e.Refusal{Status: http.StatusBadRequest,
				Code: tt.code}) {
				t.Errorf("%s: %v, want 400 %s", tt.name, got, tt.code)
			}
		}
	})
	e2e.WantUpload(t, d, body(goodUpload(d.Identity, 200, kyber)), http.StatusOK, "")
}

// libsignal's rule takes any scalar below 2^253, also one that is not reduced.
func TestASignatureWithAnUnreducedScalarIsAccepted(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	d := relay.Register(t).NewDevice(t)
	k := signedKey(d.Identity, 2)
	k.Signature = plusL(k.Signature, 1)
	e2e.WantUpload(t, d, client.KeyUpload{SignedPreKey: k}, http.StatusOK, "")
}

func TestKeyIDsHave31Bits(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	d := e2e.PlainDevice(t, relay.Register(t), 0)
	most := 1<<31 - 1
	e2e.WantUpload(t, d, client.KeyUpload{SignedPreKey: signedKey(d.Identity, most),
		LastResortKyberPreKey: kyberKey(d.Identity, most),
		OneTimePreKeys:        append(prekeytest.PreKeys(0, 1), prekeytest.PreKeys(most, 1)...),
		KyberPreKeys:          append(d.Identity.KyberPreKeys(0, 1), d.Identity.KyberPreKeys(most, 1)...)},
		http.StatusOK, "")
	caller := relay.Register(t).NewDevice(t)
	for _, want := range []int32{0, int32(most)} {
		b := e2e.FetchBundle(t, caller, d.User.ID)
		if b.OneTimePreKey == nil || b.OneTimePreKey.KeyID != want || b.KyberPreKey.KeyID != want {
			t.Fatalf("one-time keys %+v and %+v, want %d", b.OneTimePreKey, b.KyberPreKey, want)
		}
	}
	// The highest id is the end of the line for the floor, not of the stock.
	e2e.WantUpload(t, d, client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(most, 1),
		KyberPreKeys: d.Identity.KyberPreKeys(3, 1)},
		http.StatusOK, "")
	if b := e2e.FetchBundle(t, caller, d.User.ID); b.OneTimePreKey == nil || b.OneTimePreKey.KeyID != int32(most) ||
		b.KyberPreKey.KeyID != 3 {
		t.Errorf("one-time keys %+v and %+v", b.OneTimePreKey, b.KyberPreKey)
	}
	good, err := json.Marshal(client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(77, 1)})
	if err != nil {
		t.Fatal(err)
	}
	wantUnchanged(t, d, func() {
		for _, id := range []string{"2147483648", "4294967296", "-1", "1.5", `"77"`, "1e999", "true"} {
			body := strings.Replace(string(good), `"keyId":77`, `"keyId":`+id, 1)
			got, err := d.UploadKeysWithBodyWithResponse(t.Context(), "application/json", strings.NewReader(body))
			if err != nil || got.StatusCode() != http.StatusBadRequest {
				t.Errorf("key id %s: %d %s, %v", id, got.StatusCode(), got.Body, err)
			}
		}
	})
}
