package prekeytest

import "github.com/obscura-relay/obscura/internal/xeddsa"

// PreKey is a one-time EC pre-key. It goes unsigned, as in X3DH.
type PreKey struct {
	ID        int
	PublicKey []byte // 33 bytes
}

// SignedPreKey is a signed EC pre-key (33 bytes) or a Kyber pre-key (1569).
type SignedPreKey struct {
	ID        int
	PublicKey []byte
	Signature []byte // 64 bytes, over PublicKey
}

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
func (id *Identity) SignedPreKey(keyID int) SignedPreKey {
	return id.sign(keyID, NewKeyPair().Public)
}

// KyberPreKey generates a Kyber-1024 key with the given id and signs it. It
// serves as a one-time key and as the last-resort key.
func (id *Identity) KyberPreKey(keyID int) SignedPreKey {
	return id.sign(keyID, NewKyberPublicKey())
}

// KyberPreKeys generates n signed Kyber keys with the ids from first upwards.
func (id *Identity) KyberPreKeys(first, n int) []SignedPreKey {
	keys := make([]SignedPreKey, n)
	for i := range keys {
		keys[i] = id.KyberPreKey(first + i)
	}
	return keys
}

func (id *Identity) sign(keyID int, public []byte) SignedPreKey {
	return SignedPreKey{ID: keyID, PublicKey: public, Signature: id.Sign(public)}
}

// PreKeys generates n one-time EC keys with the ids from first upwards.
func PreKeys(first, n int) []PreKey {
	keys := make([]PreKey, n)
	for i := range keys {
		keys[i] = PreKey{ID: first + i, PublicKey: NewKeyPair().Public}
	}
	return keys
}
