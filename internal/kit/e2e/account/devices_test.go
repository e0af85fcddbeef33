package account_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

func TestDevicesAreListedReadRenamedAndDeleted(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	if list, err := user.ListDevicesWithResponse(t.Context()); err != nil || len(list.JSON200.Devices) != 0 {
		t.Fatalf("devices of a new user: %v, %v", list.JSON200, err)
	}
	name, began := "phone", time.Now().Add(-time.Minute)
	identity := prekeytest.NewIdentity()
	upload := identity.NewDevice(1, 1)
	upload.Name = &name
	named := user.NewDeviceWith(t, identity, upload)
	nameless := user.NewDevice(t)
	list, err := user.ListDevicesWithResponse(t.Context())
	if err != nil || len(list.JSON200.Devices) != 2 {
		t.Fatalf("devices: %v, %v", list.JSON200, err)
	}
	first, second := list.JSON200.Devices[0], list.JSON200.Devices[1]
	if first.DeviceID != named.ID || first.DeviceNumber != 1 || *first.Name != name || first.CreatedAt.Before(began) {
		t.Errorf("first device: %+v", first)
	}
	if second.DeviceID != nameless.ID || second.DeviceNumber != 2 || second.Name != nil {
		t.Errorf("second device: %+v", second)
	}
	// A device-scoped token may do it as well.
	renamed, err := named.UpdateDeviceWithResponse(t.Context(), nameless.ID, client.DeviceUpdate{Name: "🖥 désk"})
	if err != nil || renamed.JSON200 == nil || *renamed.JSON200.Name != "🖥 désk" || renamed.JSON200.DeviceNumber != 2 {
		t.Errorf("rename: %s, %v", renamed.Body, err)
	}
	got, err := user.GetDeviceWithResponse(t.Context(), nameless.ID)
	if err != nil || got.JSON200 == nil || *got.JSON200.Name != "🖥 désk" || got.JSON200.DeviceID != nameless.ID {
		t.Errorf("get: %s, %v", got.Body, err)
	}
	deleted, err := user.DeleteDeviceWithResponse(t.Context(), nameless.ID)
	if err != nil || deleted.StatusCode() != http.StatusOK || len(deleted.Body) != 0 {
		t.Errorf("delete: %d %q, %v", deleted.StatusCode(), deleted.Body, err)
	}
	wantNoDevice(t, user, nameless.ID)
	list, err = user.ListDevicesWithResponse(t.Context())
	if err != nil || len(list.JSON200.Devices) != 1 || list.JSON200.Devices[0].DeviceID != named.ID {
		t.Errorf("devices: %v, %v", list.JSON200, err)
	}
}

// wantNoDevice wants 404 for reading, renaming and deleting.
func wantNoDevice(t testing.TB, user *relaytest.User, id uuid.UUID) {
	t.Helper()
	want := e2e.Refusal{Status: http.StatusNotFound, Code: "device_not_found"}
	get, err := user.GetDeviceWithResponse(t.Context(), id)
	if err != nil || e2e.RefusalOf(get.StatusCode(), get.Body) != want {
		t.Errorf("get: %d %s, %v", get.StatusCode(), get.Body, err)
	}
	put, err := user.UpdateDeviceWithResponse(t.Context(), id, client.DeviceUpdate{Name: "mine now"})
	if err != nil || e2e.RefusalOf(put.StatusCode(), put.Body) != want {
		t.Errorf("rename: %d %s, %v", put.StatusCode(), put.Body, err)
	}
	remove, err := user.DeleteDeviceWithResponse(t.Context(), id)
	if err != nil || e2e.RefusalOf(remove.StatusCode(), remove.Body) != want {
		t.Errorf("delete: %d %s, %v", remove.StatusCode(), remove.Body, err)
	}
}

func TestAnotherUsersDeviceIsNotThere(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, mallory := relay.Register(t), relay.Register(t)
	d := alice.NewDevice(t)
	wantNoDevice(t, mallory, d.ID)
	wantNoDevice(t, mallory, uuid.New())
	wantNoDevice(t, mallory, uuid.Nil)
	got, err := alice.GetDeviceWithResponse(t.Context(), d.ID)
	if err != nil || got.JSON200 == nil || got.JSON200.Name != nil {
		t.Errorf("her device has changed: %s, %v", got.Body, err)
	}
	if !e2e.MayUse(t, d) {
		t.Error("her device's token has stopped working")
	}
}

func TestADeviceNameHasABoundedLength(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	d := user.NewDevice(t)
	for name, status := range map[string]int{
		"": 400, "x": 200, strings.Repeat("é", 100): 200, strings.Repeat("x", 101): 400, "nul\x00": 400,
	} {
		put, err := user.UpdateDeviceWithResponse(t.Context(), d.ID, client.DeviceUpdate{Name: name})
		if err != nil || put.StatusCode() != status {
			t.Errorf("rename to %q: %d %s, want %d, %v", name, put.StatusCode(), put.Body, status, err)
		}
		upload := prekeytest.NewIdentity().NewDevice(1, 0)
		upload.Name = &name
		created, err := user.CreateDeviceWithResponse(t.Context(), upload)
		if want := map[int]int{200: 201, 400: 400}[status]; err != nil || created.StatusCode() != want {
			t.Errorf("a device named %q: %d %s, want %d, %v", name, created.StatusCode(), created.Body, want, err)
		}
	}
}

// Within a second, and on every node: the token, the socket, and mail for it.
func TestADeletedDeviceStopsWorkingEverywhere(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t)
	two := relaytest.StartOn(t, one.DatabaseURL)
	alice, user := one.Register(t).NewDevice(t), one.Register(t)
	d := user.NewDevice(t)
	second := user.NewDevice(t)
	there := d.On(two)
	if !e2e.MayUse(t, d) || !e2e.MayUse(t, there) { // both nodes have it in their caches
		t.Fatal("the token does not work")
	}
	socket := there.Connect(t)
	socket.Drain()
	if got, err := user.DeleteDeviceWithResponse(t.Context(), d.ID); err != nil || got.StatusCode() != http.StatusOK {
		t.Fatalf("delete: %v, %s", err, got.Body)
	}
	deleted := time.Now()
	if e2e.MayUse(t, d) {
		t.Error("its token still works on the node that deleted it")
	}
	wait.Eventually(t, "the token stops working on the other node", func() bool { return !e2e.MayUse(t, there) })
	if code := socket.CloseCode(); code != 4401 {
		t.Errorf("the socket was closed with %d, want 4401", code)
	}
	if took := time.Since(deleted); took > 2*time.Second {
		t.Errorf("it took %v, more than two seconds", took)
	}
	if got := e2e.Refresh(d.Refresh).To(t, one).Status; got != http.StatusUnauthorized {
		t.Errorf("its refresh token: %d", got)
	}
	if !e2e.MayUse(t, second) {
		t.Error("the user's other device has stopped working")
	}
	failed := alice.Send(t, nil, relaytest.To(d.ID, "are you there?"), relaytest.To(second.ID, "you?"))
	if len(failed) != 1 || failed[0].GetErrorCode() != obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE {
		t.Errorf("failed: %v, want one ERROR_CODE_INVALID_DEVICE", failed)
	}
	bundles := e2e.FetchBundles(t, alice, user.ID)
	if len(bundles) != 1 || bundles[0].DeviceID != second.ID {
		t.Errorf("bundles: %v", bundles)
	}
}
