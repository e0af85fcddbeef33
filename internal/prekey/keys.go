package prekey

import (
	"crypto/mlkem"

	"filippo.io/edwards25519/field"
)

// Sizes in bytes of the serialised keys, type byte included.
const (
	ECPublicKeySize    = 1 + 32
	KyberPublicKeySize = 1 + mlkem.EncapsulationKeySize1024
)

// Largest ids that every libsignal client can hold.
const (
	MaxRegistrationID = 1<<14 - 1 // 14 bits, and 0 means "none"
	maxKeyID          = 1<<31 - 1 // clients without unsigned integers read 31 bits
)

// libsignal's type bytes: "Djb" for Curve25519, and Kyber-1024 (round 3).
const (
	ecKeyType    = 0x05
	kyberKeyType = 0x08
)

// lowOrder lists every u-coordinate, in canonical form, of a point whose order
// divides 8 on Curve25519 or on its twist (RFC 7748, sections 4.1 and 6.1).
// Clamped scalars are multiples of 8, so these and no others lead X25519 to an
// all-zero secret. A look-up costs a hundredth of the X25519 it stands for; a
// test holds the two against each other.
var lowOrder = [...][32]byte{
	{}, // 0: order 2
	{1},
	{ // order 8
		0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
		0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
	},
	{ // order 8
		0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
		0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
	},
	{ // -1: order 4 on the twist
		0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
	},
}

// CheckECPublicKey accepts a serialised Curve25519 public key: 33 bytes, the
// first of them 0x05, that is not a low-order point in any encoding.
//
// As in libsignal and RFC 7748, u-coordinates of p and above, a set top bit and
// points of the twist are accepted. It returns ErrECKeyLength, ErrECKeyType or
// ErrECKeyLowOrder.
func CheckECPublicKey(b []byte) error {
	_, err := parseEC(b)
	return err
}

// parseEC returns the u-coordinate of a key that CheckECPublicKey accepts.
func parseEC(b []byte) (*field.Element, error) {
	u, err := decodeEC(b)
	if err != nil {
		return nil, err
	}
	canonical := [32]byte(u.Bytes())
	for i := range lowOrder {
		if canonical == lowOrder[i] {
			return nil, ErrECKeyLowOrder
		}
	}
	return u, nil
}

// decodeEC reads a u-coordinate modulo p, ignoring the top bit (RFC 7748,
// section 5), and checks nothing but the frame around it.
func decodeEC(b []byte) (*field.Element, error) {
	if len(b) != ECPublicKeySize {
		return nil, ErrECKeyLength
	}
	if b[0] != ecKeyType {
		return nil, ErrECKeyType
	}
	u, err := new(field.Element).SetBytes(b[1:])
	if err != nil {
		return nil, ErrECKeyLength
	}
	return u, nil
}

// CheckKyberPublicKey accepts a serialised Kyber-1024 public key: 1569 bytes,
// the first of them 0x08, with every coefficient below 3329 (FIPS 203, section
// 7.2). It is a check of format: Kyber and ML-KEM share their keys but derive
// different secrets, so nothing may be encapsulated to the key parsed here.
//
// It returns ErrKyberKeyLength, ErrKyberKeyType or ErrKyberKeyEncoding.
func CheckKyberPublicKey(b []byte) error {
	if len(b) != KyberPublicKeySize {
		return ErrKyberKeyLength
	}
	if b[0] != kyberKeyType {
		return ErrKyberKeyType
	}
	if _, err := mlkem.NewEncapsulationKey1024(b[1:]); err != nil {
		return ErrKyberKeyEncoding
	}
	return nil
}

// CheckRegistrationID accepts 1 to MaxRegistrationID, or returns
// ErrRegistrationID.
func CheckRegistrationID(id int64) error {
	if id < 1 || id > MaxRegistrationID {
		return ErrRegistrationID
	}
	return nil
}

// CheckKeyID accepts 0 to maxKeyID, or returns ErrKeyID.
func CheckKeyID(id int64) error {
	if id < 0 || id > maxKeyID {
		return ErrKeyID
	}
	return nil
}
