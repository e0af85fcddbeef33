// Package testdb gives a test its own migrated PostgreSQL database. For tests only.
//
// The server is the one that OBSCURA_TEST_DATABASE_URL names (the URL of a superuser), or else a
// private cluster in a temporary folder, in memory if there is room, which each test binary starts
// at its first need, without fsync, and stops in Main. That takes about a second, works for
// packages tested in parallel, and leaves nothing behind: the cluster ends with the test binary
// however that ends, though a binary that is killed (a panic, a timeout) leaves its temporary
// folder, one in memory until the next start.
//
// The migrations run once into a template per server and version of package schema; a test's
// database is a copy of it. The database goes when the test has passed and stays, for a look at
// it, when it has failed on a server of your own. OBSCURA_TEST_BUCKETS divides it into so many
// buckets.
package testdb

import (
	"context"
	"database/sql"
	"net/url"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx" of pgtestdb
	"github.com/peterldowns/pgtestdb"
	"github.com/peterldowns/pgtestdb/migrators/common"
	"github.com/pressly/goose/v3"

	"github.com/obscura-relay/obscura/schema"
)

// New returns a pool on a fresh database with all migrations. The test's end closes it.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(context.Background(), NewURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// NewURL returns the connection string of a fresh database with all migrations. The test's end
// drops it, so whoever connects must be gone by then.
func NewURL(t testing.TB) string {
	t.Helper()
	buckets, err := bucketsSaid()
	if err != nil {
		t.Fatal(err)
	}
	return NewDivided(t, buckets)
}

// NewDivided is NewURL for a database of so many buckets, whatever the environment says.
func NewDivided(t testing.TB, buckets int) string {
	t.Helper()
	server, err := serverURL()
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal("testdb: the URL of the server does not parse")
	}
	password, _ := u.User.Password()
	conf := pgtestdb.Config{
		DriverName: "pgx",
		Host:       u.Hostname(),
		Port:       u.Port(),
		User:       url.User(u.User.Username()).String(),
		Password:   url.User(password).String(),
		Database:   u.Path[min(1, len(u.Path)):],
		Options:    u.RawQuery,
	}
	return pgtestdb.Custom(t, conf, migrator{buckets}).URL()
}

// migrator runs the migrations of package schema.
type migrator struct{ buckets int }

var _ pgtestdb.Migrator = migrator{}

// Hash changes with any byte of any migration, and with the number of buckets.
func (m migrator) Hash() (string, error) {
	hash, err := common.HashDirs(schema.FS, "*.sql", ".")
	return hash + strconv.Itoa(m.buckets), err
}

// Migrate brings the template to the newest version.
func (m migrator) Migrate(ctx context.Context, db *sql.DB, _ pgtestdb.Config) error {
	p, err := goose.NewProvider(goose.DialectPostgres, db, schema.FS)
	if err != nil {
		return err
	}
	if _, err = p.Up(ctx); err != nil { // p.Close would close db, which is not ours
		return err
	}
	return divide(ctx, db, m.buckets)
}
