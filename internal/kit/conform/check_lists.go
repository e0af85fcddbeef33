package conform

import (
	"bytes"
	"net/http"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
)

var listChecks = []check{
	{"lists.devices", "The list of another user's devices is that of the bundles, with their devicesVersion, and takes no key.",
		func(t *try) {
			caller, u := t.device(), t.user()
			devices := []*device{t.deviceOf(u, 1, 1), t.deviceOf(u, 1, 1)}
			list := t.list(caller, u.id)
			bundles := t.bundles(caller, u.id)
			t.must(len(list.Devices) == 2 && len(bundles) == 2, "%d devices and %d bundles of 2 devices",
				len(list.Devices), len(bundles))
			for i, d := range list.Devices {
				b := bundles[i]
				t.must(d.DeviceID == devices[i].id && d.DeviceNumber == devices[i].number &&
					d.RegistrationID == devices[i].keys.RegistrationID &&
					bytes.Equal(d.IdentityKey, devices[i].keys.IdentityKey), "not the device that registered")
				t.must(b.DevicesVersion == list.DevicesVersion, "the bundle has version %d, the list %d",
					b.DevicesVersion, list.DevicesVersion)
				t.must(b.OneTimePreKey != nil && b.KyberPreKey != nil && b.KyberPreKey.KeyID == 1,
					"a list has used up a one-time key")
			}
			t.call("GET", "/v1/users/"+uuid.NewString()+"/devices", caller.token, nil).
				wantError(http.StatusNotFound, "(an unknown user)")
		}},
	{"lists.version", "devicesVersion grows when a device is added, taken over or removed, and not otherwise.", func(t *try) {
		caller, u := t.device(), t.user()
		first := t.deviceOf(u, 0, 0)
		last := t.list(caller, u.id).DevicesVersion
		grew := func(what string, want bool) {
			now := t.list(caller, u.id).DevicesVersion
			t.must(now >= last && (now > last) == want, "%s the version is %d, it was %d", what, now, last)
			last = now
		}
		second := t.deviceOf(u, 0, 0)
		grew("after a device was added", true)
		t.upload(first, client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(5, 1)}, http.StatusOK, "")
		t.bundles(caller, u.id)
		grew("after an upload and a fetch", false)
		t.takeOver(second)
		grew("after a takeover", true)
		t.call("DELETE", "/v1/devices/"+second.id.String(), first.token, nil).want(http.StatusOK, "")
		grew("after a device was removed", true)
	}},
	{"lists.named-bundles", "With deviceId only the named devices' bundles are handed out; the others keep their keys.",
		func(t *try) {
			caller, u := t.device(), t.user()
			first, second := t.deviceOf(u, 1, 1), t.deviceOf(u, 1, 1)
			path := "/v1/users/" + u.id.String() + "?deviceId="
			got := into[[]client.PreKeyBundle](t.call("GET", path+second.id.String(), caller.token, nil).
				want(http.StatusOK, ""))
			t.must(len(got) == 1 && got[0].DeviceID == second.id && got[0].OneTimePreKey != nil,
				"not the bundle of the device that was named")
			t.call("GET", path+caller.id.String(), caller.token, nil).wantError(http.StatusNotFound,
				"(another user's device)")
			for _, b := range t.bundles(caller, u.id) {
				t.must((b.OneTimePreKey != nil) == (b.DeviceID == first.id),
					"a device that was not named has lost a key, or the other has it still")
			}
		}},
	{"lists.audience", "A batch for an audience with other devices stores nothing and says which there are; corrected, it may have the same key.",
		func(t *try) {
			sender, u := t.device(), t.user()
			first := t.deviceOf(u, 0, 0)
			old := uint64(t.list(sender, u.id).DevicesVersion)
			second, key := t.deviceOf(u, 0, 0), uuid.NewString()
			send := func(version uint64, to ...*device) *obscurapb.SendMessageResponse {
				request := &obscurapb.SendMessageRequest{Audiences: []*obscurapb.Audience{
					{UserId: u.id[:], DevicesVersion: version}}}
				for _, d := range to {
					request.Messages = append(request.Messages, mail(d.id, "to all"))
				}
				return t.sent(t.submit(sender, key, encodeRequest(request)))
			}
			refused := send(old, first)
			lists := refused.GetDeviceLists()
			t.must(len(lists) == 1 && bytes.Equal(lists[0].GetUserId(), u.id[:]) && len(lists[0].GetDevices()) == 2 &&
				lists[0].GetDevicesVersion() > old, "the answer does not say which devices there are")
			for i, d := range []*device{first, second} {
				listed := lists[0].GetDevices()[i]
				t.must(bytes.Equal(listed.GetDeviceId(), d.id[:]) && listed.GetDeviceNumber() == uint32(d.number) &&
					listed.GetRegistrationId() == uint32(d.keys.RegistrationID),
					"the answer lists other devices than there are")
			}
			failed := refused.GetFailedSubmissions()
			t.must(len(failed) == 1 && failed[0].GetErrorCode() == obscurapb.ErrorCode_ERROR_CODE_DEVICE_LIST_CHANGED,
				"the submission has not failed with DEVICE_LIST_CHANGED")
			answer := send(lists[0].GetDevicesVersion(), first, second)
			t.must(len(answer.GetFailedSubmissions()) == 0 && len(answer.GetDeviceLists()) == 0,
				"the corrected batch is refused")
			for _, d := range []*device{first, second} {
				got := len(t.pending(d).envelopes)
				t.must(got == 1, "%d envelopes arrive, want that of the corrected batch", got)
			}
		}},
}

// list returns the devices of a user.
func (t *try) list(caller *device, user uuid.UUID) client.UserDevices {
	return into[client.UserDevices](t.call("GET", "/v1/users/"+user.String()+"/devices", caller.token, nil).
		want(http.StatusOK, ""))
}
