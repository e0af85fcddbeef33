package obscura_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestABatchForOldDevicesTellsTheNewOnes(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	alice, phone := newDevice(t, relay), newDevice(t, relay)
	old, err := alice.Devices(t.Context(), phone.UserID())
	if err != nil {
		t.Fatal(err)
	}
	tablet, err := phone.AddDevice(t.Context(), prekeytest.NewIdentity().NewDevice(5, 2))
	if err != nil {
		t.Fatal(err)
	}
	batch := obscura.NewBatch(obscura.Submission{DeviceID: phone.DeviceID(), Message: []byte("lost")})
	batch.Audiences = []obscura.Audience{{UserID: phone.UserID(), DevicesVersion: old.DevicesVersion}}
	var changed *obscura.DevicesChangedError
	if _, err := alice.Send(t.Context(), batch); !errors.As(err, &changed) || len(changed.Lists) != 1 {
		t.Fatal(err)
	}
	list := changed.Lists[0]
	if list.UserID != phone.UserID() || len(list.Devices) != 2 || list.Devices[0].ID != phone.DeviceID() ||
		list.Devices[1].ID != tablet.DeviceID() || list.Devices[1].Number != 2 {
		t.Fatalf("%+v", list)
	}
	bundles, err := alice.Bundles(t.Context(), phone.UserID(), tablet.DeviceID())
	if err != nil || len(bundles) != 1 || bundles[0].DeviceID != tablet.DeviceID() ||
		bundles[0].DevicesVersion != list.DevicesVersion ||
		uint32(bundles[0].RegistrationID) != list.Devices[1].RegistrationID {
		t.Fatalf("%+v, %v", bundles, err)
	}
	batch = obscura.NewBatch(obscura.Submission{DeviceID: phone.DeviceID(), Message: []byte("both")},
		obscura.Submission{DeviceID: tablet.DeviceID(), Message: []byte("both")})
	batch.Audiences = []obscura.Audience{list.Audience}
	if failed, err := alice.Send(t.Context(), batch); err != nil || len(failed) != 0 {
		t.Fatalf("%v, %v", failed, err)
	}
	for _, d := range []*obscura.Session{phone, tablet} {
		if got := inbox(t, d); !slices.Equal(got, []string{"both"}) {
			t.Errorf("%q", got)
		}
	}
	batch.Audiences = []obscura.Audience{{UserID: uuid.New(), DevicesVersion: 1}}
	batch.Key = uuid.New()
	if _, err := alice.Send(t.Context(), batch); !errors.As(err, &changed) || len(changed.Lists[0].Devices) != 0 ||
		changed.Lists[0].DevicesVersion != 0 {
		t.Errorf("nobody: %v", err)
	}
}
