package push_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// browser makes the keys of a subscription.
func browser(t testing.TB) (p256dh, auth string) {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()),
		base64.RawURLEncoding.EncodeToString(make([]byte, 16))
}

func TestASubscriptionIsHeldAgainstWhatCanBeKnown(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	p256dh, auth := browser(t)
	offCurve := "B" + strings.Repeat("A", 86)
	for _, c := range []struct {
		endpoint, p256dh, auth, code string
	}{
		{"https://push.example.org/x", p256dh, auth, ""},
		{"https://push.example.org:443/x?y=z", p256dh, auth, ""},
		{"https://push.example.org/x", p256dh + "=", auth, "invalid_request"},
		{"https://push.example.org/x", p256dh, auth + "==", "invalid_request"},
		{"https://93.184.215.14/x", p256dh, auth, ""},
		{"https://[2606:2800:220:1::1]/x", p256dh, auth, ""},
		{"http://push.example.org/x", p256dh, auth, "invalid_subscription"},
		{"https://" + strings.Repeat("a", 2048), p256dh, auth, "invalid_request"},
		{"https://push.example.org/x", "short", auth, "invalid_request"},
		{"https://push.example.org/x", p256dh, "short", "invalid_request"},
		{"https://push.example.org/x", offCurve, auth, "invalid_subscription"},
		{"https://", p256dh, auth, "invalid_request"},
		{"https:///x", p256dh, auth, "invalid_subscription"},
		{"https://push.example.org:8443/x", p256dh, auth, "invalid_subscription"},
		{"https://user@push.example.org/x", p256dh, auth, "invalid_subscription"},
		{"https://push.example.org/x#y", p256dh, auth, "invalid_subscription"},
		{"https://push.example.org/%zz", p256dh, auth, "invalid_subscription"},
		{"https://127.0.0.1/x", p256dh, auth, "invalid_subscription"},
		{"https://10.0.0.1/x", p256dh, auth, "invalid_subscription"},
		{"https://169.254.169.254/latest", p256dh, auth, "invalid_subscription"},
		{"https://[::1]/x", p256dh, auth, "invalid_subscription"},
		{"https://[::ffff:127.0.0.1]/x", p256dh, auth, "invalid_subscription"},
		{"https://[fe80::1%25eth0]/x", p256dh, auth, "invalid_subscription"},
		{"https://0.0.0.0/x", p256dh, auth, "invalid_subscription"},
	} {
		status := 400
		if c.code == "" {
			status = 200
		}
		got := putWebPush(device, c.endpoint, c.p256dh, c.auth).To(t, relay)
		if got.Status != status || got.Code != c.code {
			t.Errorf("%.60s: %d %s", c.endpoint, got.Status, got.Body)
		}
	}
	for _, body := range []string{`{}`,
		`{"token":"x","webPush":{"endpoint":"https://push.example.org/x","keys":{"p256dh":"` + p256dh + `","auth":"` +
			auth + `"}}}`,
		`{"token":""}`, e2e.Object("token", strings.Repeat("a", 4097)), `{"webPush":{}}`, `{"token":null}`} {
		e2e.Ask{Method: "PUT", Path: "/v1/push-tokens", Token: device.Token, Body: body}.To(t, relay).Want(t, 400,
			"invalid_request")
	}
	putToken(device, strings.Repeat("a", 4096)).To(t, relay).Want(t, 200, "")
}

func TestAnOperatorMayAllowPrivateNetworks(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(cfg *app.Config) { cfg.PushPrivateNetworks = true })
	device := relay.Register(t).NewDevice(t)
	p256dh, auth := browser(t)
	putWebPush(device, "https://127.0.0.1:8443/x", p256dh, auth).To(t, relay).Want(t, 200, "")
	putWebPush(device, "https://user@127.0.0.1:8443/x", p256dh, auth).To(t, relay).Want(t, 400, "invalid_subscription")
}

func TestThePushTokenOfADeviceComesAndGoes(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	device, other := user.NewDevice(t), user.NewDevice(t)
	exported := func() []*client.AccountPushToken {
		got, err := device.GetAccountWithResponse(t.Context())
		if err != nil || got.JSON200 == nil {
			t.Fatalf("%v %s", err, got.Body)
		}
		var out []*client.AccountPushToken
		for _, d := range got.JSON200.Devices {
			out = append(out, d.PushToken)
		}
		return out
	}
	p256dh, auth := browser(t)
	putToken(device, "an-app-token").To(t, relay).Want(t, 200, "")
	first := exported()
	if first[0] == nil || first[0].Kind != client.TOKEN || first[0].WokenAt != nil || first[1] != nil {
		t.Fatalf("%+v", first)
	}
	putToken(device, "an-app-token").To(t, relay).Want(t, 200, "") // as apps do at every start
	if again := exported(); !again[0].RegisteredAt.Equal(first[0].RegisteredAt) {
		t.Error("the same token counts as a new one")
	}
	putWebPush(device, "https://push.example.org/x", p256dh, auth).To(t, relay).Want(t, 200, "")
	if now := exported(); now[0].Kind != client.WEBPUSH || !now[0].RegisteredAt.After(first[0].RegisteredAt) {
		t.Errorf("%+v", now[0])
	}
	forget := e2e.Ask{Method: "DELETE", Path: "/v1/push-tokens", Token: device.Token}
	for range 2 {
		forget.To(t, relay).Want(t, 200, "")
		if now := exported(); now[0] != nil {
			t.Errorf("%+v", now[0])
		}
	}

	// It goes with a takeover and with the device.
	putToken(device, "an-app-token").To(t, relay).Want(t, 200, "")
	putToken(other, "another-token").To(t, relay).Want(t, 200, "")
	identity := prekeytest.NewIdentity()
	public, registration, signed := identity.Public, int32(7), identity.SignedPreKey(9)
	if got, err := device.UploadKeysWithResponse(t.Context(),
		client.KeyUpload{IdentityKey: &public, RegistrationID: &registration, SignedPreKey: &signed}); err != nil ||
		got.StatusCode() != 200 {
		t.Fatalf("%v, %s", err, got.Body)
	}
	if tokens(t, relay, device.ID) != 0 || tokens(t, relay, other.ID) != 1 {
		t.Error("the takeover left the token, or took another device's")
	}
	if got, err := user.DeleteDeviceWithResponse(t.Context(), other.ID); err != nil || got.StatusCode() != 200 {
		t.Fatal(err)
	}
	if tokens(t, relay, other.ID) != 0 {
		t.Error("the token outlived its device")
	}
	putToken(other, "another-token").To(t, relay).Want(t, 401, "unauthorized")
	putToken(&relaytest.Device{Token: user.Token}, "x").To(t, relay).Want(t, 403, "device_required")
}

func TestPushTokensAreLimited(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, e2e.Limits(2, "push-tokens"))
	user := relay.Register(t)
	device, other := user.NewDevice(t), user.NewDevice(t)
	putToken(device, "x").To(t, relay).Want(t, 200, "")
	e2e.Ask{Method: "DELETE", Path: "/v1/push-tokens", Token: device.Token}.To(t, relay).Want(t, 200, "")
	putToken(device, "x").To(t, relay).Want(t, 429, "rate_limited")
	putToken(other, "x").To(t, relay).Want(t, 200, "")
}

func TestTheVAPIDKeyOutlivesARestart(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t)
	device := one.Register(t).NewDevice(t)
	key := vapid(t, device)
	two := relaytest.StartOn(t, one.DatabaseURL)
	if got := vapid(t, device.On(two)); got != key {
		t.Error("two nodes, two keys")
	}
	one.Stop()
	three := relaytest.StartOn(t, one.DatabaseURL)
	if got := vapid(t, device.On(three)); got != key {
		t.Error("a restart changed the key")
	}
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	four := relaytest.StartOn(t, one.DatabaseURL, func(cfg *app.Config) {
		cfg.VAPIDKey = base64.RawURLEncoding.EncodeToString(own.Bytes())
	})
	if got := vapid(t, device.On(four)); got != base64.RawURLEncoding.EncodeToString(own.PublicKey().Bytes()) {
		t.Error("not the operator's key")
	}
}
