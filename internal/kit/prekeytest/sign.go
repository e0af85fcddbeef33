package prekeytest

import (
	"crypto/rand"
	"crypto/sha512"
	"slices"

	"filippo.io/edwards25519"
)

// hashPrefix is hash_1 of the XEdDSA paper, section 2.5: a first block that no
// encoded point can begin with keeps the nonce apart from the challenge.
var hashPrefix = [32]byte{
	0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
}

// Sign makes an XEdDSA signature of 64 bytes with an X25519 private key of 32
// bytes and a random nonce.
//
// It follows libsignal where that leaves the paper: the private key is not
// negated until its Edwards point has sign 0, but the sign travels in the
// topmost bit of the signature, which s leaves free.
func Sign(private, message []byte) []byte {
	if len(private) != 32 {
		panic("prekeytest: a private key is 32 bytes")
	}
	key := clamp(append([]byte(nil), private...))
	a := reduce(key)
	public := new(edwards25519.Point).ScalarBaseMult(a).Bytes()
	nonce := make([]byte, 64)
	_, _ = rand.Read(nonce) // never fails

	r := reduce(digest(hashPrefix[:], key, message, nonce))
	encodedR := new(edwards25519.Point).ScalarBaseMult(r).Bytes()
	h := reduce(digest(encodedR, public, message))
	s := new(edwards25519.Scalar).MultiplyAdd(h, a, r)

	signature := slices.Concat(encodedR, s.Bytes())
	signature[63] |= public[31] & 0x80
	return signature
}

// reduce reads up to 64 little-endian bytes modulo the group order.
func reduce(b []byte) *edwards25519.Scalar {
	wide := make([]byte, 64)
	copy(wide, b)
	s, err := new(edwards25519.Scalar).SetUniformBytes(wide)
	if err != nil {
		panic("prekeytest: " + err.Error())
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
