package edge_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

const marker = "zqMARKERqz"

// TestNothingOfTheInputComesBackInAnError puts a marker into every member of every body, into
// parameters, headers and paths, and looks for it in the answers and in the log.
func TestNothingOfTheInputComesBackInAnError(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	device := user.NewDevice(t)
	key := `{"keyId":1,"publicKey":"` + strings.Repeat("A", 44) + `","signature":"` + strings.Repeat("A", 86) + `=="}`
	bodies := map[string]map[string]string{ // operation, member, a value of the right form
		"POST /v1/users": {"username": `"abc"`, "password": `"` + relaytest.Password + `"`},
		"POST /v1/sessions": {"username": `"abc"`, "password": `"` + relaytest.Password + `"`,
			"deviceId": `"` + device.ID.String() + `"`},
		"POST /v1/sessions/refresh": {"refreshToken": `"x"`},
		"DELETE /v1/sessions":       {"refreshToken": `"x"`},
		"PUT /v1/account/password": {"currentPassword": `"wrong wrong wrong"`,
			"newPassword": `"` + relaytest.Password + `"`},
		"DELETE /v1/account": {"password": `"wrong wrong wrong"`},
		"POST /v1/devices": {"name": `"n"`, "identityKey": `"x"`, "registrationId": `1`,
			"signedPreKey": key, "oneTimePreKeys": `[]`, "kyberPreKeys": `[]`, "lastResortKyberPreKey": key},
		"POST /v1/devices/keys": {"identityKey": `"x"`, "registrationId": `1`, "signedPreKey": key,
			"oneTimePreKeys": `[` + key + `]`, "kyberPreKeys": `[` + key + `]`, "lastResortKyberPreKey": key},
		"PUT /v1/devices/" + device.ID.String(): {"name": `7`},
	}
	wrong := []string{`"` + marker + `"`, `"` + marker + `, and more \u0000"`, `["` + marker + `"]`,
		`{"` + marker + `":"` + marker + `"}`,
		`"` + strings.Repeat(marker, 60) + `"`, `"` + marker + `\ud800"`, marker,
		`{"keyId":"` + marker + `","publicKey":"` + marker + `"}`}
	var asks []e2e.Ask
	for op, members := range bodies {
		method, path, _ := strings.Cut(op, " ")
		for broken := range members {
			for _, value := range wrong {
				var b strings.Builder
				for name, right := range members {
					if name == broken {
						right = value
					}
					fmt.Fprintf(&b, `%q:%s,`, name, right)
				}
				asks = append(asks,
					e2e.Ask{Method: method, Path: path, Token: device.Token,
						Body: "{" + strings.TrimSuffix(b.String(), ",") + "}"})
			}
		}
		asks = append(asks,
			e2e.Ask{Method: method, Path: path, Token: device.Token,
				Body: `{"` + marker + `":"` + marker + `","` + marker + `":1}`},
			e2e.Ask{Method: method, Path: path, Token: device.Token, Body: marker},
			e2e.Ask{Method: method, Path: path, Token: device.Token, Body: `"` + marker + `"`,
				Media: marker + "/" + marker},
			e2e.Ask{Method: method, Path: path, Token: marker, Body: `{}`})
	}
	for _, header := range []string{"X-Request-Id", "Idempotency-Key", "Authorization", "Content-Type", "Origin",
		"Host", "X-Forwarded-For", "Cookie", "User-Agent", "Referer", "Accept"} {
		for _, path := range []string{"/v1/messages", "/v1/users", "/v1/nothing"} {
			asks = append(asks, e2e.Ask{Method: "POST", Path: path, Token: device.Token, Media: "-", Body: "x",
				Header: map[string]string{header: marker}})
		}
	}
	for _, path := range []string{"/" + marker, "/v1/users/" + marker, "/v1/devices/" + marker, "/docs/" + marker,
		"/v1/gateway?ticket=" + marker,
		"/v1/gateway?" + marker + "=" + marker, "/v1/account?" + marker, "/v1/users/" + url.PathEscape("<"+marker+">"),
		"/v1/../" + marker} {
		asks = append(asks, e2e.Ask{Method: "GET", Path: path, Token: device.Token},
			e2e.Ask{Method: "GET", Path: path, Header: e2e.Upgrade},
			e2e.Ask{Method: "PATCH", Path: path})
	}
	asks = append(asks, e2e.Ask{Method: strings.ToUpper(marker), Path: "/v1/users"},
		e2e.Ask{Method: "POST", Path: "/v1/messages", Token: device.Token, Media: "application/x-protobuf",
			Body: marker})
	refused := 0
	for _, a := range asks {
		got := a.To(t, relay)
		if got.Status < 400 { // a few of them are right
			continue
		}
		refused++
		head, _ := json.Marshal(got.Header)
		if where := string(head) + string(got.Body); strings.Contains(strings.ToLower(where), strings.ToLower(marker)) {
			t.Errorf("%s %s comes back: %s", a.Method, a.Path, where)
		}
	}
	if refused < len(asks)*9/10 {
		t.Errorf("only %d of %d requests were refused", refused, len(asks))
	}
	wait.Eventually(t, "every request has its line", func() bool {
		return strings.Count(relay.Log.String(), `"msg":"request"`) >= len(asks)
	})
	if log := relay.Log.String(); strings.Contains(strings.ToLower(log), strings.ToLower(marker)) {
		at := strings.Index(strings.ToLower(log), strings.ToLower(marker))
		t.Errorf("the log repeats it: %s", log[max(0, at-300):at+100])
	}
}
