package conform

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
)

// newIdentity makes an identity whose signatures carry this sign bit. All but one check take the
// same one, so that a relay that misreads the bit fails that check, and not any by chance.
func newIdentity(sign bool) *prekeytest.Identity {
	for {
		id := prekeytest.NewIdentity()
		if id.Sign(nil)[63]&0x80 != 0 == sign {
			return id
		}
	}
}

// newUpload makes the keys of a new device: one-time keys from id 1 on, the signed key 10 and, if
// there are Kyber keys, the last-resort key 1000.
func newUpload(id *prekeytest.Identity, ec, kyber int) client.NewDevice {
	upload := id.NewDevice(ec, kyber)
	upload.SignedPreKey, upload.LastResortKyberPreKey = id.SignedPreKey(10), nil
	if kyber > 0 {
		upload.LastResortKyberPreKey = lastResort(id, 1000)
	}
	return upload
}

func lastResort(id *prekeytest.Identity, keyID int) *client.KyberPreKey {
	key := id.KyberPreKey(keyID)
	return &key
}

// upload sends keys and expects a status.
func (t *try) upload(d *device, keys client.KeyUpload, status int, what string) {
	a := t.call("POST", "/v1/devices/keys", d.token, keys)
	if status == http.StatusOK {
		a.want(status, what)
	} else {
		a.wantError(status, what)
	}
}

// inventory is what the relay says that it holds.
func (t *try) inventory(d *device) client.KeyInventory {
	return into[client.KeyInventory](t.call("GET", "/v1/devices/keys", d.token, nil).want(http.StatusOK, "(inventory)"))
}

// unchanged fails if do changes what the relay holds for a device.
func (t *try) unchanged(d *device, what string, do func()) {
	before := t.inventory(d)
	do()
	t.must(bytes.Equal(before.Digest, t.inventory(d).Digest), "%s: the keys of the device have changed", what)
}

// bundles fetches a user's bundles.
func (t *try) bundles(caller *device, target uuid.UUID) []client.PreKeyBundle {
	return into[[]client.PreKeyBundle](t.call("GET", "/v1/users/"+target.String(), caller.token,
		nil).want(http.StatusOK, "(bundles)"))
}

// bundle fetches the bundle of a user with one device.
func (t *try) bundle(caller *device, target uuid.UUID) client.PreKeyBundle {
	all := t.bundles(caller, target)
	t.must(len(all) == 1, "a user with one device has %d bundles", len(all))
	return all[0]
}

// digest is KeyInventory.digest as the contract describes it.
func digest(identity []byte, signed client.SignedPreKey, last *client.KyberPreKey, ec []client.OneTimePreKey,
	kyber []client.KyberPreKey) []byte {
	h := sha256.New()
	add := func(id int32, key []byte) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(id)))
		h.Write(key)
	}
	h.Write(identity)
	add(signed.KeyID, signed.PublicKey)
	if last != nil {
		add(last.KeyID, last.PublicKey)
	}
	for _, k := range slices.SortedFunc(slices.Values(ec), func(a, b client.OneTimePreKey) int {
		return int(a.KeyID - b.KeyID)
	}) {
		add(k.KeyID, k.PublicKey)
	}
	for _, k := range slices.SortedFunc(slices.Values(kyber), func(a, b client.KyberPreKey) int {
		return int(a.KeyID - b.KeyID)
	}) {
		add(k.KeyID, k.PublicKey)
	}
	return h.Sum(nil)
}
