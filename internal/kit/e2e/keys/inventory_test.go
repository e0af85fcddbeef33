package keys_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"testing"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// digestOf is openapi.yaml's description of KeyInventory.digest, read as a client's author reads
// it.
func digestOf(identity []byte, signed client.SignedPreKey, last *client.KyberPreKey, ec []client.OneTimePreKey,
	kyber []client.KyberPreKey) []byte {
	var all bytes.Buffer
	add := func(id int32, public []byte) {
		_ = binary.Write(&all, binary.BigEndian, id)
		all.Write(public)
	}
	all.Write(identity)
	add(signed.KeyID, signed.PublicKey)
	if last != nil {
		add(last.KeyID, last.PublicKey)
	}
	for _, k := range ec {
		add(k.KeyID, k.PublicKey)
	}
	for _, k := range kyber {
		add(k.KeyID, k.PublicKey)
	}
	sum := sha256.Sum256(all.Bytes())
	return sum[:]
}

func TestTheInventoryIsWhatTheRelayHolds(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	identity := prekeytest.NewIdentity()
	upload := identity.NewDevice(4, 3)
	upload.RegistrationID = 4711
	last := upload.LastResortKyberPreKey
	upload.LastResortKyberPreKey = nil
	d := relay.Register(t).NewDeviceWith(t, identity, upload)
	check := func(when string, signed client.SignedPreKey, last *client.KyberPreKey, ec []client.OneTimePreKey,
		kyber []client.KyberPreKey) {
		t.Helper()
		got := keyInventory(t, d)
		if want := digestOf(identity.Public, signed, last, ec, kyber); !bytes.Equal(got.Digest, want) {
			t.Errorf("%s: digest %x, want %x", when, got.Digest, want)
		}
		if got.RegistrationID != 4711 || !bytes.Equal(got.IdentityKey, identity.Public) ||
			got.SignedPreKeyID != signed.KeyID {
			t.Errorf("%s: %+v", when, got)
		}
		if (got.LastResortKyberPreKeyID == nil) != (last == nil) ||
			last != nil && *got.LastResortKyberPreKeyID != last.KeyID {
			t.Errorf("%s: last-resort key %v", when, got.LastResortKyberPreKeyID)
		}
		var ecIDs, kyberIDs []int32
		for _, k := range ec {
			ecIDs = append(ecIDs, k.KeyID)
		}
		for _, k := range kyber {
			kyberIDs = append(kyberIDs, k.KeyID)
		}
		wantStock(t, d, ecIDs, kyberIDs)
	}
	check("at first", upload.SignedPreKey, nil, upload.OneTimePreKeys, upload.KyberPreKeys)
	e2e.WantUpload(t, d, client.KeyUpload{LastResortKyberPreKey: last}, http.StatusOK, "")
	check("with a last-resort key", upload.SignedPreKey, last, upload.OneTimePreKeys, upload.KyberPreKeys)
	caller := relay.Register(t).NewDevice(t)
	e2e.FetchBundle(t, caller, d.User.ID)
	check("after a hand-out", upload.SignedPreKey, last, upload.OneTimePreKeys[1:], upload.KyberPreKeys[1:])
	signed, low := *signedKey(identity, 5), prekeytest.PreKeys(0, 2)
	e2e.WantUpload(t, d, client.KeyUpload{SignedPreKey: &signed, OneTimePreKeys: low}, http.StatusOK, "")
	check("after a refill", signed, last, append(low, upload.OneTimePreKeys[1:]...), upload.KyberPreKeys[1:])
	for range 6 {
		e2e.FetchBundle(t, caller, d.User.ID)
	}
	check("when all are gone", signed, last, nil, nil)
	account, err := d.GetAccountWithResponse(t.Context())
	if err != nil || len(account.JSON200.Devices) != 1 || !bytes.Equal(account.JSON200.Devices[0].Keys.Digest,
		keyInventory(t, d).Digest) {
		t.Errorf("the account's export shows another inventory: %s, %v", account.Body, err)
	}
}
