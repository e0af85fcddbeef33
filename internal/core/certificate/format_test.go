package certificate

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/xeddsa"
)

var update = flag.Bool("update", false, "write testdata/go_made.json anew, for tools/vectors to judge")

// libsignalVersion is the version whose certificates and verdicts are committed.
const libsignalVersion = "0.103.0"

// answer is what libsignal reads in a certificate.
type answer struct {
	SenderUUID     string `json:"senderUuid"`
	SenderE164     string `json:"senderE164"`
	Device         uint32 `json:"device"`
	Expires        int64  `json:"expires"`
	IdentityKey    []byte `json:"identityKey"`
	ServerID       uint32 `json:"serverId"`
	ServerKey      []byte `json:"serverKey"`
	Server         []byte `json:"server"`
	Signed         []byte `json:"signed"`
	Valid          bool   `json:"valid"`
	ValidLater     bool   `json:"validLater"`
	ValidElsewhere bool   `json:"validElsewhere"`
}

type vector struct {
	Root        []byte  `json:"root"`
	Certificate []byte  `json:"certificate"`
	Answer      *answer `json:"answer,omitempty"`
}

type vectors struct {
	Libsignal    string   `json:"libsignal"`
	Certificates []vector `json:"certificates"`
	Flips        string   `json:"flips,omitempty"`
	Operator     *struct {
		Root        []byte `json:"root"`
		Certificate []byte `json:"certificate"`
		Key         []byte `json:"key"`
	} `json:"operator,omitempty"`
}

const (
	libsignalFile = "testdata/libsignal.json"
	goMadeFile    = "testdata/go_made.json"
)

func readVectors(tb testing.TB, file string) vectors {
	tb.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		tb.Fatal(err)
	}
	if v.Libsignal != libsignalVersion {
		tb.Fatalf("vectors of libsignal %q, want %q: see tools/vectors", v.Libsignal, libsignalVersion)
	}
	return v
}

// compare holds what Go reads against what libsignal reads.
func compare(t *testing.T, v vector) {
	t.Helper()
	c, err := prekeytest.ParseSenderCertificate(v.Certificate, v.Root)
	if err != nil {
		t.Fatalf("%x: %v", v.Certificate, err)
	}
	a := v.Answer
	if c.SenderUUID != a.SenderUUID || c.SenderE164 != a.SenderE164 || c.Device != a.Device ||
		c.Expires.UnixMilli() != a.Expires || !bytes.Equal(c.IdentityKey, a.IdentityKey) ||
		c.ServerID != a.ServerID || !bytes.Equal(c.ServerKey, a.ServerKey) ||
		!bytes.Equal(c.Server, a.Server) || !bytes.Equal(c.Signed, a.Signed) {
		t.Errorf("Go reads %+v, libsignal %+v", c, a)
	}
	if !a.Valid || a.ValidLater || a.ValidElsewhere {
		t.Errorf("libsignal holds it for valid: %v, after its time: %v, under another root: %v",
			a.Valid, a.ValidLater, a.ValidElsewhere)
	}
}

func TestBytesAreThoseOfLibsignal(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t, libsignalFile).Certificates {
		compare(t, v)
		a := v.Answer
		got := writeSender(a.Server, sender{E164: a.SenderE164, UUID: a.SenderUUID, Device: a.Device,
			Identity: a.IdentityKey, Expires: time.UnixMilli(a.Expires)})
		if !bytes.Equal(got, a.Signed) {
			t.Errorf("Go writes\n%x, libsignal\n%x", got, a.Signed)
		}
		s, err := parseServer(a.Server)
		if err != nil || s.id != a.ServerID || !bytes.Equal(s.key, a.ServerKey) {
			t.Errorf("Go reads %+v, %v", s, err)
		}
		if got := writeServer(s.id, s.key); !bytes.Equal(got, s.certificate) {
			t.Errorf("Go writes\n%x, libsignal\n%x", got, s.certificate)
		}
	}
}

func TestTurnedBitsAsLibsignal(t *testing.T) {
	t.Parallel()
	v := readVectors(t, libsignalFile)
	whole := v.Certificates[0].Certificate
	if len(v.Flips) != 8*len(whole) {
		t.Fatalf("%d verdicts for %d bytes", len(v.Flips), len(whole))
	}
	for i := 0; i < len(v.Flips); i += 5 { // each verification takes its time under the race detector
		verdict := v.Flips[i]
		turned := bytes.Clone(whole)
		turned[i/8] ^= 1 << (i % 8)
		_, err := prekeytest.ParseSenderCertificate(turned, v.Certificates[0].Root)
		if (err == nil) != (verdict == '1') {
			t.Errorf("bit %d: Go says %v, libsignal %c", i, err, verdict)
		}
	}
}

func TestGoMadeCertificates(t *testing.T) {
	if *update {
		writeGoMade(t)
		return
	}
	made := readVectors(t, goMadeFile).Certificates
	if len(made) == 0 {
		t.Fatal("there are none")
	}
	for _, v := range made {
		if v.Answer == nil {
			t.Fatal("libsignal has not judged them: see tools/vectors")
		}
		compare(t, v)
	}
}

func writeGoMade(t *testing.T) {
	var file vectors
	for i := range 24 {
		root, key := xeddsa.Generate(), xeddsa.Generate()
		file.Certificates = append(file.Certificates, vector{Root: root.PublicKey(),
			Certificate: signSender(key, signServer(root, uint32(1)<<i, key.PublicKey()), sender{
				E164: uuid.NewString(), UUID: uuid.NewString(), Device: uint32(1 + 5*i),
				Identity: xeddsa.Generate().PublicKey(),
				Expires:  time.Now().Add(24 * time.Hour).Truncate(time.Hour)})})
	}
	b, err := json.MarshalIndent(file, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goMadeFile, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestServerCertificateThatIsNone(t *testing.T) {
	t.Parallel()
	root, key := xeddsa.Generate(), xeddsa.Generate().PublicKey()
	whole := signServer(root, 1, key)
	for name, b := range map[string][]byte{
		"nothing":      nil,
		"text":         []byte("certificate"),
		"cut":          whole[:len(whole)-1],
		"no inside":    appendBytes(nil, fieldSignature, make([]byte, 64)),
		"no id":        signed(root, appendBytes(nil, fieldServerKey, key)),
		"no key":       signed(root, writeServer(1, nil)),
		"a short key":  signed(root, writeServer(1, key[:32])),
		"id as bytes":  signed(root, appendBytes(appendBytes(nil, fieldServerID, key), fieldServerKey, key)),
		"inside is no": signed(root, []byte{0xff}),
	} {
		if s, err := parseServer(b); err == nil {
			t.Errorf("%s: read as %+v", name, s)
		}
	}
	if _, err := parseServer(append(whole, 0x1d, 1, 2, 3, 4)); err != nil { // a field that is not known
		t.Error(err)
	}
}

func FuzzParseServer(f *testing.F) {
	f.Add(signServer(xeddsa.Generate(), 1, xeddsa.Generate().PublicKey()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseServer(b); err == nil && (len(s.key) != xeddsa.PublicKeySize || s.certificate == nil) {
			t.Errorf("read as %+v", s)
		}
	})
}

func BenchmarkSignSender(b *testing.B) {
	root, key := xeddsa.Generate(), xeddsa.Generate()
	server := signServer(root, 1, key.PublicKey())
	s := sender{E164: uuid.NewString(), UUID: uuid.NewString(), Device: 1, Identity: root.PublicKey(),
		Expires: time.Now()}
	b.ReportAllocs()
	for b.Loop() {
		signSender(key, server, s)
	}
	b.ReportMetric(float64(len(signSender(key, server, s))), "bytes")
}
