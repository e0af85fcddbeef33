package xeddsa_test

import (
	"bytes"
	"crypto/ecdh"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/internal/prekey"
	"github.com/obscura-relay/obscura/internal/xeddsa"
)

func TestPublicKeyIsThatOfX25519(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), xeddsa.PrivateKeySize, xeddsa.PrivateKeySize).Draw(t, "key")
		key, err := xeddsa.NewPrivateKey(b)
		if err != nil {
			t.Fatal(err)
		}
		want, err := ecdh.X25519().NewPrivateKey(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := key.PublicKey(); got[0] != 5 || !bytes.Equal(got[1:], want.PublicKey().Bytes()) {
			t.Fatalf("public key %x, X25519 says %x", got, want.PublicKey().Bytes())
		}
		again, err := xeddsa.NewPrivateKey(key.Bytes())
		if err != nil || !bytes.Equal(again.Bytes(), key.Bytes()) || !bytes.Equal(again.PublicKey(), key.PublicKey()) {
			t.Fatalf("the key does not survive its bytes, %v", err)
		}
	})
}

func TestSignaturesVerify(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := xeddsa.Generate()
		message := rapid.SliceOf(rapid.Byte()).Draw(t, "message")
		signature := key.Sign(message)
		if err := prekey.VerifySignature(key.PublicKey(), message, signature); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(signature[:32], key.Sign(message)[:32]) {
			t.Fatal("two signatures with one nonce")
		}
		if prekey.VerifySignature(key.PublicKey(), append(message, 0), signature) == nil {
			t.Fatal("verifies another message")
		}
	})
}

func TestPrivateKeySize(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 31, 33, 64} {
		if _, err := xeddsa.NewPrivateKey(make([]byte, n)); err == nil {
			t.Errorf("%d bytes are taken for a private key", n)
		}
	}
}

func TestPrivateKeyIsNotPrinted(t *testing.T) {
	t.Parallel()
	key := xeddsa.Generate()
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(format, key); got != "private key" {
			t.Errorf("%s prints %s", format, got)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	key, message := xeddsa.Generate(), make([]byte, 300)
	b.ReportAllocs()
	for b.Loop() {
		key.Sign(message)
	}
}
