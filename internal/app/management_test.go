package app_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/relaytest"
	"github.com/obscura-relay/obscura/internal/testdb"
)

// manage asks the management port.
func manage(t testing.TB, relay *relaytest.Relay, path string) (int, string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	got := ask{method: "GET", path: path}.through(t, relay.Management, &http.Client{Transport: transport, Timeout: relaytest.Patience})
	return got.status, string(got.body)
}

func readiness(t testing.TB, relay *relaytest.Relay) (int, map[string]string) {
	t.Helper()
	status, body := manage(t, relay, "/readyz")
	parts := map[string]string{}
	if err := json.Unmarshal([]byte(body), &parts); err != nil {
		t.Fatalf("not JSON: %s", body)
	}
	return status, parts
}

func TestReadyzNamesThePartThatIsAway(t *testing.T) {
	t.Parallel()
	w, through := newWall(t, testdb.NewURL(t))
	relay := relaytest.StartOn(t, through)
	ready := func() bool { status, parts := readiness(t, relay); return status == 200 && parts["status"] == "ready" }
	relaytest.Eventually(t, "the relay is ready", ready)

	// Wake-ups stop while their connection looks alive.
	w.freeze("obscura-wake")
	status, parts := readiness(t, relay)
	if status != 503 || parts["database"] != "ok" || parts["wakeups"] == "ok" {
		t.Errorf("without wake-ups: %d %v", status, parts)
	}
	w.freeze("")
	relaytest.Eventually(t, "the relay is ready again", ready)

	w.leave()
	status, parts = readiness(t, relay)
	if status != 503 || parts["database"] == "ok" || parts["status"] == "ready" {
		t.Errorf("without a database: %d %v", status, parts)
	}
	if status, _ := manage(t, relay, "/livez"); status != 200 {
		t.Errorf("/livez says %d while the database is away", status)
	}
	register("not_now", relaytest.Password).to(t, relay).want(t, 503, "unavailable")
	ask{method: "GET", path: "/openapi.yaml"}.to(t, relay).want(t, 200, "")
	w.comeBack()
	relaytest.Eventually(t, "the relay is ready again", ready)
	register("now", relaytest.Password).to(t, relay).want(t, 201, "")
}

func TestManagementIsAListenerOfItsOwn(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		ask{method: "GET", path: path}.to(t, relay).want(t, 404, "not_found")
		relaytest.Eventually(t, path+" answers", func() bool { status, _ := manage(t, relay, path); return status == 200 })
	}
	if status, _ := manage(t, relay, "/v1/account"); status != 404 {
		t.Errorf("the API is on the management port: %d", status)
	}
}

// metric reads one sample, "" when there is none.
func metric(t testing.TB, relay *relaytest.Relay, name string) string {
	t.Helper()
	_, text := manage(t, relay, "/metrics")
	for line := range strings.Lines(text) {
		if rest, found := strings.CutPrefix(line, name+" "); found {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

func TestMetricsCountWithoutNamingAnybody(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	alice.Send(t, nil, relaytest.To(bob.ID, "one"), relaytest.To(bob.ID, "two"))
	socket := bob.Connect(t)
	backlog, _, _ := socket.Drain()
	socket.Ack(backlog...)
	ask{method: "GET", path: "/v1/nothing/" + alice.ID.String()}.to(t, relay).want(t, 404, "not_found")
	ask{method: "GET", path: "/v1/account", token: "x"}.to(t, relay).want(t, 401, "unauthorized")
	w := dialWire(t, relay)
	w.send("POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 10485760\r\n\r\n")
	w.reply().want(t, 413, "body_too_large")
	for name, want := range map[string]string{
		`obscura_request_duration_seconds_count{operation="createUser",status="201"}`:   "2",
		`obscura_request_duration_seconds_count{operation="createDevice",status="201"}`: "2",
		`obscura_request_duration_seconds_count{operation="sendMessages",status="200"}`: "1",
		`obscura_request_duration_seconds_count{operation="getAccount",status="401"}`:   "1",
		`obscura_request_duration_seconds_count{operation="none",status="404"}`:         "1",
		`obscura_request_duration_seconds_count{operation="none",status="413"}`:         "1",
		`obscura_live_sockets`:                              "1",
		`obscura_queue_waiting{queue="sends"}`:              "0",
		`obscura_queue_waiting{queue="acknowledgements"}`:   "0",
		`obscura_envelopes_accepted_total`:                  "2",
		`obscura_envelopes_delivered_total`:                 "2",
		`obscura_envelopes_acknowledged_total`:              "2",
		`obscura_envelopes_dropped_total{reason="expired"}`: "0",
		`obscura_envelopes_dropped_total{reason="cap"}`:     "0",
	} {
		relaytest.Eventually(t, name+" is "+want, func() bool { return metric(t, relay, name) == want })
	}
	_, text := manage(t, relay, "/metrics")
	if !strings.Contains(text, `pgxpool_max_conns{pool="requests"}`) && !strings.Contains(text, `pool="requests"`) {
		t.Error("nothing about the pool")
	}
	for _, secret := range []string{alice.ID.String(), alice.User.ID.String(), bob.User.Name, bob.ID.String(), bob.User.ID.String(), "127.0.0.1"} {
		if strings.Contains(text, secret) {
			t.Errorf("the metrics hold %s", secret)
		}
	}
	for line := range strings.Lines(text) {
		for word := range strings.FieldsFuncSeq(line, func(r rune) bool { return strings.ContainsRune(`{}", =`, r) }) {
			if uuid.Validate(word) == nil {
				t.Errorf("the metrics hold an id: %s", line)
			}
		}
	}
	_ = socket.CloseNow()
	relaytest.Eventually(t, "no socket is counted", func() bool { return metric(t, relay, "obscura_live_sockets") == "0" })
}
