package obscura_test

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// trust adds a delivery token for a user.
func trust(t *testing.T, s *obscura.Session) obscura.DeliveryToken {
	t.Helper()
	token := obscura.NewDeliveryToken()
	if err := s.AddDeliveryTokens(t.Context(), time.Time{}, token); err != nil {
		t.Fatal(err)
	}
	return token
}

func TestSealedBatchArrivesWithoutASender(t *testing.T) {
	t.Parallel()
	relay, network := join(t, relaytest.Start(t), obscura.Options{})
	bob, carol := newDevice(t, relay), newDevice(t, relay)
	bobs, carols := trust(t, bob), trust(t, carol)
	batch := obscura.NewBatch(obscura.Submission{DeviceID: bob.DeviceID(), Message: []byte("hello"), DeliveryToken: bobs},
		obscura.Submission{DeviceID: carol.DeviceID(), Message: []byte("not hers"), DeliveryToken: bobs})
	batch.Shared = []obscura.SharedSubmission{obscura.NewShared([]byte("all"),
		obscura.SharedRecipient{DeviceID: carol.DeviceID(), DeliveryToken: carols})}
	fates := []verdict{notApplied, applied, passed, passed}
	network.failing(func(r *http.Request) verdict {
		if r.URL.Path != "/v1/messages/sealed" {
			t.Errorf("a request for %s", r.URL.Path)
		}
		fate := fates[0]
		fates = fates[1:]
		return fate
	})
	for range 2 { // the second time after a restart
		failed, err := relay.SendSealed(t.Context(), batch)
		if err != nil || len(failed) != 1 || failed[0].ID != batch.Submissions[1].ID ||
			failed[0].Code != obscurapb.ErrorCode_ERROR_CODE_REFUSED {
			t.Fatalf("%+v, %v", failed, err)
		}
	}
	network.failing(nil)
	e := nextEnvelope(t, listen(t, t.Context(), bob.Gateway()))
	if string(e.Message) != "hello" || e.SenderID != uuid.Nil || e.SenderDeviceID != uuid.Nil || e.SenderDeviceNumber != 0 {
		t.Errorf("%+v", e)
	}
	if got := inbox(t, carol); !slices.Equal(got, []string{"all"}) {
		t.Errorf("Carol received %q", got)
	}
}

func TestDeliveryTokensOpenUntilRemoved(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	bob := newDevice(t, relay)
	desk := another(t, bob)
	ends := time.Now().Add(time.Hour).Truncate(time.Second)
	brief, lasting := obscura.NewDeliveryToken(), trust(t, bob)
	if err := bob.AddDeliveryTokens(t.Context(), ends, brief); err != nil {
		t.Fatal(err)
	}
	listed, err := desk.DeliveryTokens(t.Context())
	if err != nil || len(listed) != 2 || !bytes.Equal(listed[0].Hash, lasting.Hash()) || listed[0].ExpiresAt != nil ||
		!bytes.Equal(listed[1].Hash, brief.Hash()) || listed[1].ExpiresAt == nil || !listed[1].ExpiresAt.Equal(ends) {
		t.Fatalf("%+v, %v", listed, err)
	}
	devices, err := relay.SealedDevices(t.Context(), bob.UserID(), brief)
	if err != nil || len(devices.Devices) != 2 {
		t.Fatalf("%+v, %v", devices, err)
	}
	bundles, err := relay.SealedBundles(t.Context(), bob.UserID(), lasting, desk.DeviceID())
	if err != nil || !slices.Equal(idsOf(bundles), []uuid.UUID{desk.DeviceID()}) {
		t.Fatalf("%+v, %v", bundles, err)
	}
	if err := desk.RemoveDeliveryTokens(t.Context(), brief.Hash(), obscura.NewDeliveryToken().Hash()); err != nil {
		t.Fatal(err)
	}
	if listed, err := bob.DeliveryTokens(t.Context()); err != nil || len(listed) != 1 {
		t.Errorf("%+v, %v", listed, err)
	}
	for name, c := range map[string]struct {
		user  uuid.UUID
		token obscura.DeliveryToken
	}{"removed": {bob.UserID(), brief}, "none": {bob.UserID(), nil}, "nobody's": {uuid.New(), lasting}} {
		var e *obscura.Error
		if _, err := relay.SealedDevices(t.Context(), c.user, c.token); !errors.As(err, &e) || e.Status != 401 {
			t.Errorf("%s: devices: %v", name, err)
		}
		if _, err := relay.SealedBundles(t.Context(), c.user, c.token); !errors.As(err, &e) || e.Status != 401 {
			t.Errorf("%s: bundles: %v", name, err)
		}
	}
}

func TestSealedBatchForOldDevicesIsCorrected(t *testing.T) {
	t.Parallel()
	relay, network := join(t, relaytest.Start(t), obscura.Options{})
	alice, phone := newDevice(t, relay), newDevice(t, relay)
	token := trust(t, phone)
	bobs := know(t, alice, phone.UserID())
	desk := another(t, phone)
	network.failing(func(r *http.Request) verdict {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("%s says who asks", r.URL.Path)
		}
		return passed
	})
	batch := obscura.NewBatch(obscura.Submission{DeviceID: phone.DeviceID(), Message: []byte("old"), DeliveryToken: token})
	batch.Audiences = []obscura.Audience{bobs.Audience}
	var changed *obscura.DevicesChangedError
	if _, err := relay.SendSealed(t.Context(), batch); !errors.As(err, &changed) {
		t.Fatal(err)
	}
	untold := obscura.NewBatch()
	if _, err := relay.CorrectSealed(t.Context(), untold, changed, bobs); err == nil {
		t.Error("corrected without a token")
	}
	got, err := relay.CorrectSealed(t.Context(), batch, changed, bobs)
	if err != nil || len(got.Changes) != 1 ||
		!slices.Equal(idsOf(got.Changes[0].Bundles), []uuid.UUID{desk.DeviceID()}) ||
		!slices.Equal(got.Changes[0].Again, []uuid.UUID{batch.Submissions[0].ID}) {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, d := range got.Changes[0].Devices {
		got.Rest.Submissions = append(got.Rest.Submissions, obscura.Submission{ID: uuid.New(), DeviceID: d.ID,
			Message: []byte("new"), DeliveryToken: token})
	}
	if failed, err := relay.SendSealed(t.Context(), got.Rest); err != nil || len(failed) != 0 {
		t.Fatalf("%v, %v", failed, err)
	}
	network.failing(nil)
	for _, d := range []*obscura.Session{phone, desk} {
		if texts := inbox(t, d); !slices.Equal(texts, []string{"new"}) {
			t.Errorf("%q", texts)
		}
	}
}
