package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/postgres"
)

// helperDir makes the test binary a relay that starts a cluster there and waits to be killed.
const helperDir = "OBSCURA_TEST_POSTGRES_HELPER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		helper(dir)
	}
	if hosts := os.Getenv(intruderHosts); hosts != "" {
		intruder(hosts)
	}
	goleak.VerifyTestMain(m)
}

// config has fsync off for speed; it matters when the machine dies, not when processes do.
func config(dir string) postgres.Config {
	return postgres.Config{
		DataDir:        dir,
		BinDir:         testdb.BinDir(),
		MaxConnections: 20,
		Settings:       map[string]string{"fsync": "off", "shared_buffers": "16MB"},
	}
}

func start(t *testing.T, cfg postgres.Config) *postgres.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := postgres.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, c) })
	return c
}

func stop(t *testing.T, c *postgres.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.Stop(ctx); err != nil {
		t.Error(err)
	}
	select {
	case <-c.Done():
	default:
		t.Error("stopped, but not done")
	}
}

// query runs a statement that answers one value.
func query[T any](t *testing.T, url, sql string) (value T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

const (
	writeNote = "CREATE TABLE note AS SELECT 'kept' AS text; "
	readNote  = "SELECT text FROM note"
)

func exec(t *testing.T, url, sql string) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), sql)
	return err
}

func mustExec(t *testing.T, url, sql string) {
	t.Helper()
	if err := exec(t, url, sql); err != nil {
		t.Fatal(err)
	}
}

// The folder is beneath one that only its owner may enter, and its path is too long for a socket.
func TestStopAndStartKeepsData(t *testing.T) {
	private := filepath.Join(t.TempDir(), "private, and "+strings.Repeat("long", 30))
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := config(filepath.Join(private, "data"))
	cfg.Settings = nil
	first := start(t, cfg)
	mustExec(t, first.URL(), writeNote)
	for name, want := range map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
		"listen_addresses": "", "max_connections": "20", "jit": "off"} {
		if got := query[string](t, first.URL(), "SHOW "+name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	stop(t, first)
	if err := first.Err(); err != nil {
		t.Errorf("a stopped cluster reports %v", err)
	}
	stop(t, first)

	second := start(t, cfg)
	if got := query[string](t, second.URL(), readNote); got != "kept" {
		t.Errorf("note is %q", got)
	}
	for _, dir := range []string{cfg.DataDir, filepath.Join(cfg.DataDir, "cluster"),
		filepath.Join(cfg.DataDir, "run")} {
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v %v", filepath.Base(dir), st.Mode(), err)
		}
	}
}

func TestSecondRelayIsRefused(t *testing.T) {
	cfg := config(filepath.Join(t.TempDir(), "my data, 100% + more"))
	first := start(t, cfg)
	_, err := postgres.Start(t.Context(), cfg)
	want := "postgres: another relay uses the data folder " + cfg.DataDir + ": give every relay a folder of its own"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	mustExec(t, first.URL(), writeNote)
}

func TestMissingPrograms(t *testing.T) {
	cfg := config(filepath.Join(t.TempDir(), "data"))
	cfg.BinDir = t.TempDir()
	_, err := postgres.Start(t.Context(), cfg)
	want := "postgres: " + cfg.BinDir +
		" does not hold the programs initdb and postgres: correct --postgres-bin (OBSCURA_POSTGRES_BIN), or leave it out"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestAFolderThatCannotBeMadeNamesWhatToChange(t *testing.T) {
	_, err := postgres.Start(t.Context(), config("/dev/null/data"))
	want := "postgres: the data folder /dev/null/data cannot be made or written to: mkdir /dev/null: not a directory: " +
		"start the relay as the user whose folder it is, give it to this one, or name another"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestForeignVersion(t *testing.T) {
	cfg := config(t.TempDir())
	if err := os.Mkdir(filepath.Join(cfg.DataDir, "cluster"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.DataDir, "cluster", "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := postgres.Start(t.Context(), cfg)
	if err == nil || !strings.HasPrefix(err.Error(),
		"postgres: the data was written by PostgreSQL 9 but only version ") {
		t.Errorf("got %v", err)
	}
}

func TestGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cfg := config(t.TempDir())
	if _, err := postgres.Start(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	start(t, cfg)
}

// A relay that was killed during initdb leaves a part of a cluster.
func TestHalfMadeClusterIsThrownAway(t *testing.T) {
	cfg := config(t.TempDir())
	half := filepath.Join(cfg.DataDir, "initdb")
	if err := os.Mkdir(half, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(half, "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, cfg)
	if _, err := os.Stat(half); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it is still there")
	}
}

func TestBadSettingTellsWhy(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Settings = map[string]string{"no_such_setting": "1", "fsync": "off"}
	_, err := postgres.Start(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("got %v", err)
	}
}

// What the server logs arrives, and nothing of what a client sent.
func TestLogHoldsNoClientData(t *testing.T) {
	log := &buffer{}
	cfg := config(t.TempDir())
	cfg.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := start(t, cfg)
	mustExec(t, c.URL(), "CREATE TABLE users (name text PRIMARY KEY); INSERT INTO users VALUES ('s3cret')")
	for _, sql := range []string{
		"INSERT INTO users VALUES ('s3cret')",
		"SELECT 's3cret'::uuid",
		"SELECT '" + strings.Repeat("s3cret ", 3000) + "'::uuid",
		"SELECT s3cret s3cret s3cret",
	} {
		if err := exec(t, c.URL(), sql); err == nil {
			t.Error("no error: ", sql)
		}
	}
	mustExec(t, c.URL(), "DO $$ BEGIN RAISE WARNING 's3cret'; END $$")
	stop(t, c)
	got := log.String()
	if !strings.Contains(got, "database system is ready to accept connections") {
		t.Error("the log has nothing of the server:\n", got)
	}
	if strings.Contains(got, "s3cret") || strings.Contains(got, "level=WARN") || strings.Contains(got, "level=ERROR") {
		t.Error("the log has too much:\n", got)
	}
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

var _ io.Writer = (*buffer)(nil)

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
