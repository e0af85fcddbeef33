package account_test

import (
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

func TestTheHundredAndFirstSessionEndsThoseAtRestLongest(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user, other := relay.Register(t), relay.Register(t)
	db := e2e.Database(t, relay)
	e2e.Execute(t, db, `INSERT INTO sessions (id, user_id, refresh_key, expires_at)
		SELECT gen_random_uuid(), $1, 'x', now() + n * interval '1 hour' FROM generate_series(1, 98) n`, user.ID)
	list := func(token string) e2e.Ask { return e2e.Ask{Method: "GET", Path: "/v1/devices", Token: token} }
	left := func() (n int, oldest float64) {
		if err := db.QueryRow(t.Context(),
			"SELECT count(*), min(extract(epoch FROM expires_at - now())) / 3600 FROM sessions WHERE user_id = $1",
			user.ID).
			Scan(&n, &oldest); err != nil {
			t.Fatal(err)
		}
		return n, oldest
	}
	// the hundredth ends none, the next one the eleven that are too many for ninety
	for want := 100; want > 80; want -= 10 {
		newest := e2e.LogIn(user.Name, relaytest.Password).To(t, relay).Want(t, 200, "").Member(t, "token")
		if n, oldest := left(); n != want || (want == 90) != (oldest > 11) {
			t.Errorf("%d sessions are left, the oldest for %f hours", n, oldest)
		}
		list(newest).To(t, relay).Want(t, 200, "")
	}
	list(user.Token).To(t, relay).Want(t, 200, "")
	list(other.Token).To(t, relay).Want(t, 200, "")
}

// A script logs in again and again, for another device or for the same one.
func TestLogInsDoNotEndTheSessionOfADevice(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	db := e2e.Database(t, relay)
	for _, own := range []bool{false, true} {
		user := relay.Register(t)
		phone, quiet, other := user.NewDevice(t), user.NewDevice(t), user.NewDevice(t)
		socket := phone.Connect(t)
		socket.Drain()
		target := other
		if own {
			target = phone
		}
		e2e.Execute(t, db, `INSERT INTO sessions (id, user_id, device_id, refresh_key, created_at, expires_at)
			SELECT gen_random_uuid(), $1, $2, 'x', now(), now() + interval '30 days' FROM generate_series(1, 120)`, user.ID, target.ID)
		body := e2e.Object("username", user.Name, "password", relaytest.Password, "deviceId", target.ID.String())
		e2e.Ask{Method: "POST", Path: "/v1/sessions", Body: body}.To(t, relay).Want(t, 200, "")
		for name, refreshToken := range map[string]string{"the phone's": phone.Refresh,
			"the quiet device's": quiet.Refresh} {
			if got := e2e.Refresh(refreshToken).To(t, relay); got.Status != 200 {
				t.Errorf("%s session has ended: %d", name, got.Status)
			}
		}
		e2e.Refresh(user.Refresh).To(t, relay).Want(t, 401, "invalid_refresh_token")
		var left int
		if err := db.QueryRow(t.Context(), "SELECT count(*) FROM sessions WHERE user_id = $1",
			user.ID).Scan(&left); err != nil || left > 91 {
			t.Errorf("%d sessions are left, %v", left, err)
		}
	}
}

func TestASessionThatWasTooManyEndsOnEveryNode(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	list := e2e.Ask{Method: "GET", Path: "/v1/devices", Token: user.Token}
	list.To(t, relay).Want(t, 200, "") // and is remembered
	e2e.Execute(t, e2e.Database(t, relay), `INSERT INTO sessions (id, user_id, refresh_key, expires_at)
		SELECT gen_random_uuid(), $1, 'x', now() + interval '30 days' FROM generate_series(1, 99)`, user.ID)
	e2e.LogIn(user.Name, relaytest.Password).To(t, relay).Want(t, 200, "")
	wait.Eventually(t, "the session that was refreshed longest ago has ended", func() bool {
		return list.To(t, relay).Status == 401
	})
}
