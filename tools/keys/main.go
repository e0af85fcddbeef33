// Command keys prints the body of POST /v1/devices for a new device: an identity key, a signed pre-key, and one-time and last-resort
// keys of both kinds, all fresh and properly signed. It is for trying the relay by hand: the private halves are thrown away, so nobody
// can read what is encrypted for such a device.
//
//	go run ./tools/keys | curl -d @- -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' http://127.0.0.1:3000/v1/devices
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
)

// oneTime is how many one-time keys of each kind are made: as many as the relay wants to see.
const oneTime = 20

func main() {
	if err := json.NewEncoder(os.Stdout).Encode(newDevice()); err != nil {
		fmt.Fprintln(os.Stderr, "keys:", err)
		os.Exit(1)
	}
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
		device.OneTimePreKeys = append(device.OneTimePreKeys, client.OneTimePreKey{KeyID: int32(k.ID), PublicKey: k.PublicKey})
	}
	for _, k := range identity.KyberPreKeys(2, oneTime) {
		device.KyberPreKeys = append(device.KyberPreKeys, kyber(k))
	}
	return device
}

func kyber(k prekeytest.SignedPreKey) client.KyberPreKey {
	return client.KyberPreKey{KeyID: int32(k.ID), PublicKey: k.PublicKey, Signature: k.Signature}
}
