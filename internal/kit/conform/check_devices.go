package conform

import (
	"net/http"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// refuses fails unless a submission to a device is INVALID_DEVICE.
func (t *try) refuses(from *device, to uuid.UUID, what string) {
	failed := t.failures(t.submit(from, uuid.NewString(), encode(mail(to, "to nobody"))))
	t.must(len(failed) == 1 && failed[0].GetErrorCode() == obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE,
		"mail to %s is not INVALID_DEVICE", what)
}

var deviceChecks = []check{
	{"devices.numbers", "Each device of a user has a number of its own from 1 to 127, and it is the same wherever it appears.", func(t *try) {
		u, caller := t.user(), t.device()
		numbers := map[uuid.UUID]int32{}
		seen := map[int32]bool{}
		for range 3 {
			d := t.deviceOf(u, 0, 0)
			t.must(d.number >= 1 && d.number <= 127 && !seen[d.number],
				"a device has the number %d, which is no good or in use", d.number)
			seen[d.number], numbers[d.id] = true, d.number
			one := into[client.Device](t.call("GET", "/v1/devices/"+d.id.String(), u.token, nil).want(http.StatusOK,
				""))
			t.must(one.DeviceID == d.id && one.DeviceNumber == d.number, "GET /v1/devices/{id} says another number")
		}
		listed := into[client.DeviceList](t.call("GET", "/v1/devices", u.token, nil).want(http.StatusOK, "")).Devices
		for i, d := range listed {
			t.must(numbers[d.DeviceID] == d.DeviceNumber, "GET /v1/devices says another number")
			t.must(i == 0 || listed[i-1].DeviceNumber < d.DeviceNumber,
				"GET /v1/devices is not in the order of numbers")
		}
		bundles := t.bundles(caller, u.id)
		t.must(len(bundles) == len(numbers), "%d bundles of %d devices", len(bundles), len(numbers))
		for i, b := range bundles {
			t.must(numbers[b.DeviceID] == b.DeviceNumber, "a bundle says another number")
			t.must(i == 0 || bundles[i-1].DeviceNumber < b.DeviceNumber, "the bundles are not in the order of numbers")
		}
	}},
	{"devices.number-rests", "The number of a device that others know is not given to the next one when the device was removed.", func(t *try) {
		u, other := t.user(), t.device()
		for nth := range 2 {
			gone := t.deviceOf(u, 0, 0)
			if nth == 0 {
				t.bundle(other, u.id)
			} else {
				t.post(gone, mail(other.id, "from a device that goes"))
			}
			t.call("DELETE", "/v1/devices/"+gone.id.String(), u.token, nil).want(http.StatusOK, "")
			next := t.deviceOf(u, 0, 0)
			t.must(next.number != gone.number, "the number of a device was given out again at once")
		}
	}},
	{"devices.manage", "Devices are listed, read, renamed and removed.", func(t *try) {
		u := t.user()
		identity := newIdentity(false)
		upload := newUpload(identity, 0, 0)
		name := "first"
		upload.Name = &name
		d, other := t.deviceWith(u, identity, upload), t.deviceOf(u, 0, 0)
		path := "/v1/devices/" + d.id.String()
		read := func(a *answer) string {
			got := into[client.Device](a.want(http.StatusOK, ""))
			t.must(got.DeviceID == d.id && got.Name != nil, "%s: not the device", a.asked)
			return *got.Name
		}
		t.must(read(t.call("GET", path, u.token, nil)) == "first", "the name is not the one that was given")
		t.must(read(t.call("PUT", path, u.token, client.DeviceUpdate{Name: "second"})) == "second",
			"the answer has the old name")
		t.must(read(t.call("GET", path, u.token, nil)) == "second", "the new name was not kept")
		list := into[client.DeviceList](t.call("GET", "/v1/devices", d.token, nil).want(http.StatusOK, "")).Devices
		t.must(len(list) == 2, "%d devices are listed, want 2", len(list))
		t.must(len(t.call("DELETE", path, other.token, nil).want(http.StatusOK, "").body) == 0,
			"DELETE answers with a body")
		t.call("GET", path, u.token, nil).wantError(http.StatusNotFound, "(removed)")
		list = into[client.DeviceList](t.call("GET", "/v1/devices", u.token, nil).want(http.StatusOK, "")).Devices
		t.must(len(list) == 1 && list[0].DeviceID == other.id,
			"a removed device is still listed, or another one has gone")
	}},
	{"devices.foreign", "Another user's device is 404, to read, rename and remove.", func(t *try) {
		d, foreign := t.device(), t.device()
		for _, path := range []string{"/v1/devices/" + foreign.id.String(), "/v1/devices/" + uuid.NewString()} {
			t.call("GET", path, d.token, nil).wantError(http.StatusNotFound, "(not one's own)")
			t.call("PUT", path, d.token, client.DeviceUpdate{Name: "mine"}).wantError(http.StatusNotFound,
				"(not one's own)")
			t.call("DELETE", path, d.token, nil).wantError(http.StatusNotFound, "(not one's own)")
		}
		t.works(foreign.token, "the token of the other user's device")
	}},
	{"devices.limit", "A user has at most 10 devices; the next is 403.", func(t *try) {
		u := t.user()
		for range maxDevices {
			t.deviceOf(u, 0, 0)
		}
		t.call("POST", "/v1/devices", u.token, newUpload(newIdentity(false), 0, 0)).wantError(http.StatusForbidden,
			"(an eleventh device)")
	}},
	{"devices.removed", "The tokens, the sockets, the keys and the mailbox of a removed device stop working within a second.", func(t *try) {
		u, other := t.user(), t.device()
		d := t.deviceOf(u, 1, 0)
		s, waiting := t.connect(d), t.ticket(d)
		s.drain(false)
		t.call("DELETE", "/v1/devices/"+d.id.String(), u.token, nil).want(http.StatusOK, "")
		s.closes(4401, "after the device was removed")
		t.ends(d.token)
		t.call("POST", "/v1/sessions/refresh", "",
			client.RefreshTokenBody{RefreshToken: d.refresh}).wantError(http.StatusUnauthorized,
			"(of a removed device)")
		late, status := t.dial("?ticket="+waiting, "")
		t.must(late == nil && status == http.StatusUnauthorized,
			"GET /v1/gateway with the ticket of a removed device: %d, want 401", status)
		t.call("GET", "/v1/users/"+u.id.String(), other.token, nil).wantError(http.StatusNotFound,
			"(the bundles of a user whose device was removed)")
		t.refuses(other, d.id, "a removed device")
		t.works(u.token, "the user-scoped token")
	}},
}
