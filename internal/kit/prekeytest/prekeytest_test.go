package prekeytest_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/prekey"
)

func TestEverythingPassesTheChecks(t *testing.T) {
	var signs [2]int
	for range 64 {
		id := prekeytest.NewIdentity()
		k, err := prekey.ParseIdentityKey(id.Public)
		if err != nil {
			t.Fatal(err)
		}
		signed := id.SignedPreKey(7)
		if err := prekey.CheckECPublicKey(signed.PublicKey); err != nil {
			t.Error(err)
		}
		if err := k.Verify(signed.PublicKey, signed.Signature); err != nil {
			t.Error(err)
		}
		signs[signed.Signature[63]>>7]++
	}
	if signs[0] == 0 || signs[1] == 0 {
		t.Errorf("sign bits of 64 identities: %v", signs) // fails by chance once in 2^63 runs
	}

	id := prekeytest.NewIdentity()
	seen := map[string]bool{}
	for i, key := range id.KyberPreKeys(5, 20) {
		if int(key.KeyID) != 5+i || seen[string(key.PublicKey)] {
			t.Errorf("key %d has id %d, seen before: %v", i, key.KeyID, seen[string(key.PublicKey)])
		}
		seen[string(key.PublicKey)] = true
		if err := prekey.CheckKyberPublicKey(key.PublicKey); err != nil {
			t.Error(err)
		}
		if err := prekey.VerifySignature(id.Public, key.PublicKey, key.Signature); err != nil {
			t.Error(err)
		}
	}
	for i, key := range prekeytest.PreKeys(5, 20) {
		if int(key.KeyID) != 5+i || seen[string(key.PublicKey)] {
			t.Errorf("key %d has id %d, seen before: %v", i, key.KeyID, seen[string(key.PublicKey)])
		}
		seen[string(key.PublicKey)] = true
		if err := prekey.CheckECPublicKey(key.PublicKey); err != nil {
			t.Error(err)
		}
	}
	if err := prekey.CheckRegistrationID(int64(prekeytest.NewRegistrationID())); err != nil {
		t.Error(err)
	}
}

func TestSignAnyMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := prekeytest.NewIdentity()
		message := rapid.SliceOf(rapid.Byte()).Draw(t, "message")
		signature := id.Sign(message)
		if err := prekey.VerifySignature(id.Public, message, signature); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(signature, id.Sign(message)) {
			t.Fatal("two signatures with one nonce")
		}
		if prekey.VerifySignature(id.Public, append(message, 0), signature) == nil {
			t.Fatal("verifies another message")
		}
	})
}
