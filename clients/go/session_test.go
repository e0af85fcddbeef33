package obscura_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// expired returns a pair whose access token the relay refuses, though it looks as if it lived.
func expired(pair obscura.Tokens) obscura.Tokens {
	pair.Token = pair.Token[:strings.LastIndex(pair.Token, ".")] + ".c3BvaWxlZA"
	return pair
}

func TestAnExpiredSessionGoesOnAndIsStored(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(obscura.Tokens) obscura.Tokens
		fates []verdict // of the refreshes
	}{
		"the relay refuses the token": {spoil: expired},
		"its time is over": {spoil: func(p obscura.Tokens) obscura.Tokens {
			parts := strings.Split(p.Token, ".")
			claims := relaytest.Claims(t, p.Token)
			claims["iat"], claims["exp"] = time.Now().Add(-time.Hour).Unix(), time.Now().Add(-45*time.Minute).Unix()
			payload, err := json.Marshal(claims)
			if err != nil {
				t.Error(err)
			}
			p.Token = parts[0] + "." + base64.RawURLEncoding.EncodeToString(payload) + "." + parts[2]
			return p
		}},
		"the first refresh gets lost":            {spoil: expired, fates: []verdict{notApplied}},
		"the answer to the refresh gets lost":    {spoil: expired, fates: []verdict{applied}},
		"the answers to two refreshes get lost":  {spoil: expired, fates: []verdict{applied, applied}},
		"a lost answer, and a request gets lost": {spoil: expired, fates: []verdict{applied, notApplied}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kept := &store{}
			relay, network := join(t, relaytest.Start(t), obscura.Options{OnTokens: kept.save})
			device := newDevice(t, relay)
			if got := kept.saved(); len(got) != 2 || got[0].DeviceID != nil || *got[1].DeviceID != device.DeviceID() {
				t.Fatalf("stored so far: %d pairs", len(got))
			}
			old, err := relay.Resume(c.spoil(device.Tokens()))
			if err != nil {
				t.Fatal(err)
			}
			network.failing(func(r *http.Request) verdict {
				if len(c.fates) == 0 || r.URL.Path != "/v1/sessions/refresh" {
					return passed
				}
				fate := c.fates[0]
				c.fates = c.fates[1:]
				return fate
			})
			var callers sync.WaitGroup
			for range 8 {
				callers.Go(func() { send(t, old, device, "hello") })
			}
			callers.Wait()
			saved := kept.saved()
			if len(saved) != 3 || len(c.fates) != 0 {
				t.Fatalf("%d pairs stored, want 3: the user's, the device's, and one of a refresh", len(saved))
			}
			again, err := relay.Resume(expired(saved[2])) // as after a restart: another refresh
			if err != nil {
				t.Fatal(err)
			}
			if got := inbox(t, again); len(got) != 8 {
				t.Errorf("%d messages, want 8", len(got))
			}
		})
	}
}

func TestALogInForADevice(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	name, user := register(t, relay)
	device, err := user.AddDevice(t.Context(), prekeytest.NewIdentity().NewDevice(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	again, err := relay.LogIn(t.Context(), name, password, device.DeviceID())
	if err != nil || again.DeviceID() != device.DeviceID() || again.DeviceNumber() != 1 ||
		again.UserID() != user.UserID() {
		t.Fatalf("%+v, %v", again, err)
	}
	gone, err := relay.LogIn(t.Context(), name, password, uuid.New())
	if err != nil || gone.DeviceID() != uuid.Nil || gone.DeviceNumber() != 0 {
		t.Errorf("a device that does not exist: %+v, %v", gone, err)
	}
	if got, err := again.API().ListDevicesWithResponse(t.Context()); err != nil || got.JSON200 == nil ||
		len(got.JSON200.Devices) != 1 {
		t.Errorf("through the generated client: %v, %v", got, err)
	}
}

// TestALogInOfAKnownDeviceWaitsForNoGuesser logs in for a device whose session has ended: through
// the relay that it had it with, and through one that is given its tokens after a restart.
func TestALogInOfAKnownDeviceWaitsForNoGuesser(t *testing.T) {
	t.Parallel()
	here := relaytest.Start(t)
	relay, _ := join(t, here, obscura.Options{})
	name, user := register(t, relay)
	device, err := user.AddDevice(t.Context(), prekeytest.NewIdentity().NewDevice(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	tokens := device.Tokens()
	if err := device.LogOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	restarted, _ := join(t, here, obscura.Options{})
	var e *obscura.Error
	for e == nil || e.Status == http.StatusUnauthorized {
		if _, err := restarted.LogIn(t.Context(), name, "not the right password", device.DeviceID()); !errors.As(err, &e) {
			t.Fatal(err)
		}
	}
	if e.Code != "too_many_wrong_passwords" || e.RetryAfter == 0 {
		t.Errorf("%+v", e)
	}
	if _, err := restarted.LogIn(t.Context(), name, password, device.DeviceID()); !errors.As(err, &e) ||
		e.Code != "too_many_wrong_passwords" {
		t.Errorf("it did not wait: %v", err)
	}
	if _, err := relay.LogIn(t.Context(), name, password, device.DeviceID()); err != nil {
		t.Errorf("through the same relay: %v", err)
	}
	if _, err := restarted.Resume(tokens); err != nil {
		t.Fatal(err)
	}
	if _, err := restarted.LogIn(t.Context(), name, password, device.DeviceID()); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

func TestAChangeOfPasswordEndsTheOtherSessions(t *testing.T) {
	t.Parallel()
	kept := &store{}
	relay, _ := join(t, relaytest.Start(t), obscura.Options{OnTokens: kept.save})
	name, user := register(t, relay)
	device, err := user.AddDevice(t.Context(), prekeytest.NewIdentity().NewDevice(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	next := listen(t, t.Context(), device.Gateway())
	if _, err := next(); err != nil {
		t.Fatal(err)
	}
	const changed = "another long password"
	if err := user.ChangePassword(t.Context(), password, changed); err != nil {
		t.Fatal(err)
	}
	if saved := kept.saved(); len(saved) != 3 || saved[2] != user.Tokens() {
		t.Errorf("the new pair was not stored: %d pairs", len(saved))
	}
	for err == nil {
		_, err = next()
	}
	if !errors.Is(err, obscura.ErrRevoked) || !errors.Is(err, obscura.ErrSessionEnded) {
		t.Errorf("the gateway ended with %v", err)
	}
	if _, err := device.Send(t.Context(), batch()); !errors.Is(err, obscura.ErrSessionEnded) {
		t.Errorf("send: %v", err)
	}
	var e *obscura.Error
	if _, err := device.Send(t.Context(), batch()); !errors.As(err, &e) || e.Code != "password_changed" {
		t.Errorf("the device is told %v", err)
	}
	if err := user.ChangePassword(t.Context(), password, changed); !errors.As(err, &e) ||
		e.Code != "wrong_credentials" {
		t.Errorf("with the old password: %v", err)
	}
	if _, err := relay.LogIn(t.Context(), name, changed, uuid.Nil); err != nil {
		t.Errorf("with the new password: %v", err)
	}
	if got, err := user.API().GetAccountWithResponse(t.Context()); err != nil || got.JSON200 == nil {
		t.Errorf("the session that changed it: %v, %v", got, err)
	}
}

func TestALogOutEndsASessionAndItsGateway(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	device := newDevice(t, relay)
	next := listen(t, t.Context(), device.Gateway())
	if _, err := next(); err != nil {
		t.Fatal(err)
	}
	if err := device.LogOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	var err error
	for err == nil {
		_, err = next()
	}
	if !errors.Is(err, obscura.ErrRevoked) {
		t.Errorf("the gateway ended with %v", err)
	}
	if _, err := device.Send(t.Context(), batch()); !errors.Is(err, obscura.ErrSessionEnded) {
		t.Errorf("send: %v", err)
	}
}

func TestTokensThatAreNone(t *testing.T) {
	t.Parallel()
	relay, err := obscura.New("https://relay.example/", obscura.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"", "a.b.c", "e30.e30.e30", "e30.eyJzdWIiOiJub2JvZHkifQ.e30"} {
		if _, err := relay.Resume(obscura.Tokens{Token: token}); err == nil {
			t.Errorf("%q was taken for a token", token)
		}
	}
	for _, url := range []string{"", "relay.example", "ftp://relay.example", "http://", ":"} {
		if _, err := obscura.New(url, obscura.Options{}); err == nil {
			t.Errorf("%q was taken for a URL", url)
		}
	}
}
