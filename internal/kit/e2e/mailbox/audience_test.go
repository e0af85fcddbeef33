package mailbox_test

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func audience(user uuid.UUID, version uint64) *obscurapb.Audience {
	return &obscurapb.Audience{UserId: user[:], DevicesVersion: version}
}

// sendTo sends a text to devices, meant for an audience.
func sendTo(t *testing.T, from *relaytest.Device, key *uuid.UUID, text string, to []uuid.UUID,
	audiences ...*obscurapb.Audience) *obscurapb.SendMessageResponse {
	t.Helper()
	request := &obscurapb.SendMessageRequest{Audiences: audiences}
	for _, device := range to {
		request.Messages = append(request.Messages, relaytest.To(device, text))
	}
	return askFor(t, from, key, request)
}

func askFor(t *testing.T, from *relaytest.Device, key *uuid.UUID,
	request *obscurapb.SendMessageRequest) *obscurapb.SendMessageResponse {
	t.Helper()
	status, answer := from.TryRequest(t, key, request)
	var response obscurapb.SendMessageResponse
	if err := proto.Unmarshal(answer, &response); status != http.StatusOK || err != nil {
		t.Errorf("status %d, %v, %s", status, err, answer)
	}
	return &response
}

func versionOf(t *testing.T, d *relaytest.Device, user uuid.UUID) uint64 {
	t.Helper()
	got, err := d.ListDevicesOfUserWithResponse(t.Context(), user)
	if err != nil || got.JSON200 == nil {
		t.Fatalf("devices of %v: %v, %s", user, err, got.Body)
	}
	return uint64(got.JSON200.DevicesVersion)
}

func TestABatchForAnOldDeviceListStoresNothing(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, carol, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t), relay.Register(t)
	first := bob.NewDevice(t)
	old := versionOf(t, alice, bob.ID)
	second := bob.NewDevice(t)
	others := versionOf(t, alice, carol.User.ID)
	key := uuid.New()
	answer := sendTo(t, alice, &key, "lost", []uuid.UUID{first.ID, carol.ID}, audience(carol.User.ID, others),
		audience(bob.ID, old))
	if lists := answer.GetDeviceLists(); len(lists) != 1 || string(lists[0].GetUserId()) != string(bob.ID[:]) ||
		lists[0].GetDevicesVersion() <= old || len(lists[0].GetDevices()) != 2 ||
		string(lists[0].GetDevices()[0].GetDeviceId()) != string(first.ID[:]) ||
		string(lists[0].GetDevices()[1].GetDeviceId()) != string(second.ID[:]) ||
		lists[0].GetDevices()[1].GetDeviceNumber() != 2 || lists[0].GetDevices()[1].GetRegistrationId() == 0 {
		t.Fatalf("lists: %v", lists)
	}
	if failed := answer.GetFailedSubmissions(); len(failed) != 2 || slices.ContainsFunc(failed,
		func(f *obscurapb.FailedSubmission) bool {
			return f.GetErrorCode() != obscurapb.ErrorCode_ERROR_CODE_DEVICE_LIST_CHANGED ||
				len(f.GetSubmissionId()) != 16 || f.GetErrorMessage() == ""
		}) {
		t.Errorf("failed: %v", failed)
	}
	// The corrected batch may have the same key; the first one is no repetition of it then.
	now := answer.GetDeviceLists()[0].GetDevicesVersion()
	if answer := sendTo(t, alice, &key, "right", []uuid.UUID{first.ID, second.ID, carol.ID},
		audience(bob.ID, now), audience(carol.User.ID, others)); proto.Size(answer) != 0 {
		t.Errorf("the corrected batch: %v", answer)
	}
	for _, d := range []*relaytest.Device{first, second, carol} {
		if envelopes, _, _ := d.Connect(t).Drain(); e2e.Texts(envelopes) != "right" {
			t.Errorf("%q arrived", e2e.Texts(envelopes))
		}
	}
}

func TestARepeatedBatchIsAnsweredByItsReceipt(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t)
	first := bob.NewDevice(t)
	own := uuid.New()
	for _, key := range []*uuid.UUID{&own, nil} { // a key of its own, and one from the submission ids
		request := &obscurapb.SendMessageRequest{
			Messages:  []*obscurapb.Submission{relaytest.To(first.ID, "once"), relaytest.To(uuid.New(), "nobody")},
			Audiences: []*obscurapb.Audience{audience(bob.ID, versionOf(t, alice, bob.ID))},
		}
		stored := askFor(t, alice, key, request)
		bob.NewDevice(t)
		if again := askFor(t, alice, key, request); len(again.GetDeviceLists()) != 0 || !proto.Equal(stored, again) ||
			len(stored.GetFailedSubmissions()) != 1 {
			t.Errorf("first %v, again %v", stored, again)
		}
		request.Messages[0].Message = []byte("another")
		if status, body := alice.TryRequest(t, key, request); status != http.StatusConflict {
			t.Errorf("another body with the key: %d, %s", status, body)
		}
	}
	if envelopes, _, _ := first.Connect(t).Drain(); e2e.Texts(envelopes) != "once once" {
		t.Errorf("%q arrived", e2e.Texts(envelopes))
	}
}

func TestAudiencesThatAreNotCurrent(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob, empty := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t), relay.Register(t)
	now, nobody := versionOf(t, alice, bob.User.ID), uuid.New()
	for name, c := range map[string]struct {
		audience *obscurapb.Audience
		devices  int
	}{
		"a version from the future": {audience(bob.User.ID, now+1), 1},
		"the largest version":       {audience(bob.User.ID, math.MaxUint64), 1},
		"no version":                {audience(bob.User.ID, 0), 1},
		"nobody":                    {audience(nobody, 1), 0},
		"nobody without a version":  {audience(nobody, 0), 0},
		"a user without a device":   {audience(empty.ID, 1), 0},
		"a device's id":             {audience(bob.ID, 1), 0},
	} {
		for _, to := range [][]uuid.UUID{{bob.ID}, nil} {
			lists := sendTo(t, alice, nil, "lost", to, audience(bob.User.ID, now), c.audience).GetDeviceLists()
			if len(lists) != 1 || string(lists[0].GetUserId()) != string(c.audience.GetUserId()) ||
				len(lists[0].GetDevices()) != c.devices || (lists[0].GetDevicesVersion() == now) != (c.devices > 0) {
				t.Errorf("%s: %v", name, lists)
			}
		}
	}
	if answer := sendTo(t, alice, nil, "", nil, audience(bob.User.ID, now)); proto.Size(answer) != 0 {
		t.Errorf("nothing to store, for those that are there: %v", answer)
	}
	if envelopes, _, _ := bob.Connect(t).Drain(); len(envelopes) != 0 {
		t.Errorf("%q arrived", e2e.Texts(envelopes))
	}
}

func TestBadAudiencesAreRefused(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice := relay.Register(t).NewDevice(t)
	for code, audiences := range map[string][]*obscurapb.Audience{
		"invalid_audience":   {audience(alice.User.ID, 1), {UserId: alice.User.ID[:15], DevicesVersion: 1}},
		"too_many_audiences": slices.Repeat([]*obscurapb.Audience{audience(alice.User.ID, 1)}, 101),
	} {
		status, body := alice.TryRequest(t, nil, &obscurapb.SendMessageRequest{Audiences: audiences,
			Messages: []*obscurapb.Submission{relaytest.To(alice.ID, "lost")}})
		if got := e2e.RefusalOf(status, body); got.Code != code {
			t.Errorf("%v, want %s", got, code)
		}
	}
	if envelopes, _, _ := alice.Connect(t).Drain(); len(envelopes) != 0 {
		t.Errorf("%q arrived", e2e.Texts(envelopes))
	}
}

// TestNoBatchMissesADevice has sixteen senders write to a user whose devices come, go and are taken
// over. A batch that is stored goes to just the devices of the version that it names, and this is
// no older than what was over before it was sent.
func TestNoBatchMissesADevice(t *testing.T) {
	t.Parallel()
	const senders, changes = 16, 60
	relay := relaytest.Start(t)
	bob, watcher := relay.Register(t), relay.Register(t).NewDevice(t)
	devices := []*relaytest.Device{bob.NewDevice(t), bob.NewDevice(t)}
	var known sync.Map // version -> ids of the devices, as text
	var over atomic.Uint64
	note := func() {
		got, err := watcher.ListDevicesOfUserWithResponse(t.Context(), bob.ID)
		if err != nil || got.JSON200 == nil {
			t.Errorf("%v, %s", err, got.Body)
			return
		}
		var ids []uuid.UUID
		for _, d := range got.JSON200.Devices {
			ids = append(ids, d.DeviceID)
		}
		version := uint64(got.JSON200.DevicesVersion)
		known.Store(version, fmt.Sprint(ids))
		over.Store(version)
	}
	note()
	type stored struct {
		version, atLeast uint64
		to               string
	}
	var mu sync.Mutex
	var all []stored
	refused := 0
	done := make(chan struct{})
	people := e2e.Devices(t, relay, senders)
	e2e.Together(senders+1, func(i int) {
		if i == senders { // changes the devices
			defer close(done)
			for n := range changes {
				switch n % 3 {
				case 0:
					devices = append(devices, bob.NewDevice(t))
				case 1:
					e2e.WantUpload(t, devices[len(devices)-1], e2e.TakeoverBy(prekeytest.NewIdentity()),
						http.StatusOK, "")
				case 2:
					last := devices[len(devices)-1]
					devices = devices[:len(devices)-1]
					if got, err := devices[0].DeleteDeviceWithResponse(t.Context(), last.ID); err != nil ||
						got.StatusCode() != http.StatusOK {
						t.Errorf("%v, %s", err, got.Body)
					}
				}
				note()
			}
			return
		}
		var version uint64
		var to []uuid.UUID
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			atLeast := over.Load()
			answer := sendTo(t, people[i], nil, fmt.Sprint(i, "-", n), to, audience(bob.ID, version))
			mu.Lock()
			if lists := answer.GetDeviceLists(); len(lists) == 1 {
				refused++
				version, to = lists[0].GetDevicesVersion(), nil
				for _, d := range lists[0].GetDevices() {
					to = append(to, uuid.UUID(d.GetDeviceId()))
				}
			} else {
				all = append(all, stored{version, atLeast, fmt.Sprint(to)})
			}
			mu.Unlock()
		}
	})
	for _, s := range all {
		want, ok := known.Load(s.version)
		if !ok || s.to != want {
			t.Errorf("a batch for version %d went to %s; it has %v", s.version, s.to, want)
		}
		if s.version < s.atLeast {
			t.Errorf("a batch for version %d was stored after version %d was there", s.version, s.atLeast)
		}
	}
	if len(all) < changes || refused < changes/2 {
		t.Errorf("%d batches were stored, %d refused: too few to show anything", len(all), refused)
	}
	t.Logf("%d batches were stored, %d refused", len(all), refused)
}
