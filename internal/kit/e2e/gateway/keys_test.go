package gateway_test

import (
	"net/http"
	"testing"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// takeKeys fetches a user's bundles n times.
func takeKeys(t *testing.T, by *relaytest.Device, of *relaytest.User, n int) {
	t.Helper()
	for range n {
		if got, err := by.GetPreKeyBundlesWithResponse(t.Context(), of.ID, nil); err != nil ||
			got.StatusCode() != http.StatusOK {
			t.Fatalf("bundles: %v, %v", err, got)
		}
	}
}

func TestAConnectedDeviceHearsThatItsKeysRunLow(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t)
	two := relaytest.StartOn(t, one.DatabaseURL)
	alice, bob := one.Register(t).NewDevice(t), one.Register(t)
	identity := prekeytest.NewIdentity()
	device := bob.NewDeviceWith(t, identity, identity.NewDevice(21, 22))
	for i, node := range []*relaytest.Relay{one, two} { // the fetcher is on the first
		socket := device.On(node).Connect(t)
		if socket.Drain(); socket.Status.GetOneTimePreKeyCount() != int32(21-2*i) {
			t.Fatalf("at connect: %v", socket.Status)
		}
		takeKeys(t, alice, bob, 2)
		frame, err := socket.Frame()
		status := frame.GetPreKeyStatus()
		if err != nil || status.GetOneTimePreKeyCount() >= 20 || status.GetMinThreshold() != 20 ||
			status.GetKyberPreKeyCount() > 20 {
			t.Errorf("node %d: %v, %v", i, frame, err)
		}
		e2e.Disconnect(socket)
	}
}

func TestATakeoverClosesTheSocketAndIsToldAsAGap(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	e2e.SendMany(t, alice, bob, "m", 7)
	older := bob.Connect(t)
	got, _, _ := older.Drain()
	older.Ack(got[:2]...)
	e2e.Pending(t, e2e.Database(t, relay), bob.ID, 5)
	identity := prekeytest.NewIdentity()
	fresh := identity.NewDevice(3, 1)
	answer, err := bob.UploadKeysWithResponse(t.Context(),
		client.KeyUpload{IdentityKey: &fresh.IdentityKey, RegistrationID: &fresh.RegistrationID,
			SignedPreKey: &fresh.SignedPreKey, OneTimePreKeys: fresh.OneTimePreKeys, KyberPreKeys: fresh.KyberPreKeys,
			LastResortKyberPreKey: fresh.LastResortKyberPreKey})
	if err != nil || answer.StatusCode() != http.StatusOK {
		t.Fatalf("takeover: %v, %v", err, answer)
	}
	if code := older.CloseCode(); code != 4401 {
		t.Errorf("closed with %d", code)
	}
	alice.Send(t, nil, relaytest.To(bob.ID, "to the new identity"))
	socket := bob.Connect(t) // the session that made the takeover goes on
	envelopes, gaps, _ := socket.Drain()
	if len(gaps) != 1 || gaps[0].GetFrom() != 3 || gaps[0].GetTo() != 7 ||
		gaps[0].GetReason() != obscurapb.Gap_REASON_TAKEOVER {
		t.Errorf("gaps %v", gaps)
	}
	if e2e.Texts(envelopes) != "to the new identity" || envelopes[0].GetSequence() != 8 {
		t.Errorf("envelopes %v", envelopes)
	}
}
