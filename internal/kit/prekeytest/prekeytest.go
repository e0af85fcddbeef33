// Package prekeytest makes the keys that a Signal client would upload, for tests
// and load generators.
//
// Invariants: everything it returns passes the checks of package prekey and is
// fresh and random; nothing is shared between calls, so tests may run in
// parallel. Generation is cheap (well under a millisecond a key), so nothing is
// cached. Identities sign as libsignal does (XEdDSA, with the sign of the Edwards
// point in the topmost bit of the signature).
//
// Failure: a private key of another size than 32 bytes is a mistake in the test
// and panics. This is no code for clients: its arithmetic is constant-time, but
// it neither protects nor erases private keys.
package prekeytest

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"

	"github.com/obscura-relay/obscura/internal/prekey"
)

// KeyPair is a Curve25519 key pair: Private is the clamped scalar of 32 bytes,
// Public the serialised key of 33 bytes.
type KeyPair struct {
	Private []byte
	Public  []byte
}

// NewKeyPair generates an EC key pair, to serve as a pre-key or an identity.
func NewKeyPair() KeyPair {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		panic("prekeytest: " + err.Error())
	}
	return KeyPair{Private: clamp(private.Bytes()), Public: serialise(private)}
}

// clamp does to a stored scalar what X25519 does when it uses one (RFC 7748,
// section 5): XEdDSA takes the private key as it stands, modulo L.
func clamp(scalar []byte) []byte {
	scalar[0] &= 0xf8
	scalar[31] &= 0x7f
	scalar[31] |= 0x40
	return scalar
}

func serialise(private *ecdh.PrivateKey) []byte {
	return append([]byte{0x05}, private.PublicKey().Bytes()...)
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
func NewRegistrationID() int {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails
	return 1 + (int(b[0])<<8|int(b[1]))%prekey.MaxRegistrationID
}
