package e2e

import (
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// Register registers a user.
func Register(name, password string) Ask {
	return Ask{Method: "POST", Path: "/v1/users", Body: Object("username", name, "password", password)}
}

// LogIn logs a user in, without a device.
func LogIn(name, password string) Ask {
	return Ask{Method: "POST", Path: "/v1/sessions", Body: Object("username", name, "password", password)}
}

// Works reports whether an access token does.
func Works(t testing.TB, relay *relaytest.Relay, token string) bool {
	t.Helper()
	switch got := (Ask{Method: "GET", Path: "/v1/account", Token: token}).To(t, relay); got.Status {
	case 200:
		return true
	case 401:
		return false
	default:
		t.Fatalf("status %d: %s", got.Status, got.Body)
		return false
	}
}

// Upgrade is the header of a request that opens the gateway.
var Upgrade = map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
	"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}

// Refresh asks for the next pair of tokens.
func Refresh(token string) Ask {
	return Ask{Method: "POST", Path: "/v1/sessions/refresh", Body: Object("refreshToken", token)}
}

// EndsWithinASecond asks until the token is refused; a request that was begun later than a second
// after the end must not be answered any more.
func EndsWithinASecond(t *testing.T, node *relaytest.Relay, token string, ended time.Time) {
	t.Helper()
	wait.Eventually(t, "the token is refused", func() bool {
		asked := time.Now()
		accepted := Works(t, node, token)
		if accepted && asked.Sub(ended) > time.Second {
			t.Fatalf("accepted %v after its end", asked.Sub(ended))
		}
		return !accepted
	})
}
