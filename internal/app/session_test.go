package app_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func refresh(token string) ask {
	return ask{method: "POST", path: "/v1/sessions/refresh", body: object("refreshToken", token)}
}

func logOut(bearer, token string) ask {
	return ask{method: "DELETE", path: "/v1/sessions", token: bearer, body: object("refreshToken", token)}
}

func TestALogInIsScopedByTheDeviceItNames(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	own, foreign := user.NewDevice(t), relay.Register(t).NewDevice(t)
	for device, scope := range map[string]string{
		own.ID.String(): own.ID.String(), foreign.ID.String(): "", uuid.NewString(): "", uuid.Nil.String(): "", "": "",
	} {
		body := object("username", user.Name, "password", relaytest.Password)
		if device != "" {
			body = object("username", user.Name, "password", relaytest.Password, "deviceId", device)
		}
		got := ask{method: "POST", path: "/v1/sessions", body: body}.to(t, relay).want(t, 200, "")
		if got.member(t, "deviceId") != scope {
			t.Errorf("%q: the answer's device is %q", device, got.member(t, "deviceId"))
		}
		claims := relaytest.Claims(t, got.member(t, "token"))
		if named, _ := claims["device_id"].(string); named != scope || claims["sub"] != user.ID.String() {
			t.Errorf("%q: claims %v", device, claims)
		}
	}
	ask{method: "POST", path: "/v1/sessions", body: object("username", user.Name, "password", relaytest.Password, "deviceId", "x")}.
		to(t, relay).want(t, 400, "invalid_request")
}

func TestAnUnknownNameAndAWrongPasswordAreNotToldApart(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	wrong := logIn(user.Name, "not the right password").to(t, relay).want(t, 401, "wrong_credentials")
	unknown := logIn("nobody_here", "not the right password").to(t, relay).want(t, 401, "wrong_credentials")
	if string(wrong.body) != string(unknown.body) || len(wrong.header) != len(unknown.header) {
		t.Errorf("%s %v\n%s %v", wrong.body, wrong.header, unknown.body, unknown.header)
	}
}

func TestARefreshedTokenKeepsItsScopeAndRotates(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	device := user.NewDevice(t)
	for token, scope := range map[string]string{user.Refresh: "", device.Refresh: device.ID.String()} {
		seen := map[string]bool{token: true}
		for range 3 {
			got := refresh(token).to(t, relay).want(t, 200, "")
			token = got.member(t, "refreshToken")
			if seen[token] {
				t.Error("a refresh token was given out twice")
			}
			seen[token] = true
			claims := relaytest.Claims(t, got.member(t, "token"))
			if named, _ := claims["device_id"].(string); named != scope || got.member(t, "deviceId") != scope {
				t.Errorf("the scope %q became %v", scope, claims)
			}
			if !works(t, relay, got.member(t, "token")) {
				t.Error("the new access token does not work")
			}
		}
	}
	for _, bad := range []string{"x", user.Refresh + "x", uuid.NewString(), user.Token} {
		if len(bad) <= 200 {
			refresh(bad).to(t, relay).want(t, 401, "invalid_refresh_token")
		}
	}
}

// The last letter of base64 has bits that stand for nothing.
func TestAnotherSpellingOfARefreshTokenEndsNothing(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(user.Refresh) - 1
	other := user.Refresh[:last] + string(letters[strings.IndexByte(letters, user.Refresh[last])^1])
	refresh(other).to(t, relay).want(t, 401, "invalid_refresh_token")
	refresh(user.Refresh).to(t, relay).want(t, 200, "")
}

func TestALostRefreshAnswerCanBeAskedForAgain(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	replies := make(chan reply, 4)
	for range cap(replies) { // at once, and so within the grace
		go func() { replies <- refresh(user.Refresh).to(t, relay) }()
	}
	for range cap(replies) {
		if !works(t, relay, (<-replies).want(t, 200, "").member(t, "token")) {
			t.Error("a pair does not work")
		}
	}
	execute(t, inside(t, relay), "UPDATE refresh_tokens SET used_at = now() - interval '8 seconds' WHERE used_at IS NOT NULL")
	last := refresh(user.Refresh).to(t, relay).want(t, 200, "")
	refresh(last.member(t, "refreshToken")).to(t, relay).want(t, 200, "")
}

// A thief and the owner present one token within the grace. Only one chain goes on, and it ends with the
// other's next step.
func TestTheSiblingsOfAUsedRefreshTokenEnd(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	for _, late := range []string{"the sibling", "the parent"} {
		device := relay.Register(t).NewDevice(t)
		one, two := refresh(device.Refresh).to(t, relay).want(t, 200, ""), refresh(device.Refresh).to(t, relay).want(t, 200, "")
		next := refresh(one.member(t, "refreshToken")).to(t, relay).want(t, 200, "")
		token := two.member(t, "refreshToken")
		if late == "the parent" {
			token = device.Refresh
		}
		refresh(token).to(t, relay).want(t, 401, "invalid_refresh_token")
		refresh(next.member(t, "refreshToken")).to(t, relay).want(t, 401, "invalid_refresh_token")
		if works(t, relay, next.member(t, "token")) {
			t.Errorf("%s was presented, and the session lives on", late)
		}
	}
}

func TestARefreshTokenGivesTenPairsAtMost(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	replies := make(chan reply, 30)
	for range cap(replies) {
		go func() { replies <- refresh(user.Refresh).to(t, relay) }()
	}
	pairs, last := 0, ""
	for range cap(replies) {
		switch got := <-replies; got.status {
		case 200:
			pairs++
			last = got.member(t, "refreshToken")
		default:
			got.want(t, 429, "rate_limited")
		}
	}
	if pairs != 10 {
		t.Errorf("%d pairs", pairs)
	}
	refresh(last).to(t, relay).want(t, 200, "") // the session is as good as before
}

func TestARefreshTokenUsedTwiceEndsItsWholeFamily(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	device := user.NewDevice(t)
	socket := device.Connect(t)
	first := refresh(device.Refresh).to(t, relay).want(t, 200, "")
	execute(t, inside(t, relay), "UPDATE refresh_tokens SET used_at = now() - interval '11 seconds' WHERE used_at IS NOT NULL")
	// A newer use sweeps the spent row away; the old token is known for what it is all the same.
	second := refresh(first.member(t, "refreshToken")).to(t, relay).want(t, 200, "")
	refresh(device.Refresh).to(t, relay).want(t, 401, "invalid_refresh_token")
	for _, token := range []string{device.Token, first.member(t, "token"), second.member(t, "token")} {
		if works(t, relay, token) {
			t.Error("an access token of the family still works")
		}
	}
	for _, token := range []string{first.member(t, "refreshToken"), second.member(t, "refreshToken")} {
		refresh(token).to(t, relay).want(t, 401, "invalid_refresh_token")
	}
	if code := socket.CloseCode(); code != 4401 {
		t.Errorf("the family's socket closed with %d", code)
	}
	if !works(t, relay, user.Token) {
		t.Error("another family of the same user ended with it")
	}
}

func TestARefreshTokenThatWasNeverIssuedEndsNothing(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	id, secret, _ := strings.Cut(user.Refresh, ".")
	other := relay.Register(t)
	_, others, _ := strings.Cut(other.Refresh, ".")
	for _, made := range []string{id + "." + strings.Repeat("A", len(secret)), id + "." + others} {
		refresh(made).to(t, relay).want(t, 401, "invalid_refresh_token")
	}
	if !works(t, relay, user.Token) {
		t.Error("the session has ended")
	}
	refresh(user.Refresh).to(t, relay).want(t, 200, "")
}

func TestAnExpiredRefreshTokenIsRefused(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user, other := relay.Register(t), relay.Register(t)
	db := inside(t, relay)
	var days float64
	if err := db.QueryRow(t.Context(), "SELECT min(extract(epoch FROM expires_at - now())) / 86400 FROM refresh_tokens").Scan(&days); err != nil {
		t.Fatal(err)
	}
	if days < 29.99 || days > 30 {
		t.Errorf("a refresh token lives %f days", days)
	}
	execute(t, db, "UPDATE sessions SET expires_at = now() - interval '1 second' WHERE user_id = $1", user.ID)
	execute(t, db, "UPDATE refresh_tokens SET expires_at = now() - interval '1 second'")
	refresh(user.Refresh).to(t, relay).want(t, 401, "invalid_refresh_token")
	logOut(other.Token, other.Refresh).to(t, relay).want(t, 401, "invalid_refresh_token")
	refresh(other.Refresh).to(t, relay).want(t, 401, "invalid_refresh_token")
}

func TestALogOutEndsTheSessionAndNoOther(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user, stranger := relay.Register(t), relay.Register(t)
	device := user.NewDevice(t)
	socket := device.Connect(t)
	if !works(t, relay, device.Token) { // and so it is remembered
		t.Fatal("the token does not work")
	}
	logOut("", device.Refresh).to(t, relay).want(t, 401, "unauthorized")
	logOut(device.Token, "x").to(t, relay).want(t, 401, "invalid_refresh_token")
	logOut(stranger.Token, device.Refresh).to(t, relay).want(t, 401, "invalid_refresh_token")
	if !works(t, relay, device.Token) {
		t.Fatal("a stranger ended the session")
	}
	if got := logOut(device.Token, device.Refresh).to(t, relay).want(t, 200, ""); len(got.body) != 0 {
		t.Errorf("a body: %s", got.body)
	}
	if works(t, relay, device.Token) {
		t.Error("the access token still works")
	}
	refresh(device.Refresh).to(t, relay).want(t, 401, "invalid_refresh_token")
	if code := socket.CloseCode(); code != 4401 {
		t.Errorf("the socket closed with %d", code)
	}
	if !works(t, relay, user.Token) {
		t.Error("another session ended with it")
	}
	// A bearer may end another session of the same user.
	again := logIn(user.Name, relaytest.Password).to(t, relay)
	logOut(user.Token, again.member(t, "refreshToken")).to(t, relay).want(t, 200, "")
	if works(t, relay, again.member(t, "token")) {
		t.Error("the other session goes on")
	}
}

func TestAChangedPasswordEndsAllOtherSessions(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	other := relaytest.StartOn(t, relay.DatabaseURL)
	user := relay.Register(t)
	mine, theirs := user.NewDevice(t), user.NewDevice(t)
	here, there := mine.Connect(t), theirs.On(other).Connect(t)
	for _, node := range []*relaytest.Relay{relay, other} { // and so the tokens are remembered
		for _, token := range []string{user.Token, mine.Token, theirs.Token} {
			if !works(t, node, token) {
				t.Fatal("a token does not work")
			}
		}
	}
	change := func(bearer, current string) reply {
		return ask{method: "PUT", path: "/v1/account/password", token: bearer,
			body: object("currentPassword", current, "newPassword", "a new password")}.to(t, relay)
	}
	change("", relaytest.Password).want(t, 401, "unauthorized")
	change(mine.Token, "a wrong password").want(t, 401, "wrong_credentials")
	got := change(mine.Token, relaytest.Password).want(t, 200, "")
	changed := time.Now()
	for _, token := range []string{user.Token, theirs.Token} {
		if works(t, relay, token) {
			t.Error("another session goes on where the password was changed")
		}
		endsWithinASecond(t, other, token, changed)
	}
	if code := there.CloseCode(); code != 4401 {
		t.Errorf("the socket of another session closed with %d", code)
	}
	// This session goes on, with a pair that works, the token that it had, and its socket.
	if got.member(t, "deviceId") != mine.ID.String() || !works(t, relay, got.member(t, "token")) || !works(t, other, got.member(t, "token")) || !works(t, relay, mine.Token) {
		t.Error("the session that changed the password did not go on")
	}
	mine.Send(t, nil, relaytest.To(mine.ID, "to myself"))
	here.Drain()
	refresh(got.member(t, "refreshToken")).to(t, relay).want(t, 200, "")
	logIn(user.Name, relaytest.Password).to(t, relay).want(t, 401, "wrong_credentials")
	logIn(user.Name, "a new password").to(t, relay).want(t, 200, "")
}

// endsWithinASecond asks until the token is refused; a request that was begun later than a second after
// the end must not be answered any more.
func endsWithinASecond(t *testing.T, node *relaytest.Relay, token string, ended time.Time) {
	t.Helper()
	relaytest.Eventually(t, "the token is refused", func() bool {
		asked := time.Now()
		accepted := works(t, node, token)
		if accepted && asked.Sub(ended) > time.Second {
			t.Fatalf("accepted %v after its end", asked.Sub(ended))
		}
		return !accepted
	})
}

func TestOfTwoPasswordChangesAtOnceOneWins(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	statuses := make(chan int)
	next := []string{"the first password", "the second password"}
	for _, password := range next {
		go func() {
			statuses <- ask{method: "PUT", path: "/v1/account/password", token: user.Token,
				body: object("currentPassword", relaytest.Password, "newPassword", password)}.to(t, relay).status
		}()
	}
	if a, b := <-statuses, <-statuses; a+b != 200+401 {
		t.Errorf("statuses %d and %d", a, b)
	}
	if a, b := logIn(user.Name, next[0]).to(t, relay).status, logIn(user.Name, next[1]).to(t, relay).status; a+b != 200+401 {
		t.Errorf("log-ins %d and %d", a, b)
	}
}

func TestTheHundredAndFirstSessionEndsThoseAtRestLongest(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user, other := relay.Register(t), relay.Register(t)
	db := inside(t, relay)
	execute(t, db, `INSERT INTO sessions (id, user_id, refresh_key, expires_at)
		SELECT gen_random_uuid(), $1, 'x', now() + n * interval '1 hour' FROM generate_series(1, 98) n`, user.ID)
	list := func(token string) ask { return ask{method: "GET", path: "/v1/devices", token: token} }
	left := func() (n int, oldest float64) {
		if err := db.QueryRow(t.Context(), "SELECT count(*), min(extract(epoch FROM expires_at - now())) / 3600 FROM sessions WHERE user_id = $1", user.ID).
			Scan(&n, &oldest); err != nil {
			t.Fatal(err)
		}
		return n, oldest
	}
	for want := 100; want > 80; want -= 10 { // the hundredth ends none, the next one the eleven that are too many for ninety
		newest := logIn(user.Name, relaytest.Password).to(t, relay).want(t, 200, "").member(t, "token")
		if n, oldest := left(); n != want || (want == 90) != (oldest > 11) {
			t.Errorf("%d sessions are left, the oldest for %f hours", n, oldest)
		}
		list(newest).to(t, relay).want(t, 200, "")
	}
	list(user.Token).to(t, relay).want(t, 200, "")
	list(other.Token).to(t, relay).want(t, 200, "")
}

// A script logs in again and again, for another device or for the same one.
func TestLogInsDoNotEndTheSessionOfADevice(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	db := inside(t, relay)
	for _, own := range []bool{false, true} {
		user := relay.Register(t)
		phone, quiet, other := user.NewDevice(t), user.NewDevice(t), user.NewDevice(t)
		socket := phone.Connect(t)
		socket.Drain()
		target := other
		if own {
			target = phone
		}
		execute(t, db, `INSERT INTO sessions (id, user_id, device_id, refresh_key, created_at, expires_at)
			SELECT gen_random_uuid(), $1, $2, 'x', now(), now() + interval '30 days' FROM generate_series(1, 120)`, user.ID, target.ID)
		body := object("username", user.Name, "password", relaytest.Password, "deviceId", target.ID.String())
		ask{method: "POST", path: "/v1/sessions", body: body}.to(t, relay).want(t, 200, "")
		for name, refreshToken := range map[string]string{"the phone's": phone.Refresh, "the quiet device's": quiet.Refresh} {
			if got := refresh(refreshToken).to(t, relay); got.status != 200 {
				t.Errorf("%s session has ended: %d", name, got.status)
			}
		}
		refresh(user.Refresh).to(t, relay).want(t, 401, "invalid_refresh_token")
		var left int
		if err := db.QueryRow(t.Context(), "SELECT count(*) FROM sessions WHERE user_id = $1", user.ID).Scan(&left); err != nil || left > 91 {
			t.Errorf("%d sessions are left, %v", left, err)
		}
	}
}

func TestASessionThatWasTooManyEndsOnEveryNode(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	list := ask{method: "GET", path: "/v1/devices", token: user.Token}
	list.to(t, relay).want(t, 200, "") // and is remembered
	execute(t, inside(t, relay), `INSERT INTO sessions (id, user_id, refresh_key, expires_at)
		SELECT gen_random_uuid(), $1, 'x', now() + interval '30 days' FROM generate_series(1, 99)`, user.ID)
	logIn(user.Name, relaytest.Password).to(t, relay).want(t, 200, "")
	relaytest.Eventually(t, "the session that was refreshed longest ago has ended", func() bool { return list.to(t, relay).status == 401 })
}
