package account_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"maps"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

var operatorKey = []byte("an operator's own key of 32 bytes and more")

func withOperatorKey(c *app.Config) { c.TokenKey = base64.StdEncoding.EncodeToString(operatorKey) }

func TestAnAccessTokenSaysWhoAndHowLong(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	device := user.NewDevice(t)
	names := func(claims map[string]any) map[string]bool {
		out := map[string]bool{}
		for name := range claims {
			out[name] = true
		}
		return out
	}
	first, second := relaytest.Claims(t, user.Token), relaytest.Claims(t, device.Token)
	if want := map[string]bool{"sub": true, "sid": true, "iat": true, "exp": true}; !maps.Equal(names(first), want) {
		t.Errorf("user-scoped: %v", first)
	}
	if want := map[string]bool{"sub": true, "sid": true, "iat": true, "exp": true,
		"device_id": true}; !maps.Equal(names(second), want) {
		t.Errorf("device-scoped: %v", second)
	}
	if second["device_id"] != device.ID.String() || second["sub"] != user.ID.String() || first["sid"] == second["sid"] {
		t.Errorf("claims: %v, %v", first, second)
	}
	got := e2e.LogIn(user.Name, relaytest.Password).To(t, relay)
	claims := relaytest.Claims(t, got.Member(t, "token"))
	issued, expires := claims["iat"].(float64), claims["exp"].(float64)
	if expires-issued != (15*time.Minute).Seconds() || math.Abs(float64(time.Now().Unix())-issued) > 5 {
		t.Errorf("issued %f, expires %f", issued, expires)
	}
	if !strings.Contains(string(got.Body), `"expiresAt":`+strconv.FormatInt(int64(expires), 10)) {
		t.Errorf("expiresAt is not exp: %s", got.Body)
	}
}

// forge signs claims as nobody but the relay should.
func forge(t *testing.T, method jwt.SigningMethod, key any, header map[string]any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	maps.Copy(token.Header, header)
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAForgedTokenIsRefused(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, withOperatorKey)
	user := relay.Register(t)
	device := user.NewDevice(t)
	other := relay.Register(t)
	good := func() jwt.MapClaims { return jwt.MapClaims(relaytest.Claims(t, device.Token)) }
	with := func(name string, value any) jwt.MapClaims {
		claims := good()
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
		return claims
	}
	kid := map[string]any{"kid": "operator"}
	past, future := time.Now().Add(-time.Second).Unix(), time.Now().Add(time.Hour).Unix()
	if !e2e.Works(t, relay, forge(t, jwt.SigningMethodHS256, operatorKey, kid, good())) {
		t.Fatal("the operator's key does not sign: this test proves nothing")
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(device.Token, ".")
	for name, token := range map[string]string{
		"alg none": forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid, good()),
		"alg None": forge(t, jwt.SigningMethodHS256, operatorKey,
			map[string]any{"kid": "operator", "alg": "None"}, good()),
		"no signature":                 parts[0] + "." + parts[1] + ".",
		"alg HS512 with the right key": forge(t, jwt.SigningMethodHS512, operatorKey, kid, good()),
		"alg ES256":                    forge(t, jwt.SigningMethodES256, private, kid, good()),
		"another key": forge(t, jwt.SigningMethodHS256, []byte("another key of more than 32 bytes"),
			kid, good()),
		"an empty key": forge(t, jwt.SigningMethodHS256, []byte{}, kid, good()),
		"another kid": forge(t, jwt.SigningMethodHS256, operatorKey, map[string]any{"kid": "other"},
			good()),
		"an empty key of an empty kid": forge(t, jwt.SigningMethodHS256, []byte{}, map[string]any{"kid": ""}, good()),
		"no kid":                       forge(t, jwt.SigningMethodHS256, operatorKey, nil, good()),
		"a kid that is no text":        forge(t, jwt.SigningMethodHS256, operatorKey, map[string]any{"kid": 7}, good()),
		"expired":                      forge(t, jwt.SigningMethodHS256, operatorKey, kid, with("exp", past)),
		"without expiry":               forge(t, jwt.SigningMethodHS256, operatorKey, kid, with("exp", nil)),
		"not yet valid":                forge(t, jwt.SigningMethodHS256, operatorKey, kid, with("nbf", future)),
		"unknown session": forge(t, jwt.SigningMethodHS256, operatorKey, kid,
			with("sid", uuid.NewString())),
		"session that is no UUID": forge(t, jwt.SigningMethodHS256, operatorKey, kid, with("sid", "x")),
		"no session":              forge(t, jwt.SigningMethodHS256, operatorKey, kid, with("sid", nil)),
		"the device left out":     forge(t, jwt.SigningMethodHS256, operatorKey, kid, with("device_id", nil)),
		"another device": forge(t, jwt.SigningMethodHS256, operatorKey, kid,
			with("device_id", uuid.NewString())),
		"another user's session": forge(t, jwt.SigningMethodHS256, operatorKey, kid,
			with("sid", relaytest.Claims(t, other.Token)["sid"])),
		"changed payload": parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"x"}`)) +
			"." + parts[2],
		"a refresh token": device.Refresh,
		"twice":           device.Token + " " + device.Token,
		"padding":         device.Token + "==",
	} {
		got := e2e.Ask{Method: "GET", Path: "/v1/account", Token: token}.To(t, relay)
		if got.Status != http.StatusUnauthorized || got.Code != "unauthorized" ||
			got.Header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: status %d %s", name, got.Status, got.Body)
		}
	}
}

func TestARememberedTokenExpiresAllTheSame(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, withOperatorKey)
	user := relay.Register(t)
	claims := jwt.MapClaims(relaytest.Claims(t, user.Token))
	claims["exp"] = time.Now().Unix() + 2
	token := forge(t, jwt.SigningMethodHS256, operatorKey, map[string]any{"kid": "operator"}, claims)
	if !e2e.Works(t, relay, token) {
		t.Fatal("it does not work")
	}
	expired := time.Unix(claims["exp"].(int64), 0)
	wait.Eventually(t, "it expires", func() bool {
		asked := time.Now()
		accepted := e2e.Works(t, relay, token)
		if accepted && asked.After(expired) {
			t.Fatalf("accepted %v after its expiry", asked.Sub(expired))
		}
		return !accepted
	})
	if time.Now().Before(expired) {
		t.Error("it expired too early")
	}
}

// TestADeviceIsNeededWhereTheContractSaysSo asks every operation of the contract with a user-scoped
// token and with none.
func TestADeviceIsNeededWhereTheContractSaysSo(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	spec, err := api.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	needed, public := 0, 0
	for path, item := range spec.Paths.Map() {
		path = strings.NewReplacer("{deviceId}", uuid.NewString(), "{userId}", user.ID.String(), "{attachmentId}",
			uuid.NewString(), "{name}", "page.js").Replace(path)
		for method, op := range item.Operations() {
			if op.OperationID == "deleteSession" || op.OperationID == "deleteAccount" {
				continue // asked with a body elsewhere
			}
			a := e2e.Ask{Method: method, Path: path, Header: map[string]string{}}
			if op.OperationID == "connectGateway" {
				a.Header = e2e.Upgrade
			}
			unauthorized, deviceRequired := "unauthorized", "device_required"
			if method == "HEAD" { // no body, no code
				unauthorized, deviceRequired = "", ""
			}
			got := a.To(t, relay)
			if open := op.Security != nil && len(*op.Security) == 0 && op.OperationID != "connectGateway"; open {
				public++
				if got.Status == 401 {
					t.Errorf("%s needs a token", op.OperationID)
				}
			} else {
				got.Want(t, 401, unauthorized)
			}
			a.Token = user.Token
			got = a.To(t, relay)
			scoped, _ := op.Extensions["x-device-scoped"].(bool)
			if scoped || op.OperationID == "connectGateway" {
				needed++
				got.Want(t, 403, deviceRequired)
			} else if got.Status == 403 {
				t.Errorf("%s: 403 for a user-scoped token", op.OperationID)
			}
		}
	}
	if needed != 18 || public != 12 {
		t.Errorf("%d operations need a device, %d are open to all", needed, public)
	}
}

func TestTheContractIsServedToAnybody(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	got := e2e.Ask{Method: "GET", Path: "/openapi.yaml"}.To(t, relay).Want(t, 200, "")
	if !strings.HasPrefix(string(got.Body), "openapi: 3.0.3") ||
		!strings.Contains(string(got.Body), "operationId: connectGateway") {
		t.Errorf("not the contract: %.100s", got.Body)
	}
}
