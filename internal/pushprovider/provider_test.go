package pushprovider_test

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/obscura-relay/obscura/internal/core/push"
	"github.com/obscura-relay/obscura/internal/kit/pushtest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/pushprovider"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	appToken  = "an-app-token:of-FCM"
	appleHex  = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"
	fcmPath   = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
	wakePlain = `{"type":"wake"}`
)

// webPush is a service, its provider, and a subscription.
func webPush(t *testing.T, private bool) (*pushtest.WebPush, *pushprovider.WebPush, *pushtest.Subscription,
	push.Token) {
	t.Helper()
	service := pushtest.NewWebPush(t)
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	out := pushprovider.NewWebPush(pushprovider.WebPushConfig{Key: key, Contact: "mailto:push@example.org",
		PrivateNetworks: private, Roots: service.Roots})
	t.Cleanup(out.Close)
	sub := service.Subscribe(base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()))
	return service, out, sub, token(t, sub)
}

func token(t *testing.T, sub *pushtest.Subscription) push.Token {
	t.Helper()
	public, err := base64.RawURLEncoding.DecodeString(sub.P256dh)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := base64.RawURLEncoding.DecodeString(sub.Auth)
	if err != nil {
		t.Fatal(err)
	}
	return push.Token{Kind: push.WebPush, Address: sub.Endpoint, P256dh: public, Auth: secret}
}

func fcm(t *testing.T) (*pushtest.FCM, *pushprovider.FCM) {
	t.Helper()
	service := pushtest.NewFCM(t)
	file, err := os.ReadFile(service.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pushprovider.NewFCM(pushprovider.FCMConfig{Credentials: file, URL: service.URL, Roots: service.Roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(out.Close)
	return service, out
}

func apns(t *testing.T) (*pushtest.APNs, *pushprovider.APNs) {
	t.Helper()
	service := pushtest.NewAPNs(t)
	file, err := os.ReadFile(service.Key)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pushprovider.NewAPNs(pushprovider.APNsConfig{Key: file, KeyID: pushtest.KeyID, TeamID: pushtest.TeamID,
		Topic: pushtest.Topic,
		URL:   service.URL, Roots: service.Roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(out.Close)
	return service, out
}

// want sends a wake-up and compares what became of it.
func want(t *testing.T, out push.Sender, to push.Token, outcome push.Outcome, after time.Duration) {
	t.Helper()
	wantWithin(t, wait.Patience, out, to, outcome, after)
}

// wantNoAnswer is want for a service that hangs.
func wantNoAnswer(t *testing.T, service *pushtest.Service, out push.Sender, to push.Token) {
	t.Helper()
	service.Then(pushtest.Hang)
	wantWithin(t, 300*time.Millisecond, out, to, push.Failed, 0)
}

func wantWithin(t *testing.T, bound time.Duration, out push.Sender, to push.Token, outcome push.Outcome,
	after time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	got := out.Send(ctx, to)
	if got.Outcome != outcome || got.RetryAfter.Round(time.Minute) != after {
		t.Errorf("%+v, want outcome %d after %s", got, outcome, after)
	}
	for _, secret := range []string{to.Address, "127.0.0.1", "http"} {
		if strings.Contains(got.Reason, secret) {
			t.Errorf("the reason tells a secret: %s", got.Reason)
		}
	}
}

func TestEveryWakeUpIsTheSame(t *testing.T) {
	t.Parallel()
	web, toWeb, sub, to := webPush(t, true)
	google, toGoogle := fcm(t)
	apple, toApple := apns(t)
	for range 3 {
		want(t, toWeb, to, push.Delivered, 0)
		want(t, toGoogle, push.AppToken(appToken), push.Delivered, 0)
		want(t, toApple, push.AppToken(appleHex), push.Delivered, 0)
	}
	for i, w := range web.Wakes() {
		if w.Address != sub.Endpoint || w.Plain != wakePlain || w.Length != 256 {
			t.Errorf("%d: %+v", i, w)
		}
	}
	for _, wakes := range [][]pushtest.Wake{web.Wakes(), google.Wakes(), apple.Wakes()} {
		if len(wakes) != 3 || wakes[0] != wakes[1] || wakes[1] != wakes[2] {
			t.Errorf("%+v", wakes)
		}
	}
	if google.Issued() != 1 {
		t.Errorf("%d access tokens", google.Issued())
	}
}

func TestAnswersOfWebPush(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a redirect was followed")
	}))
	t.Cleanup(elsewhere.Close)
	service, out, _, to := webPush(t, true)
	for _, c := range []struct {
		answer  http.HandlerFunc
		outcome push.Outcome
		after   time.Duration
	}{
		{pushtest.Status(200), push.Delivered, 0},
		{pushtest.Status(202), push.Delivered, 0},
		{pushtest.Status(404), push.Invalid, 0},
		{pushtest.Status(410), push.Invalid, 0},
		{pushtest.Status(400), push.Rejected, 0},
		{pushtest.Status(413), push.Rejected, 0},
		{pushtest.Status(429, "Retry-After", "120"), push.Failed, 2 * time.Minute},
		{pushtest.Status(503, "Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)), push.Failed,
			time.Hour},
		{pushtest.Status(503, "Retry-After", "soon"), push.Failed, 0},
		{pushtest.Status(307, "Location", elsewhere.URL), push.Rejected, 0},
		{pushtest.Status(302, "Location", elsewhere.URL), push.Rejected, 0},
		{func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, push.Failed, 0},
	} {
		service.Then(c.answer)
		want(t, out, to, c.outcome, c.after)
	}
	wantNoAnswer(t, &service.Service, out, to)
	want(t, out, to, push.Delivered, 0)
}

// A body without an end is read up to a bound.
func TestAnEndlessAnswerIsCutOff(t *testing.T) {
	t.Parallel()
	service, out, _, to := webPush(t, true)
	service.Then(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	want(t, out, to, push.Delivered, 0)
}

func TestPrivateAddressesAreNotDialled(t *testing.T) {
	t.Parallel()
	service, out, _, to := webPush(t, false)
	want(t, out, to, push.Rejected, 0)
	to.Address = strings.Replace(to.Address, "127.0.0.1", "localhost", 1)
	want(t, out, to, push.Rejected, 0)
	to.Address = "https://localhost/push" // the port alone would do
	want(t, out, to, push.Rejected, 0)
	if n := len(service.Wakes()); n != 0 {
		t.Errorf("%d came", n)
	}
}

func TestAnswersOfFCM(t *testing.T) {
	t.Parallel()
	service, out := fcm(t)
	to := push.AppToken(appToken)
	for _, c := range []struct {
		answer  http.HandlerFunc
		outcome push.Outcome
	}{
		{pushtest.JSON(404, `{"error":{"status":"NOT_FOUND","details":[{"@type":"`+fcmPath+`","errorCode":"UNREGISTERED"}]}}`), push.Invalid},
		{pushtest.JSON(404, `{"error":{"status":"NOT_FOUND"}}`), push.Failed},
		{pushtest.JSON(403, `{"error":{"details":[{"@type":"`+fcmPath+`","errorCode":"SENDER_ID_MISMATCH"}]}}`),
			push.Invalid},
		{pushtest.JSON(403, `{"error":{"status":"PERMISSION_DENIED"}}`), push.Failed},
		{pushtest.JSON(400, `{"error":{"details":[{"errorCode":"INVALID_ARGUMENT"},{"fieldViolations":[{"field":"message.token"}]}]}}`), push.Invalid},
		{pushtest.JSON(400, `{"error":{"details":[{"errorCode":"INVALID_ARGUMENT"},{"fieldViolations":[{"field":"message.android.ttl"}]}]}}`), push.Rejected},
		{pushtest.JSON(400, `no JSON`), push.Rejected},
		{pushtest.Status(429), push.Failed},
		{pushtest.Status(500), push.Failed},
	} {
		service.Then(c.answer)
		want(t, out, to, c.outcome, 0)
	}
	wantNoAnswer(t, &service.Service, out, to)
	service.Revoke()
	want(t, out, to, push.Failed, 0)
	want(t, out, to, push.Delivered, 0)
	if service.Issued() != 2 {
		t.Errorf("%d access tokens", service.Issued())
	}
}

func TestAnswersOfAPNs(t *testing.T) {
	t.Parallel()
	service, out := apns(t)
	to := push.AppToken(appleHex)
	for _, c := range []struct {
		answer  http.HandlerFunc
		outcome push.Outcome
	}{
		{pushtest.JSON(410, `{"reason":"Unregistered","timestamp":1}`), push.Invalid},
		{pushtest.JSON(400, `{"reason":"BadDeviceToken"}`), push.Invalid},
		{pushtest.JSON(400, `{"reason":"DeviceTokenNotForTopic"}`), push.Invalid},
		{pushtest.JSON(400, `{"reason":"BadTopic"}`), push.Rejected},
		{pushtest.JSON(403, `{"reason":"InvalidProviderToken"}`), push.Failed},
		{pushtest.JSON(429, `{"reason":"TooManyRequests"}`), push.Failed},
		{pushtest.JSON(503, `{"reason":"Shutdown"}`), push.Failed},
		{pushtest.JSON(503, `no JSON`), push.Failed},
	} {
		service.Then(c.answer)
		want(t, out, to, c.outcome, 0)
	}
	wantNoAnswer(t, &service.Service, out, to)
	want(t, out, to, push.Delivered, 0)
}

func TestFilesThatAreNotKeysAreRefused(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"", "{", "{}",
		`{"project_id":"p","client_email":"c","token_uri":"u","private_key":"no key"}`} {
		if _, err := pushprovider.NewFCM(pushprovider.FCMConfig{Credentials: []byte(file)}); err == nil {
			t.Errorf("%q is taken", file)
		}
		if _, err := pushprovider.NewAPNs(pushprovider.APNsConfig{Key: []byte(file)}); err == nil {
			t.Errorf("%q is taken", file)
		}
	}
}
