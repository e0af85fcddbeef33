package conform

import (
	"bytes"
	"net/http"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
)

var handOutChecks = []check{
	{"keys.bundle", "A bundle has the device's id, number, registration id and the very keys that it uploaded.",
		func(t *try) {
			caller, target := t.device(), t.user()
			d := t.deviceOf(target, 1, 1)
			b, k := t.bundle(caller, target.id), d.keys
			t.must(b.DeviceID == d.id && b.DeviceNumber == d.number && b.RegistrationID == k.RegistrationID,
				"not the device that registered")
			t.must(bytes.Equal(b.IdentityKey, k.IdentityKey), "another identity key")
			t.must(b.SignedPreKey.KeyID == k.SignedPreKey.KeyID && bytes.Equal(b.SignedPreKey.PublicKey,
				k.SignedPreKey.PublicKey) &&
				bytes.Equal(b.SignedPreKey.Signature, k.SignedPreKey.Signature), "another signed pre-key")
			t.must(b.OneTimePreKey != nil && b.OneTimePreKey.KeyID == 1 && bytes.Equal(b.OneTimePreKey.PublicKey,
				k.OneTimePreKeys[0].PublicKey), "another EC one-time key")
			t.must(b.KyberPreKey != nil && b.KyberPreKey.KeyID == 1 && bytes.Equal(b.KyberPreKey.PublicKey,
				k.KyberPreKeys[0].PublicKey) &&
				bytes.Equal(b.KyberPreKey.Signature, k.KyberPreKeys[0].Signature), "another Kyber one-time key")
		}},
	{"keys.once", "Each one-time key is handed out exactly once, however many ask at once.", handedOutOnce},
	{"keys.repeated", "A key that was handed out and is uploaded again is accepted and not handed out again, in a refill and in a takeover.", repeatedUpload},
	{"keys.lowest-first", "One-time keys are handed out lowest id first; an id may be used again once its key has gone.", func(t *try) {
		caller, target := t.device(), t.user()
		d := t.deviceOf(target, 0, 0)
		t.upload(d, client.KeyUpload{OneTimePreKeys: slices.Concat(prekeytest.PreKeys(70, 1),
			prekeytest.PreKeys(5, 1), prekeytest.PreKeys(30, 1))},
			http.StatusOK, "")
		t.upload(d, client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(2, 1)}, http.StatusOK, "(a lower id)")
		for _, want := range []int32{2, 5, 30} {
			b := t.bundle(caller, target.id)
			t.must(b.OneTimePreKey != nil && b.OneTimePreKey.KeyID == want,
				"the key that was handed out is not %d, the lowest", want)
		}
		again := prekeytest.PreKeys(5, 1)
		t.upload(d, client.KeyUpload{OneTimePreKeys: again}, http.StatusOK, "(an id whose key was handed out)")
		b := t.bundle(caller, target.id)
		t.must(b.OneTimePreKey != nil && b.OneTimePreKey.KeyID == 5 && bytes.Equal(b.OneTimePreKey.PublicKey,
			again[0].PublicKey), "the key that came under a used id is not handed out")
	}},
	{"keys.exhausted", "Without EC one-time keys a bundle has null in their place.", func(t *try) {
		caller, target := t.device(), t.user()
		t.deviceOf(target, 1, 0)
		t.must(t.bundle(caller, target.id).OneTimePreKey != nil, "the one EC key was not handed out")
		for range 2 {
			t.must(t.bundle(caller, target.id).OneTimePreKey == nil, "more EC keys are handed out than there were")
		}
	}},
	{"keys.last-resort", "Without Kyber one-time keys a bundle has the last-resort key, which is never used up; null if there never was one.", func(t *try) {
		caller, target, without := t.device(), t.user(), t.user()
		d := t.deviceOf(target, 0, 1)
		t.deviceOf(without, 0, 0)
		b := t.bundle(caller, target.id)
		t.must(b.KyberPreKey != nil && b.KyberPreKey.KeyID == 1,
			"the last-resort key was handed out before the one-time key")
		for range 3 {
			b = t.bundle(caller, target.id)
			t.must(b.KyberPreKey != nil && b.KyberPreKey.KeyID == 1000 && bytes.Equal(b.KyberPreKey.PublicKey,
				d.keys.LastResortKyberPreKey.PublicKey),
				"the last-resort key is not handed out, or not again")
		}
		t.must(t.bundle(caller, without.id).KyberPreKey == nil, "a device without Kyber keys has one in its bundle")
	}},
	{"keys.unknown-user", "The bundles of a user who does not exist, or has no device, are 404.", func(t *try) {
		d := t.device()
		t.call("GET", "/v1/users/"+uuid.NewString(), d.token, nil).wantError(http.StatusNotFound, "(an unknown user)")
		t.call("GET", "/v1/users/"+t.user().id.String(), d.token, nil).wantError(http.StatusNotFound,
			"(a user without devices)")
	}},
}

// handedOutOnce lets several callers fetch at once, more often than there are keys.
func handedOutOnce(t *try) {
	const keys, callers, each = 40, 4, 12
	target := t.user()
	t.deviceOf(target, keys, keys)
	var asking [callers]*device
	for i := range asking {
		asking[i] = t.device()
	}
	var mu sync.Mutex
	ec, kyber := map[int32]int{}, map[int32]int{}
	t.together(2*callers, func(i int) {
		for range each / 2 {
			b := t.bundle(asking[i%callers], target.id)
			mu.Lock()
			if b.OneTimePreKey != nil {
				ec[b.OneTimePreKey.KeyID]++
			}
			if b.KyberPreKey != nil {
				kyber[b.KyberPreKey.KeyID]++
			}
			mu.Unlock()
		}
	})
	t.must(kyber[1000] == callers*each-keys, "the last-resort key was handed out %d times, want %d", kyber[1000],
		callers*each-keys)
	delete(kyber, 1000)
	for kind, handed := range map[string]map[int32]int{"EC": ec, "Kyber": kyber} {
		t.must(len(handed) == keys, "%d of %d %s keys were handed out", len(handed), keys, kind)
		for id, times := range handed {
			t.must(times == 1, "%s key %d was handed out %d times", kind, id, times)
		}
	}
}

// repeatedUpload repeats uploads whose answers might have been lost, after their keys were handed
// out.
func repeatedUpload(t *try) {
	caller, target := t.device(), t.user()
	d := t.deviceOf(target, 0, 1)
	keys := client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(20, 2),
		KyberPreKeys: append(d.keys.KyberPreKeys, d.identity.KyberPreKeys(20, 1)...)}
	t.upload(d, keys, http.StatusOK, "")
	handed := map[string]bool{}
	fetch := func(when string) client.PreKeyBundle {
		b := t.bundle(caller, target.id)
		if k := b.OneTimePreKey; k != nil {
			t.must(!handed[string(k.PublicKey)], "EC key %d was handed out again %s", k.KeyID, when)
			handed[string(k.PublicKey)] = true
		}
		if k := b.KyberPreKey; k != nil && k.KeyID != 1000 {
			t.must(!handed[string(k.PublicKey)], "Kyber key %d was handed out again %s", k.KeyID, when)
			handed[string(k.PublicKey)] = true
		}
		return b
	}
	fetch("")
	t.upload(d, keys, http.StatusOK, "(a repetition, one key of each kind handed out)")
	b := fetch("after its upload was repeated")
	t.must(b.OneTimePreKey != nil && b.KyberPreKey != nil && b.KyberPreKey.KeyID == 20,
		"a key that was not handed out has gone with the repetition of its upload")
	t.upload(d, keys, http.StatusOK, "(a repetition, all keys handed out)")
	fetch("after its upload was repeated")
	identity, registration := newIdentity(false), d.keys.RegistrationID
	key := identity.SignedPreKey(1)
	t.upload(d, client.KeyUpload{IdentityKey: &identity.Public, RegistrationID: &registration, SignedPreKey: &key,
		OneTimePreKeys: keys.OneTimePreKeys},
		http.StatusOK, "(a takeover with keys that were handed out)")
	fetch("after a takeover brought it again")
}
