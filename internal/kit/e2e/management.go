package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// Meter reads one number from the management port.
func Meter(t testing.TB, relay *relaytest.Relay, name string) float64 {
	t.Helper()
	_, text := Manage(t, relay, "/metrics")
	for line := range strings.Lines(text) {
		var value float64
		if rest, found := strings.CutPrefix(line, name+" "); found {
			if _, err := fmt.Sscan(rest, &value); err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// Manage asks the management port and returns the answer's status and body.
func Manage(t testing.TB, relay *relaytest.Relay, path string) (int, string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	got := Ask{Method: "GET", Path: path}.Through(t, relay.Management,
		&http.Client{Transport: transport, Timeout: relaytest.Patience})
	return got.Status, string(got.Body)
}

// Readiness asks for /readyz and returns the status and what is said of each part.
func Readiness(t testing.TB, relay *relaytest.Relay) (int, map[string]string) {
	t.Helper()
	status, body := Manage(t, relay, "/readyz")
	parts := map[string]string{}
	if err := json.Unmarshal([]byte(body), &parts); err != nil {
		t.Fatalf("not JSON: %s", body)
	}
	return status, parts
}
