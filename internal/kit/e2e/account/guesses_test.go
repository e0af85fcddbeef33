package account_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/storage"
)

const (
	wrong   = "not the right password"
	tooMany = "too_many_wrong_passwords"
)

// proxied makes the test a proxy that says where requests come from.
func proxied(c *app.Config) {
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

// from sends a request as a client of this number, each in a network of its own.
func from(client int, ask e2e.Ask) e2e.Ask {
	ask.Header = map[string]string{"X-Forwarded-For": fmt.Sprintf("198.18.%d.%d", client/256, client%256)}
	return ask
}

// logInWith shows a refresh token.
func logInWith(name, password, refresh string) e2e.Ask {
	return e2e.Ask{Method: "POST", Path: "/v1/sessions",
		Body: e2e.Object("username", name, "password", password, "refreshToken", refresh)}
}

// later has time pass for all who wait.
func later(t *testing.T, relay *relaytest.Relay, passed time.Duration) {
	t.Helper()
	e2e.Execute(t, e2e.Database(t, relay), `UPDATE wrong_passwords SET next_at = next_at - make_interval(secs => $1),
		last_at = last_at - make_interval(secs => $1)`, passed.Seconds())
}

// spend gives as many wrong passwords as cost no wait.
func spend(t *testing.T, relay *relaytest.Relay, ask e2e.Ask) {
	t.Helper()
	for range account.FreeGuesses {
		ask.To(t, relay).Want(t, 401, "wrong_credentials")
	}
}

// waits expects that a try has to wait, and returns for how long.
func waits(t *testing.T, relay *relaytest.Relay, ask e2e.Ask) time.Duration {
	t.Helper()
	got := ask.To(t, relay).Want(t, 429, tooMany)
	seconds, err := strconv.Atoi(got.Header.Get("Retry-After"))
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(seconds) * time.Second
}

// TestGuessesWaitTwiceAsLongEachTime tries a user and a name that nobody has: nothing tells them
// apart. The right password has to wait like a wrong one.
func TestGuessesWaitTwiceAsLongEachTime(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	told := map[string][]time.Duration{}
	for _, name := range []string{user.Name, "nobody_here"} {
		spend(t, relay, e2e.LogIn(name, wrong))
		for range 13 {
			told[name] = append(told[name], waits(t, relay, e2e.LogIn(name, relaytest.Password)))
			later(t, relay, told[name][len(told[name])-1])
			e2e.LogIn(name, wrong).To(t, relay).Want(t, 401, "wrong_credentials")
		}
	}
	known, unknown := fmt.Sprint(told[user.Name]), fmt.Sprint(told["nobody_here"])
	if known != unknown || known != "[1s 1s 2s 4s 8s 16s 32s 1m4s 2m8s 4m16s 8m32s 15m0s 15m0s]" {
		t.Errorf("a user waits %s, a name that nobody has %s", known, unknown)
	}
	later(t, relay, 15*time.Minute)
	e2e.LogIn(user.Name, relaytest.Password).To(t, relay).Want(t, 200, "")
	spend(t, relay, e2e.LogIn(user.Name, wrong)) // a right one begins anew
	waits(t, relay, e2e.LogIn(user.Name, wrong))
}

// TestTheOwnerGetsInBesideGuessers has twenty networks try a name without end. A device that was
// logged in once does not wait; a new one waits as long as it is told and no longer.
func TestTheOwnerGetsInBesideGuessers(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, proxied)
	user := relay.Register(t)
	device := user.NewDevice(t)
	e2e.Ask{Method: "DELETE", Path: "/v1/sessions", Token: device.Token,
		Body: e2e.Object("refreshToken", device.Refresh)}.To(t, relay).Want(t, 200, "")
	const guessers, owner, elsewhere = 20, 1000, 1001
	guess := func() (hashed int) {
		for n := range guessers {
			switch got := from(n, e2e.LogIn(user.Name, wrong)).To(t, relay); got.Status {
			case 401:
				hashed++
			case 429:
				got.Want(t, 429, tooMany)
			default:
				t.Errorf("status %d", got.Status)
			}
		}
		return hashed
	}
	if hashed := guess(); hashed != account.FreeGuesses {
		t.Errorf("%d guesses were looked at, want %d", hashed, account.FreeGuesses)
	}
	for range 3 {
		later(t, relay, 10*time.Second)
		guess()
	}
	told := waits(t, relay, from(owner, e2e.LogIn(user.Name, relaytest.Password)))
	if told > 15*time.Minute || told < time.Minute {
		t.Errorf("a new device waits %v", told)
	}
	// The session of this token has ended; its user is known all the same.
	from(elsewhere, logInWith(user.Name, relaytest.Password, device.Refresh)).To(t, relay).Want(t, 200, "")
	for passed := time.Duration(0); passed < told; passed += told / 3 {
		guess()
		later(t, relay, told/3+time.Second)
		guess()
	}
	from(owner, e2e.LogIn(user.Name, relaytest.Password)).To(t, relay).Want(t, 200, "")
}

// TestADeviceThatIsShownWaitsForItsOwnMistakes has a device guess: neither strangers nor another
// device wait for it. A token that is made up, or another user's, shows nothing.
func TestADeviceThatIsShownWaitsForItsOwnMistakes(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user, other := relay.Register(t), relay.Register(t)
	one, two, foreign := user.NewDevice(t), user.NewDevice(t), other.NewDevice(t)
	spend(t, relay, logInWith(user.Name, wrong, one.Refresh))
	logInWith(user.Name, wrong, one.Refresh).To(t, relay).Want(t, 401, "wrong_credentials") // its turn
	if told := waits(t, relay, logInWith(user.Name, relaytest.Password, one.Refresh)); told != time.Second {
		t.Errorf("it waits %v", told)
	}
	logInWith(user.Name, relaytest.Password, two.Refresh).To(t, relay).Want(t, 200, "")
	e2e.LogIn(user.Name, relaytest.Password).To(t, relay).Want(t, 200, "")
	later(t, relay, time.Second)
	logInWith(user.Name, relaytest.Password, one.Refresh).To(t, relay).Want(t, 200, "")
	logInWith(user.Name, wrong, one.Refresh).To(t, relay).Want(t, 401, "wrong_credentials")

	spend(t, relay, e2e.LogIn(user.Name, wrong))
	for _, token := range []string{foreign.Refresh, one.Refresh[:len(one.Refresh)-1] + "x", "", "x"} {
		waits(t, relay, logInWith(user.Name, relaytest.Password, token))
	}
	e2e.Refresh(one.Refresh).To(t, relay).Want(t, 200, "") // showing it has not used it up
}

// TestTheExportTellsOfWrongPasswords counts those of strangers, of a device and of a session.
func TestTheExportTellsOfWrongPasswords(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	device := user.NewDevice(t)
	export := func() (told client.AccountWrongPasswords) {
		body := e2e.Ask{Method: "GET", Path: "/v1/account", Token: device.Token}.To(t, relay).Want(t, 200, "").Body
		var a client.Account
		if err := json.Unmarshal(body, &a); err != nil {
			t.Fatal(err)
		}
		return a.WrongPasswords
	}
	if told := export(); told.Count != 0 || told.LastAt != nil {
		t.Errorf("a new account has %+v", told)
	}
	begun := time.Now().Add(-time.Minute)
	for _, ask := range []e2e.Ask{e2e.LogIn(user.Name, wrong), e2e.LogIn(user.Name, wrong),
		logInWith(user.Name, wrong, device.Refresh),
		{Method: "DELETE", Path: "/v1/account", Token: device.Token, Body: e2e.Object("password", wrong)}} {
		ask.To(t, relay).Want(t, 401, "wrong_credentials")
	}
	if told := export(); told.Count != 4 || told.LastAt == nil || told.LastAt.Before(begun) {
		t.Errorf("after four wrong passwords %+v", told)
	}
	e2e.LogIn(user.Name, relaytest.Password).To(t, relay).Want(t, 200, "")
	if told := export(); told.Count != 2 {
		t.Errorf("after a right one of a stranger %+v", told)
	}
}

// TestSessionsGuessNoPasswordEither asks for what needs the password beside a token. One session's
// guesses make neither another one wait nor who logs in.
func TestSessionsGuessNoPasswordEither(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	device := user.NewDevice(t)
	remove := func(password string) e2e.Ask {
		return e2e.Ask{Method: "DELETE", Path: "/v1/account", Token: user.Token, Body: e2e.Object("password", password)}
	}
	change := e2e.Ask{Method: "PUT", Path: "/v1/account/password", Token: user.Token,
		Body: e2e.Object("currentPassword", relaytest.Password, "newPassword", relaytest.Password+"x")}
	ofTheDevice := change
	ofTheDevice.Token, ofTheDevice.Body = device.Token, e2e.Object("currentPassword", wrong, "newPassword", relaytest.Password)
	spend(t, relay, remove(wrong))
	remove(wrong).To(t, relay).Want(t, 401, "wrong_credentials") // its turn
	waits(t, relay, remove(relaytest.Password))
	waits(t, relay, change)
	ofTheDevice.To(t, relay).Want(t, 401, "wrong_credentials")
	e2e.LogIn(user.Name, relaytest.Password).To(t, relay).Want(t, 200, "") // strangers have a count of their own
	later(t, relay, time.Second)
	change.To(t, relay).Want(t, 200, "")
	rows := 0
	row := e2e.Database(t, relay).QueryRow(t.Context(), "SELECT count(*) FROM wrong_passwords")
	if err := row.Scan(&rows); err != nil || rows != 1 {
		t.Errorf("after the right password %d rows, want the device's: %v", rows, err)
	}
}

// TestRightPasswordsAtOnceCostASecondAtMost logs in more often at once than guesses are free: what
// is under way may be wrong, but nothing is remembered of it.
func TestRightPasswordsAtOnceCostASecondAtMost(t *testing.T) {
	t.Parallel()
	relay := startInEarnest(t, func(c *app.Config) { c.RequestTimeout = patience })
	user, client := relay.Register(t), patient(t)
	var wg sync.WaitGroup
	for range 4 * account.FreeGuesses {
		wg.Go(func() {
			got := e2e.LogIn(user.Name, relaytest.Password).Through(t, relay.API, client)
			if got.Status == 429 && got.Header.Get("Retry-After") != "1" || got.Status != 429 && got.Status != 200 {
				t.Errorf("status %d, Retry-After %q", got.Status, got.Header.Get("Retry-After"))
			}
		})
	}
	wg.Wait()
	if n := e2e.Count(t, e2e.Database(t, relay), "SELECT count(*) FROM wrong_passwords"); n != 0 {
		t.Errorf("%d rows of wrong passwords, of none", n)
	}
}

// TestAStormOnOneNameLeavesTheHashingToOthers sends more guesses at once than can wait for the
// hashing, before a single one is counted. A guess that has just been counted counts twice for a
// moment, so that on a slow machine fewer may pass than are free: all must in one try of three.
func TestAStormOnOneNameLeavesTheHashingToOthers(t *testing.T) {
	t.Parallel()
	const tries = 3
	relay := startInEarnest(t, func(c *app.Config) { c.RequestTimeout = patience })
	other, client := relay.Register(t), patient(t)
	for try := 1; ; try++ {
		var hashed, waiting atomic.Int32
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				switch got := e2e.LogIn("nobody_"+strconv.Itoa(try), wrong).Through(t, relay.API, client); got.Status {
				case 401:
					hashed.Add(1)
				case 429:
					waiting.Add(1)
				default:
					t.Errorf("status %d", got.Status)
				}
			})
		}
		e2e.LogIn(other.Name, relaytest.Password).Through(t, relay.API, client).Want(t, 200, "")
		wg.Wait()
		t.Logf("%d guesses were looked at, %d were told to wait", hashed.Load(), waiting.Load())
		switch {
		case hashed.Load() > 2*account.FreeGuesses: // a second may pass meanwhile, and with it a turn
			t.Fatal("too many were looked at")
		case hashed.Load() >= account.FreeGuesses:
			return
		case try == tries:
			t.Fatal("fewer were looked at than are free")
		}
	}
}

// TestWrongPasswordsAreForgotten sweeps what is old and what is too much: what is left over are
// the names with the most wrong passwords.
func TestWrongPasswordsAreForgotten(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	conn := e2e.Database(t, relay)
	e2e.Execute(t, conn, `INSERT INTO wrong_passwords (name, slot, failures, last_at, next_at)
		SELECT decode(md5(n::text), 'hex'), -1, 1 + n % 3, now(), now() FROM generate_series(1, 210000) n`)
	e2e.Execute(t, conn, `INSERT INTO wrong_passwords VALUES
		('a day ago', -1, 1000, now() - interval '25 hours', now()), ('today', -1, 1000, now() - interval '23 hours', now()),
		('took no turn', 7, 0, now(), now() - interval '61 minutes')`)
	db, err := storage.Open(t.Context(), relay.DatabaseURL, storage.Options{MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	if err := account.New(account.Config{DB: db}).Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	var all, few, gone, stays int
	err = conn.QueryRow(t.Context(), `SELECT count(*), count(*) FILTER (WHERE failures = 1),
		count(*) FILTER (WHERE name IN ('a day ago', 'took no turn')), count(*) FILTER (WHERE name = 'today') FROM wrong_passwords`).
		Scan(&all, &few, &gone, &stays)
	if err != nil || all != 200_000 || few != 59_999 || gone != 0 || stays != 1 {
		t.Errorf("%d rows, %d of one wrong password, %d that are over, %d of today, %v", all, few, gone, stays, err)
	}
}

// TestAChangeOfPasswordTellsTheOtherDevices refreshes on devices that were not there when it was
// changed. A token that is made up is told nothing, and one of an earlier change is forgotten.
func TestAChangeOfPasswordTellsTheOtherDevices(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	one, two := user.NewDevice(t), user.NewDevice(t)
	change := func(current, next string) (pair client.AuthResponse) {
		got := e2e.Ask{Method: "PUT", Path: "/v1/account/password", Token: one.Token,
			Body: e2e.Object("currentPassword", current, "newPassword", next)}.To(t, relay).Want(t, 200, "")
		if err := json.Unmarshal(got.Body, &pair); err != nil {
			t.Fatal(err)
		}
		return pair
	}
	first := change(relaytest.Password, relaytest.Password+"x")
	for range 2 { // as often as it asks
		e2e.Refresh(two.Refresh).To(t, relay).Want(t, 401, "password_changed")
	}
	e2e.Refresh(user.Refresh).To(t, relay).Want(t, 401, "password_changed")
	e2e.Refresh(two.Refresh[:40]+strings.Repeat("A", len(two.Refresh)-40)).To(t, relay).Want(t, 401, "invalid_refresh_token")
	e2e.Refresh(one.Refresh).To(t, relay).Want(t, 401, "invalid_refresh_token") // ends its session
	e2e.Refresh(first.RefreshToken).To(t, relay).Want(t, 401, "invalid_refresh_token")

	again := e2e.LogIn(user.Name, relaytest.Password+"x").To(t, relay).Want(t, 200, "")
	var pair client.AuthResponse
	if err := json.Unmarshal(again.Body, &pair); err != nil {
		t.Fatal(err)
	}
	one.Token = pair.Token
	change(relaytest.Password+"x", relaytest.Password)
	e2e.Refresh(two.Refresh).To(t, relay).Want(t, 401, "invalid_refresh_token")
}

func TestADeletedAccountLeavesNoWrongPasswords(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	spend(t, relay, e2e.LogIn(user.Name, wrong))
	waits(t, relay, e2e.LogIn(user.Name, wrong))
	e2e.Ask{Method: "DELETE", Path: "/v1/account", Token: user.Token,
		Body: e2e.Object("password", relaytest.Password)}.To(t, relay).Want(t, 200, "")
	wait.Eventually(t, "no row is left", func() bool {
		var rows int
		err := e2e.Database(t, relay).QueryRow(t.Context(), "SELECT count(*) FROM wrong_passwords").Scan(&rows)
		return err == nil && rows == 0
	})
}
