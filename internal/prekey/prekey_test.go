package prekey_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/prekey"
)

// curveP is 2^255 - 19.
var curveP = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))

// encodeU serialises a u-coordinate as it stands, canonical or not.
func encodeU(u *big.Int, topBit byte) []byte {
	b := u.FillBytes(make([]byte, 32))
	slices.Reverse(b)
	b[31] |= topBit << 7
	return append([]byte{5}, b...)
}

// agrees is the definition that the list of low-order points abbreviates.
func agrees(t rapid.TB, scratch *ecdh.PrivateKey, key []byte) bool {
	public, err := ecdh.X25519().NewPublicKey(key[1:])
	if err != nil {
		t.Fatal(err)
	}
	_, err = scratch.ECDH(public)
	return err == nil
}

func newScratch(t testing.TB) *ecdh.PrivateKey {
	t.Helper()
	scratch, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return scratch
}

func TestLowOrderPointsInEveryEncoding(t *testing.T) {
	scratch := newScratch(t)
	encodings := 0
	for _, canonical := range prekey.LowOrder() {
		slices.Reverse(canonical[:])
		u := new(big.Int).SetBytes(canonical[:])
		for ; u.BitLen() <= 255; u.Add(u, curveP) {
			for _, topBit := range []byte{0, 1} {
				encodings++
				key := encodeU(u, topBit)
				if err := prekey.CheckECPublicKey(key); !errors.Is(err, prekey.ErrECKeyLowOrder) {
					t.Errorf("%x: got %v", key, err)
				}
				if agrees(t, scratch, key) {
					t.Errorf("%x: X25519 finds a secret", key)
				}
			}
		}
	}
	if encodings != 14 { // five points, two of them with a second form below 2^255, times the top bit
		t.Errorf("%d encodings, want 14", encodings)
	}
}

func TestECKeyAgreesWithX25519(t *testing.T) {
	scratch := newScratch(t)
	near := rapid.Custom(func(t *rapid.T) *big.Int { // around 0, p and 2^255
		u := big.NewInt(rapid.Int64Range(-40, 40).Draw(t, "offset"))
		if rapid.Bool().Draw(t, "near p") {
			u.Add(u, curveP)
		}
		return u.And(u, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(1)))
	})
	rapid.Check(t, func(t *rapid.T) {
		key := encodeU(near.Draw(t, "u"), rapid.ByteRange(0, 1).Draw(t, "top bit"))
		if rapid.Bool().Draw(t, "any") {
			copy(key[1:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "bytes"))
		}
		if got, want := prekey.CheckECPublicKey(key) == nil, agrees(t, scratch, key); got != want {
			t.Fatalf("%x: accepted %v, X25519 agrees %v", key, got, want)
		}
	})
}

func TestReasons(t *testing.T) {
	id := prekeytest.NewIdentity()
	kyber := prekeytest.NewKyberPublicKey()
	unreduced := slices.Clone(kyber)
	unreduced[1], unreduced[2] = 0xff, 0xff
	retyped := func(b []byte, first byte) []byte {
		b = slices.Clone(b)
		b[0] = first
		return b
	}
	ec := id.Public
	twist := encodeU(big.NewInt(2), 0)
	signature := id.Sign(ec)
	verify := func(identity, message, signature []byte) error {
		return prekey.VerifySignature(identity, message, signature)
	}
	for name, c := range map[string]struct{ got, want error }{
		"EC":                      {prekey.CheckECPublicKey(ec), nil},
		"EC nil":                  {prekey.CheckECPublicKey(nil), prekey.ErrECKeyLength},
		"EC short":                {prekey.CheckECPublicKey(ec[:32]), prekey.ErrECKeyLength},
		"EC long":                 {prekey.CheckECPublicKey(append(slices.Clone(ec), 0)), prekey.ErrECKeyLength},
		"EC type":                 {prekey.CheckECPublicKey(retyped(ec, 4)), prekey.ErrECKeyType},
		"EC zero":                 {prekey.CheckECPublicKey(retyped(make([]byte, 33), 5)), prekey.ErrECKeyLowOrder},
		"EC twist":                {prekey.CheckECPublicKey(twist), nil},
		"Kyber":                   {prekey.CheckKyberPublicKey(kyber), nil},
		"Kyber nil":               {prekey.CheckKyberPublicKey(nil), prekey.ErrKyberKeyLength},
		"Kyber short":             {prekey.CheckKyberPublicKey(kyber[:1568]), prekey.ErrKyberKeyLength},
		"Kyber type":              {prekey.CheckKyberPublicKey(retyped(kyber, 0x0a)), prekey.ErrKyberKeyType},
		"Kyber coefficient":       {prekey.CheckKyberPublicKey(unreduced), prekey.ErrKyberKeyEncoding},
		"signature":               {verify(ec, ec, signature), nil},
		"signature nil":           {verify(ec, ec, nil), prekey.ErrSignatureLength},
		"signature long":          {verify(ec, ec, append(slices.Clone(signature), 0)), prekey.ErrSignatureLength},
		"signature zero":          {verify(ec, ec, make([]byte, 64)), prekey.ErrSignature},
		"signature other message": {verify(ec, kyber, signature), prekey.ErrSignature},
		"identity short":          {verify(ec[:32], ec, signature), prekey.ErrECKeyLength},
		"identity low order":      {verify(encodeU(big.NewInt(1), 0), ec, signature), prekey.ErrECKeyLowOrder},
		"identity minus one": {prekey.VerifyBare(encodeU(new(big.Int).Sub(curveP, big.NewInt(1)), 0), ec,
			signature), prekey.ErrIdentityKey},
		"identity twist":     {verify(twist, ec, signature), prekey.ErrIdentityKey},
		"registration 0":     {prekey.CheckRegistrationID(0), prekey.ErrRegistrationID},
		"registration 1":     {prekey.CheckRegistrationID(1), nil},
		"registration 16383": {prekey.CheckRegistrationID(16383), nil},
		"registration 16384": {prekey.CheckRegistrationID(16384), prekey.ErrRegistrationID},
		"key id -1":          {prekey.CheckKeyID(-1), prekey.ErrKeyID},
		"key id 0":           {prekey.CheckKeyID(0), nil},
		"key id 2^31-1":      {prekey.CheckKeyID(1<<31 - 1), nil},
		"key id 2^31":        {prekey.CheckKeyID(1 << 31), prekey.ErrKeyID},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", name, c.got, c.want)
		}
	}
}
