package keys_test

import (
	"context"
	"flag"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/keys"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
)

func TestMain(m *testing.M) {
	// A property costs a database round trip a step: fewer runs, unless the command line asks for
	// more.
	_ = flag.Set("rapid.checks", "20")
	testdb.Main(m)
}

// bench is a key service on a database of its own, with a second pool to look inside.
type bench struct {
	*keys.Service
	url     string
	sql     *pgxpool.Pool
	buckets storage.Buckets
	// notices holds what the service announced, up to its capacity.
	notices chan core.Notice
	// stop ends Run and waits for it.
	stop func()
}

// in makes a transaction of a test one of the service's.
func (b *bench) in(tx pgx.Tx) *storage.Tx { return &storage.Tx{DBTX: tx, Buckets: b.buckets} }

// newBench runs a service, with its hand-outs, on a fresh database until the test ends.
func newBench(t testing.TB) *bench {
	t.Helper()
	return newBenchOn(t, testdb.NewURL(t))
}

// Announce notes a notice, unless too many have come.
func (b *bench) Announce(n core.Notice) {
	select {
	case b.notices <- n:
	default:
	}
}

// newBenchOn lets a test prepare the service before it runs.
func newBenchOn(t testing.TB, url string, prepare ...func(*keys.Service)) *bench {
	t.Helper()
	open, err := storage.Open(context.Background(), url, storage.Options{MaxConns: 8})
	if err == nil {
		err = open.CheckSchema(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(open.Close)
	sql, err := pgxpool.New(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sql.Close)
	b := &bench{url: url, sql: sql, buckets: open.Buckets(), notices: make(chan core.Notice, 1<<16)}
	b.Service = keys.New(keys.Config{DB: open, Dropped: func(core.GapReason, int) {}, Node: b})
	for _, p := range prepare {
		p(b.Service)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = b.Run(ctx) }()
	b.stop = func() { cancel(); <-ended }
	t.Cleanup(b.stop)
	return b
}

// exec runs a statement and fails the test when it does not.
func (b *bench) exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	if _, err := b.sql.Exec(context.Background(), statement, args...); err != nil {
		t.Fatalf("%v\n%s", err, statement)
	}
}

// device makes a user with one device by SQL. Its keys are bytes of the right length and no more:
// the service checks keys when they arrive and never again.
func (b *bench) device(t testing.TB) core.Principal {
	t.Helper()
	p := core.Principal{User: uuid.New(), Session: uuid.New(), Device: uuid.New(), DeviceNumber: 1}
	b.exec(t, `INSERT INTO users (id, username, username_key, password_hash) VALUES ($1, $2, $2, '')`, p.User,
		p.User.String())
	b.exec(t, `INSERT INTO devices (id, user_id, number, registration_id, identity_key, signed_pre_key_id, signed_pre_key,
		signed_pre_key_sig, last_resort_id, last_resort_key, last_resort_sig)
		VALUES ($1, $2, 1, 1, $3, 1, $3, $4, 1, $5, $4)`, p.Device, p.User, make([]byte, 33), make([]byte, 64), make([]byte, 1569))
	b.exec(t, `INSERT INTO pre_key_stocks (device_id) VALUES ($1)`, p.Device)
	b.exec(t, `INSERT INTO mailboxes (device_id) VALUES ($1)`, p.Device)
	b.exec(t, `INSERT INTO sessions (id, user_id, device_id, refresh_key, expires_at) VALUES ($1, $2, $3, '', now() + '1 hour')`, p.Session, p.User, p.Device)
	return p
}

// stock adds one-time keys first..first+n-1 of both kinds to devices by SQL, as one upload each.
func (b *bench) stock(t testing.TB, first, n, kyberBytes int, devices ...core.DeviceID) {
	t.Helper()
	tx, err := b.sql.Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	for _, statement := range []string{
		`UPDATE pre_key_stocks SET uploads = uploads + 1, ec_count = ec_count + $2, kyber_count = kyber_count + $2,
			ec_floor = least(ec_floor, $3), kyber_floor = least(kyber_floor, $3) WHERE device_id = ANY($1) AND $4 > 0`,
		`INSERT INTO ec_pre_keys SELECT d, i, decode(repeat('05', 33), 'hex'), 1
			FROM unnest($1::uuid[]) d, generate_series($3::int, $3::int + $2::int - 1) i WHERE $4 > 0`,
		`INSERT INTO kyber_pre_keys SELECT d, i, decode(repeat('08', $4), 'hex'), decode(repeat('00', 64), 'hex'), 1
			FROM unnest($1::uuid[]) d, generate_series($3::int, $3::int + $2::int - 1) i`,
	} {
		if _, err := tx.Exec(context.Background(), statement, devices, n, first, kyberBytes); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
}
