// Package prekeytest makes the keys that a Signal client would upload, as they go over the wire,
// for tests and load generators.
//
// Invariants: everything it returns passes the checks of package prekey and is
// fresh and random; nothing is shared between calls, so tests may run in
// parallel. Generation is cheap (well under a millisecond a key), so nothing is
// cached. Identities sign as libsignal does, with package xeddsa.
//
// Failure: a private key of another size than 32 bytes is a mistake in the test
// and panics. This is no code for clients: it neither protects nor erases private
// keys.
package prekeytest

import (
	"crypto/mlkem"
	"crypto/rand"

	"github.com/obscura-relay/obscura/internal/prekey"
	"github.com/obscura-relay/obscura/internal/xeddsa"
)

// KeyPair is a Curve25519 key pair: Private is the clamped scalar of 32 bytes,
// Public the serialised key of 33 bytes.
type KeyPair struct {
	Private []byte
	Public  []byte
}

// NewKeyPair generates an EC key pair, to serve as a pre-key or an identity.
func NewKeyPair() KeyPair {
	key := xeddsa.Generate()
	return KeyPair{Private: key.Bytes(), Public: key.PublicKey()}
}

// NewKyberPublicKey generates a serialised Kyber-1024 public key of 1569 bytes.
// Its private half is thrown away: nobody in this repository decapsulates.
func NewKyberPublicKey() []byte {
	private, err := mlkem.GenerateKey1024()
	if err != nil {
		panic("prekeytest: " + err.Error())
	}
	out := make([]byte, 0, prekey.KyberPublicKeySize)
	return append(append(out, 0x08), private.EncapsulationKey().Bytes()...)
}

// NewRegistrationID picks a registration id from 1 to prekey.MaxRegistrationID.
func NewRegistrationID() int32 {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails
	return 1 + (int32(b[0])<<8|int32(b[1]))%prekey.MaxRegistrationID
}
