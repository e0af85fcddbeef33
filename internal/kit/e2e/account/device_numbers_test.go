package account_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// createDevice registers a device with few keys and returns its number, 0 when it was refused.
func createDevice(t testing.TB, user *relaytest.User) (int32, e2e.Refusal) {
	t.Helper()
	got, err := user.CreateDeviceWithResponse(t.Context(), prekeytest.NewIdentity().NewDevice(1, 0))
	if err != nil {
		t.Error(err)
		return 0, e2e.Refusal{}
	}
	if got.JSON201 == nil {
		return 0, e2e.RefusalOf(got.StatusCode(), got.Body)
	}
	return *got.JSON201.DeviceNumber, e2e.Refusal{Status: got.StatusCode(), Code: ""}
}

func TestTwentyDevicesAtOnceBecomeExactlyTen(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	var mu sync.Mutex
	var numbers []int32
	refused := map[e2e.Refusal]int{}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			number, how := createDevice(t, user)
			mu.Lock()
			defer mu.Unlock()
			if number != 0 {
				numbers = append(numbers, number)
			} else {
				refused[how]++
			}
		})
	}
	wg.Wait()
	slices.Sort(numbers)
	if want := []int32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}; !slices.Equal(numbers, want) {
		t.Errorf("numbers %v, want %v", numbers, want)
	}
	if refused[e2e.Refusal{Status: http.StatusForbidden, Code: "device_limit"}] != 10 {
		t.Errorf("refusals: %v, want 10 of 403 device_limit", refused)
	}
	list, err := user.ListDevicesWithResponse(t.Context())
	if err != nil || len(list.JSON200.Devices) != 10 {
		t.Errorf("%d devices, %v", len(list.JSON200.Devices), err)
	}
}

func TestADeviceNumberRestsAfterItsDeviceIsGone(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user, other := relay.Register(t), relay.Register(t).NewDevice(t)
	for want := int32(1); want <= 12; want++ { // more than ten, one after the other
		d := e2e.PlainDevice(t, user, int(want%3)) // some without one-time keys
		if d.Number != want {
			t.Fatalf("number %d, want %d", d.Number, want)
		}
		// Others know it: they have a bundle of it, or mail from it.
		if want%2 == 0 {
			e2e.FetchBundle(t, other, user.ID)
		} else if failed := d.Send(t, nil, relaytest.To(other.ID, "from a device that goes")); len(failed) != 0 {
			t.Fatal(failed)
		}
		if got, err := user.DeleteDeviceWithResponse(t.Context(), d.ID); err != nil ||
			got.StatusCode() != http.StatusOK {
			t.Fatalf("delete: %v, %s", err, got.Body)
		}
	}
	// All numbers but 127 rest.
	database := e2e.Database(t, relay)
	e2e.Execute(t, database, `INSERT INTO retired_device_numbers (user_id, number) SELECT $1, n FROM generate_series(13, 126) n`, user.ID)
	if number, how := createDevice(t, user); number != 127 {
		t.Fatalf("number %d (%v), want 127", number, how)
	}
	exhausted := e2e.Refusal{Status: http.StatusForbidden, Code: "device_numbers_exhausted"}
	if _, how := createDevice(t, user); how != exhausted {
		t.Fatalf("the 128th device: %v, want %v", how, exhausted)
	}
	e2e.Execute(t, database, `UPDATE retired_device_numbers SET retired_at = now() - interval '59 days 23 hours' WHERE user_id = $1`, user.ID)
	if _, how := createDevice(t, user); how != exhausted {
		t.Fatalf("after less than 60 days: %v, want %v", how, exhausted)
	}
	e2e.Execute(t, database, `UPDATE retired_device_numbers SET retired_at = now() - interval '60 days 1 hour' WHERE user_id = $1 AND number IN (41, 42)`, user.ID)
	e2e.Execute(t, database, `UPDATE retired_device_numbers SET retired_at = now() - interval '61 days' WHERE user_id = $1 AND number = 42`, user.ID)
	if number, how := createDevice(t, user); number != 42 {
		t.Errorf("number %d (%v), want 42, which has rested longest", number, how)
	}
	account, err := user.GetAccountWithResponse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if resting := account.JSON200.RestingDeviceNumbers; slices.Contains(resting, 42) || !slices.Contains(resting, 43) {
		t.Errorf("resting: %v; 42 is in use, 43 rests", resting)
	}
}

// Nobody has heard of these devices: a client that makes and removes them does not lock its user
// out.
func TestADeviceNumberThatNobodyKnowsDoesNotRest(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user, other := relay.Register(t), relay.Register(t).NewDevice(t)
	for range 130 {
		d := e2e.PlainDevice(t, user, 0)
		if d.Number != 1 {
			t.Fatalf("number %d, want 1", d.Number)
		}
		if got, err := user.DeleteDeviceWithResponse(t.Context(), d.ID); err != nil ||
			got.StatusCode() != http.StatusOK {
			t.Fatalf("delete: %v, %s", err, got.Body)
		}
	}
	known := e2e.PlainDevice(t, user, 0)
	other.Send(t, nil, relaytest.To(known.ID, "mail to it")) // its sender got its id from elsewhere
	e2e.FetchBundle(t, other, user.ID)
	if got, err := user.DeleteDeviceWithResponse(t.Context(), known.ID); err != nil ||
		got.StatusCode() != http.StatusOK {
		t.Fatalf("delete: %v, %s", err, got.Body)
	}
	if d := e2e.PlainDevice(t, user, 0); d.Number != 2 {
		t.Errorf("number %d, want 2: 1 is remembered", d.Number)
	}
}

func TestDeviceNumbersAreTheUsersOwn(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	for range 2 {
		user := relay.Register(t)
		for want := int32(1); want <= 3; want++ {
			if d := user.NewDevice(t); d.Number != want {
				t.Errorf("number %d, want %d", d.Number, want)
			}
		}
	}
}
