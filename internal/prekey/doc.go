// Package prekey decides whether the public keys and signatures that a client
// uploads can be used by the devices that will fetch them.
//
// A bad key that the relay stored would fail later, on somebody else's device,
// as a session that cannot be set up. So the measure is libsignal 0.103: what
// its session set-up refuses is refused here, and what its verifier accepts is
// accepted, non-canonical encodings included. The package is stricter in two
// places, and no libsignal client produces what it refuses there: an EC key has
// exactly 33 bytes (libsignal ignores trailing ones), and the coefficients of a
// Kyber key are reduced (libsignal does not look). The ranges of ids are the
// contract's: libsignal's session set-up takes any 32 bits.
//
// Specifications: XEdDSA (Signal, "The XEdDSA and VXEdDSA Signature Schemes")
// in libsignal's variant, X25519 (RFC 7748), ML-KEM-1024 (FIPS 203, whose key
// format Kyber-1024 shares), X3DH and PQXDH for what is signed.
//
// Invariants: pure functions of their arguments, without I/O, randomness or
// state, safe for concurrent use, and no argument is kept or changed. All
// inputs are public, so running time may depend on them.
//
// Failure: a check returns nil or one of the sentinel errors below, whose text
// is a short, stable reason that may be shown to the client: it never contains
// any part of the input. No input makes a check panic.
package prekey

import "errors"

// The reasons for a refusal. Each text may be shown to a client.
var (
	// ErrECKeyLength refuses an EC public key that is not ECPublicKeySize bytes.
	ErrECKeyLength = errors.New("an EC public key must be 33 bytes")
	// ErrECKeyType refuses an EC public key whose first byte is not 0x05.
	ErrECKeyType = errors.New("an EC public key must begin with 0x05")
	// ErrECKeyLowOrder refuses a point whose X25519 agreements are all zero.
	ErrECKeyLowOrder = errors.New("an EC public key is a low-order point")
	// ErrIdentityKey refuses an identity key on the twist of Curve25519, under
	// which no signature can ever verify.
	ErrIdentityKey = errors.New("identity key cannot verify signatures")
	// ErrKyberKeyLength refuses a Kyber key that is not KyberPublicKeySize bytes.
	ErrKyberKeyLength = errors.New("a Kyber public key must be 1569 bytes")
	// ErrKyberKeyType refuses a Kyber public key whose first byte is not 0x08.
	ErrKyberKeyType = errors.New("a Kyber public key must begin with 0x08")
	// ErrKyberKeyEncoding refuses a Kyber key with a coefficient of 3329 or more.
	ErrKyberKeyEncoding = errors.New("a Kyber public key is malformed")
	// ErrSignatureLength refuses a signature that is not SignatureSize bytes.
	ErrSignatureLength = errors.New("signature must be 64 bytes")
	// ErrSignature refuses a signature that does not verify.
	ErrSignature = errors.New("signature does not verify")
	// ErrRegistrationID refuses a registration id outside 1 to MaxRegistrationID.
	ErrRegistrationID = errors.New("registration id must be 1 to 16383")
	// ErrKeyID refuses a key id outside 0 to maxKeyID.
	ErrKeyID = errors.New("key id must be 0 to 2147483647")
)
