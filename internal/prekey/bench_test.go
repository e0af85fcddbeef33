package prekey_test

import (
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/prekey"
)

// BenchmarkUpload checks the largest upload that the contract allows: a signed
// pre-key, 100 one-time keys of each kind and a last-resort key.
func BenchmarkUpload(b *testing.B) {
	id := prekeytest.NewIdentity()
	signed := id.SignedPreKey(0)
	oneTime := prekeytest.PreKeys(0, 100)
	kyber := id.KyberPreKeys(0, 101)
	b.ReportAllocs()
	for b.Loop() {
		k, err := prekey.ParseIdentityKey(id.Public)
		if err != nil {
			b.Fatal(err)
		}
		if err := prekey.CheckECPublicKey(signed.PublicKey); err != nil {
			b.Fatal(err)
		}
		if err := k.Verify(signed.PublicKey, signed.Signature); err != nil {
			b.Fatal(err)
		}
		for _, p := range oneTime {
			if err := prekey.CheckECPublicKey(p.PublicKey); err != nil {
				b.Fatal(err)
			}
		}
		for _, p := range kyber {
			if err := prekey.CheckKyberPublicKey(p.PublicKey); err != nil {
				b.Fatal(err)
			}
			if err := k.Verify(p.PublicKey, p.Signature); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkParts(b *testing.B) {
	id := prekeytest.NewIdentity()
	kyber := id.KyberPreKey(0)
	k, err := prekey.ParseIdentityKey(id.Public)
	if err != nil {
		b.Fatal(err)
	}
	for name, f := range map[string]func() error{
		"CheckECPublicKey":    func() error { return prekey.CheckECPublicKey(id.Public) },
		"CheckKyberPublicKey": func() error { return prekey.CheckKyberPublicKey(kyber.PublicKey) },
		"ParseIdentityKey":    func() error { _, err := prekey.ParseIdentityKey(id.Public); return err },
		"VerifyKyber":         func() error { return k.Verify(kyber.PublicKey, kyber.Signature) },
		"Sign":                func() error { id.Sign(kyber.PublicKey); return nil },
		"NewKyberPublicKey":   func() error { prekeytest.NewKyberPublicKey(); return nil },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
