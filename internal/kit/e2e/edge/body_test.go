package edge_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestAJSONBodyMustBeWhatItsSchemaSays(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	name := func() string { return "n" + strings.ReplaceAll(uuid.NewString(), "-", "")[:20] }
	password := `"password":"` + relaytest.Password + `"`
	for what, c := range map[string]struct {
		body string
		code string // "" when it is fine
	}{
		"whole":                       {`{"username":"%s",` + password + `}`, ""},
		"white space around":          {" \n{\"username\":\"%s\"," + password + "}\t\n", ""},
		"unknown members are ignored": {`{"username":"%s",` + password + `,"extra":{"a":[1]}}`, ""},
		"escapes":                     {`{"user\u006eame":"%s",` + password + `}`, ""},
		"empty":                       {``, "invalid_json"},
		"white space alone":           {`  `, "invalid_json"},
		"null":                        {`null`, "invalid_request"},
		"a list":                      {`[]`, "invalid_request"},
		"a text":                      {`"x"`, "invalid_request"},
		"a number":                    {`1e999`, "invalid_json"},
		"cut off":                     {`{"username":"%s",` + password, "invalid_json"},
		"a trailing comma":            {`{"username":"%s",` + password + `,}`, "invalid_json"},
		"a missing comma":             {`{"username":"%s" ` + password + `}`, "invalid_json"},
		"a comment":                   {`{"username":"%s",` + password + `} // x`, "invalid_json"},
		"trailing garbage":            {`{"username":"%s",` + password + `}x`, "invalid_json"},
		"two values":                  {`{"username":"%s",` + password + `}{}`, "invalid_json"},
		"single quotes":               {`{'username':'%s',` + password + `}`, "invalid_json"},
		"the same member twice":       {`{"username":"%s",` + password + `,"username":"abc"}`, "duplicate_member"},
		"twice in different case":     {`{"username":"%s",` + password + `,"USERNAME":"abc"}`, "duplicate_member"},
		"twice by an escape": {`{"username":"%s",` + password + `,"user\u006eame":"abc"}`,
			"duplicate_member"},
		"twice by the long s": {`{"username":"%s",` + password + `,"u\u017fername":"abc"}`,
			"duplicate_member"},
		"twice, deeper": {`{"username":"%s",` + password + `,"x":[{"password":1,"Password":1}]}`,
			"duplicate_member"},
		"unknown members twice":          {`{"username":"%s",` + password + `,"x":[{"a":1,"A":1}],"x":2,"X":3}`, ""},
		"twice, one is null":             {`{"username":"%s",` + password + `,"Username":null}`, "duplicate_member"},
		"a member in other case":         {`{"Username":"%s",` + password + `}`, "invalid_request"},
		"a member missing":               {`{"username":"%s"}`, "invalid_request"},
		"a null member counts as absent": {`{"username":"%s","password":null}`, "invalid_request"},
		"another type":                   {`{"username":1,` + password + `}`, "invalid_request"},
		"deep nesting within bounds": {`{"username":"%s",` + password + `,"x":` + strings.Repeat("[",
			10) + strings.Repeat("]", 10) + `}`, ""},
		"deep nesting": {`{"username":"%s",` + password + `,"x":` + strings.Repeat("[",
			1000) + strings.Repeat("]", 1000) + `}`, "invalid_json"},
		"very deep nesting": {strings.Repeat(`{"a":`, 800), "invalid_json"},
		"more than 4 KiB": {`{"username":"%s",` + password + strings.Repeat(" ", 4<<10) + `}`,
			"body_too_large"},
		"bytes that are no UTF-8 in name": {"{\"username\":\"a\xff\xfebc\"," + password + "}", "invalid_json"},
	} {
		body := c.body
		if strings.Contains(body, "%s") {
			body = fmt.Sprintf(body, name())
		}
		got := e2e.Ask{Method: "POST", Path: "/v1/users", Media: "application/json; charset=utf-8", Body: body}.To(t,
			relay)
		if status := got.Status; got.Code != c.code || (c.code == "") != (status == http.StatusCreated) ||
			c.code != "" && status != http.StatusBadRequest && c.code != "body_too_large" {
			t.Errorf("%s: status %d, code %q, want %q", what, status, got.Code, c.code)
		}
	}

	// With a token it may be more.
	for body, code := range map[string]string{strings.Repeat(`{"a":`, 80_000): "invalid_json",
		`{"name":"x"` + strings.Repeat(`,"a":1`, 10_000) + `}`: "body_too_large",
		`{"name":"x"` + strings.Repeat(" ", 512<<10) + `}`:     "body_too_large"} {
		if got := (e2e.Ask{Method: "PUT", Path: "/v1/devices/" + device.ID.String(), Token: device.Token,
			Body: body}).To(t, relay); got.Code != code {
			t.Errorf("status %d, code %q, want %q", got.Status, got.Code, code)
		}
	}
	e2e.Ask{Method: "PUT", Path: "/v1/devices/" + device.ID.String(), Token: device.Token,
		Body: `{"name":"x"` + strings.Repeat(" ", 512<<10-12) + `}`}.To(t, relay).Want(t, 200, "")

	// Nothing in other case is bound: it would escape the schema.
	got := e2e.Ask{Method: "PUT", Path: "/v1/devices/" + device.ID.String(), Token: device.Token,
		Body: `{"name":"laptop","NAMES":1,"deviceid":"` + uuid.NewString() + `"}`}.To(t, relay).Want(t, 200, "")
	if got.Member(t, "name") != "laptop" || got.Member(t, "deviceId") != device.ID.String() {
		t.Errorf("renamed to %s", got.Body)
	}
	many := strings.Repeat(`{"keyId":1,"publicKey":"x"},`, 150) + `{}`
	e2e.Ask{Method: "POST", Path: "/v1/devices/keys", Token: device.Token,
		Body: `{"ONETIMEPREKEYS":[` + many + `]}`}.To(t, relay).Want(t, 200, "")
}

func TestAnOptionalMemberThatIsNullIsAbsent(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	e2e.Ask{Method: "POST", Path: "/v1/sessions",
		Body: `{"username":"` + user.Name + `","password":"` + relaytest.Password + `","deviceId":null}`}.
		To(t, relay).Want(t, 200, "")
	identity := prekeytest.NewIdentity()
	signed, b64 := identity.SignedPreKey(1), base64.StdEncoding.EncodeToString
	got := e2e.Ask{Method: "POST", Path: "/v1/devices", Token: user.Token, Body: fmt.Sprintf(
		`{"name":null,"identityKey":%q,"registrationId":7,"signedPreKey":{"keyId":1,"publicKey":%q,"signature":%q,"x":null},
		"oneTimePreKeys":[],"kyberPreKeys":null,"lastResortKyberPreKey":null}`,
		b64(identity.Public), b64(signed.PublicKey), b64(signed.Signature))}.To(t, relay).Want(t, 201, "")
	e2e.Ask{Method: "POST", Path: "/v1/devices/keys", Token: got.Member(t, "token"),
		Body: `{"identityKey":null,"signedPreKey":null,"oneTimePreKeys":null}`}.To(t, relay).Want(t, 200, "")
}

func TestATextWithTheCharacterZeroIsRefused(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	e2e.Ask{Method: "POST", Path: "/v1/sessions",
		Body: `{"username":"a\u0000b","password":"` + relaytest.Password + `"}`}.
		To(t, relay).Want(t, 400, "invalid_text")
	e2e.Ask{Method: "PUT", Path: "/v1/devices/" + device.ID.String(), Token: device.Token, Body: `{"name":"a\u0000b"}`}.
		To(t, relay).Want(t, 400, "invalid_text")
}

func TestACompressedBodyIsRefusedBeforeItGrows(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	var bomb bytes.Buffer
	z, err := gzip.NewWriterLevel(&bomb, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	for range 64 {
		_, _ = z.Write(bytes.Repeat([]byte(" "), 1<<20))
	}
	_ = z.Close()
	for _, coding := range []string{"gzip", "deflate", "br", "gzip, gzip", "zstd", "x"} {
		e2e.Ask{Method: "POST", Path: "/v1/users", Body: bomb.String(),
			Header: map[string]string{"Content-Encoding": coding}}.
			To(t, relay).Want(t, 415, "unsupported_media_type")
	}
	e2e.Ask{Method: "POST", Path: "/v1/users",
		Body:   e2e.Object("username", "plain_body", "password", relaytest.Password),
		Header: map[string]string{"Content-Encoding": "identity"}}.To(t, relay).Want(t, 201, "")
}
