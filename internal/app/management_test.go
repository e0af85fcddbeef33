package app_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

func TestReadyzNamesThePartThatIsAway(t *testing.T) {
	t.Parallel()
	w, through := e2e.NewWall(t, testdb.NewURL(t))
	relay := relaytest.StartOn(t, through)
	ready := func() bool {
		status, parts := e2e.Readiness(t, relay)
		return status == 200 && parts["status"] == "ready"
	}
	wait.Eventually(t, "the relay is ready", ready)

	// Notices stop while their connection looks alive.
	w.Freeze("obscura-notices")
	status, parts := e2e.Readiness(t, relay)
	if status != 503 || parts["database"] != "ok" || parts["notices"] != "unavailable" ||
		parts["status"] != "unavailable" {
		t.Errorf("without notices: %d %v", status, parts)
	}
	w.Freeze("")
	wait.Eventually(t, "the relay is ready again", ready)

	w.Leave()
	status, parts = e2e.Readiness(t, relay)
	if status != 503 || parts["database"] == "ok" || parts["status"] == "ready" {
		t.Errorf("without a database: %d %v", status, parts)
	}
	if status, _ := e2e.Manage(t, relay, "/livez"); status != 200 {
		t.Errorf("/livez says %d while the database is unavailable", status)
	}
	e2e.Register("not_now", relaytest.Password).To(t, relay).Want(t, 503, "unavailable")
	e2e.Ask{Method: "GET", Path: "/openapi.yaml"}.To(t, relay).Want(t, 200, "")
	w.ComeBack()
	wait.Eventually(t, "the relay is ready again", ready)
	e2e.Register("now", relaytest.Password).To(t, relay).Want(t, 201, "")
}

// A database that answers questions and takes no mail is not ready: its words, the metric and the
// log say so.
func TestReadyzWrites(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	pool, err := pgxpool.New(t.Context(), relay.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	bob := relay.Register(t).NewDevice(t)
	for name, c := range map[string]struct{ damage, repair, state string }{
		"read-only": {"ALTER DATABASE %s SET default_transaction_read_only = on",
			"ALTER DATABASE %s SET default_transaction_read_only = off", "25006"},
		"messages are refused": {"ALTER TABLE messages ADD CONSTRAINT nothing CHECK (false) NOT VALID",
			"ALTER TABLE messages DROP CONSTRAINT nothing", "23514"},
		"no receipts": {"ALTER TABLE receipts RENAME TO away", "ALTER TABLE away RENAME TO receipts", "42P01"},
		"no mailboxes": {"ALTER TABLE mailboxes RENAME TO away", "ALTER TABLE away RENAME TO mailboxes",
			"42P01"},
	} {
		change := func(sql string) {
			database := pool.Config().ConnConfig.Database
			for _, statement := range []string{"SET default_transaction_read_only = off",
				strings.ReplaceAll(sql, "%s", database),
				"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'obscura'"} {
				if _, err := pool.Exec(t.Context(), statement); err != nil {
					t.Fatalf("%s: %v", statement, err)
				}
			}
			pool.Reset()
		}
		wait.Eventually(t, "the relay is ready",
			func() bool { status, _ := e2e.Readiness(t, relay); return status == 200 })
		before := len(relay.Log.String())
		change(c.damage)
		wait.Eventually(t, name+": /readyz says so", func() bool {
			status, parts := e2e.Readiness(t, relay)
			return status == 503 && parts["status"] == "unavailable" && parts["database"] == "unavailable" &&
				parts["blobs"] == "ok" &&
				strings.Contains(relay.Log.String()[before:], "SQLSTATE "+c.state)
		})
		if got := metric(t, relay, `obscura_ready{part="database"}`); got != "0" {
			t.Errorf("%s: the metric is %q", name, got)
		}
		change(c.repair)
	}
	wait.Eventually(t, "the relay is ready again", func() bool {
		status, parts := e2e.Readiness(t, relay)
		return status == 200 && parts["database"] == "ok" && metric(t, relay, `obscura_ready{part="database"}`) == "1"
	})
	if !strings.Contains(relay.Log.String(), "a part is available again") {
		t.Error("the log does not say that it is over")
	}
	var rows int // of probes
	if err := pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM mailboxes) - 1 + (SELECT count(*) FROM messages) + (SELECT count(*) FROM receipts)
		+ (SELECT count(*) FROM gaps)`).Scan(&rows); err != nil || rows != 0 {
		t.Errorf("probes left %d rows, %v", rows, err)
	}
	if got := metric(t, relay, "obscura_envelopes_accepted_total"); got != "0" {
		t.Errorf("probes count as %s envelopes", got)
	}
	_ = bob
}

// A monitor that does not wait for the answer says nothing about the parts.
func TestAnAskerWhoLeavesMakesNoPartUnavailable(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	wait.Eventually(t, "the relay is ready",
		func() bool { status, _ := e2e.Readiness(t, relay); return status == 200 })
	before := len(relay.Log.String())
	for range 30 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(relay.Management, "http://"))
		if err == nil {
			_, err = io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n")
		}
		if err == nil {
			err = conn.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := metric(t, relay, `obscura_ready{part="database"}`); got != "1" {
			t.Fatalf("the metric is %q", got)
		}
	}
	if said := relay.Log.String()[before:]; strings.Contains(said, "a part is unavailable") {
		t.Error(said)
	}
}

func TestManagementIsAListenerOfItsOwn(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		e2e.Ask{Method: "GET", Path: path}.To(t, relay).Want(t, 404, "not_found")
		wait.Eventually(t, path+" answers",
			func() bool { status, _ := e2e.Manage(t, relay, path); return status == 200 })
	}
	if status, _ := e2e.Manage(t, relay, "/v1/account"); status != 404 {
		t.Errorf("the API is on the management port: %d", status)
	}
}

// metric reads one sample, "" when there is none.
func metric(t testing.TB, relay *relaytest.Relay, name string) string {
	t.Helper()
	_, text := e2e.Manage(t, relay, "/metrics")
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
	e2e.Ask{Method: "GET", Path: "/v1/nothing/" + alice.ID.String()}.To(t, relay).Want(t, 404, "not_found")
	e2e.Ask{Method: "GET", Path: "/v1/account", Token: "x"}.To(t, relay).Want(t, 401, "unauthorized")
	w := e2e.DialWire(t, relay)
	w.Send("GET /v1/account HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("x", 20_000) + "\r\n\r\n")
	w.Reply().Want(t, 431, "headers_too_large")
	for name, want := range map[string]string{
		`obscura_request_duration_seconds_count{operation="createUser",status="201"}`:   "2",
		`obscura_request_duration_seconds_count{operation="createDevice",status="201"}`: "2",
		`obscura_request_duration_seconds_count{operation="sendMessages",status="200"}`: "1",
		`obscura_request_duration_seconds_count{operation="getAccount",status="401"}`:   "1",
		`obscura_request_duration_seconds_count{operation="none",status="404"}`:         "1",
		`obscura_request_duration_seconds_count{operation="none",status="431"}`:         "1",
		`obscura_live_sockets`:                              "1",
		`obscura_queue_waiting{queue="sends"}`:              "0",
		`obscura_queue_waiting{queue="acknowledgements"}`:   "0",
		`obscura_envelopes_accepted_total`:                  "2",
		`obscura_envelopes_delivered_total`:                 "2",
		`obscura_envelopes_acknowledged_total`:              "2",
		`obscura_envelopes_dropped_total{reason="expired"}`: "0",
		`obscura_envelopes_dropped_total{reason="cap"}`:     "0",

		`obscura_queue_waiting{queue="passwords"}`:                    "0",
		`obscura_batch_envelopes_count{batch="sends"}`:                "1",
		`obscura_batch_envelopes_sum{batch="sends"}`:                  "2",
		`obscura_batch_envelopes_sum{batch="acknowledgements"}`:       "2",
		`obscura_push_wakeups_total{kind="web_push",result="failed"}`: "0",
		`obscura_body_bytes`:                                          "0",
		`obscura_sealed_body_bytes`:                                   "0",
		`obscura_uploads`:                                             "0",
		`obscura_downloads`:                                           "0",
		`obscura_pending_envelopes`:                                   "0",
		`obscura_oldest_envelope_seconds`:                             "0",
		`obscura_build_info{go="` + runtime.Version() + `",version="` + app.Version() + `"}`: "1",
	} {
		wait.Eventually(t, name+" is "+want, func() bool { return metric(t, relay, name) == want })
	}
	_, text := e2e.Manage(t, relay, "/metrics")
	if !strings.Contains(text, `pgxpool_max_conns{pool="requests"}`) && !strings.Contains(text, `pool="requests"`) {
		t.Error("nothing about the pool")
	}
	for _, secret := range []string{alice.ID.String(), alice.User.ID.String(), bob.User.Name, bob.ID.String(),
		bob.User.ID.String(), "127.0.0.1"} {
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
	wait.Eventually(t, "no socket is counted", func() bool {
		return metric(t, relay, "obscura_live_sockets") == "0"
	})
}

// What is in flight is measured while it is.
func TestMetricsSeeWhatIsInFlight(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	is := func(name, want string) {
		t.Helper()
		wait.Eventually(t, name+" is "+want, func() bool { return metric(t, relay, name) == want })
	}
	half := func(path, header string) *e2e.Wire {
		w := e2e.DialWire(t, relay)
		w.Send("POST " + path + " HTTP/1.1\r\nHost: x\r\n" + header + "Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 100))
		return w
	}
	bearer := "Authorization: Bearer " + device.Token + "\r\n"
	half("/v1/messages", bearer+"Content-Type: application/x-protobuf\r\n")
	is("obscura_body_bytes", "100000")
	half("/v1/messages/sealed", "Content-Type: application/x-protobuf\r\n")
	is("obscura_sealed_body_bytes", "100000")
	half("/v1/attachments", bearer+"Content-Type: application/octet-stream\r\n")
	is("obscura_uploads", "1")
	if open := e2e.Meter(t, relay, "obscura_connections"); open < 3 {
		t.Errorf("%v connections are open", open)
	}
}

// put sends a request to the management port.
func put(t *testing.T, relay *relaytest.Relay, path, body string) (int, string) {
	t.Helper()
	got := e2e.Ask{Method: "PUT", Path: path, Body: body}.Through(t, relay.Management,
		&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: relaytest.Patience})
	return got.Status, string(got.Body)
}

func TestLogLevelCanBeSetWhileTheRelayRuns(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(cfg *app.Config) { cfg.LogLevel = slog.LevelWarn })
	lines := func() int { return strings.Count(relay.Log.String(), `"operation":"getInfo"`) }
	ask := func() { e2e.Ask{Method: "GET", Path: "/v1/info"}.To(t, relay).Want(t, 200, "") }
	ask()
	if status, body := e2e.Manage(t, relay, "/log-level"); status != 200 || body != `{"level":"warn"}`+"\n" {
		t.Errorf("%d %s", status, body)
	}
	for _, wrong := range []string{"", "loud", "info+3", "error+1000", strings.Repeat("debug", 100)} {
		if status, body := put(t, relay, "/log-level", wrong); status != 400 || !strings.Contains(body, "debug, info, warn or error") {
			t.Errorf("%.9s: %d %s", wrong, status, body)
		}
	}
	if status, body := put(t, relay, "/log-level", "info\n"); status != 200 || body != `{"level":"info"}`+"\n" {
		t.Errorf("%d %s", status, body)
	}
	for _, level := range []string{"error", "info"} {
		before := strings.Count(relay.Log.String(), "somebody has set the level")
		put(t, relay, "/log-level", level)
		wait.Eventually(t, "the log says that it was set to "+level, func() bool {
			return strings.Count(relay.Log.String(), "somebody has set the level") > before
		})
	}
	ask()
	wait.Eventually(t, "the second request is logged, and not the first", func() bool { return lines() == 1 })
	if status, _ := e2e.Manage(t, relay, "/debug/pprof/heap"); status != 404 {
		t.Errorf("profiles without --pprof: %d", status)
	}
	if status, body := e2e.Manage(t, relaytest.Start(t, func(cfg *app.Config) { cfg.Pprof = true }),
		"/debug/pprof/goroutine?debug=1"); status != 200 || !strings.Contains(body, "goroutine profile") {
		t.Errorf("profiles with --pprof: %d %.100s", status, body)
	}
}
