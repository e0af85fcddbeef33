package app_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/certtest"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/schema"
)

// refused runs a relay that must not start, and returns why.
func refused(t *testing.T, cfg app.Config) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
	defer cancel()
	err := app.Run(ctx, cfg, io.Discard, func(app.Addresses) { t.Error("it started"); cancel() })
	if err == nil {
		t.Fatal("no error")
	}
	return err.Error()
}

func TestAPortThatIsTakenIsSaidAndNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t) // its end fails while somebody is connected
	relay := relaytest.StartOn(t, url)
	api, management := strings.TrimPrefix(relay.API, "http://"), strings.TrimPrefix(relay.Management, "http://")
	cfg := relaytest.Config(t, url)
	cfg.Listen = api
	if got, want := refused(t, cfg),
		"cannot listen for the API on "+api+": another program listens there: choose another address with --listen (OBSCURA_LISTEN)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	cfg = relaytest.Config(t, url)
	cfg.ManagementListen = management
	if got, want := refused(t, cfg),
		"cannot listen for management on "+management+": another program listens there: choose another address with --management-listen (OBSCURA_MANAGEMENT_LISTEN)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestAStartThatIsStoppedSaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := app.Run(ctx, relaytest.Config(t, "postgres://nobody@127.0.0.1:1/nothing?sslmode=disable"), io.Discard,
		func(app.Addresses) { t.Error("it started") })
	if err == nil || err.Error() != "stopped before the database was ready" {
		t.Error(err)
	}
}

func TestAFolderThatDoesNotExistIsRefusedAndNotMade(t *testing.T) {
	t.Parallel()
	place := filepath.Join(t.TempDir(), "blbos")
	cfg := relaytest.Config(t, testdb.NewURL(t))
	cfg.BlobURL = "file://" + place
	want := "the folder " + place +
		", which --blob-url (OBSCURA_BLOB_URL) names, does not exist: make it, or correct the name"
	if got := refused(t, cfg); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := os.Stat(place); err == nil {
		t.Error("it was made")
	}
}

func TestAnOlderSchemaIsRefusedAndANewerOneIsServed(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	db := e2e.Database(t, relay)
	cfg := relaytest.Config(t, relay.DatabaseURL)
	cfg.Migrate = false

	relaytest.StartOn(t, relay.DatabaseURL, func(c *app.Config) { c.Migrate = false }).Stop() // the same version
	e2e.Execute(t, db, "DELETE FROM goose_db_version WHERE version_id = $1", schema.Version)
	const old = "the database schema is older than this binary: run `obscura migrate`"
	if got := refused(t, cfg); got != old {
		t.Errorf("%s, want %s", got, old)
	}
	for _, version := range []int64{schema.Version, schema.Version + 7} {
		e2e.Execute(t, db, "INSERT INTO goose_db_version (version_id, is_applied) VALUES ($1, true)", version)
	}
	for _, migrate := range []bool{true, false} {
		newer := relaytest.StartOn(t, relay.DatabaseURL, func(c *app.Config) { c.Migrate = migrate })
		newer.Register(t)
	}

	empty := relaytest.Config(t, testdb.NewURL(t))
	empty.Migrate = false
	undone := e2e.Database(t, &relaytest.Relay{DatabaseURL: empty.DatabaseURL})
	rows, err := undone.Query(t.Context(),
		"SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		e2e.Execute(t, undone, "DROP TABLE IF EXISTS "+pgx.Identifier{table}.Sanitize()+" CASCADE")
	}
	if got := refused(t, empty); got != old {
		t.Errorf("an empty database: %s", got)
	}
	if err := app.Migrate(t.Context(), empty.Database, io.Discard); err != nil {
		t.Fatal(err)
	}
	relaytest.StartOn(t, empty.DatabaseURL, func(c *app.Config) { c.Migrate = false }).Register(t)
}

// TestARelayThatIsStoppedWhileItStartsStops cancels as soon as it listens.
func TestARelayThatIsStoppedWhileItStartsStops(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- app.Run(ctx, relaytest.Config(t, url), io.Discard, func(app.Addresses) { cancel() }) }()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(relaytest.Patience):
			t.Fatal("it hangs")
		}
		cancel()
	}
}

func TestRequestsInFlightAreAnsweredWhenTheRelayStops(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	const inFlight = 6
	replies := make(chan e2e.Reply, inFlight)
	for range inFlight { // one after the other they take a while
		go func() { replies <- e2e.LogIn(user.Name, relaytest.Password).To(t, relay) }()
	}
	wait.Eventually(t, "one is answered", func() bool { return len(replies) > 0 })
	slow := e2e.DialWire(t, relay)
	slow.Send("POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	stopped := make(chan struct{})
	go func() { relay.Stop(); close(stopped) }()
	wait.Eventually(t, "the door is shut", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(relay.API, "http://"))
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	slow.Send(`"username":"nobody_here","password":""}` + strings.Repeat(" ", 100-1-39))
	slow.ReplyTo("POST", "/v1/sessions").Want(t, 401, "wrong_credentials")
	for range inFlight {
		(<-replies).Want(t, 200, "")
	}
	<-stopped
	if _, err := net.Dial("tcp", strings.TrimPrefix(relay.Management, "http://")); err == nil {
		t.Error("the management port is still open")
	}
}

// TestARequestThatNeverEndsDoesNotOutliveTheRelay stops a relay while a client has sent half a
// request.
func TestARequestThatNeverEndsDoesNotOutliveTheRelay(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t,
		func(c *app.Config) { c.ShutdownTimeout = 500 * time.Millisecond; c.ReadTimeout = time.Minute })
	w := e2e.DialWire(t, relay)
	w.Send("POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
	relay.Register(t) // the half has been read by now
	begun := time.Now()
	relay.Stop()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	if !w.Ended() {
		t.Error("the connection outlives the relay")
	}
}

// TestWhatHasNotArrivedDoesNotHoldUpAStop stops a relay while clients have sent nothing, or a part
// of a request or a handshake.
func TestWhatHasNotArrivedDoesNotHoldUpAStop(t *testing.T) {
	t.Parallel()
	stop := func(t *testing.T, relay *relaytest.Relay) {
		t.Helper()
		begun := time.Now()
		relay.Stop()
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("it took %v to stop", took)
		}
	}
	patient := func(c *app.Config) { c.ShutdownTimeout, c.ReadTimeout = 2*time.Minute, 2*time.Minute }
	relay := relaytest.Start(t, patient)
	header := "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
	parts := []string{"", "P", header, header + "\r\n", header + "\r\n{", "GET /v1/info HTTP/1.1\r\nHost: x\r\n\r\nGET /"}
	clients := make([]*e2e.Wire, len(parts))
	for i, part := range parts {
		clients[i] = e2e.DialWire(t, relay)
		clients[i].Send(part)
	}
	clients[len(parts)-1].ReplyTo("GET", "/v1/info").Want(t, 200, "")
	management, err := net.Dial("tcp", strings.TrimPrefix(relay.Management, "http://"))
	if err == nil {
		_, err = io.WriteString(management, "GET /metrics HTTP/1.1\r\nHo")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = management.Close() }()
	stop(t, relay)
	for i, client := range clients[:len(parts)-1] {
		if i > 1 { // what has begun hears that it may be repeated
			client.Reply().Want(t, 408, "request_timeout")
		}
	}

	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		certificate, key := certtest.New().Files(t)
		relay := relaytest.Start(t, patient, func(c *app.Config) { c.TLSCertificate, c.TLSKey = certificate, key })
		silent, err := net.Dial("tcp", strings.TrimPrefix(relay.API, "https://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = silent.Close() }()
		stop(t, relay)
	})
}

func TestSystemdHearsThatTheRelayListens(t *testing.T) { //nolint:paralleltest // the environment is everybody's
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", systemd.LocalAddr().String())
	relaytest.Start(t)
	heard := make([]byte, 100)
	if err := systemd.SetReadDeadline(time.Now().Add(relaytest.Patience)); err != nil {
		t.Fatal(err)
	}
	n, err := systemd.Read(heard)
	if err != nil || string(heard[:n]) != "READY=1" {
		t.Errorf("%q, %v", heard[:n], err)
	}
}
