package conform

import (
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
)

const reuseCheck = "tokens.refresh-reuse"

// deviceNeeded are the operations that need a device-scoped token.
func deviceNeeded(target uuid.UUID) []request {
	return []request{
		{method: "POST", path: "/v1/messages", media: protobufMedia},
		{method: "POST", path: "/v1/gateway/ticket"},
		{method: "GET", path: "/v1/devices/keys"},
		{method: "POST", path: "/v1/devices/keys", media: jsonMedia, body: []byte(`{}`)},
		{method: "GET", path: "/v1/users/" + target.String()},
	}
}

var tokenChecks = []check{
	{"tokens.claims", "The access token is a JWT with sub, sid, iat and exp, for 15 minutes, and device_id if it acts for a device.", func(t *try) {
		d := t.device()
		auth := into[client.AuthResponse](t.logIn(d.user.name, d.user.password(), &d.id).want(http.StatusOK, ""))
		c, plain := t.claims(auth.Token), t.claims(d.user.token)
		t.must(c.Sub == d.user.id && plain.Sub == d.user.id, "sub is not the user id")
		t.must(c.DeviceID != nil && *c.DeviceID == d.id, "device_id is not the device id")
		t.must(plain.DeviceID == nil, "a user-scoped token has device_id")
		t.must(c.Session != "" && c.Session != plain.Session, "sid does not tell sessions apart")
		t.must(c.Expires-c.Issued == 15*60, "exp is %d seconds after iat, want 900", c.Expires-c.Issued)
		t.must(near(time.Unix(c.Issued, 0), time.Now()), "iat is not the present")
		t.must(auth.ExpiresAt == c.Expires, "expiresAt is not exp")
	}},
	{"tokens.required", "Without a token, with one that was made up or one that was changed: 401.", func(t *try) {
		d := t.device()
		dot := strings.LastIndex(d.token, ".")
		t.must(dot > 0 && dot+1 < len(d.token), "the access token is not a JWT")
		head, signature := d.token[:dot], d.token[dot+1:]
		t.works(d.token, "the token of a device") // and is known now, to a relay that remembers tokens
		changed := "A" + signature[1:]
		if signature[0] == 'A' {
			changed = "B" + signature[1:]
		}
		for what, token := range map[string]string{"no token": "", "no JWT": "made-up",
			"another signature": head + "." + changed,
			"no signature":      head + ".", "a refresh token": d.refresh} {
			t.call("GET", "/v1/account", token, nil).wantError(http.StatusUnauthorized, "("+what+")")
		}
		t.works(d.token, "the token as it was")
	}},
	{"tokens.scopes", "A user-scoped token is 403 where a device is needed; a device-scoped one does everything.",
		func(t *try) {
			d, other := t.device(), t.user()
			t.deviceOf(other, 1, 0)
			for _, r := range deviceNeeded(other.id) {
				r.token = d.user.token
				t.send(r).wantError(http.StatusForbidden, "(user-scoped)")
				r.token = d.token
				t.must(t.send(r).status < 300, "%s %s: refused to a device-scoped token", r.method,
					ids.ReplaceAllString(r.path, "{id}"))
			}
			s, status := t.dial("", d.user.token)
			t.must(s == nil && status == http.StatusForbidden, "GET /v1/gateway with a user-scoped token: %d, want 403",
				status)
			t.works(d.token, "a device-scoped token, for managing devices,")
			t.account(d.token)
		}},
	{"tokens.log-in-device", "A log-in that names one of the user's devices is device-scoped; any other device makes it user-scoped.", func(t *try) {
		d, foreign := t.device(), t.device()
		auth := into[client.AuthResponse](t.logIn(d.user.name, d.user.password(), &d.id).want(http.StatusOK, ""))
		t.must(auth.DeviceID != nil && *auth.DeviceID == d.id && auth.DeviceNumber != nil &&
			*auth.DeviceNumber == d.number,
			"a log-in with an own device is not device-scoped")
		t.call("GET", "/v1/devices/keys", auth.Token, nil).want(http.StatusOK,
			"(with the token of a log-in with a device)")
		nobody := uuid.New()
		for what, id := range map[string]*uuid.UUID{"another user's device": &foreign.id, "no device at all": &nobody} {
			auth := into[client.AuthResponse](t.logIn(d.user.name, d.user.password(), id).want(http.StatusOK, ""))
			t.must(auth.DeviceID == nil && t.claims(auth.Token).DeviceID == nil,
				"a log-in that names %s is device-scoped", what)
		}
	}},
	{"tokens.log-out", "Logging out ends this session with its tokens and sockets, and no other.", func(t *try) {
		d := t.device()
		other := into[client.AuthResponse](t.logIn(d.user.name, d.user.password(), nil).want(http.StatusOK, ""))
		s := t.connect(d)
		s.drain(false)
		t.call("DELETE", "/v1/sessions", d.token, client.RefreshTokenBody{RefreshToken: d.refresh}).want(http.StatusOK,
			"")
		s.closes(4401, "after logging out")
		t.ends(d.token)
		t.call("POST", "/v1/sessions/refresh", "",
			client.RefreshTokenBody{RefreshToken: d.refresh}).wantError(http.StatusUnauthorized,
			"(refresh, after logging out)")
		t.works(other.Token, "the token of another session")
		t.call("DELETE", "/v1/sessions", other.Token,
			client.RefreshTokenBody{RefreshToken: "made-up"}).wantError(http.StatusUnauthorized,
			"(a made-up refresh token)")
	}},
}

// refreshed trades a refresh token for a new pair.
func (t *try) refreshed(token, when string) client.AuthResponse {
	a := t.call("POST", "/v1/sessions/refresh", "", client.RefreshTokenBody{RefreshToken: token})
	return into[client.AuthResponse](a.want(http.StatusOK, when))
}

// session logs in anew, so that the refresh tokens of a user's first session stay good.
func (t *try) session(d *device) client.AuthResponse {
	return into[client.AuthResponse](t.logIn(d.user.name, d.user.password(), &d.id).want(http.StatusOK, "(log-in)"))
}

var refreshChecks = []check{
	{"tokens.refresh", "A refresh answers a new pair of the same scope, for a user and for a device.", func(t *try) {
		d := t.device()
		first := t.session(d)
		next := t.refreshed(first.RefreshToken, "")
		t.must(next.RefreshToken != first.RefreshToken, "the refresh token did not change")
		t.must(next.DeviceID != nil && *next.DeviceID == d.id, "the scope of a device did not last")
		t.must(next.DeviceNumber != nil && *next.DeviceNumber == d.number, "the answer lacks deviceNumber")
		t.must(t.claims(next.Token).Session == t.claims(first.Token).Session, "the session has changed")
		t.works(next.Token, "a refreshed token")
		t.refreshed(next.RefreshToken, "(a second time)")
		plain := into[client.AuthResponse](t.logIn(d.user.name, d.user.password(), nil).want(http.StatusOK, ""))
		t.must(t.refreshed(plain.RefreshToken, "").DeviceID == nil, "a user-scoped session became device-scoped")
		t.call("POST", "/v1/sessions/refresh", "",
			client.RefreshTokenBody{RefreshToken: "made-up"}).wantError(http.StatusUnauthorized, "(a made-up token)")
	}},
	{"tokens.refresh-grace", "The same refresh token presented again within 10 seconds gets another working pair.",
		func(t *try) {
			first := t.session(t.device())
			one, two := t.refreshed(first.RefreshToken, ""), t.refreshed(first.RefreshToken, "(again, at once)")
			t.works(one.Token, "the first pair's access token")
			t.works(two.Token, "the second pair's access token")
			t.refreshed(two.RefreshToken, "(the second pair)")
		}},
	{reuseCheck, "A refresh token presented again after more than 10 seconds is 401 and ends its whole session.",
		func(t *try) {
			d := t.device()
			first := t.session(d)
			next := t.refreshed(first.RefreshToken, "")
			t.wait(11 * time.Second)
			t.works(next.Token, "the access token before the reuse")
			t.call("POST", "/v1/sessions/refresh", "",
				client.RefreshTokenBody{RefreshToken: first.RefreshToken}).wantError(http.StatusUnauthorized,
				"(used before)")
			t.ends(next.Token)
			t.call("POST", "/v1/sessions/refresh", "", client.RefreshTokenBody{RefreshToken: next.RefreshToken}).
				wantError(http.StatusUnauthorized, "(the newest token, after an old one was reused)")
			t.works(d.token, "the token of another session")
		}},
}
