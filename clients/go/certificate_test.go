package obscura_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestCertificateIsOfThisSessionAndKey(t *testing.T) {
	t.Parallel()
	relay, network := join(t, relaytest.Start(t), obscura.Options{})
	alice := newDevice(t, relay)
	root, err := relay.TrustRoot(t.Context())
	if err != nil || len(root) != 33 {
		t.Fatalf("the trust root: %x, %v", root, err)
	}
	var asked atomic.Int64
	network.failing(func(r *http.Request) verdict {
		if r.URL.Path == "/v1/certificates/sender" {
			asked.Add(1)
		}
		return passed
	})
	certify := func(s *obscura.Session) *prekeytest.SenderCertificate {
		t.Helper()
		got, err := s.SenderCertificate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c, err := prekeytest.ParseSenderCertificate(got.Certificate, root)
		if err != nil || c.SenderUUID != s.DeviceID().String() || c.SenderE164 != s.UserID().String() ||
			int32(c.Device) != s.DeviceNumber() || !c.Expires.Equal(got.ExpiresAt) {
			t.Fatalf("%+v, %v", c, err)
		}
		return c
	}
	before := certify(alice)
	certify(alice)
	if asked.Load() != 1 {
		t.Errorf("the relay was asked %d times for one session", asked.Load())
	}
	again, err := relay.Resume(alice.Tokens())
	if err != nil {
		t.Fatal(err)
	}
	certify(again)
	certify(newDevice(t, relay))
	if asked.Load() != 3 {
		t.Errorf("the relay was asked %d times for three sessions", asked.Load())
	}
	next, registration := prekeytest.NewIdentity(), int32(7)
	signed := next.SignedPreKey(1)
	err = alice.UploadKeys(t.Context(),
		client.KeyUpload{IdentityKey: &next.Public, RegistrationID: &registration, SignedPreKey: &signed})
	if err != nil {
		t.Fatal(err)
	}
	if after := certify(alice); bytes.Equal(before.IdentityKey, next.Public) ||
		!bytes.Equal(after.IdentityKey, next.Public) {
		t.Error("the certificate is not of the new identity key")
	}
	if err := alice.LogOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.SenderCertificate(t.Context()); !errors.Is(err, obscura.ErrSessionEnded) {
		t.Errorf("after the log-out: %v", err)
	}
}

// certificates answers as a relay does whose clock differs, and counts.
func (f *fake) certificates(ahead time.Duration) *atomic.Int64 {
	var asked atomic.Int64
	f.refreshing(func(_ int64, w http.ResponseWriter, _ *http.Request) { f.answerPair(w) })
	f.HandleFunc("GET /v1/certificates/sender", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(time.Second) // fake time
		_ = json.NewEncoder(w).Encode(client.SenderCertificate{Certificate: []byte{byte(asked.Add(1))},
			ExpiresAt: time.Now().Add(ahead + 25*time.Hour).Truncate(time.Hour).Unix()})
	})
	return &asked
}

func TestCertificateIsKeptUntilShortlyBeforeItsEnd(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		asked := f.certificates(0)
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				if c, err := s.SenderCertificate(t.Context()); err != nil || c.Certificate[0] != 1 {
					t.Errorf("%v, %v", c, err)
				}
			})
		}
		callers.Wait()
		first, _ := s.SenderCertificate(t.Context())
		for time.Until(first.ExpiresAt) > 4*time.Hour {
			if c, err := s.SenderCertificate(t.Context()); err != nil || c.Certificate[0] != 1 {
				t.Fatalf("%s before its end: %v, %v", time.Until(first.ExpiresAt), c, err)
			}
			time.Sleep(10 * time.Minute) // fake time
		}
		time.Sleep(time.Until(first.ExpiresAt) - 2*time.Hour) // fake time
		if c, err := s.SenderCertificate(t.Context()); err != nil || c.Certificate[0] != 2 || asked.Load() != 2 {
			t.Errorf("2 h before its end: %v, %v, asked %d times", c, err, asked.Load())
		}
	})
}

func TestCertificateOfAnotherClockIsKept(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{-48 * time.Hour, -23 * time.Hour, 48 * time.Hour} {
		inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
			asked := f.certificates(ahead)
			for range 3 {
				if _, err := s.SenderCertificate(t.Context()); err != nil || asked.Load() != 1 {
					t.Errorf("%s: asked %d times, %v", ahead, asked.Load(), err)
				}
			}
			time.Sleep(24 * time.Hour) // fake time
			if _, err := s.SenderCertificate(t.Context()); err != nil || asked.Load() != 2 {
				t.Errorf("%s: asked %d times in a day, %v", ahead, asked.Load(), err)
			}
		})
	}
}

func TestCertificateOfBeforeATakeoverIsNotKept(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		asked := f.certificates(0)
		f.HandleFunc("POST /v1/devices/keys", func(http.ResponseWriter, *http.Request) {})
		go func() { _, _ = s.SenderCertificate(t.Context()) }()
		synctest.Wait() // it is on its way
		if err := s.UploadKeys(t.Context(), client.KeyUpload{IdentityKey: &[]byte{5}}); err != nil {
			t.Fatal(err)
		}
		if c, err := s.SenderCertificate(t.Context()); err != nil || c.Certificate[0] != 2 || asked.Load() != 2 {
			t.Errorf("%v, %v", c, err)
		}
	})
}
