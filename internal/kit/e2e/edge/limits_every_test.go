package edge_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	spec "github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/internal/api"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// Each operation, asked more often than its narrowest limit allows by a caller of its own, is
// refused. The requests are poor ones: they are counted before anybody looks at them.
func TestEachOperationStopsAtItsLimit(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, rates, e2e.Limits(20, "keys"), e2e.Limits(100, "register"))
	contract, err := spec.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	var users []*relaytest.User
	devices := core.MaxDevices
	parameter := regexp.MustCompile(`\{\w+\}`)
	address := 0
	for path, item := range contract.Paths.Map() {
		for method, op := range item.Operations() {
			if op.OperationID == "connectGateway" { // an upgrade; see the other tests
				continue
			}
			narrow := slices.MinFunc(slices.DeleteFunc(slices.Clone(api.LimitTable), func(row api.Limit) bool {
				return !slices.Contains(row.Operations, op.OperationID)
			}), func(a, b api.Limit) int { return allowedEvents(a) - allowedEvents(b) })
			if narrow.Per != api.PerDevice || devices == core.MaxDevices {
				users, devices = append(users, relay.Register(t)), 0
			}
			caller := users[len(users)-1].NewDevice(t)
			if devices++; narrow.Per != api.PerDevice { // this user has spent something
				devices = core.MaxDevices
			}
			address++
			client := e2e.From(t, fmt.Sprintf("127.0.2.%d", address))
			a := e2e.Ask{Method: method, Path: parameter.ReplaceAllString(path, uuid.NewString()), Token: caller.Token}
			if op.RequestBody != nil {
				a.Body = "{}"
			}
			if op.OperationID == "sendSealedMessages" {
				a.Token = "" // it would be refused before it is counted
				a.Header = map[string]string{"Idempotency-Key": uuid.NewString()}
			}
			most := allowedEvents(narrow)
			if narrow.Name == "keys" { // the caller's own device was one of them
				most--
			}
			for i := range most + 2 {
				got := a.Through(t, relay.API, client)
				if refused := i >= most; refused != (got.Status == http.StatusTooManyRequests) ||
					refused && got.Header.Get("Retry-After") == "" {
					t.Errorf("%s, request %d of %d: %d %s", op.OperationID, i+1, most, got.Status, got.Body)
				}
			}
		}
	}
}

// allowedEvents is what the test sets for a row.
func allowedEvents(row api.Limit) int {
	switch row.Name {
	case "register":
		return 100
	case "keys":
		return 20
	case "credentials", "lookups", "daily-sends":
		return 1000
	}
	return 3
}

// A ticket that cannot be one is refused without a query, and of those that might be, and of tokens
// that are not remembered, each address has so many; whoever has a good one pays nothing.
func TestBadCredentialsAreLimitedByAddress(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, e2e.Limits(3, "credentials"))
	device := relay.Register(t).NewDevice(t)
	upgrade := map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
	ended := relay.Register(t)
	if got := (e2e.Ask{Method: "DELETE", Path: "/v1/sessions", Token: ended.Token,
		Body: e2e.Object("refreshToken", ended.Refresh)}).To(t, relay); got.Status != http.StatusOK {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	for what, a := range map[string]e2e.Ask{
		"tickets": {Method: "GET",
			Path: "/v1/gateway?ticket=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Header: upgrade},
		"malformed tickets":         {Method: "GET", Path: "/v1/gateway?ticket=x", Header: upgrade},
		"tokens that nobody signed": {Method: "GET", Path: "/v1/devices", Token: "x.y.z"},
		"tokens beside a body of 5 kB": {Method: "POST", Path: "/v1/messages", Token: "x.y.z",
			Media: "application/x-protobuf", Body: strings.Repeat("x", 5000)},
		"tokens of an ended session": {Method: "GET", Path: "/v1/devices", Token: ended.Token},
	} {
		client := e2e.From(t, "127.0.3."+fmt.Sprint(1+len(what)))
		for range 5 { // good ones count for nothing
			fresh := relay.Register(t)
			if got := (e2e.Ask{Method: "GET", Path: "/v1/devices", Token: fresh.Token}).Through(t, relay.API,
				client); got.Status != http.StatusOK {
				t.Fatalf("%s: a good token: %d %s", what, got.Status, got.Body)
			}
		}
		if n := allowed(t, relay, client, func(int) e2e.Ask { return a }); n != 3 {
			t.Errorf("%s: %d were let through, want 3", what, n)
		}
		// Tokens that are known to be good pass, from here too.
		(e2e.Ask{Method: "GET", Path: "/v1/devices", Token: device.Token}).To(t, relay).Want(t, 200, "")
		(e2e.Ask{Method: "GET", Path: "/v1/devices", Token: device.Token}).Through(t, relay.API, client).Want(t, 200,
			"")
	}
}
