package app_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// refusal is the status of an answer and the code of its error, empty for a success.
type refusal struct {
	status int
	code   string
}

func refusalOf(status int, body []byte) refusal {
	var e client.ErrorBody
	if status >= 400 {
		_ = json.Unmarshal(body, &e)
	}
	return refusal{status, e.Code}
}

// uploadKeys uploads and returns how it went.
func uploadKeys(t testing.TB, d *relaytest.Device, upload client.KeyUpload) refusal {
	t.Helper()
	got, err := d.UploadKeysWithResponse(t.Context(), upload)
	if err != nil {
		t.Fatal(err)
	}
	return refusalOf(got.StatusCode(), got.Body)
}

func wantUpload(t testing.TB, d *relaytest.Device, upload client.KeyUpload, status int, code string) {
	t.Helper()
	if got := uploadKeys(t, d, upload); got != (refusal{status, code}) {
		t.Errorf("upload: %v, want %d %s", got, status, code)
	}
}

func keyInventory(t testing.TB, d *relaytest.Device) client.KeyInventory {
	t.Helper()
	got, err := d.GetKeyInventoryWithResponse(t.Context())
	if err != nil || got.JSON200 == nil {
		t.Fatalf("inventory: %v, %s", err, got.Body)
	}
	return *got.JSON200
}

// wantUnchanged runs something that must change nothing of what the relay holds for a device.
func wantUnchanged(t testing.TB, d *relaytest.Device, do func()) {
	t.Helper()
	before := keyInventory(t, d)
	do()
	if after := keyInventory(t, d); !bytes.Equal(before.Digest, after.Digest) || before.RegistrationID != after.RegistrationID {
		t.Errorf("what the relay holds has changed: %+v, was %+v", after, before)
	}
}

// fetchBundles fetches a user's bundles as a device.
func fetchBundles(t testing.TB, d *relaytest.Device, user uuid.UUID) []client.PreKeyBundle {
	t.Helper()
	got, err := d.GetPreKeyBundlesWithResponse(t.Context(), user)
	if err != nil || got.JSON200 == nil {
		t.Fatalf("bundles: %v, %s", err, got.Body)
	}
	return *got.JSON200
}

// fetchBundle fetches the bundle of a user with one device.
func fetchBundle(t testing.TB, d *relaytest.Device, user uuid.UUID) client.PreKeyBundle {
	t.Helper()
	bundles := fetchBundles(t, d, user)
	if len(bundles) != 1 {
		t.Fatalf("%d bundles, want 1", len(bundles))
	}
	return bundles[0]
}

// mayUse reports whether a device's token works.
func mayUse(t testing.TB, d *relaytest.Device) bool {
	t.Helper()
	got, err := d.GetKeyInventoryWithResponse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got.StatusCode() == http.StatusOK
}

// inDatabase runs a statement behind the relay's back.
func inDatabase(t testing.TB, relay *relaytest.Relay, statement string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), relay.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), statement, args...); err != nil {
		t.Fatal(err)
	}
}

// logInOnDevice makes another session of a device.
func logInOnDevice(t testing.TB, relay *relaytest.Relay, d *relaytest.Device) *relaytest.Device {
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

// ecKeys and kyberKeys make n one-time keys with ids from first on.
func ecKeys(first, n int) []client.OneTimePreKey {
	return relaytest.OneTime(prekeytest.PreKeys(first, n))
}

func kyberKeys(identity *prekeytest.Identity, first, n int) []client.KyberPreKey {
	return relaytest.Kybers(identity.KyberPreKeys(first, n))
}

func signedKey(identity *prekeytest.Identity, id int) *client.SignedPreKey {
	k := relaytest.Signed(identity.SignedPreKey(id))
	return &k
}

func kyberKey(identity *prekeytest.Identity, id int) *client.KyberPreKey {
	k := relaytest.Kyber(identity.KyberPreKey(id))
	return &k
}

// plainDevice registers a device with n one-time keys of each kind, ids from 1 on, and no last-resort key.
func plainDevice(t testing.TB, user *relaytest.User, n int) *relaytest.Device {
	t.Helper()
	identity := prekeytest.NewIdentity()
	upload := relaytest.NewDevice(identity, n, n)
	upload.LastResortKyberPreKey = nil
	return user.NewDeviceWith(t, identity, upload)
}
