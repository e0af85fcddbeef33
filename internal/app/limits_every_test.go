package app_test

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
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// Each operation, asked more often than its narrowest limit allows by a caller of its own, is refused. The
// requests are poor ones: they are counted before anybody looks at them.
func TestEachOperationStopsAtItsLimit(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, rates, limits(20, "keys"), limits(100, "register"))
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
			client := from(t, fmt.Sprintf("127.0.2.%d", address))
			a := ask{method: method, path: parameter.ReplaceAllString(path, uuid.NewString()), token: caller.Token}
			if op.RequestBody != nil {
				a.body = "{}"
			}
			most := allowedEvents(narrow)
			if narrow.Name == "keys" { // the caller's own device was one of them
				most--
			}
			for i := range most + 2 {
				got := a.through(t, relay.API, client)
				if refused := i >= most; refused != (got.status == http.StatusTooManyRequests) || refused && got.header.Get("Retry-After") == "" {
					t.Errorf("%s, request %d of %d: %d %s", op.OperationID, i+1, most, got.status, got.body)
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

// A ticket that cannot be one is refused without a query, and of those that might be, and of tokens that are not
// remembered, each address has so many; whoever has a good one pays nothing.
func TestBadCredentialsAreLimitedByAddress(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, limits(3, "credentials"))
	device := relay.Register(t).NewDevice(t)
	upgrade := map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
	ended := relay.Register(t)
	if got := (ask{method: "DELETE", path: "/v1/sessions", token: ended.Token, body: object("refreshToken", ended.Refresh)}).to(t, relay); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for what, a := range map[string]ask{
		"tickets":                      {method: "GET", path: "/v1/gateway?ticket=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", header: upgrade},
		"malformed tickets":            {method: "GET", path: "/v1/gateway?ticket=x", header: upgrade},
		"tokens that nobody signed":    {method: "GET", path: "/v1/devices", token: "x.y.z"},
		"tokens beside a body of 5 kB": {method: "POST", path: "/v1/messages", token: "x.y.z", media: "application/x-protobuf", body: strings.Repeat("x", 5000)},
		"tokens of an ended session":   {method: "GET", path: "/v1/devices", token: ended.Token},
	} {
		client := from(t, "127.0.3."+fmt.Sprint(1+len(what)))
		for range 5 { // good ones count for nothing
			fresh := relay.Register(t)
			if got := (ask{method: "GET", path: "/v1/devices", token: fresh.Token}).through(t, relay.API, client); got.status != http.StatusOK {
				t.Fatalf("%s: a good token: %d %s", what, got.status, got.body)
			}
		}
		if n := allowed(t, relay, client, func(int) ask { return a }); n != 3 {
			t.Errorf("%s: %d were let through, want 3", what, n)
		}
		// Tokens that are known to be good pass, from here too.
		(ask{method: "GET", path: "/v1/devices", token: device.Token}).to(t, relay).want(t, 200, "")
		(ask{method: "GET", path: "/v1/devices", token: device.Token}).through(t, relay.API, client).want(t, 200, "")
	}
}
