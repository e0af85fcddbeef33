package prekey_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/obscura-relay/obscura/internal/prekey"
)

// FuzzCheckKeys looks for keys that make a check panic, waver, or disagree with
// X25519 about what can be agreed with.
func FuzzCheckKeys(f *testing.F) {
	v := readVectors(f)
	for _, k := range append(v.ECKeys, v.KyberKeys...) {
		f.Add(k.Key)
	}
	scratch := newScratch(f)
	f.Fuzz(func(t *testing.T, key []byte) {
		before := slices.Clone(key)
		ec, kyber := prekey.CheckECPublicKey(key), prekey.CheckKyberPublicKey(key)
		if !errors.Is(prekey.CheckECPublicKey(key), ec) || !errors.Is(prekey.CheckKyberPublicKey(key), kyber) {
			t.Fatal("two verdicts on one key")
		}
		if !bytes.Equal(before, key) {
			t.Fatal("the key was changed")
		}
		if ec == nil && kyber == nil {
			t.Fatal("one key of two kinds")
		}
		if len(key) == prekey.ECPublicKeySize && key[0] == 5 && (ec == nil) != agrees(t, scratch, key) {
			t.Fatalf("%x: got %v, X25519 disagrees", key, ec)
		}
		if _, err := prekey.ParseIdentityKey(key); err == nil && ec != nil {
			t.Fatalf("an identity key that is no EC key: %v", ec)
		}
	})
}

// FuzzVerifySignature looks for a panic, a wavering verdict, and a difference
// from Ed25519 of the standard library, which follows the same equation.
func FuzzVerifySignature(f *testing.F) {
	v := readVectors(f)
	for _, s := range v.Signatures {
		f.Add(s.Identity, v.Messages[s.Message], s.Signature)
	}
	f.Fuzz(func(t *testing.T, identity, message, signature []byte) {
		err := prekey.VerifySignature(identity, message, signature)
		if !errors.Is(prekey.VerifySignature(identity, message, signature), err) {
			t.Fatal("two verdicts on one signature")
		}
		k, parseErr := prekey.ParseIdentityKey(identity)
		if parseErr != nil {
			if !errors.Is(err, parseErr) {
				t.Fatalf("got %v, but the identity key says %v", err, parseErr)
			}
			return
		}
		if !errors.Is(k.Verify(message, signature), err) {
			t.Fatal("a parsed key has another verdict")
		}
		if len(signature) == prekey.SignatureSize && (err == nil) != asEd25519(identity, message, signature) {
			t.Fatalf("got %v, Ed25519 disagrees", err)
		}
	})
}

// asEd25519 gives the same verdict by another road: the map to Edwards with
// math/big, s reduced with math/big, and the standard library's verifier.
func asEd25519(identity, message, signature []byte) bool {
	u := littleEndian(identity[1:])
	u.SetBit(u, 255, 0)
	one := big.NewInt(1)
	y := new(big.Int).Sub(u, one)
	y.Mul(y, new(big.Int).ModInverse(new(big.Int).Add(u, one), curveP)).Mod(y, curveP)

	s := littleEndian(signature[32:])
	sign := byte(s.Bit(255))
	s.SetBit(s, 255, 0)
	if s.BitLen() > 253 {
		return false
	}
	order, _ := new(big.Int).SetString("27742317777372353535851937790883648493", 10)
	s.Mod(s, order.SetBit(order, 252, 1))

	canonical := append(slices.Clone(signature[:32]), encodeU(s, 0)[1:]...)
	return ed25519.Verify(encodeU(y, sign)[1:], message, canonical)
}

func littleEndian(b []byte) *big.Int {
	b = slices.Clone(b)
	slices.Reverse(b)
	return new(big.Int).SetBytes(b)
}
