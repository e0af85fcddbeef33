package push_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/core/push"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/pushtest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

func TestADeviceWithMailIsWokenUpOnce(t *testing.T) {
	t.Parallel()
	web := pushtest.NewWebPush(t)
	relay := start(t, towards(web, func(p *push.Times) { p.Grace, p.Pause = time.Hour, time.Hour }))
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	sub := subscribe(t, relay, bob, web)
	for range 100 {
		alice.Send(t, nil, relaytest.To(bob.ID, "hello"))
	}
	db := e2e.Database(t, relay)
	wait.Eventually(t, "it is scheduled", func() bool {
		return e2e.Count(t, db, "SELECT count(*) FROM push_wakeups") == 1
	})
	e2e.Change(t, db, "UPDATE push_wakeups SET due_at = now()") // the grace is over
	got := wakes(t, &web.Service, 1)
	if got[0].Address != sub.Endpoint || got[0].Plain != `{"type":"wake"}` {
		t.Errorf("%+v", got)
	}
	nothingScheduled(t, relay)
	// The next one waits for the pause, although the mail is new.
	alice.Send(t, nil, relaytest.To(bob.ID, "hello again"))
	wait.Eventually(t, "it is scheduled for later", func() bool {
		return e2e.Count(t, db,
			"SELECT count(*) FROM push_wakeups WHERE due_at BETWEEN now() + interval '50 minutes' AND now() + interval '61 minutes'") == 1
	})
	e2e.Change(t, db, "UPDATE push_wakeups SET due_at = now()")
	wakes(t, &web.Service, 2)
	nothingScheduled(t, relay)
	if e2e.Meter(t, relay, `obscura_push_wakeups_total{kind="web_push",result="delivered"}`) != 2 {
		t.Error("not counted")
	}
	if n := e2e.Count(t, db, "SELECT woken_seq FROM push_tokens WHERE woken_at > now() - interval '1 minute'"); n != 101 {
		t.Errorf("woken up for mail up to %d", n)
	}
}

func TestADeviceThatAcknowledgesInTimeIsNotWokenUp(t *testing.T) {
	t.Parallel()
	web := pushtest.NewWebPush(t)
	relay := start(t, towards(web, func(p *push.Times) { p.Grace = 2 * time.Second }))
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	subscribe(t, relay, bob, web)
	alice.Send(t, nil, relaytest.To(bob.ID, "hello"))
	db := e2e.Database(t, relay)
	wait.Eventually(t, "it is scheduled", func() bool {
		return e2e.Count(t, db, "SELECT count(*) FROM push_wakeups") == 1
	})
	// It acknowledges by a connection that leaves the row alone: on a node that forgot to cancel.
	e2e.Change(t, db, "UPDATE mailboxes SET pending = 0 WHERE device_id = $1", bob.ID)
	nothingScheduled(t, relay)
	if len(web.Wakes()) != 0 ||
		e2e.Meter(t, relay, `obscura_push_wakeups_total{kind="web_push",result="unneeded"}`) != 1 {
		t.Error("it was woken up")
	}
}

func TestADeviceThatConnectsIsNotWokenUp(t *testing.T) {
	t.Parallel()
	web := pushtest.NewWebPush(t)
	relay := start(t, towards(web, func(p *push.Times) { p.Grace = time.Hour }))
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	subscribe(t, relay, bob, web)
	alice.Send(t, nil, relaytest.To(bob.ID, "hello"))
	db := e2e.Database(t, relay)
	wait.Eventually(t, "it is scheduled", func() bool {
		return e2e.Count(t, db, "SELECT count(*) FROM push_wakeups") == 1
	})
	socket := bob.Connect(t)
	socket.Drain()
	nothingScheduled(t, relay)
	if n := e2e.Meter(t, relay, `obscura_push_wakeups_cancelled_total`); n != 1 {
		t.Errorf("%v cancelled", n)
	}
	// What it leaves behind is told of when it has gone.
	e2e.Disconnect(socket)
	wait.Eventually(t, "it is scheduled again", func() bool {
		return e2e.Count(t, db, "SELECT count(*) FROM push_wakeups") == 1
	})
	if len(web.Wakes()) != 0 {
		t.Error("it was woken up")
	}
}

// It is live on the other node and has unacknowledged mail: the node that is about to send asks.
func TestADeviceThatIsLiveOnAnotherNodeIsNotWokenUp(t *testing.T) {
	t.Parallel()
	web := pushtest.NewWebPush(t)
	one := start(t, towards(web, func(p *push.Times) { p.Ask = time.Second }))
	two := startOn(t, one.DatabaseURL, towards(web, func(p *push.Times) { p.Poll = time.Hour }))
	alice, bob, carol := one.Register(t).NewDevice(t), one.Register(t).NewDevice(t), one.Register(t).NewDevice(t)
	subscribe(t, one, bob, web)
	away := subscribe(t, one, carol, web)
	socket := bob.On(two).Connect(t)
	socket.Drain()
	// Once, perhaps, because it has just connected; again and again because the other node asks.
	wait.Eventually(t, "its wake-ups are cancelled", func() bool {
		alice.Send(t, nil, relaytest.To(bob.ID, "hello"))
		socket.Envelopes(1)
		return e2e.Meter(t, two, `obscura_push_wakeups_cancelled_total`) >= 3
	})
	alice.Send(t, nil, relaytest.To(carol.ID, "hello"))
	if got := wakes(t, &web.Service, 1); got[0].Address != away.Endpoint {
		t.Error("the live device was woken up")
	}
	nothingScheduled(t, one)
	if n := len(web.Wakes()); n != 1 {
		t.Errorf("%d wake-ups", n)
	}
}

func TestAWakeUpOutlivesARestartAndOneNodeSendsIt(t *testing.T) {
	t.Parallel()
	web := pushtest.NewWebPush(t)
	never := func(p *push.Times) { p.Poll = time.Hour }
	first := start(t, towards(web, never))
	alice := first.Register(t).NewDevice(t)
	var all []*relaytest.Device
	for _, d := range e2e.Devices(t, first, 20) {
		subscribe(t, first, d, web)
		all = append(all, d)
	}
	db := e2e.Database(t, first)
	for _, d := range all {
		alice.Send(t, nil, relaytest.To(d.ID, "hello"))
	}
	first.Stop() // at once: what it knows, it writes down
	if n := e2e.Count(t, db, "SELECT count(*) FROM push_wakeups"); n != len(all) {
		t.Fatalf("%d scheduled", n)
	}
	e2e.Change(t, db, "UPDATE push_wakeups SET due_at = now()")
	relays := make([]*relaytest.Relay, 3)
	e2e.Together(len(relays), func(i int) { relays[i] = startOn(t, first.DatabaseURL, towards(web)) })
	wakes(t, &web.Service, len(all))
	nothingScheduled(t, relays[0])
	seen := map[string]bool{}
	for _, w := range web.Wakes() {
		seen[w.Address] = true
	}
	if len(seen) != len(all) || len(web.Wakes()) != len(all) {
		t.Errorf("%d wake-ups to %d devices", len(web.Wakes()), len(seen))
	}
}

func TestATokenThatIsInvalidIsForgotten(t *testing.T) {
	t.Parallel()
	web := pushtest.NewWebPush(t)
	relay := start(t, towards(web))
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	subscribe(t, relay, bob, web)
	web.Then(pushtest.Status(http.StatusGone))
	alice.Send(t, nil, relaytest.To(bob.ID, "hello"))
	wait.Eventually(t, "the token is gone", func() bool { return tokens(t, relay, bob.ID) == 0 })
	nothingScheduled(t, relay)

	// One that was replaced while the old one was tried stays, and is tried in turn.
	subscribe(t, relay, bob, web)
	wakes(t, &web.Service, 2)
	nothingScheduled(t, relay)
	replaced, reached := make(chan struct{}), make(chan struct{})
	web.Then(func(w http.ResponseWriter, _ *http.Request) {
		close(reached)
		<-replaced
		w.WriteHeader(http.StatusGone)
	})
	alice.Send(t, nil, relaytest.To(bob.ID, "hello"))
	<-reached
	next := subscribe(t, relay, bob, web)
	close(replaced)
	if got := wakes(t, &web.Service, 4); got[3].Address != next.Endpoint {
		t.Error("not to the new one")
	}
	nothingScheduled(t, relay)
	if tokens(t, relay, bob.ID) != 1 {
		t.Error("the new one is gone")
	}
}

func TestAWakeUpThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	web := pushtest.NewWebPush(t)
	relay := start(t, towards(web, impatient))
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	subscribe(t, relay, bob, web)
	web.Then(pushtest.Status(503), pushtest.Hang, pushtest.Status(500), pushtest.Status(429, "Retry-After", "3600"))
	alice.Send(t, nil, relaytest.To(bob.ID, "hello"))
	wakes(t, &web.Service, 5)
	nothingScheduled(t, relay)
	if e2e.Meter(t, relay, `obscura_push_wakeups_total{kind="web_push",result="failed"}`) != 4 {
		t.Error("not counted")
	}
	if n := strings.Count(relay.Log.String(), "a push service did not take a wake-up"); n != 1 {
		t.Errorf("%d lines in the log, want one a minute", n)
	}
	// Not for ever; then only newer mail is told of.
	web.Always(pushtest.Status(503))
	alice.Send(t, nil, relaytest.To(bob.ID, "hello"))
	db := e2e.Database(t, relay)
	wait.Eventually(t, "it has been tried", func() bool {
		_, err := db.Exec(t.Context(),
			"UPDATE push_wakeups SET scheduled_at = now() - interval '25 hours' WHERE attempts > 1")
		return err == nil && e2e.Count(t, db, "SELECT count(*) FROM push_wakeups") == 0 && len(web.Wakes()) > 6
	})
	if n := e2e.Count(t, db, "SELECT woken_seq FROM push_tokens"); n != 2 {
		t.Errorf("woken_seq %d", n)
	}
	web.Always(nil)
	before := len(web.Wakes())
	alice.Send(t, nil, relaytest.To(bob.ID, "hello"))
	wakes(t, &web.Service, before+1)
}

// Mail that comes while a wake-up is on its way gets one of its own.
func TestMailDuringAWakeUpIsNotForgotten(t *testing.T) {
	t.Parallel()
	web := pushtest.NewWebPush(t)
	relay := start(t, towards(web))
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	subscribe(t, relay, bob, web)
	reached, told := make(chan struct{}), make(chan struct{})
	web.Then(func(w http.ResponseWriter, _ *http.Request) {
		close(reached)
		<-told
		w.WriteHeader(http.StatusCreated)
	})
	alice.Send(t, nil, relaytest.To(bob.ID, "hello"))
	<-reached
	alice.Send(t, nil, relaytest.To(bob.ID, "hello again"))
	db := e2e.Database(t, relay)
	wait.Eventually(t, "the row knows of it", func() bool {
		return e2e.Count(t, db, "SELECT seq FROM push_wakeups") == 2
	})
	close(told)
	wakes(t, &web.Service, 2)
	nothingScheduled(t, relay)
	if n := e2e.Count(t, db, "SELECT woken_seq FROM push_tokens"); n != 2 {
		t.Errorf("woken_seq %d", n)
	}
}

// A relay that stops while a service hangs stops in time, and the next one sends.
func TestARelayStopsWhileAServiceHangs(t *testing.T) {
	t.Parallel()
	web := pushtest.NewWebPush(t)
	long := func(p *push.Times) { p.Send, p.Lease = time.Hour, 2*time.Hour }
	one := start(t, towards(web, long))
	alice, bob := one.Register(t).NewDevice(t), one.Register(t).NewDevice(t)
	subscribe(t, one, bob, web)
	web.Then(pushtest.Hang)
	alice.Send(t, nil, relaytest.To(bob.ID, "hello"))
	wakes(t, &web.Service, 1)
	start := time.Now()
	one.Stop()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	two := startOn(t, one.DatabaseURL, towards(web, long))
	wakes(t, &web.Service, 2)
	nothingScheduled(t, two)
}

// All three services at once, and a kind without a service is kept and not scheduled.
func TestEachTokenGoesItsWay(t *testing.T) {
	t.Parallel()
	web, google, apple := pushtest.NewWebPush(t), pushtest.NewFCM(t), pushtest.NewAPNs(t)
	to := towards(web) // httptest has one certificate
	to.FCM, to.APNs = google.URL, apple.URL
	relay := start(t, to, func(cfg *app.Config) {
		cfg.FCMCredentials, cfg.APNsKey = google.Credentials, apple.Key
		cfg.APNsKeyID, cfg.APNsTeamID, cfg.APNsTopic = pushtest.KeyID, pushtest.TeamID, pushtest.Topic
	})
	alice := relay.Register(t).NewDevice(t)
	all := e2e.Devices(t, relay, 3)
	subscribe(t, relay, all[0], web)
	putToken(all[1], "an-app-token").To(t, relay).Want(t, 200, "")
	hex := strings.Repeat("0a", 32)
	putToken(all[2], hex).To(t, relay).Want(t, 200, "")
	for _, d := range all {
		alice.Send(t, nil, relaytest.To(d.ID, "hello"))
	}
	wakes(t, &web.Service, 1)
	if got := wakes(t, &google.Service, 1); got[0].Address != "an-app-token" {
		t.Errorf("%+v", got)
	}
	if got := wakes(t, &apple.Service, 1); got[0].Address != hex {
		t.Errorf("%+v", got)
	}

	bare := start(t, towards(web))
	alice, bob, carol := bare.Register(t).NewDevice(t), bare.Register(t).NewDevice(t), bare.Register(t).NewDevice(t)
	putToken(bob, "an-app-token").To(t, bare).Want(t, 200, "")
	subscribe(t, bare, carol, web)
	alice.Send(t, nil, relaytest.To(bob.ID, "hello"), relaytest.To(carol.ID, "hello"))
	wakes(t, &web.Service, 2)
	nothingScheduled(t, bare)
}

// A session in which everything goes wrong that can, at the most talkative level.
func TestALogTellsNothingAboutPushTokens(t *testing.T) {
	t.Parallel()
	web, google, apple := pushtest.NewWebPush(t), pushtest.NewFCM(t), pushtest.NewAPNs(t)
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	to := towards(web, impatient)
	to.FCM, to.APNs = google.URL, apple.URL
	relay := start(t, to, func(cfg *app.Config) {
		cfg.FCMCredentials, cfg.APNsKey = google.Credentials, apple.Key
		cfg.APNsKeyID, cfg.APNsTeamID, cfg.APNsTopic = pushtest.KeyID, pushtest.TeamID, pushtest.Topic
		cfg.VAPIDKey = base64.RawURLEncoding.EncodeToString(key.Bytes())
	})
	found := e2e.Secrets{}
	found.Raw("VAPID key", key.Bytes())
	alice := relay.Register(t).NewDevice(t)
	all := e2e.Devices(t, relay, 5)
	found.Text("app token", "an-app-token", strings.Repeat("0a", 32), "another-app-token")
	for _, d := range []*relaytest.Device{all[0], all[3]} {
		sub := subscribe(t, relay, d, web)
		found.Text("endpoint", sub.Endpoint, sub.Endpoint[strings.LastIndex(sub.Endpoint, "/"):], sub.P256dh, sub.Auth)
	}
	putToken(all[1], "an-app-token").To(t, relay).Want(t, 200, "")
	putToken(all[2], strings.Repeat("0a", 32)).To(t, relay).Want(t, 200, "")
	nowhere := web.Subscribe("")
	putWebPush(all[4], "https://127.0.0.1:1/nowhere-secret", nowhere.P256dh, nowhere.Auth).To(t, relay).Want(t, 200, "")
	putWebPush(all[4], "https://user@127.0.0.1:1/refused-secret", nowhere.P256dh, nowhere.Auth).To(t, relay).Want(t,
		400, "invalid_subscription")
	found.Text("endpoint", "nowhere-secret", "refused-secret", nowhere.P256dh, nowhere.Auth, "127.0.0.1:1/")
	services := []*pushtest.Service{&web.Service, &google.Service, &apple.Service}
	for _, s := range services {
		s.Then(pushtest.Status(503), pushtest.Hang, pushtest.Status(400), pushtest.Status(410))
	}
	for range 3 {
		for _, d := range all {
			alice.Send(t, nil, relaytest.To(d.ID, "hello"))
		}
		for _, s := range services {
			wait.Eventually(t, "wake-ups come", func() bool { return len(s.Wakes()) >= 3 })
		}
	}
	wait.Eventually(t, "it fails", func() bool {
		return e2e.Meter(t, relay, `obscura_push_wakeups_total{kind="fcm",result="failed"}`) >= 2 &&
			e2e.Meter(t, relay, `obscura_push_wakeups_total{kind="apns",result="failed"}`) >= 2
	})
	relay.Stop()
	log := relay.Log.String()
	if strings.Count(log, "a push service did not take a wake-up") != 3 { // one for each kind
		t.Errorf("not a full log: %s", log)
	}
	for what, values := range found {
		for _, value := range values {
			if at := strings.Index(strings.ToLower(log), strings.ToLower(value)); at >= 0 {
				t.Errorf("the log holds a %s: %s", what, log[max(0, at-200):at+len(value)])
			}
		}
	}
}
