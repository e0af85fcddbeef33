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
	device := identity.NewDevice(oneTime, 0)
	device.KyberPreKeys = identity.KyberPreKeys(2, oneTime) // the last-resort key has id 1
	return device
}
