package prekeytest

import (
	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/xeddsa"
)

// Identity is a device's identity key pair.
type Identity struct{ KeyPair }

// NewIdentity generates an identity. About half of them sign with either sign
// bit, and an identity keeps its bit for all its signatures.
func NewIdentity() *Identity { return &Identity{NewKeyPair()} }

// Sign returns a signature of 64 bytes over message; two calls differ.
func (id *Identity) Sign(message []byte) []byte {
	key, err := xeddsa.NewPrivateKey(id.Private)
	if err != nil {
		panic("prekeytest: " + err.Error())
	}
	return key.Sign(message)
}

// SignedPreKey generates an EC key with the given id and signs it.
func (id *Identity) SignedPreKey(keyID int) client.SignedPreKey {
	return id.sign(keyID, NewKeyPair().Public)
}

// KyberPreKey generates a Kyber-1024 key with the given id and signs it. It
// serves as a one-time key and as the last-resort key.
func (id *Identity) KyberPreKey(keyID int) client.KyberPreKey {
	return client.KyberPreKey(id.sign(keyID, NewKyberPublicKey()))
}

// KyberPreKeys generates n signed Kyber keys with the ids from first upwards.
func (id *Identity) KyberPreKeys(first, n int) []client.KyberPreKey {
	keys := make([]client.KyberPreKey, n)
	for i := range keys {
		keys[i] = id.KyberPreKey(first + i)
	}
	return keys
}

func (id *Identity) sign(keyID int, public []byte) client.SignedPreKey {
	return client.SignedPreKey{KeyID: int32(keyID), PublicKey: public, Signature: id.Sign(public)}
}

// NewDevice makes the upload of a device: ec and kyber one-time keys with ids from 1 on, a signed
// and a last-resort key with id 1.
func (id *Identity) NewDevice(ec, kyber int) client.NewDevice {
	lastResort := id.KyberPreKey(1)
	return client.NewDevice{IdentityKey: id.Public, RegistrationID: NewRegistrationID(),
		SignedPreKey: id.SignedPreKey(1), OneTimePreKeys: PreKeys(1, ec),
		KyberPreKeys: id.KyberPreKeys(1, kyber), LastResortKyberPreKey: &lastResort}
}

// PreKeys generates n one-time EC keys with the ids from first upwards. They go unsigned, as in
// X3DH.
func PreKeys(first, n int) []client.OneTimePreKey {
	keys := make([]client.OneTimePreKey, n)
	for i := range keys {
		keys[i] = client.OneTimePreKey{KeyID: int32(first + i), PublicKey: NewKeyPair().Public}
	}
	return keys
}
