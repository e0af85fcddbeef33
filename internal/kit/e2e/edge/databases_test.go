package edge_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/postgres"
)

// postgresFolders names folders of PostgreSQL's programs, for TestEveryVersion: make test-databases
// sets it.
const postgresFolders = "OBSCURA_TEST_POSTGRES_FOLDERS"

// everydayLife is one scenario for every database.
func everydayLife(t *testing.T, relay *relaytest.Relay) {
	t.Helper()
	// I is not i for everybody; ë is one character or two.
	name := "IRIS_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:12]
	e2e.Register(name, "Zo\u00eb and her caf\u00e9").To(t, relay).Want(t, 201, "")
	e2e.LogIn(strings.ToLower(name), "Zoe\u0308 and her cafe\u0301").To(t, relay).Want(t, 200, "")
	e2e.Register(strings.ToLower(name), relaytest.Password).To(t, relay).Want(t, 409, "username_taken")

	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	called := "\u672c\u68da \u0130\u0131 \u00fc"
	got, err := bob.UpdateDeviceWithResponse(t.Context(), bob.ID, client.UpdateDeviceJSONRequestBody{Name: called})
	if err != nil || got.JSON200 == nil || got.JSON200.Name == nil || *got.JSON200.Name != called {
		t.Fatalf("the name of a device: %v, %s", err, got.Body)
	}
	e2e.WantUpload(t, bob, client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(500, 3)},
		http.StatusOK, "")
	if b := e2e.FetchBundle(t, alice, bob.User.ID); b.OneTimePreKey == nil {
		t.Fatal("a bundle without a one-time key")
	}
	if failed := alice.Send(t, nil, relaytest.To(bob.ID, "one"), relaytest.To(bob.ID, "two")); len(failed) != 0 {
		t.Fatal(failed)
	}
	socket := bob.Connect(t)
	mail, _, _ := socket.Drain()
	if e2e.Texts(mail) != "one two" {
		t.Fatalf("received %q", e2e.Texts(mail))
	}
	socket.Ack(mail...)
	wait.Eventually(t, "the acknowledgements are stored", func() bool {
		got, err := bob.GetAccountWithResponse(t.Context())
		return err == nil && got.JSON200 != nil && got.JSON200.Devices[0].Mailbox.Pending == 0
	})
	again := e2e.LogInOnDevice(t, relay, bob)
	e2e.WantUpload(t, again, e2e.TakeoverBy(prekeytest.NewIdentity()), http.StatusOK, "")
	if e2e.Works(t, relay, bob.Token) || !e2e.Works(t, relay, again.Token) {
		t.Error("a takeover ends the other sessions, at once, and not its own")
	}
}

func alterDatabase(t *testing.T, database, setting string) {
	t.Helper()
	cfg, err := pgx.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	// One at a time: a database that is read-only must still be told that it is not.
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range []string{"SET default_transaction_read_only = off",
		"ALTER DATABASE " + pgx.Identifier{cfg.Database}.Sanitize() + " SET " + setting,
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDatabasesAsPeopleHaveThemAreServed(t *testing.T) {
	t.Parallel()
	for label, database := range map[string]func(*testing.T) string{
		"Turkish": func(t *testing.T) string {
			return testdb.Bare(t, "ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'")
		},
		"SQL_ASCII": func(t *testing.T) string { return testdb.Bare(t, "ENCODING 'SQL_ASCII' LOCALE 'C'") },
		"serializable": func(t *testing.T) string {
			url := testdb.Bare(t, "")
			alterDatabase(t, url, "default_transaction_isolation = 'serializable'")
			return url
		},
		"PgBouncer in session mode": func(t *testing.T) string {
			return testdb.NewPgBouncer(t, testdb.Bare(t, ""), "session", "default_pool_size = 40")
		},
	} {
		t.Run(label, func(t *testing.T) { everydayLife(t, relaytest.StartOn(t, database(t))) })
	}
}

func TestAPoolerInTransactionModeIsRefused(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"transaction", "statement"} {
		cfg := relaytest.Config(t, testdb.NewPgBouncer(t, testdb.Bare(t, ""), mode))
		err := app.Run(t.Context(), cfg, &relaytest.Log{}, func(app.Addresses) { t.Error(mode, " was served") })
		if err == nil || !strings.Contains(err.Error(), "notices do not come back") ||
			!strings.Contains(err.Error(), "a PgBouncer with pool_mode = session") {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

func TestADatabaseThatWasReadOnlyIsServedWithoutARestart(t *testing.T) {
	t.Parallel()
	url := testdb.Bare(t, "")
	relay := relaytest.StartOn(t, url)
	everydayLife(t, relay)
	alterDatabase(t, url, "default_transaction_read_only = on")
	wait.Eventually(t, "writes are refused", func() bool {
		return e2e.Register("somebody", relaytest.Password).To(t, relay).Status == http.StatusServiceUnavailable
	})
	alterDatabase(t, url, "default_transaction_read_only = off")
	wait.Eventually(t, "writes are taken", func() bool {
		return e2e.Register("u_"+strings.ReplaceAll(uuid.NewString(), "-", ""), relaytest.Password).To(t,
			relay).Status == http.StatusCreated
	})
	everydayLife(t, relay)
}

// The relay runs on a server of each version. Without folders by name that is the one that all
// tests use.
func TestEveryVersionOfPostgreSQLIsServed(t *testing.T) {
	folders := filepath.SplitList(os.Getenv(postgresFolders))
	if len(folders) == 0 {
		folders = []string{testdb.BinDir()}
	}
	for _, folder := range folders {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cluster, err := postgres.Start(ctx,
			postgres.Config{DataDir: t.TempDir(), BinDir: folder, Settings: map[string]string{"fsync": "off"}})
		cancel()
		if err != nil {
			t.Fatal(folder, err)
		}
		t.Cleanup(func() { _ = cluster.Stop(context.Background()) })
		var version int
		conn, err := pgx.Connect(t.Context(), cluster.URL())
		if err == nil {
			err = conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int / 10000").Scan(&version)
			_ = conn.Close(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Run(fmt.Sprint(version), func(t *testing.T) { everydayLife(t, relaytest.StartOn(t, cluster.URL())) })
	}
}
