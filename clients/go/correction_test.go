package obscura_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// know fetches the bundles of all devices of a user.
func know(t *testing.T, s *obscura.Session, user uuid.UUID) obscura.DeviceList {
	t.Helper()
	bundles, err := s.Bundles(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return obscura.DeviceListOf(user, bundles)
}

// another adds a device to the user of one.
func another(t *testing.T, s *obscura.Session) *obscura.Session {
	t.Helper()
	device, err := s.AddDevice(t.Context(), prekeytest.NewIdentity().NewDevice(5, 2))
	if err != nil {
		t.Fatal(err)
	}
	return device
}

// takeOver gives a device another identity key and the same registration id.
func takeOver(t *testing.T, s *obscura.Session) {
	t.Helper()
	keys, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	identity := prekeytest.NewIdentity()
	signed := identity.SignedPreKey(1)
	if err := s.UploadKeys(t.Context(), client.KeyUpload{IdentityKey: &identity.Public,
		RegistrationID: &keys.RegistrationID, SignedPreKey: &signed}); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, s *obscura.Session, device uuid.UUID) {
	t.Helper()
	if got, err := s.API().DeleteDeviceWithResponse(t.Context(), device); err != nil || got.StatusCode() != 200 {
		t.Fatal(err)
	}
}

// outdated sends a batch whose audiences have other devices.
func outdated(t *testing.T, s *obscura.Session, batch obscura.Batch) *obscura.DevicesChangedError {
	t.Helper()
	var changed *obscura.DevicesChangedError
	if failed, err := s.Send(t.Context(), batch); !errors.As(err, &changed) {
		t.Fatalf("%v, %v", failed, err)
	}
	return changed
}

func to(s *obscura.Session, text string) obscura.Submission {
	return obscura.Submission{ID: uuid.New(), DeviceID: s.DeviceID(), Message: []byte(text)}
}

func idsOf(bundles []client.PreKeyBundle) (ids []uuid.UUID) {
	for i := range bundles {
		ids = append(ids, bundles[i].DeviceID)
	}
	return ids
}

func oneTimeKeys(t *testing.T, s *obscura.Session) int32 {
	t.Helper()
	keys, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return keys.OneTimePreKeyCount
}

func TestBatchForOldDevicesIsCorrected(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	alice, phone, carol := newDevice(t, relay), newDevice(t, relay), newDevice(t, relay)
	tablet, watch := another(t, phone), another(t, phone)
	bobs, carols := know(t, alice, phone.UserID()), know(t, alice, carol.UserID())
	remove(t, phone, tablet.DeviceID())
	desk := another(t, phone)
	takeOver(t, phone)
	keysOfWatch, keysOfCarol := oneTimeKeys(t, watch), oneTimeKeys(t, carol)

	hello := to(phone, "old")
	batch := obscura.NewBatch(hello, obscura.Submission{ID: hello.ID, DeviceID: tablet.DeviceID(), Message: []byte("old")},
		to(carol, "alone"))
	shared := obscura.NewShared([]byte("body"), obscura.SharedRecipient{DeviceID: watch.DeviceID(), Prefix: []byte("old ")},
		obscura.SharedRecipient{DeviceID: carol.DeviceID()})
	shared.Quiet = true
	batch.Shared = []obscura.SharedSubmission{shared,
		obscura.NewShared([]byte("his"), obscura.SharedRecipient{ID: hello.ID, DeviceID: phone.DeviceID()})}
	batch.Audiences = []obscura.Audience{carols.Audience, bobs.Audience}
	changed := outdated(t, alice, batch)

	if _, err := alice.Correct(t.Context(), batch, changed, carols); err == nil {
		t.Error("corrected without knowing what was known")
	}
	got, err := alice.Correct(t.Context(), batch, changed, bobs, carols)
	if err != nil || len(got.Changes) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	change := got.Changes[0]
	if change.UserID != phone.UserID() || change.DevicesVersion != changed.Lists[0].DevicesVersion ||
		len(change.Devices) != 3 || change.Devices[0].IdentityKey == nil ||
		!slices.Equal(idsOf(change.Bundles), []uuid.UUID{phone.DeviceID(), desk.DeviceID()}) ||
		!slices.Equal(change.Gone, []uuid.UUID{tablet.DeviceID()}) ||
		!slices.Equal(change.Again, []uuid.UUID{hello.ID, shared.Recipients[0].ID}) {
		t.Errorf("%+v", change)
	}
	if oneTimeKeys(t, watch) != keysOfWatch || oneTimeKeys(t, carol) != keysOfCarol {
		t.Error("a device that is known lost a one-time key")
	}
	if len(batch.Submissions) != 3 || len(batch.Shared[0].Recipients) != 2 || got.Rest.Key != batch.Key ||
		len(got.Rest.Shared) != 1 || !got.Rest.Shared[0].Quiet {
		t.Errorf("the batch itself: %+v", batch)
	}
	for _, d := range change.Devices {
		got.Rest.Submissions = append(got.Rest.Submissions,
			obscura.Submission{ID: hello.ID, DeviceID: d.ID, Message: []byte("new")})
	}
	if failed, err := alice.Send(t.Context(), got.Rest); err != nil || len(failed) != 0 {
		t.Fatalf("%v, %v", failed, err)
	}
	for d, want := range map[*obscura.Session][]string{phone: {"new"}, watch: {"new"}, desk: {"new"},
		carol: {"alone", "body"}} {
		if texts := inbox(t, d); !slices.Equal(texts, want) {
			t.Errorf("device %d received %q, want %q", d.DeviceNumber(), texts, want)
		}
	}
}

func TestBatchForAUserWhoHasLeftIsCorrected(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	alice, bob, carol := newDevice(t, relay), newDevice(t, relay), newDevice(t, relay)
	desk := another(t, alice)
	bobs, carols, own := know(t, alice, bob.UserID()), know(t, alice, carol.UserID()), know(t, desk, alice.UserID())
	remove(t, bob, bob.DeviceID())
	remove(t, carol, another(t, carol).DeviceID()) // another version of the same devices
	tablet := another(t, alice)
	batch := obscura.NewBatch(to(bob, "lost"), to(carol, "hello"), to(desk, "a copy"))
	batch.Audiences = []obscura.Audience{bobs.Audience, carols.Audience, own.Audience}
	own.Devices = own.Devices[1:] // an application need not know its own device
	got, err := alice.Correct(t.Context(), batch, outdated(t, alice, batch), bobs, carols, own)
	if err != nil || len(got.Changes) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	for i, want := range []struct {
		bundles, gone, again []uuid.UUID
	}{
		{nil, []uuid.UUID{bob.DeviceID()}, []uuid.UUID{batch.Submissions[0].ID}},
		{nil, nil, nil},
		{[]uuid.UUID{tablet.DeviceID()}, nil, []uuid.UUID{batch.Submissions[2].ID}},
	} {
		c := got.Changes[i]
		if !slices.Equal(idsOf(c.Bundles), want.bundles) || !slices.Equal(c.Gone, want.gone) ||
			!slices.Equal(c.Again, want.again) {
			t.Errorf("change %d: %+v, want %v", i, c, want)
		}
	}
	if failed, err := alice.Send(t.Context(), got.Rest); err != nil || len(failed) != 0 {
		t.Fatalf("%v, %v", failed, err)
	}
	if texts := inbox(t, carol); !slices.Equal(texts, []string{"hello"}) {
		t.Errorf("Carol received %q", texts)
	}
}
