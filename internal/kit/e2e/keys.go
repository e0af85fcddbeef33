package e2e

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// Refusal is the status of an answer and the code of its error, empty for a success.
type Refusal struct {
	Status int
	Code   string
}

// RefusalOf reads the code out of an answer.
func RefusalOf(status int, body []byte) Refusal {
	var e client.ErrorBody
	if status >= 400 {
		_ = json.Unmarshal(body, &e)
	}
	return Refusal{Status: status, Code: e.Code}
}

// UploadKeys uploads and returns how it went.
func UploadKeys(t testing.TB, d *relaytest.Device, upload client.KeyUpload) Refusal {
	t.Helper()
	got, err := d.UploadKeysWithResponse(t.Context(), upload)
	if err != nil {
		t.Fatal(err)
	}
	return RefusalOf(got.StatusCode(), got.Body)
}

// WantUpload uploads and fails the test unless the answer has this status and, for an error, this
// code.
func WantUpload(t testing.TB, d *relaytest.Device, upload client.KeyUpload, status int, code string) {
	t.Helper()
	if got := UploadKeys(t, d, upload); got != (Refusal{Status: status, Code: code}) {
		t.Errorf("upload: %v, want %d %s", got, status, code)
	}
}

// FetchBundles fetches a user's bundles as a device.
func FetchBundles(t testing.TB, d *relaytest.Device, user uuid.UUID) []client.PreKeyBundle {
	t.Helper()
	got, err := d.GetPreKeyBundlesWithResponse(t.Context(), user, nil)
	if err != nil || got.JSON200 == nil {
		t.Fatalf("bundles: %v, %s", err, got.Body)
	}
	return *got.JSON200
}

// FetchBundle fetches the bundle of a user with one device.
func FetchBundle(t testing.TB, d *relaytest.Device, user uuid.UUID) client.PreKeyBundle {
	t.Helper()
	bundles := FetchBundles(t, d, user)
	if len(bundles) != 1 {
		t.Fatalf("%d bundles, want 1", len(bundles))
	}
	return bundles[0]
}

// MayUse reports whether a device's token works.
func MayUse(t testing.TB, d *relaytest.Device) bool {
	t.Helper()
	got, err := d.GetKeyInventoryWithResponse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got.StatusCode() == http.StatusOK
}

// LogInOnDevice makes another session of a device.
func LogInOnDevice(t testing.TB, relay *relaytest.Relay, d *relaytest.Device) *relaytest.Device {
	t.Helper()
	got, err := relay.Client("").CreateSessionWithResponse(t.Context(),
		client.LogIn{Username: d.User.Name, Password: relaytest.Password, DeviceID: &d.ID})
	if err != nil || got.JSON200 == nil || got.JSON200.DeviceID == nil {
		t.Fatalf("log in: %v, %s", err, got.Body)
	}
	other := *d
	other.Token, other.Refresh = got.JSON200.Token, got.JSON200.RefreshToken
	return other.On(relay)
}

// PlainDevice registers a device with n one-time keys of each kind, ids from 1 on, and no
// last-resort key.
func PlainDevice(t testing.TB, user *relaytest.User, n int) *relaytest.Device {
	t.Helper()
	identity := prekeytest.NewIdentity()
	upload := identity.NewDevice(n, n)
	upload.LastResortKyberPreKey = nil
	return user.NewDeviceWith(t, identity, upload)
}

// TakeoverBy makes the upload of a new identity with low key ids.
func TakeoverBy(identity *prekeytest.Identity) client.KeyUpload {
	registration, signed := int32(99), identity.SignedPreKey(0)
	return client.KeyUpload{IdentityKey: &identity.Public, RegistrationID: &registration, SignedPreKey: &signed,
		OneTimePreKeys: prekeytest.PreKeys(2, 2),
		KyberPreKeys:   identity.KyberPreKeys(3, 1)}
}
