package keys_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestABundleIsWhatTheDevicePublished(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	caller, identity := relay.Register(t).NewDevice(t), prekeytest.NewIdentity()
	upload := identity.NewDevice(2, 1)
	d := relay.Register(t).NewDeviceWith(t, identity, upload)
	same := func(what string, gotID, wantID int32, parts ...[]byte) {
		t.Helper()
		for i := 0; i < len(parts); i += 2 {
			if gotID != wantID || !bytes.Equal(parts[i], parts[i+1]) {
				t.Errorf("%s: not what was published", what)
			}
		}
	}
	for nth := range 3 {
		b := e2e.FetchBundle(t, caller, d.User.ID)
		if b.DeviceID != d.ID || b.DeviceNumber != 1 || b.RegistrationID != upload.RegistrationID ||
			!bytes.Equal(b.IdentityKey, identity.Public) {
			t.Errorf("bundle: %+v", b)
		}
		same("signed pre-key", b.SignedPreKey.KeyID, 1, b.SignedPreKey.PublicKey, upload.SignedPreKey.PublicKey,
			b.SignedPreKey.Signature, upload.SignedPreKey.Signature)
		if nth < 2 {
			k := upload.OneTimePreKeys[nth]
			same("one-time key", b.OneTimePreKey.KeyID, k.KeyID, b.OneTimePreKey.PublicKey, k.PublicKey)
		} else if b.OneTimePreKey != nil {
			t.Errorf("a one-time key from nowhere: %d", b.OneTimePreKey.KeyID)
		}
		kyber := *upload.LastResortKyberPreKey // never consumed
		if nth == 0 {
			kyber = upload.KyberPreKeys[0]
		}
		same("Kyber key", b.KyberPreKey.KeyID, kyber.KeyID, b.KyberPreKey.PublicKey, kyber.PublicKey,
			b.KyberPreKey.Signature, kyber.Signature)
	}
	if id := keyInventory(t, d).LastResortKyberPreKeyID; id == nil || *id != 1 {
		t.Errorf("the last-resort key has gone: %v", id)
	}
}

func TestADeviceWithoutKyberKeysHasNoneInItsBundle(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	caller, d := relay.Register(t).NewDevice(t), e2e.PlainDevice(t, relay.Register(t), 0)
	if b := e2e.FetchBundle(t, caller, d.User.ID); b.OneTimePreKey != nil || b.KyberPreKey != nil {
		t.Errorf("bundle: %+v", b)
	}
	// One-time Kyber keys without a last-resort key: one, and then none.
	e2e.WantUpload(t, d, client.KeyUpload{KyberPreKeys: d.Identity.KyberPreKeys(5, 1)}, http.StatusOK, "")
	if b := e2e.FetchBundle(t, caller, d.User.ID); b.KyberPreKey == nil || b.KyberPreKey.KeyID != 5 {
		t.Errorf("bundle: %+v", b.KyberPreKey)
	}
	if b := e2e.FetchBundle(t, caller, d.User.ID); b.KyberPreKey != nil {
		t.Errorf("bundle: %+v", b.KyberPreKey)
	}
}

func TestBundlesComeInTheOrderOfDeviceNumbers(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	var devices []*relaytest.Device
	for range 10 {
		devices = append(devices, user.NewDevice(t))
	}
	for nth := int32(1); nth <= 2; nth++ {
		// The user's own bundles too: that is how a device reaches its siblings.
		bundles := e2e.FetchBundles(t, devices[3], user.ID)
		if len(bundles) != 10 {
			t.Fatalf("%d bundles, want 10", len(bundles))
		}
		for i, b := range bundles {
			if b.DeviceID != devices[i].ID || b.DeviceNumber != int32(i+1) || b.OneTimePreKey.KeyID != nth ||
				b.KyberPreKey.KeyID != nth {
				t.Errorf("bundle %d: %v, number %d, keys %d and %d", i, b.DeviceID, b.DeviceNumber,
					b.OneTimePreKey.KeyID, b.KyberPreKey.KeyID)
			}
		}
	}
}

func TestBundlesOfNobodyAreNotFound(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	caller := relay.Register(t).NewDevice(t)
	// the last one has no device
	for _, id := range []uuid.UUID{uuid.New(), uuid.Nil, caller.ID, relay.Register(t).ID} {
		got, err := caller.GetPreKeyBundlesWithResponse(t.Context(), id, nil)
		if err != nil || e2e.RefusalOf(got.StatusCode(),
			got.Body) != (e2e.Refusal{Status: http.StatusNotFound, Code: "user_not_found"}) {
			t.Errorf("bundles of %v: %d %s, %v", id, got.StatusCode(), got.Body, err)
		}
	}
	got, err := caller.User.GetPreKeyBundlesWithResponse(t.Context(), caller.User.ID, nil)
	if err != nil || got.StatusCode() != http.StatusForbidden {
		t.Errorf("with a user-scoped token: %d %s, %v", got.StatusCode(), got.Body, err)
	}
	if got, err := relay.Client("").GetPreKeyBundlesWithResponse(t.Context(), caller.User.ID, nil); err != nil ||
		got.StatusCode() != http.StatusUnauthorized {
		t.Errorf("without a token: %d %s, %v", got.StatusCode(), got.Body, err)
	}
	if inventory := keyInventory(t, caller); inventory.OneTimePreKeyCount != 5 {
		t.Errorf("refused fetches took keys: %d left", inventory.OneTimePreKeyCount)
	}
}

func TestNobodyDrainsAnothersOneTimeKeys(t *testing.T) {
	t.Parallel()
	const allowed = 3
	relay := relaytest.Start(t, e2e.Limits(allowed, "bundles"))
	mallory, target, another := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t),
		relay.Register(t).NewDevice(t)
	for range allowed {
		e2e.FetchBundle(t, mallory, target.User.ID)
	}
	for range 4 {
		got, err := mallory.GetPreKeyBundlesWithResponse(t.Context(), target.User.ID, nil)
		if err != nil || e2e.RefusalOf(got.StatusCode(), got.Body) != (e2e.Refusal{Status: http.StatusTooManyRequests,
			Code: "rate_limited"}) {
			t.Errorf("fetch %d: %d %s, %v", allowed+1, got.StatusCode(), got.Body, err)
			continue
		}
		if wait, err := strconv.Atoi(got.HTTPResponse.Header.Get("Retry-After")); err != nil || wait < 1 ||
			wait > 1200 {
			t.Errorf("Retry-After: %d, %v", wait, err)
		}
	}
	// The same id in other characters is the same target.
	first := target.User.ID.String()
	first = fmt.Sprintf("/v1/users/%%%02x%s", first[0], first[1:])
	e2e.Ask{Method: "GET", Path: first, Token: mallory.Token}.To(t, relay).Want(t, http.StatusTooManyRequests,
		"rate_limited")
	if left := keyInventory(t, target).OneTimePreKeyCount; left != 5-allowed {
		t.Errorf("%d one-time keys are left, want %d", left, 5-allowed)
	}
	e2e.FetchBundle(t, mallory, another.User.ID) // another target
	e2e.FetchBundle(t, another, target.User.ID)  // another caller
	// Another device of the same user takes nothing either: with ten of them an account drained a
	// hundred keys at once.
	for range 9 {
		got, err := mallory.User.NewDevice(t).GetPreKeyBundlesWithResponse(t.Context(), target.User.ID, nil)
		if err != nil || got.StatusCode() != http.StatusTooManyRequests {
			t.Errorf("by another device: %d, %v", got.StatusCode(), err)
		}
	}
	if left := keyInventory(t, target).OneTimePreKeyCount; left != 5-allowed-1 {
		t.Errorf("%d one-time keys are left, want %d", left, 5-allowed-1)
	}
}
