package conform

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
)

// logIn tries to log in; device may be nil.
func (t *try) logIn(name, password string, device *uuid.UUID) *answer {
	return t.call("POST", "/v1/sessions", "", client.LogIn{Username: name, Password: password, DeviceID: device})
}

// loggingIn is a log-in that may be told to wait for wrong passwords. What it is told of too many
// log-ins is waited out.
func (t *try) loggingIn(in client.LogIn) request {
	body, err := json.Marshal(in)
	t.must(err == nil, "cannot write the body: %v", err)
	return request{method: "POST", path: "/v1/sessions", media: jsonMedia, body: body, unwaited: "too_many_wrong_passwords"}
}

// account is the export.
func (t *try) account(token string) client.Account {
	return into[client.Account](t.call("GET", "/v1/account", token, nil).want(http.StatusOK, "(export)"))
}

var accountChecks = []check{
	{"accounts.register", "Registering answers 201 with a user-scoped pair of tokens that works.", func(t *try) {
		u := &user{name: "conform_" + randomHex(10)}
		t.nextPassword(u)
		t.remember(u)
		a := t.call("POST", "/v1/users", "", t.credentials(u.name, u.password())).want(http.StatusCreated, "")
		auth := into[client.AuthResponse](a)
		u.token = auth.Token
		t.must(auth.DeviceID == nil && t.claims(auth.Token).DeviceID == nil,
			"the token of a registration is device-scoped")
		t.must(time.Unix(auth.ExpiresAt, 0).After(time.Now().Add(-5*time.Minute)), "expiresAt has passed")
		t.works(auth.Token, "the access token of a registration")
		t.call("POST", "/v1/sessions/refresh", "",
			client.RefreshTokenBody{RefreshToken: auth.RefreshToken}).want(http.StatusOK,
			"(the refresh token of a registration)")
	}},
	{"accounts.name-taken", "A name that is taken is 409, also when it is written in another case.", func(t *try) {
		u := t.user()
		for _, name := range []string{u.name, strings.ToUpper(u.name)} {
			t.refusesUser(name, u.password(), http.StatusConflict, "(a taken name)")
		}
	}},
	{"accounts.rules", "A name has 3 to 50 of A-Z a-z 0-9 _, a password 12 to 256 characters; else 400.", func(t *try) {
		good := randomHex(8)
		for what, c := range map[string]client.Credentials{
			"a name of 2 characters":       {Username: good[:2], Password: good},
			"a name of 51 characters":      {Username: strings.Repeat("a", 51), Password: good},
			"a name with a dash":           {Username: good + "-", Password: good},
			"a name with an umlaut":        {Username: good + "ä", Password: good},
			"a password of 11 characters":  {Username: good, Password: good[:11]},
			"a password of 257 characters": {Username: good, Password: strings.Repeat("p", 257)},
		} {
			t.refusesUser(c.Username, c.Password, http.StatusBadRequest, "("+what+")")
		}
	}},
	{"accounts.log-in", "The right password logs in; a wrong one is 401.", func(t *try) {
		u := t.user()
		auth := into[client.AuthResponse](t.logIn(u.name, u.password(), nil).want(http.StatusOK,
			"(the right password)"))
		t.works(auth.Token, "the token of a log-in")
		t.must(t.claims(auth.Token).Sub == u.id, "the token of a log-in names another user")
		t.logIn(u.name, u.password()+"x", nil).wantError(http.StatusUnauthorized, "(a wrong password)")
	}},
	{"accounts.unknown-name", "An unknown name and a wrong password are not told apart.", func(t *try) {
		known := t.device().user.name
		wrong := t.logIn(known, "not the right password", nil).wantError(http.StatusUnauthorized, "(a wrong password)")
		unknown := t.logIn("conform_"+randomHex(10), "not the right password", nil).wantError(http.StatusUnauthorized,
			"(an unknown name)")
		t.must(string(wrong.body) == string(unknown.body),
			"the answers to an unknown name and to a wrong password differ")
	}},
	{"accounts.guesses", "Wrong passwords make further tries wait (429), but not a client that shows a refresh token of the user.", func(t *try) {
		d := t.device()
		guess := t.loggingIn(client.LogIn{Username: d.user.name, Password: "not the right password"})
		var told *answer
		for range enough {
			if told = t.send(guess); told.status != http.StatusUnauthorized {
				break
			}
		}
		if told.status == http.StatusUnauthorized {
			t.notOffered("no wait within 150 wrong passwords")
		}
		told.wantError(http.StatusTooManyRequests, "(many wrong passwords)")
		pause, told429 := told.putOff()
		t.must(told429 && told.header.Get("Retry-After") != "", "429 without Retry-After")
		t.send(t.loggingIn(client.LogIn{Username: d.user.name, Password: d.user.password(), RefreshToken: &d.refresh})).
			want(http.StatusOK, "(with a refresh token of the user, beside many wrong passwords)")
		if pause > 10*time.Second {
			t.notOffered("the wait is longer than this check has time for")
		}
		t.wait(pause + 100*time.Millisecond)
		t.send(t.loggingIn(client.LogIn{Username: d.user.name, Password: d.user.password()})).
			want(http.StatusOK, "(after waiting as told)")
	}},
	{"accounts.password", "A change of password needs the current one (401); then only the new one logs in.",
		func(t *try) {
			u := t.user()
			old := u.password()
			t.call("PUT", "/v1/account/password", u.token,
				client.ChangePassword{CurrentPassword: old + "x", NewPassword: t.nextPassword(u)}).
				wantError(http.StatusUnauthorized, "(a wrong current password)")
			t.call("PUT", "/v1/account/password", u.token,
				client.ChangePassword{CurrentPassword: old, NewPassword: t.nextPassword(u)[:11]}).
				wantError(http.StatusBadRequest, "(a new password of 11 characters)")
			auth := t.changePassword(u, u.token, old)
			t.works(auth.Token, "the token of a change of password")
			t.logIn(u.name, old, nil).wantError(http.StatusUnauthorized, "(the old password)")
			t.logIn(u.name, u.password(), nil).want(http.StatusOK, "(the new password)")
		}},
	{"accounts.password-sessions", "A change of password ends all other sessions of the user within a second.",
		func(t *try) {
			u := t.user()
			d := t.deviceOf(u, 0, 0)
			other := into[client.AuthResponse](t.logIn(u.name, u.password(), nil).want(http.StatusOK, ""))
			t.works(other.Token, "the token of a log-in")
			s := t.connect(d)
			s.drain(false)
			auth := t.changePassword(u, u.token, u.password())
			s.closes(4401, "after a change of password")
			t.ends(other.Token)
			t.ends(d.token)
			t.call("POST", "/v1/sessions/refresh", "", client.RefreshTokenBody{RefreshToken: other.RefreshToken}).
				wantError(http.StatusUnauthorized, "(the refresh token of another session)")
			t.works(auth.Token, "the token of a change of password")
		}},
	{"accounts.password-told", "After a change of password the other devices' refreshes are 401 password_changed; made-up tokens are told nothing.",
		func(t *try) {
			u := t.user()
			d := t.deviceOf(u, 0, 0)
			t.changePassword(u, u.token, u.password())
			refresh := func(token string) string {
				return t.call("POST", "/v1/sessions/refresh", "", client.RefreshTokenBody{RefreshToken: token}).
					wantError(http.StatusUnauthorized, "(after a change of password)").code()
			}
			for range 2 { // the first answer may be lost
				code := refresh(d.refresh)
				t.must(code == "password_changed", "the refresh token of another device gets %s, want password_changed", code)
			}
			madeUp := d.refresh[:len(d.refresh)-8] + "AAAAAAAA"
			t.must(refresh(madeUp) != "password_changed", "a made-up refresh token is told of the change of password")
		}},
	{"accounts.export", "GET /v1/account is what the relay holds: name, sessions, devices, keys and mailboxes.",
		func(t *try) {
			u, sender := t.user(), t.device()
			d := t.deviceOf(u, 3, 2)
			t.postMany(sender, d, "export", 3)
			got := t.account(u.token)
			t.must(got.UserID == u.id && got.Username == u.name, "another name or id than those of the user")
			t.must(len(got.Sessions) == 2, "%d sessions, want 2: the user's and the device's", len(got.Sessions))
			t.must(len(got.Devices) == 1 && got.Devices[0].Device.DeviceID == d.id, "not the one device of the user")
			keys, box := got.Devices[0].Keys, got.Devices[0].Mailbox
			t.must(keys.OneTimePreKeyCount == 3 && keys.KyberPreKeyCount == 2, "not the keys of the device")
			t.must(box.Accepted == 3 && box.Pending == 3 && box.PendingBytes > 0, "not the mail of the device")
		}},
}

// refusesUser expects that a registration is refused. A user that it makes all the same is deleted
// at the end.
func (t *try) refusesUser(name, password string, status int, when string) {
	a := t.call("POST", "/v1/users", "", t.credentials(name, password))
	if a.status == http.StatusCreated {
		t.remember(&user{name: name, passwords: []string{password}, token: into[client.AuthResponse](a).Token})
	}
	a.wantError(status, when)
}

func (t *try) changePassword(u *user, token, current string) client.AuthResponse {
	a := t.call("PUT", "/v1/account/password", token,
		client.ChangePassword{CurrentPassword: current, NewPassword: t.nextPassword(u)})
	return into[client.AuthResponse](a.want(http.StatusOK, "(change of password)"))
}

var deletionChecks = []check{
	{"accounts.delete-password", "Deleting the account with a wrong password is 401 and deletes nothing.",
		func(t *try) {
			u := t.user()
			a := t.call("DELETE", "/v1/account", u.token, client.DeleteAccount{Password: u.password() + "x"})
			u.deleted.Store(a.status == http.StatusOK)
			a.wantError(http.StatusUnauthorized, "(a wrong password)")
			t.works(u.token, "the token of an account that was not deleted")
			t.logIn(u.name, u.password(), nil).want(http.StatusOK, "(after a deletion that was refused)")
		}},
	{"accounts.delete", "Deleting the account leaves nothing: tokens, sockets, bundles, mailbox and log-in end within a second.", func(t *try) {
		u, other := t.user(), t.device()
		d := t.deviceOf(u, 1, 0)
		s := t.connect(d)
		s.drain(false)
		t.call("DELETE", "/v1/account", u.token, client.DeleteAccount{Password: u.password()}).want(http.StatusOK, "")
		u.deleted.Store(true)
		s.closes(4401, "after the account was deleted")
		t.ends(u.token)
		t.ends(d.token)
		t.call("POST", "/v1/sessions/refresh", "",
			client.RefreshTokenBody{RefreshToken: d.refresh}).wantError(http.StatusUnauthorized,
			"(refresh, after deletion)")
		t.logIn(u.name, u.password(), nil).wantError(http.StatusUnauthorized, "(log-in, after deletion)")
		t.call("GET", "/v1/users/"+u.id.String(), other.token, nil).wantError(http.StatusNotFound,
			"(bundles of a deleted user)")
		t.refuses(other, d.id, "a device of a deleted user")
	}},
	{"accounts.delete-sent", "What a deleted account has sent to others is still delivered.", func(t *try) {
		u, recipient := t.user(), t.device()
		t.post(t.deviceOf(u, 0, 0), mail(recipient.id, "from the deleted"))
		t.call("DELETE", "/v1/account", u.token, client.DeleteAccount{Password: u.password()}).want(http.StatusOK, "")
		u.deleted.Store(true)
		got := t.pending(recipient)
		t.must(len(got.envelopes) == 1 && string(got.envelopes[0].GetMessage()) == "from the deleted",
			"%d envelopes and %d gaps from a deleted sender, want the one envelope", len(got.envelopes), len(got.gaps))
	}},
	{cleanUpCheck, "All users of this run could be deleted at its end.", nil},
}
