package storage_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/storage"
)

// inherited are settings of a database that nobody would choose for a relay.
var inherited = map[string]string{
	"client_encoding": "LATIN1", "default_transaction_isolation": "serializable",
	"default_transaction_deferrable": "on", "search_path": "elsewhere",
	"synchronous_commit": "off", "bytea_output": "escape", "DateStyle": "German, DMY", "IntervalStyle": "sql_standard",
	"TimeZone":                    "Asia/Tokyo",
	"standard_conforming_strings": "off", "array_nulls": "off", "transform_null_equals": "on",
	"statement_timeout": "1s", "lock_timeout": "1ms",
	"idle_in_transaction_session_timeout": "1s", "idle_session_timeout": "1s", "enable_seqscan": "on",
	"plan_cache_mode": "force_custom_plan",
	"jit":             "on", "max_parallel_workers_per_gather": "2",
}

// ours are the same, as every session of the relay has them.
var ours = map[string]string{
	"client_encoding": "UTF8", "default_transaction_isolation": "read committed",
	"default_transaction_deferrable": "off", "search_path": `"$user", public`,
	"synchronous_commit": "on", "bytea_output": "hex", "DateStyle": "ISO, MDY", "IntervalStyle": "postgres",
	"TimeZone":                    "UTC",
	"standard_conforming_strings": "on", "array_nulls": "on", "transform_null_equals": "off",
	"statement_timeout": "10s", "lock_timeout": "5s",
	"idle_in_transaction_session_timeout": "15s", "idle_session_timeout": "0",
}

// alter gives a database a setting, for sessions to come.
func alter(t *testing.T, database, name, value string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	if name != "search_path" {
		value = "'" + value + "'"
	}
	testdb.Exec(t, database, "ALTER DATABASE "+pgx.Identifier{u.Path[1:]}.Sanitize()+" SET "+name+" TO "+value)
}

func hostile(t *testing.T) string {
	t.Helper()
	database := testdb.Bare(t, "")
	for name, value := range inherited {
		alter(t, database, name, value)
	}
	return database
}

type asker interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func hasSettings(t *testing.T, whose string, session asker, want map[string]string) {
	t.Helper()
	for name, value := range want {
		var got string
		if err := session.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&got); err != nil {
			t.Fatal(whose, err)
		}
		if got != value {
			t.Errorf("%s: %s is %q, want %q", whose, name, got, value)
		}
	}
}

func TestSettingsOfTheDatabaseAreNotInherited(t *testing.T) {
	t.Parallel()
	database := hostile(t)
	d := open(t, database)
	if err := d.AwaitReady(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	hasSettings(t, "the pool", d.Pool(), ours)
	hasSettings(t, "the pool", d.Pool(),
		map[string]string{"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan",
			"enable_hashjoin": "off", "enable_mergejoin": "off", "enable_bitmapscan": "off", "enable_memoize": "off",
			"jit": "off", "max_parallel_workers_per_gather": "0", "application_name": "obscura"})
	if err := d.Migrate(t.Context()); err != nil {
		t.Error("the migrations: ", err)
	}
	cfg, err := storage.ListenConfig(database, "listener")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close(context.Background())
	hasSettings(t, "the listener", listener, ours)
}

// Not parallel: the environment is everybody's.
func TestSettingsOfTheEnvironmentAreNotInherited(t *testing.T) {
	database := testdb.Bare(t, "")
	t.Setenv("PGOPTIONS", "-c search_path=elsewhere -c statement_timeout=1s -c default_transaction_isolation=serializable")
	t.Setenv("PGTZ", "Asia/Tokyo")
	t.Setenv("PGAPPNAME", "somebody else")
	t.Setenv("PGUSER", "nobody")
	t.Setenv("PGDATABASE", "nowhere")
	t.Setenv("PGPORT", "1")
	t.Setenv("PGHOST", "192.0.2.1")
	d := open(t, database)
	hasSettings(t, "the pool", d.Pool(), ours)
	if err := d.Migrate(t.Context()); err != nil {
		t.Error("the migrations: ", err)
	}
}

func TestSettingsThatTheOperatorMeansAreKept(t *testing.T) {
	t.Parallel()
	database := testdb.Bare(t, "")
	alter(t, database, "synchronous_commit", "local") // stronger or weaker, it is no accident
	testdb.Exec(t, database, "CREATE SCHEMA relay")
	d := open(t, database+"&search_path=relay")
	hasSettings(t, "the pool", d.Pool(), map[string]string{"synchronous_commit": "local", "search_path": "relay"})
	if err := d.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var where string
	if err := d.Pool().QueryRow(t.Context(),
		"SELECT schemaname FROM pg_tables WHERE tablename = 'users'").Scan(&where); err != nil || where != "relay" {
		t.Errorf("the tables are in %q: %v", where, err)
	}
}

func TestEncodingsThatCannotKeepEveryTextAreRefused(t *testing.T) {
	t.Parallel()
	for encoding, ok := range map[string]bool{"UTF8": true, "SQL_ASCII": true, "LATIN1": false, "EUC_JP": false} {
		d := open(t, testdb.Bare(t, "LOCALE 'C' ENCODING '"+encoding+"'"))
		err := d.AwaitReady(t.Context(), time.Minute)
		switch {
		case ok && err != nil:
			t.Errorf("%s: %v", encoding, err)
		case !ok && (err == nil ||
			!strings.HasPrefix(err.Error(),
				"the database has the encoding "+encoding+", which cannot keep every text: make one with ")):
			t.Errorf("%s: %v", encoding, err)
		}
	}
}

func TestADatabaseMayBecomeReadOnlyAndBack(t *testing.T) {
	t.Parallel()
	database := testdb.NewURL(t)
	alter(t, database, "default_transaction_read_only", "on")
	d := open(t, database)
	write := func() error {
		return d.Do(t.Context(), func(conn *storage.Tx) error {
			_, err := conn.Exec(t.Context(), "CREATE TABLE IF NOT EXISTS written ()")
			return err
		})
	}
	for range 5 { // several sessions that began so
		if err := write(); core.KindOf(err) != core.Unavailable {
			t.Errorf("read-only: %v", err)
		}
	}
	admin, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	name := pgx.Identifier{admin.Config().Database}.Sanitize()
	for _, sql := range []string{"SET default_transaction_read_only = off",
		"ALTER DATABASE " + name + " SET default_transaction_read_only = off"} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	wait.Eventually(t, "it writes again", func() bool { return write() == nil })
}
