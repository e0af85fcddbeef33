// Package xeddsa signs with Curve25519 keys, as libsignal does (XEdDSA; Signal, "The XEdDSA and
// VXEdDSA Signature Schemes"). Package prekey verifies such signatures.
//
// It follows libsignal where that leaves the paper: the private key is not negated until its
// Edwards point has sign 0, but the sign travels in the topmost bit of the signature, which s
// leaves free.
//
// Invariants: a key does not change and is safe for concurrent use; the arithmetic with it is
// constant-time; each signature has a nonce of its own. Private keys are not erased from memory.
// On failure: only bytes that are no private key are refused; signing does not fail.
package xeddsa

import (
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"slices"

	"filippo.io/edwards25519"
)

// Sizes in bytes. A public key begins with its type.
const (
	PrivateKeySize = 32
	PublicKeySize  = 1 + 32
	SignatureSize  = 64
)

// keyType is libsignal's type byte of Curve25519 ("Djb").
const keyType = 0x05

// hashPrefix is hash_1 of the paper, section 2.5: a first block that no encoded point can begin
// with keeps the nonce apart from the challenge.
var hashPrefix = [32]byte{
	0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
}

// errPrivateKey refuses a private key that is not PrivateKeySize bytes.
var errPrivateKey = errors.New("a private key must be 32 bytes")

// PrivateKey is a key that is ready to sign. Make it with NewPrivateKey or Generate.
type PrivateKey struct {
	clamped [PrivateKeySize]byte
	scalar  *edwards25519.Scalar // a, modulo the order of the group
	edwards [32]byte             // A, as the verifier hashes it
	public  [PublicKeySize]byte  // the Montgomery form of A
}

// Generate makes a key.
func Generate() *PrivateKey {
	var b [PrivateKeySize]byte
	_, _ = rand.Read(b[:]) // never fails
	return newPrivateKey(b)
}

// NewPrivateKey reads the 32 bytes that Bytes gives. Like X25519 it takes any such bytes and clamps
// them (RFC 7748, section 5). Returns errPrivateKey.
func NewPrivateKey(b []byte) (*PrivateKey, error) {
	if len(b) != PrivateKeySize {
		return nil, errPrivateKey
	}
	return newPrivateKey([PrivateKeySize]byte(b)), nil
}

func newPrivateKey(b [PrivateKeySize]byte) *PrivateKey {
	b[0] &= 0xf8
	b[31] = b[31]&0x7f | 0x40
	k := &PrivateKey{clamped: b, scalar: reduce(b[:])}
	point := new(edwards25519.Point).ScalarBaseMult(k.scalar)
	k.edwards = [32]byte(point.Bytes())
	k.public[0] = keyType
	copy(k.public[1:], point.BytesMontgomery())
	return k
}

// Bytes returns the private key, clamped, 32 bytes.
func (k *PrivateKey) Bytes() []byte { return slices.Clone(k.clamped[:]) }

// PublicKey returns the serialised public key, 33 bytes, the first of them 0x05.
func (k *PrivateKey) PublicKey() []byte { return slices.Clone(k.public[:]) }

// String keeps the key out of a text that is printed by mistake.
func (*PrivateKey) String() string { return "private key" }

// GoString does what String does.
func (*PrivateKey) GoString() string { return "private key" }

// Sign returns a signature of 64 bytes over a message of any length. Two calls differ.
func (k *PrivateKey) Sign(message []byte) []byte {
	var random [64]byte
	_, _ = rand.Read(random[:]) // never fails
	r := reduce(digest(hashPrefix[:], k.clamped[:], message, random[:]))
	encodedR := new(edwards25519.Point).ScalarBaseMult(r).Bytes()
	h := reduce(digest(encodedR, k.edwards[:], message))
	s := new(edwards25519.Scalar).MultiplyAdd(h, k.scalar, r)

	signature := slices.Concat(encodedR, s.Bytes())
	signature[63] |= k.edwards[31] & 0x80
	return signature
}

// reduce reads up to 64 little-endian bytes modulo the order of the group.
func reduce(b []byte) *edwards25519.Scalar {
	var wide [64]byte
	copy(wide[:], b)
	s, err := new(edwards25519.Scalar).SetUniformBytes(wide[:])
	if err != nil {
		panic("xeddsa: " + err.Error()) // it has 64 bytes
	}
	return s
}

func digest(parts ...[]byte) []byte {
	h := sha512.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}
