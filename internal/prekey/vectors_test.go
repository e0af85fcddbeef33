package prekey_test

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/obscura-relay/obscura/internal/prekey"
)

// libsignalVersion is the version whose verdicts are committed.
const libsignalVersion = "0.103.0"

type signatureVector struct {
	Name      string
	Identity  []byte
	Message   int // index into vectors.Messages
	Signature []byte
	Verifies  bool // PublicKey.verify
	Agrees    bool // X25519 with the identity key is possible
}

type flipVector struct {
	Identity    []byte
	Message     int
	Signature   []byte
	OfSignature string // one '0' or '1' for each bit that is flipped
	OfIdentity  string
	OfMessage   string
}

type keyVector struct {
	Name          string
	Key           []byte
	Deserializes  bool
	Agrees        bool
	SessionStarts bool
}

type vectors struct {
	Libsignal  string
	Messages   [][]byte
	Signatures []signatureVector
	Flips      []flipVector
	ECKeys     []keyVector
	KyberKeys  []keyVector
}

func readVectors(tb testing.TB) vectors {
	tb.Helper()
	var v vectors
	readJSON(tb, "testdata/vectors.json", &v)
	if v.Libsignal != libsignalVersion {
		tb.Fatalf("vectors of libsignal %q, want %q", v.Libsignal, libsignalVersion)
	}
	return v
}

func readJSON(tb testing.TB, file string, into any) {
	tb.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		tb.Fatal(err)
	}
}

func TestSignaturesAsLibsignal(t *testing.T) {
	v := readVectors(t)
	var signs [2]int
	for _, s := range v.Signatures {
		message := v.Messages[s.Message]
		verifies, agrees := s.Verifies, s.Agrees
		if len(s.Identity) > prekey.ECPublicKeySize {
			// libsignal ignores what follows a key; the contract says exactly 33 bytes.
			verifies, agrees = false, false
		}
		if got := prekey.VerifyBare(s.Identity, message, s.Signature) == nil; got != verifies {
			t.Errorf("%s: bare rule says %v, libsignal %v", s.Name, got, s.Verifies)
		}
		err := prekey.VerifySignature(s.Identity, message, s.Signature)
		if got := err == nil; got != (verifies && agrees) {
			t.Errorf("%s: got %v, libsignal verifies %v and agrees %v", s.Name, err, s.Verifies, s.Agrees)
		}
		if err == nil {
			signs[s.Signature[63]>>7]++
		}
	}
	if signs[0] < 10 || signs[1] < 10 {
		t.Errorf("valid signatures by sign bit: %v, want 10 or more of each", signs)
	}
}

func TestFlippedBitsAsLibsignal(t *testing.T) {
	v := readVectors(t)
	for _, f := range v.Flips {
		message := v.Messages[f.Message]
		for _, field := range []struct {
			name     string
			bytes    []byte
			verdicts string
		}{
			{"signature", f.Signature, f.OfSignature},
			{"identity", f.Identity, f.OfIdentity},
			{"message", message, f.OfMessage},
		} {
			if len(field.verdicts) != 8*len(field.bytes) {
				t.Fatalf("%s: %d verdicts for %d bytes", field.name, len(field.verdicts), len(field.bytes))
			}
			for i, want := range field.verdicts {
				field.bytes[i/8] ^= 1 << (i % 8)
				err := prekey.VerifySignature(f.Identity, message, f.Signature)
				field.bytes[i/8] ^= 1 << (i % 8)
				if (err == nil) != (want == '1') {
					t.Errorf("bit %d of the %s flipped: got %v, libsignal says %c", i, field.name, err, want)
				}
			}
		}
	}
}

func TestECKeysAsLibsignal(t *testing.T) {
	for _, k := range readVectors(t).ECKeys {
		want := k.Agrees && len(k.Key) == prekey.ECPublicKeySize
		if want != k.SessionStarts {
			t.Errorf("%s: agreement %v, session %v", k.Name, k.Agrees, k.SessionStarts)
		}
		if err := prekey.CheckECPublicKey(k.Key); (err == nil) != want {
			t.Errorf("%s: got %v, want accepted = %v", k.Name, err, want)
		}
	}
}

func TestKyberKeysAsLibsignal(t *testing.T) {
	// libsignal does not look at coefficients; FIPS 203 does, and so do we.
	stricter := map[string]bool{"coefficient 3329": true, "coefficient 4095": true}
	v := readVectors(t)
	for _, k := range v.KyberKeys {
		want := k.SessionStarts && !stricter[k.Name]
		if err := prekey.CheckKyberPublicKey(k.Key); (err == nil) != want {
			t.Errorf("%s: got %v, libsignal says %v", k.Name, err, k.SessionStarts)
		}
	}
	seen := 0
	for _, m := range v.Messages {
		if len(m) == prekey.KyberPublicKeySize && bytes.HasPrefix(m, []byte{8}) {
			seen++
			if err := prekey.CheckKyberPublicKey(m); err != nil {
				t.Errorf("a key that libsignal generated: %v", err)
			}
		}
	}
	if seen < 10 {
		t.Errorf("%d real Kyber keys in the vectors, want 10 or more", seen)
	}
}
