package keys_test

import (
	"net/http"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func listOf(t *testing.T, d *relaytest.Device, user uuid.UUID) client.UserDevices {
	t.Helper()
	got, err := d.ListDevicesOfUserWithResponse(t.Context(), user)
	if err != nil || got.JSON200 == nil {
		t.Fatalf("devices of %v: %v, %s", user, err, got.Body)
	}
	return *got.JSON200
}

func TestDeviceListsShowWhatBundlesShow(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	caller, user := relay.Register(t).NewDevice(t), relay.Register(t)
	devices := []*relaytest.Device{user.NewDevice(t), user.NewDevice(t), user.NewDevice(t)}
	list, bundles := listOf(t, caller, user.ID), e2e.FetchBundles(t, caller, user.ID)
	if len(list.Devices) != 3 || len(bundles) != 3 {
		t.Fatalf("%d devices, %d bundles", len(list.Devices), len(bundles))
	}
	for i, d := range list.Devices {
		b := bundles[i]
		if d.DeviceID != devices[i].ID || d.DeviceID != b.DeviceID || d.DeviceNumber != b.DeviceNumber ||
			d.RegistrationID != b.RegistrationID || string(d.IdentityKey) != string(b.IdentityKey) ||
			b.DevicesVersion != list.DevicesVersion {
			t.Errorf("device %d is %+v, its bundle %+v", i, d, b)
		}
	}
	if left := keyInventory(t, devices[0]).OneTimePreKeyCount; left != 4 {
		t.Errorf("%d one-time keys are left, want 4: the list takes none", left)
	}
}

func TestADevicesVersionGrowsWithEachChange(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	caller, user := relay.Register(t).NewDevice(t), relay.Register(t)
	first := user.NewDevice(t)
	version := listOf(t, caller, user.ID).DevicesVersion
	step := func(what string, grows bool, change func()) {
		t.Helper()
		change()
		now := listOf(t, caller, user.ID).DevicesVersion
		if (now > version) != grows || now < version {
			t.Errorf("%s: the version was %d and is %d", what, version, now)
		}
		version = now
	}
	var second *relaytest.Device
	step("a device is added", true, func() { second = user.NewDevice(t) })
	step("a device is named", false, func() {
		name := client.DeviceUpdate{Name: "a phone"}
		if got, err := first.UpdateDeviceWithResponse(t.Context(), first.ID, name); err != nil || got.JSON200 == nil {
			t.Errorf("%v", err)
		}
	})
	step("keys are refilled", false, func() {
		e2e.WantUpload(t, first, client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(100, 2)},
			http.StatusOK, "")
	})
	step("a takeover is refused", false, func() {
		upload := e2e.TakeoverBy(prekeytest.NewIdentity())
		upload.SignedPreKey = nil
		e2e.WantUpload(t, second, upload, http.StatusBadRequest, "signed_pre_key_missing")
	})
	step("a device is taken over", true, func() {
		e2e.WantUpload(t, second, e2e.TakeoverBy(prekeytest.NewIdentity()), http.StatusOK, "")
	})
	step("a device is removed", true, func() {
		if got, err := first.DeleteDeviceWithResponse(t.Context(), second.ID); err != nil ||
			got.StatusCode() != http.StatusOK {
			t.Errorf("%v", err)
		}
	})
}

func TestDeviceListsOfNobodyAreNotFound(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	caller := relay.Register(t).NewDevice(t)
	// the last one has no device
	for _, id := range []uuid.UUID{uuid.New(), uuid.Nil, caller.ID, relay.Register(t).ID} {
		e2e.Ask{Method: "GET", Path: "/v1/users/" + id.String() + "/devices", Token: caller.Token}.To(t, relay).
			Want(t, http.StatusNotFound, "user_not_found")
	}
	path := "/v1/users/" + caller.User.ID.String() + "/devices"
	e2e.Ask{Method: "GET", Path: path, Token: caller.User.Token}.To(t, relay).
		Want(t, http.StatusForbidden, "device_required")
	e2e.Ask{Method: "GET", Path: path}.To(t, relay).Want(t, http.StatusUnauthorized, "unauthorized")
}

func TestBundlesOfNamedDevicesLeaveTheOthersKeys(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	caller, user := relay.Register(t).NewDevice(t), relay.Register(t)
	first, second, third := user.NewDevice(t), user.NewDevice(t), user.NewDevice(t)
	// Beside fetches of everything, so that both kinds meet in a batch.
	const times = 2
	e2e.Together(2*times, func(i int) {
		want := []uuid.UUID{first.ID, second.ID, third.ID}
		var params *client.GetPreKeyBundlesParams
		if i%2 == 0 {
			want = []uuid.UUID{first.ID, third.ID}
			params = &client.GetPreKeyBundlesParams{DeviceID: []uuid.UUID{third.ID, first.ID, third.ID, caller.ID}}
		}
		got, err := caller.GetPreKeyBundlesWithResponse(t.Context(), user.ID, params)
		if err != nil || got.JSON200 == nil || len(*got.JSON200) != len(want) {
			t.Errorf("%v: %s", err, got.Body)
			return
		}
		for j, b := range *got.JSON200 {
			if b.DeviceID != want[j] || b.OneTimePreKey == nil {
				t.Errorf("bundle %d of fetch %d is %+v", j, i, b)
			}
		}
	})
	for device, left := range map[*relaytest.Device]int32{first: 5 - 2*times, second: 5 - times, third: 5 - 2*times} {
		if got := keyInventory(t, device).OneTimePreKeyCount; got != left {
			t.Errorf("%d one-time keys of device %d are left, want %d", got, device.Number, left)
		}
	}
}

func TestBadNamesOfDevicesAreRefused(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	caller, target := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	one, other := target.ID.String(), caller.ID.String()
	eleven := "?deviceId=" + one
	for range 10 {
		eleven += "&deviceId=" + one
	}
	for query, want := range map[string]e2e.Refusal{
		"?deviceId=":                     {Status: http.StatusBadRequest, Code: "invalid_request"},
		"?deviceId=phone":                {Status: http.StatusBadRequest, Code: "invalid_request"},
		"?deviceId={" + one + "}":        {Status: http.StatusBadRequest, Code: "invalid_request"},
		"?deviceId=" + one + "," + one:   {Status: http.StatusBadRequest, Code: "invalid_request"},
		"?deviceId=" + one + "&deviceId": {Status: http.StatusBadRequest, Code: "invalid_request"},
		eleven:                           {Status: http.StatusBadRequest, Code: "invalid_request"},
		"?deviceId=" + other:             {Status: http.StatusNotFound, Code: "device_not_found"},
		"?deviceId=" + uuid.Nil.String(): {Status: http.StatusNotFound, Code: "device_not_found"},
	} {
		e2e.Ask{Method: "GET", Path: "/v1/users/" + target.User.ID.String() + query, Token: caller.Token}.To(t, relay).
			Want(t, want.Status, want.Code)
	}
	if left := keyInventory(t, target).OneTimePreKeyCount; left != 5 {
		t.Errorf("%d one-time keys are left, want 5", left)
	}
}
