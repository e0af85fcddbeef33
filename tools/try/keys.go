package main

import (
	"encoding/json"
	"errors"
	"os"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
)

// oneTime is how many one-time keys of each kind are made: as many as the relay wants to see.
const oneTime = 20

// keys prints a new device: an identity key, a signed pre-key, and one-time and last-resort keys of
// both kinds, all fresh and properly signed. The private halves are thrown away, so nobody can read
// what is encrypted for such a device.
func keys(args []string) error {
	if len(args) != 0 {
		return errors.New("usage: try keys")
	}
	return json.NewEncoder(os.Stdout).Encode(newDevice())
}

func newDevice() client.NewDevice {
	identity := prekeytest.NewIdentity()
	signed, lastResort := identity.SignedPreKey(1), kyber(identity.KyberPreKey(1))
	device := client.NewDevice{
		IdentityKey:           identity.Public,
		RegistrationID:        int32(prekeytest.NewRegistrationID()),
		SignedPreKey:          client.SignedPreKey{KeyID: 1, PublicKey: signed.PublicKey, Signature: signed.Signature},
		LastResortKyberPreKey: &lastResort,
	}
	for _, k := range prekeytest.PreKeys(1, oneTime) {
		device.OneTimePreKeys = append(device.OneTimePreKeys,
			client.OneTimePreKey{KeyID: int32(k.ID), PublicKey: k.PublicKey})
	}
	for _, k := range identity.KyberPreKeys(2, oneTime) {
		device.KyberPreKeys = append(device.KyberPreKeys, kyber(k))
	}
	return device
}

func kyber(k prekeytest.SignedPreKey) client.KyberPreKey {
	return client.KyberPreKey{KeyID: int32(k.ID), PublicKey: k.PublicKey, Signature: k.Signature}
}
