package push_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/core/push"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/pushtest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// quick are delays that a test can wait for.
var quick = push.Times{Grace: 50 * time.Millisecond, Jitter: time.Millisecond, Pause: time.Millisecond,
	Linger: 5 * time.Millisecond,
	Ask:    100 * time.Millisecond, Poll: 10 * time.Millisecond,
	Backoff: 20 * time.Millisecond, MaxBackoff: 100 * time.Millisecond}

// impatient does not wait long for a service that hangs.
func impatient(p *push.Times) { p.Send = 300 * time.Millisecond }

// towards is a push service of the test.
func towards(web *pushtest.WebPush, change ...func(*push.Times)) app.PushServices {
	s := app.PushServices{Times: quick, Roots: web.Roots}
	for _, c := range change {
		c(&s.Times)
	}
	return s
}

// start runs a relay that sends to push services of the test.
func start(t testing.TB, to app.PushServices, change ...func(*app.Config)) *relaytest.Relay {
	t.Helper()
	return startOn(t, testdb.NewURL(t), to, change...)
}

func startOn(t testing.TB, databaseURL string, to app.PushServices, change ...func(*app.Config)) *relaytest.Relay {
	t.Helper()
	change = append(change, func(cfg *app.Config) { cfg.PushPrivateNetworks = true })
	return relaytest.StartWith(t, databaseURL, []app.Option{app.WithPushServices(to)}, change...)
}

// vapid reads the key that subscriptions are made for.
func vapid(t testing.TB, device *relaytest.Device) string {
	t.Helper()
	got, err := device.GetVapidKeyWithResponse(t.Context())
	if err != nil || got.JSON200 == nil {
		t.Fatalf("%v, %s", err, got.Body)
	}
	return got.JSON200.PublicKey
}

// subscribe registers a subscription for a device.
func subscribe(t testing.TB, relay *relaytest.Relay, device *relaytest.Device,
	web *pushtest.WebPush) *pushtest.Subscription {
	t.Helper()
	sub := web.Subscribe(vapid(t, device))
	putWebPush(device, sub.Endpoint, sub.P256dh, sub.Auth).To(t, relay).Want(t, 200, "")
	return sub
}

func putWebPush(device *relaytest.Device, endpoint, p256dh, auth string) e2e.Ask {
	return e2e.Ask{Method: "PUT", Path: "/v1/push-tokens", Token: device.Token,
		Body: fmt.Sprintf(`{"webPush":{"endpoint":%q,"keys":{"p256dh":%q,"auth":%q}}}`, endpoint, p256dh, auth)}
}

func putToken(device *relaytest.Device, token string) e2e.Ask {
	return e2e.Ask{Method: "PUT", Path: "/v1/push-tokens", Token: device.Token, Body: e2e.Object("token", token)}
}

// wakes waits until n wake-ups have come.
func wakes(t testing.TB, web *pushtest.Service, n int) []pushtest.Wake {
	t.Helper()
	wait.Eventually(t, fmt.Sprintf("%d wake-ups come", n), func() bool { return len(web.Wakes()) >= n })
	got := web.Wakes()
	if len(got) != n {
		t.Fatalf("%d wake-ups, want %d", len(got), n)
	}
	return got
}

// nothingScheduled waits until the queue is empty.
func nothingScheduled(t testing.TB, relay *relaytest.Relay) {
	t.Helper()
	db := e2e.Database(t, relay)
	wait.Eventually(t, "the queue of wake-ups is empty", func() bool {
		return e2e.Meter(t, relay, `obscura_queue_waiting{queue="wakeups"}`) == 0 &&
			e2e.Count(t, db, "SELECT count(*) FROM push_wakeups") == 0
	})
}

// tokens are how many push tokens a device has.
func tokens(t testing.TB, relay *relaytest.Relay, device uuid.UUID) int {
	t.Helper()
	return e2e.Count(t, e2e.Database(t, relay), "SELECT count(*) FROM push_tokens WHERE device_id = $1", device)
}
