package account_test

import (
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/obscura-relay/obscura/internal/admin"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

const year admin.Age = 365

// away makes users look as if they had been away for so many days, with sessions or without.
func away(t *testing.T, relay *relaytest.Relay, days int, sessions bool, users ...*relaytest.User) {
	t.Helper()
	db := e2e.Database(t, relay)
	for _, u := range users {
		e2e.Change(t, db, "UPDATE users SET seen_on = seen_on - $1::int WHERE id = $2", days, u.ID)
		if !sessions {
			e2e.Execute(t, db, "DELETE FROM sessions WHERE user_id = $1", u.ID)
		}
	}
}

func names(t *testing.T, relay *relaytest.Relay, users ...*relaytest.User) (there []bool) {
	t.Helper()
	for _, u := range users {
		there = append(there, count(t, relay, "SELECT count(*) FROM users WHERE id = '"+u.ID.String()+"'") == 1)
	}
	return there
}

func TestIdleAccountsAreListedAndThenPurged(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	idle, recent, refreshes, disabled := relay.Register(t), relay.Register(t), relay.Register(t), relay.Register(t)
	device := idle.NewDevice(t)
	e2e.Attach(t, device, e2e.Random(t, 10))
	away(t, relay, 366, false, idle, disabled)
	away(t, relay, 365, false, recent)
	away(t, relay, 400, true, refreshes)
	e2e.Administer(t, relay, admin.DisableUser{OfUser: admin.OfUser{User: disabled.Name}})
	out := e2e.Administer(t, relay, admin.Purge{OlderThan: year})
	if !strings.Contains(out, idle.Name) || !strings.HasPrefix(out, "deleted: false\ncount: 1\n") {
		t.Errorf("the dry run: %s", out)
	}
	all := []*relaytest.User{idle, recent, refreshes, disabled}
	if there := names(t, relay, all...); !there[0] {
		t.Error("a dry run deletes")
	}
	out = e2e.Administer(t, relay, admin.Purge{OlderThan: year, Delete: true})
	if there := names(t, relay, all...); there[0] || !there[1] || !there[2] || !there[3] ||
		!strings.HasPrefix(out, "deleted: true\ncount: 1\n") {
		t.Errorf("%v are there, %s", there, out)
	}
	if n := count(t, relay, "SELECT (SELECT count(*) FROM devices) + (SELECT count(*) FROM mailboxes) + "+
		"(SELECT count(*) FROM attachments)"); n != 0 {
		t.Errorf("%d rows are left of who was purged", n)
	}
	// A refresh is a sign of life, and so is a log-in.
	e2e.Refresh(refreshes.Refresh).To(t, relay).Want(t, 200, "")
	e2e.LogIn(recent.Name, relaytest.Password).To(t, relay).Want(t, 200, "")
	if n := count(t, relay, "SELECT count(*) FROM users WHERE seen_on = (now() AT TIME ZONE 'UTC')::date"); n != 2 {
		t.Errorf("%d users were there today", n)
	}
}

func TestAPurgeOfEverybodyIsRefused(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	users := []*relaytest.User{relay.Register(t), relay.Register(t)}
	away(t, relay, 1000, false, users...)
	for _, purge := range []admin.Purge{{OlderThan: year, Delete: true}, {OlderThan: year}} {
		err := app.Administer(t.Context(), app.Database{DatabaseURL: relay.DatabaseURL}, purge, false, io.Discard,
			io.Discard)
		if err == nil || !strings.Contains(err.Error(), "everybody, 2 of 2 accounts") {
			t.Errorf("%+v: %v", purge, err)
		}
	}
	if n := count(t, relay, "SELECT count(*) FROM users"); n != 2 {
		t.Fatalf("%d users are left of 2", n)
	}
	if err := app.Administer(t.Context(), app.Database{DatabaseURL: relay.DatabaseURL},
		admin.Purge{Everybody: true, Delete: true}, false, io.Discard, io.Discard); err == nil {
		t.Error("no time at all is taken")
	}
	for _, text := range []string{"0d", "23h", "-1d", "never", "365", "36501d", "70000d"} {
		if err := new(admin.Age).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
	e2e.Administer(t, relay, admin.Purge{OlderThan: year, Delete: true, Everybody: true})
	if n := count(t, relay, "SELECT count(*) FROM users"); n != 0 {
		t.Errorf("%d users are left", n)
	}
	e2e.Administer(t, relay, admin.Purge{OlderThan: year, Delete: true}) // nobody is left, and that is no refusal
}

// Refreshes write the day while others hold the user and want the session: neither waits for the
// other for good.
func TestRefreshesAndTheOperatorDoNotDeadlock(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	db := e2e.Database(t, relay)
	for range 20 {
		pair := e2e.LogIn(user.Name, relaytest.Password).To(t, relay).Want(t, 200, "")
		e2e.Execute(t, db, "UPDATE users SET seen_on = seen_on - 1 WHERE id = $1", user.ID)
		var both sync.WaitGroup
		both.Go(func() {
			if got := e2e.Refresh(pair.Member(t, "refreshToken")).To(t, relay); got.Status != 200 && got.Status != 401 {
				t.Errorf("a refresh got %d %s", got.Status, got.Body)
			}
		})
		both.Go(func() { e2e.Administer(t, relay, admin.EndSessions{User: user.Name}) })
		both.Wait()
	}
	if strings.Contains(relay.Log.String(), "40P01") {
		t.Error("the database had to end a deadlock")
	}
}
