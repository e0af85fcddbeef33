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

func signedKey(identity *prekeytest.Identity, id int) *client.SignedPreKey {
	k := identity.SignedPreKey(id)
	return &k
}

func kyberKey(identity *prekeytest.Identity, id int) *client.KyberPreKey {
	k := identity.KyberPreKey(id)
	return &k
}
