package prekey

import (
	"bytes"
	"crypto/sha512"

	"filippo.io/edwards25519"
	"filippo.io/edwards25519/field"
)

// SignatureSize is the size in bytes of an XEdDSA signature: R, then s, whose
// topmost bit carries the sign of the signer's Edwards point.
const SignatureSize = 64

// IdentityKey is an identity key that is ready to verify: an upload checks up
// to 102 signatures under one key, and the way from Montgomery to Edwards costs
// two exponentiations. It is immutable and safe for concurrent use.
type IdentityKey struct {
	// One Montgomery u stands for two Edwards points, A and -A; a signature
	// says which of them it means. Both arrays are indexed by that sign bit.
	negated [2]*edwards25519.Point // minus the point, as the verifier adds it
	encoded [2][32]byte            // the point, as the verifier hashes it
}

// ParseIdentityKey reads a serialised identity key of 33 bytes. Besides the
// errors of CheckECPublicKey it returns ErrIdentityKey for a point of the twist.
//
// libsignal's bare verifier knows no low-order check, and signatures under such
// a key can be made by anybody; but its session set-up refuses the key, and so
// does this function.
func ParseIdentityKey(b []byte) (*IdentityKey, error) {
	u, err := parseEC(b)
	if err != nil {
		return nil, err
	}
	return newIdentityKey(u)
}

// newIdentityKey applies the birational map y = (u-1)/(u+1) of RFC 7748, 4.1.
func newIdentityKey(u *field.Element) (*IdentityKey, error) {
	one := new(field.Element).One()
	denominator := new(field.Element).Add(u, one)
	if denominator.Equal(new(field.Element)) == 1 {
		return nil, ErrIdentityKey // u = -1 has no image; a point of the twist
	}
	y := new(field.Element).Subtract(u, one)
	y.Multiply(y, denominator.Invert(denominator))

	positive, err := new(edwards25519.Point).SetBytes(y.Bytes())
	if err != nil {
		return nil, ErrIdentityKey
	}
	negative := new(edwards25519.Point).Negate(positive)
	return &IdentityKey{
		negated: [2]*edwards25519.Point{negative, positive},
		encoded: [2][32]byte{[32]byte(positive.Bytes()), [32]byte(negative.Bytes())},
	}, nil
}

// Verify checks an XEdDSA signature by libsignal's rule. The message is the
// serialised key that was signed, type byte included; any length is allowed.
// It returns ErrSignatureLength or ErrSignature.
//
// The rule differs from the published one, which fixes the sign of A at zero:
// the top bit of the last byte selects A. It also differs from Ed25519: s may be
// any number below 2^253, so that s and s+L are both accepted, and R is compared
// as bytes with the R computed without cofactor. A signature is therefore no
// identifier: another valid one for the same message is easily derived from it.
func (k *IdentityKey) Verify(message, signature []byte) error {
	if len(signature) != SignatureSize {
		return ErrSignatureLength
	}
	r := signature[:32]
	sign := signature[63] >> 7
	var wide [64]byte // s, zero-extended: SetUniformBytes reduces it modulo L
	copy(wide[:32], signature[32:])
	wide[31] &= 0x7f
	if wide[31]&0xe0 != 0 {
		return ErrSignature
	}
	s, err := new(edwards25519.Scalar).SetUniformBytes(wide[:])
	if err != nil {
		return ErrSignature
	}

	hash := sha512.New()
	hash.Write(r)
	hash.Write(k.encoded[sign][:])
	hash.Write(message)
	h, err := new(edwards25519.Scalar).SetUniformBytes(hash.Sum(wide[:0]))
	if err != nil {
		return ErrSignature
	}

	want := new(edwards25519.Point).VarTimeDoubleScalarBaseMult(h, k.negated[sign], s)
	if !bytes.Equal(want.Bytes(), r) {
		return ErrSignature
	}
	return nil
}

// VerifySignature parses identityKey and verifies one signature under it, with
// the errors of ParseIdentityKey and IdentityKey.Verify. For more than one
// signature, parse once.
func VerifySignature(identityKey, message, signature []byte) error {
	k, err := ParseIdentityKey(identityKey)
	if err != nil {
		return err
	}
	return k.Verify(message, signature)
}
