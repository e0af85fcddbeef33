package prekey_test

import (
	"crypto/rand"
	"crypto/sha512"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"

	"filippo.io/edwards25519"

	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/prekey"
)

var update = flag.Bool("update", false, "write testdata/go_signed.json anew, for tools/vectors to judge")

// goSigned holds questions that Go asks libsignal, and its answers.
type goSigned struct {
	Libsignal  string              `json:"libsignal"`
	Signatures []goSignedSignature `json:"signatures"`
	Bundles    []goSignedBundle    `json:"bundles"`
}

type goSignedSignature struct {
	Name      string `json:"name"`
	Identity  []byte `json:"identity"`
	Message   []byte `json:"message"`
	Signature []byte `json:"signature"`
	Verifies  bool   `json:"verifies"`
	Agrees    bool   `json:"agrees"`
}

type goSignedBundle struct {
	Identity      []byte      `json:"identity"`
	PreKey        []byte      `json:"preKey"`
	SignedPreKey  goSignedKey `json:"signedPreKey"`
	KyberPreKey   goSignedKey `json:"kyberPreKey"`
	SessionStarts bool        `json:"sessionStarts"`
}

type goSignedKey struct {
	PublicKey []byte `json:"publicKey"`
	Signature []byte `json:"signature"`
}

const goSignedFile = "testdata/go_signed.json"

// TestGoSigned compares with libsignal's verdicts on what only Go can make: its
// own signatures and bundles, and points that mix a small order into a large.
func TestGoSigned(t *testing.T) {
	if *update {
		writeGoSigned(t)
		return
	}
	var file goSigned
	readJSON(t, goSignedFile, &file)
	if file.Libsignal != libsignalVersion {
		t.Fatalf("verdicts of libsignal %q, want %q: see tools/vectors", file.Libsignal, libsignalVersion)
	}
	verdicts := map[bool]int{}
	for _, s := range file.Signatures {
		err := prekey.VerifySignature(s.Identity, s.Message, s.Signature)
		if (err == nil) != (s.Verifies && s.Agrees) {
			t.Errorf("%s: got %v, libsignal verifies %v and agrees %v", s.Name, err, s.Verifies, s.Agrees)
		}
		verdicts[s.Verifies]++
	}
	if verdicts[true] == 0 || verdicts[false] == 0 {
		t.Errorf("verdicts: %v, want both kinds", verdicts)
	}
	for i, b := range file.Bundles {
		if !b.SessionStarts {
			t.Errorf("bundle %d of prekeytest: libsignal sets up no session", i)
		}
	}
}

func writeGoSigned(t *testing.T) {
	var file goSigned
	for i := range 8 {
		id := prekeytest.NewIdentity()
		ec, kyber := id.SignedPreKey(i), id.KyberPreKey(i)
		file.Signatures = append(file.Signatures, goSignedSignature{
			Name: fmt.Sprintf("signed by Go, %d", i), Identity: id.Public, Message: ec.PublicKey,
			Signature: ec.Signature})
		if i < 4 {
			file.Bundles = append(file.Bundles, goSignedBundle{
				Identity: id.Public, PreKey: prekeytest.NewKeyPair().Public,
				SignedPreKey: goSignedKey{ec.PublicKey, ec.Signature},
				KyberPreKey:  goSignedKey{kyber.PublicKey, kyber.Signature}})
		}
	}
	for i := range 32 {
		message := fmt.Appendf(nil, "mixed order %d", i)
		file.Signatures = append(file.Signatures, mixedOrder("small order in R", message, false, true),
			mixedOrder("small order in A", message, true, false),
			mixedOrder("small order in both", message, true, true))
	}
	b, err := json.MarshalIndent(file, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goSignedFile, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// mixedOrder signs with a point of order 8 added to A or to R. A verifier that
// multiplies by the cofactor accepts all of these; libsignal's does not.
func mixedOrder(name string, message []byte, inA, inR bool) goSignedSignature {
	random := func() *edwards25519.Scalar {
		var b [64]byte
		_, _ = rand.Read(b[:])
		s, _ := new(edwards25519.Scalar).SetUniformBytes(b[:])
		return s
	}
	order8 := orderEight()
	a, r := random(), random()
	A := new(edwards25519.Point).ScalarBaseMult(a)
	R := new(edwards25519.Point).ScalarBaseMult(r)
	if inA {
		A.Add(A, order8)
	}
	if inR {
		R.Add(R, order8)
	}
	hash := sha512.Sum512(append(append(R.Bytes(), A.Bytes()...), message...))
	h, _ := new(edwards25519.Scalar).SetUniformBytes(hash[:])
	signature := append(R.Bytes(), new(edwards25519.Scalar).MultiplyAdd(h, a, r).Bytes()...)
	signature[63] |= A.Bytes()[31] & 0x80
	return goSignedSignature{Name: name, Message: message, Signature: signature,
		Identity: append([]byte{5}, A.BytesMontgomery()...)}
}

// orderEight finds a point of order 8: the large part of a random point goes
// when it is multiplied by L.
func orderEight() *edwards25519.Point {
	// A scalar cannot hold L itself, so [L]P is [L-1]P + P.
	minusOne := new(edwards25519.Scalar).Negate(scalarOne())
	for {
		var b [32]byte
		_, _ = rand.Read(b[:])
		p, err := new(edwards25519.Point).SetBytes(b[:])
		if err != nil {
			continue
		}
		small := new(edwards25519.Point).ScalarMult(minusOne, p)
		small.Add(small, p)
		double := new(edwards25519.Point).Double(small)
		if double.Double(double).Equal(edwards25519.NewIdentityPoint()) == 0 {
			return small
		}
	}
}

func scalarOne() *edwards25519.Scalar {
	s, _ := new(edwards25519.Scalar).SetCanonicalBytes(append([]byte{1}, make([]byte, 31)...))
	return s
}
