package certificate

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
	"github.com/obscura-relay/obscura/internal/xeddsa"
)

// newService is a Service on a database with one device, whose principal comes along.
func newService(t testing.TB, keys *Keys) (*Service, core.Principal) {
	t.Helper()
	url := testdb.NewURL(t)
	database, err := storage.Open(t.Context(), url, storage.Options{MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(database.Close)
	p := core.Principal{User: uuid.New(), Device: uuid.New(), Session: uuid.New(), DeviceNumber: 7}
	testdb.Exec(t, url, `INSERT INTO users (id, username, username_key, password_hash) VALUES ('`+p.User.String()+`', 'a', 'a', 'x');
		INSERT INTO devices (id, user_id, number, registration_id, identity_key, signed_pre_key_id, signed_pre_key, signed_pre_key_sig)
			VALUES ('`+p.Device.String()+`', '`+p.User.String()+`', 7, 1, '\x05aa', 1, '\x05', '\x00');
		INSERT INTO sessions (id, user_id, device_id, refresh_key, expires_at)
			VALUES ('`+p.Session.String()+`', '`+p.User.String()+`', '`+p.Device.String()+`', '\x00', now() + interval '1 day')`)
	return New(Config{DB: database, Keys: keys}), p
}

// serverID certifies a device and returns the id of the server certificate.
func serverID(t *testing.T, s *Service, p core.Principal) uint32 {
	t.Helper()
	c, err := s.Sender(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	read, err := prekeytest.ParseSenderCertificate(c.Bytes, s.TrustRoot())
	if err != nil {
		t.Fatal(err)
	}
	if read.SenderUUID != p.Device.String() || read.SenderE164 != p.User.String() || read.Device != 7 {
		t.Errorf("%+v", read)
	}
	return read.ServerID
}

func TestRotatedServerKeyHasTheSameRoot(t *testing.T) {
	t.Parallel()
	s, p := newService(t, nil)
	if _, err := Stored(t.Context(), s.db); !errors.Is(err, errNoKeys) {
		t.Errorf("before a start: %v", err)
	}
	if _, err := Rotate(t.Context(), s.db); !errors.Is(err, errNoKeys) {
		t.Errorf("before a start: %v", err)
	}
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	root, first := s.TrustRoot(), s.keys.Load()
	for id := uint32(2); id < 4; id++ {
		keys, err := Rotate(t.Context(), s.db)
		if err != nil || keys.ID != id || !bytes.Equal(keys.Root, root) {
			t.Fatalf("%+v, %v", keys, err)
		}
		if got := serverID(t, s, p); got != id-1 { // until it looks again
			t.Errorf("server certificate %d before the relay has heard of %d", got, id)
		}
		if err := s.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := serverID(t, s, p); got != id {
			t.Errorf("server certificate %d, want %d", got, id)
		}
		if stored, err := Stored(t.Context(), s.db); err != nil || stored.ID != id {
			t.Errorf("%+v, %v", stored, err)
		}
	}
	if !bytes.Equal(s.TrustRoot(), root) || bytes.Equal(s.keys.Load().server.Bytes(), first.server.Bytes()) {
		t.Error("the root has changed, or the server key has not")
	}
}

func operatorKeys(t *testing.T) (root, certificate, key []byte) {
	t.Helper()
	o := readVectors(t, libsignalFile).Operator
	return o.Root, o.Certificate, o.Key
}

// TestOperatorsKeysAreThoseOfLibsignal takes a server certificate that libsignal has made.
func TestOperatorsKeysAreThoseOfLibsignal(t *testing.T) {
	t.Parallel()
	keys, err := NewKeys(operatorKeys(t))
	if err != nil {
		t.Fatal(err)
	}
	s, p := newService(t, keys)
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := serverID(t, s, p); got != 7 || !bytes.Equal(s.TrustRoot(), keys.Root) {
		t.Errorf("server certificate %d, trust root %x", got, s.TrustRoot())
	}
	if _, err := Stored(t.Context(), s.db); !errors.Is(err, errNoKeys) {
		t.Errorf("keys were made beside the operator's: %v", err)
	}
}

func TestOperatorsMistakesAreNamed(t *testing.T) {
	t.Parallel()
	root, certificate, key := operatorKeys(t)
	other, otherRoot := xeddsa.Generate(), xeddsa.Generate()
	cut := slices.Clone(certificate)
	cut[len(cut)-1] ^= 1
	for what, c := range map[string]struct {
		root, certificate, key []byte
		want                   error
	}{
		"no root":                 {nil, certificate, key, ErrRoot},
		"root without type":       {root[1:], certificate, key, ErrRoot},
		"private root":            {key, certificate, key, ErrRoot},
		"another root":            {otherRoot.PublicKey(), certificate, key, errNotSigned},
		"damaged signature":       {root, cut, key, errNotSigned},
		"no certificate":          {root, key, key, errServerCertificate},
		"another key":             {root, certificate, other.Bytes(), ErrKey},
		"public key":              {root, certificate, xeddsa.Generate().PublicKey(), ErrKey},
		"no key":                  {root, certificate, nil, ErrKey},
		"an id that is taken out": {otherRoot.PublicKey(), signServer(otherRoot, revokedID, other.PublicKey()), other.Bytes(), errRevoked},
	} {
		if _, err := NewKeys(c.root, c.certificate, c.key); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
}

func BenchmarkSender(b *testing.B) {
	s, p := newService(b, nil)
	if err := s.Load(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Sender(b.Context(), p); err != nil {
			b.Fatal(err)
		}
	}
}
