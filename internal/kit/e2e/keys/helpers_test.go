package keys_test

import (
	"bytes"
	"testing"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func keyInventory(t testing.TB, d *relaytest.Device) client.KeyInventory {
	t.Helper()
	got, err := d.GetKeyInventoryWithResponse(t.Context())
	if err != nil || got.JSON200 == nil {
		t.Fatalf("inventory: %v, %s", err, got.Body)
	}
	return *got.JSON200
}

// wantUnchanged runs something that must change nothing of what the relay holds for a device.
func wantUnchanged(t testing.TB, d *relaytest.Device, do func()) {
	t.Helper()
	before := keyInventory(t, d)
	do()
	if after := keyInventory(t, d); !bytes.Equal(before.Digest, after.Digest) ||
		before.RegistrationID != after.RegistrationID {
		t.Errorf("what the relay holds has changed: %+v, was %+v", after, before)
	}
}

// ecKeys and kyberKeys make n one-time keys with ids from first on.
func ecKeys(first, n int) []client.OneTimePreKey {
	return relaytest.OneTime(prekeytest.PreKeys(first, n))
}

func kyberKeys(identity *prekeytest.Identity, first, n int) []client.KyberPreKey {
	return relaytest.Kybers(identity.KyberPreKeys(first, n))
}

func signedKey(identity *prekeytest.Identity, id int) *client.SignedPreKey {
	k := relaytest.Signed(identity.SignedPreKey(id))
	return &k
}

func kyberKey(identity *prekeytest.Identity, id int) *client.KyberPreKey {
	k := relaytest.Kyber(identity.KyberPreKey(id))
	return &k
}
