package account_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func logOut(bearer, token string) e2e.Ask {
	return e2e.Ask{Method: "DELETE", Path: "/v1/sessions", Token: bearer, Body: e2e.Object("refreshToken", token)}
}

func TestALogInIsScopedByTheDeviceItNames(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	own, foreign := user.NewDevice(t), relay.Register(t).NewDevice(t)
	for device, scope := range map[string]string{
		own.ID.String(): own.ID.String(), foreign.ID.String(): "", uuid.NewString(): "", uuid.Nil.String(): "", "": "",
	} {
		body := e2e.Object("username", user.Name, "password", relaytest.Password)
		if device != "" {
			body = e2e.Object("username", user.Name, "password", relaytest.Password, "deviceId", device)
		}
		got := e2e.Ask{Method: "POST", Path: "/v1/sessions", Body: body}.To(t, relay).Want(t, 200, "")
		if got.Member(t, "deviceId") != scope {
			t.Errorf("%q: the answer's device is %q", device, got.Member(t, "deviceId"))
		}
		claims := relaytest.Claims(t, got.Member(t, "token"))
		if named, _ := claims["device_id"].(string); named != scope || claims["sub"] != user.ID.String() {
			t.Errorf("%q: claims %v", device, claims)
		}
	}
	e2e.Ask{Method: "POST", Path: "/v1/sessions",
		Body: e2e.Object("username", user.Name, "password", relaytest.Password, "deviceId", "x")}.
		To(t, relay).Want(t, 400, "invalid_request")
}

func TestAnUnknownNameAndAWrongPasswordAreNotToldApart(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	wrong := e2e.LogIn(user.Name, "not the right password").To(t, relay).Want(t, 401, "wrong_credentials")
	unknown := e2e.LogIn("nobody_here", "not the right password").To(t, relay).Want(t, 401, "wrong_credentials")
	if string(wrong.Body) != string(unknown.Body) || len(wrong.Header) != len(unknown.Header) {
		t.Errorf("%s %v\n%s %v", wrong.Body, wrong.Header, unknown.Body, unknown.Header)
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
			got := e2e.Refresh(token).To(t, relay).Want(t, 200, "")
			token = got.Member(t, "refreshToken")
			if seen[token] {
				t.Error("a refresh token was given out twice")
			}
			seen[token] = true
			claims := relaytest.Claims(t, got.Member(t, "token"))
			if named, _ := claims["device_id"].(string); named != scope || got.Member(t, "deviceId") != scope {
				t.Errorf("the scope %q became %v", scope, claims)
			}
			if !e2e.Works(t, relay, got.Member(t, "token")) {
				t.Error("the new access token does not work")
			}
		}
	}
	for _, bad := range []string{"x", user.Refresh + "x", uuid.NewString(), user.Token} {
		if len(bad) <= 200 {
			e2e.Refresh(bad).To(t, relay).Want(t, 401, "invalid_refresh_token")
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
	e2e.Refresh(other).To(t, relay).Want(t, 401, "invalid_refresh_token")
	e2e.Refresh(user.Refresh).To(t, relay).Want(t, 200, "")
}

func TestALostRefreshAnswerCanBeAskedForAgain(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	replies := make(chan e2e.Reply, 4)
	for range cap(replies) { // at once, and so within the grace
		go func() { replies <- e2e.Refresh(user.Refresh).To(t, relay) }()
	}
	for range cap(replies) {
		if !e2e.Works(t, relay, (<-replies).Want(t, 200, "").Member(t, "token")) {
			t.Error("a pair does not work")
		}
	}
	e2e.Execute(t, e2e.Database(t, relay),
		"UPDATE refresh_tokens SET used_at = now() - interval '8 seconds' WHERE used_at IS NOT NULL")
	last := e2e.Refresh(user.Refresh).To(t, relay).Want(t, 200, "")
	e2e.Refresh(last.Member(t, "refreshToken")).To(t, relay).Want(t, 200, "")
}

// A thief and the owner present one token within the grace. Only one chain goes on, and it ends
// with the other's next step.
func TestTheSiblingsOfAUsedRefreshTokenEnd(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	for _, late := range []string{"the sibling", "the parent"} {
		device := relay.Register(t).NewDevice(t)
		one, two := e2e.Refresh(device.Refresh).To(t, relay).Want(t, 200, ""),
			e2e.Refresh(device.Refresh).To(t, relay).Want(t, 200, "")
		next := e2e.Refresh(one.Member(t, "refreshToken")).To(t, relay).Want(t, 200, "")
		token := two.Member(t, "refreshToken")
		if late == "the parent" {
			token = device.Refresh
		}
		e2e.Refresh(token).To(t, relay).Want(t, 401, "invalid_refresh_token")
		e2e.Refresh(next.Member(t, "refreshToken")).To(t, relay).Want(t, 401, "invalid_refresh_token")
		if e2e.Works(t, relay, next.Member(t, "token")) {
			t.Errorf("%s was presented, and the session lives on", late)
		}
	}
}

func TestARefreshTokenGivesTenPairsAtMost(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	replies := make(chan e2e.Reply, 30)
	for range cap(replies) {
		go func() { replies <- e2e.Refresh(user.Refresh).To(t, relay) }()
	}
	pairs, last := 0, ""
	for range cap(replies) {
		switch got := <-replies; got.Status {
		case 200:
			pairs++
			last = got.Member(t, "refreshToken")
		default:
			got.Want(t, 429, "rate_limited")
		}
	}
	if pairs != 10 {
		t.Errorf("%d pairs", pairs)
	}
	e2e.Refresh(last).To(t, relay).Want(t, 200, "") // the session is as good as before
}

func TestARefreshTokenUsedTwiceEndsItsWholeFamily(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	device := user.NewDevice(t)
	socket := device.Connect(t)
	first := e2e.Refresh(device.Refresh).To(t, relay).Want(t, 200, "")
	e2e.Execute(t, e2e.Database(t, relay),
		"UPDATE refresh_tokens SET used_at = now() - interval '11 seconds' WHERE used_at IS NOT NULL")
	// A newer use sweeps the spent row away; the old token is known for what it is all the same.
	second := e2e.Refresh(first.Member(t, "refreshToken")).To(t, relay).Want(t, 200, "")
	e2e.Refresh(device.Refresh).To(t, relay).Want(t, 401, "invalid_refresh_token")
	for _, token := range []string{device.Token, first.Member(t, "token"), second.Member(t, "token")} {
		if e2e.Works(t, relay, token) {
			t.Error("an access token of the family still works")
		}
	}
	for _, token := range []string{first.Member(t, "refreshToken"), second.Member(t, "refreshToken")} {
		e2e.Refresh(token).To(t, relay).Want(t, 401, "invalid_refresh_token")
	}
	if code := socket.CloseCode(); code != 4401 {
		t.Errorf("the family's socket closed with %d", code)
	}
	if !e2e.Works(t, relay, user.Token) {
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
		e2e.Refresh(made).To(t, relay).Want(t, 401, "invalid_refresh_token")
	}
	if !e2e.Works(t, relay, user.Token) {
		t.Error("the session has ended")
	}
	e2e.Refresh(user.Refresh).To(t, relay).Want(t, 200, "")
}

func TestAnExpiredRefreshTokenIsRefused(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user, other := relay.Register(t), relay.Register(t)
	db := e2e.Database(t, relay)
	var days float64
	if err := db.QueryRow(t.Context(),
		"SELECT min(extract(epoch FROM expires_at - now())) / 86400 FROM refresh_tokens").Scan(&days); err != nil {
		t.Fatal(err)
	}
	if days < 29.99 || days > 30 {
		t.Errorf("a refresh token lives %f days", days)
	}
	e2e.Execute(t, db, "UPDATE sessions SET expires_at = now() - interval '1 second' WHERE user_id = $1", user.ID)
	e2e.Execute(t, db, "UPDATE refresh_tokens SET expires_at = now() - interval '1 second'")
	e2e.Refresh(user.Refresh).To(t, relay).Want(t, 401, "invalid_refresh_token")
	logOut(other.Token, other.Refresh).To(t, relay).Want(t, 401, "invalid_refresh_token")
	e2e.Refresh(other.Refresh).To(t, relay).Want(t, 401, "invalid_refresh_token")
}

func TestALogOutEndsTheSessionAndNoOther(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user, stranger := relay.Register(t), relay.Register(t)
	device := user.NewDevice(t)
	socket := device.Connect(t)
	if !e2e.Works(t, relay, device.Token) { // and so it is remembered
		t.Fatal("the token does not work")
	}
	logOut("", device.Refresh).To(t, relay).Want(t, 401, "unauthorized")
	logOut(device.Token, "x").To(t, relay).Want(t, 401, "invalid_refresh_token")
	logOut(stranger.Token, device.Refresh).To(t, relay).Want(t, 401, "invalid_refresh_token")
	if !e2e.Works(t, relay, device.Token) {
		t.Fatal("a stranger ended the session")
	}
	if got := logOut(device.Token, device.Refresh).To(t, relay).Want(t, 200, ""); len(got.Body) != 0 {
		t.Errorf("a body: %s", got.Body)
	}
	if e2e.Works(t, relay, device.Token) {
		t.Error("the access token still works")
	}
	e2e.Refresh(device.Refresh).To(t, relay).Want(t, 401, "invalid_refresh_token")
	if code := socket.CloseCode(); code != 4401 {
		t.Errorf("the socket closed with %d", code)
	}
	if !e2e.Works(t, relay, user.Token) {
		t.Error("another session ended with it")
	}
	// A bearer may end another session of the same user.
	again := e2e.LogIn(user.Name, relaytest.Password).To(t, relay)
	logOut(user.Token, again.Member(t, "refreshToken")).To(t, relay).Want(t, 200, "")
	if e2e.Works(t, relay, again.Member(t, "token")) {
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
			if !e2e.Works(t, node, token) {
				t.Fatal("a token does not work")
			}
		}
	}
	change := func(bearer, current string) e2e.Reply {
		return e2e.Ask{Method: "PUT", Path: "/v1/account/password", Token: bearer,
			Body: e2e.Object("currentPassword", current, "newPassword", "a new password")}.To(t, relay)
	}
	change("", relaytest.Password).Want(t, 401, "unauthorized")
	change(mine.Token, "a wrong password").Want(t, 401, "wrong_credentials")
	got := change(mine.Token, relaytest.Password).Want(t, 200, "")
	changed := time.Now()
	for _, token := range []string{user.Token, theirs.Token} {
		if e2e.Works(t, relay, token) {
			t.Error("another session goes on where the password was changed")
		}
		e2e.EndsWithinASecond(t, other, token, changed)
	}
	if code := there.CloseCode(); code != 4401 {
		t.Errorf("the socket of another session closed with %d", code)
	}
	// This session goes on, with a pair that works, the token that it had, and its socket.
	if got.Member(t, "deviceId") != mine.ID.String() || !e2e.Works(t, relay, got.Member(t, "token")) ||
		!e2e.Works(t, other, got.Member(t, "token")) || !e2e.Works(t, relay, mine.Token) {
		t.Error("the session that changed the password did not go on")
	}
	mine.Send(t, nil, relaytest.To(mine.ID, "to myself"))
	here.Drain()
	e2e.Refresh(got.Member(t, "refreshToken")).To(t, relay).Want(t, 200, "")
	e2e.LogIn(user.Name, relaytest.Password).To(t, relay).Want(t, 401, "wrong_credentials")
	e2e.LogIn(user.Name, "a new password").To(t, relay).Want(t, 200, "")
}

func TestOfTwoPasswordChangesAtOnceOneWins(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	statuses := make(chan int)
	next := []string{"the first password", "the second password"}
	for _, password := range next {
		go func() {
			statuses <- e2e.Ask{Method: "PUT", Path: "/v1/account/password", Token: user.Token,
				Body: e2e.Object("currentPassword", relaytest.Password, "newPassword", password)}.To(t, relay).Status
		}()
	}
	if a, b := <-statuses, <-statuses; a+b != 200+401 {
		t.Errorf("statuses %d and %d", a, b)
	}
	if a, b := e2e.LogIn(user.Name, next[0]).To(t, relay).Status,
		e2e.LogIn(user.Name, next[1]).To(t, relay).Status; a+b != 200+401 {
		t.Errorf("log-ins %d and %d", a, b)
	}
}
