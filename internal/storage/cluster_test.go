package storage_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3/lock"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/storage"
)

// pool is for looking into a database.
func pool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	p, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func value[T any](t *testing.T, db *pgxpool.Pool, sql string) (v T) {
	t.Helper()
	if err := db.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// fill has a hundred devices of one user, with something in each table of devices.
const fill = `
	INSERT INTO users (id, username, username_key, password_hash) VALUES (gen_random_uuid(), 'alice', 'alice', '');
	INSERT INTO devices (id, user_id, number, registration_id, identity_key, signed_pre_key_id,
			signed_pre_key, signed_pre_key_sig)
		SELECT gen_random_uuid(), u.id, n, 1, '\x05', 1, '\x05', '' FROM users u, generate_series(1, 100) AS n;
	INSERT INTO mailboxes (device_id) SELECT id FROM devices;
	INSERT INTO messages (device_id, seq, sender_id, sender_device_id, sender_number, accepted_at, body)
		SELECT id, n, user_id, id, 1, now(), 'x' FROM devices, generate_series(1, 3) AS n;
	INSERT INTO gaps (device_id, from_seq, to_seq, reason) SELECT id, 1, 1, 1 FROM devices;
	INSERT INTO receipts (sender_device_id, key, slot, digest, invalid) SELECT id, id, 1, '', '{}' FROM devices;
	INSERT INTO pre_key_stocks (device_id) SELECT id FROM devices;
	INSERT INTO ec_pre_keys (device_id, key_id, public_key, upload) SELECT id, 1, '', 1 FROM devices;
	INSERT INTO kyber_pre_keys (device_id, key_id, public_key, signature, upload) SELECT id, 1, '', '', 1 FROM devices;
	INSERT INTO push_tokens (device_id, kind, address) SELECT id, 1, '' FROM devices;
	INSERT INTO push_wakeups (device_id, kind, seq, due_at) SELECT id, 1, 1, now() FROM devices;`

var rows = map[string]int{"mailboxes": 100, "messages": 300, "gaps": 100, "receipts": 100, "pre_key_stocks": 100,
	"ec_pre_keys": 100, "kyber_pre_keys": 100, "push_tokens": 100, "push_wakeups": 100}

// checkRows counts the rows where they are: those of a distributed table are at the workers.
func checkRows(t *testing.T, db *pgxpool.Pool, buckets int) {
	t.Helper()
	for table, want := range rows {
		place := table
		if value[bool](t, db, "SELECT to_regclass('workers."+table+"') IS NOT NULL") {
			place = "workers." + table
		}
		device := "device_id"
		if table == "receipts" {
			device = "sender_device_id"
		}
		got := value[int](t, db, fmt.Sprintf(`SELECT count(*) FROM %s WHERE bucket =
			(get_byte(uuid_send(%s), 0) * 256 + get_byte(uuid_send(%[2]s), 1)) %% %d`, place, device, buckets))
		if all := value[int](t, db, "SELECT count(*) FROM "+place); got != want || all != want {
			t.Errorf("%s has %d rows, %d in the right one of %d buckets; want %d", place, all, got, buckets, want)
		}
	}
}

func TestADistributionThatBreaksIsRepeated(t *testing.T) {
	t.Parallel()
	const buckets = 16
	url := testdb.NewDivided(t, 1)
	testdb.Exec(t, url, fill)
	testdb.StandInCitus(t, url, 4)
	// Breaks come closer together than there are steps, and later leave room for the last one.
	testdb.Exec(t, url, "INSERT INTO breaks SELECT n * n FROM generate_series(1, 8) AS n")
	d, db := open(t, url), pool(t, url)
	breaks, halves, done := 0, 0, 0
	for {
		did, err := d.Distribute(t.Context(), buckets, true)
		done += len(did)
		checkRows(t, db, buckets)
		n := value[int](t, db, "SELECT count(*) FROM pg_dist_partition")
		said := d.CheckWhole(t.Context())
		if n > 0 && n < storage.TablesOfDevices {
			halves++
			if want := fmt.Sprintf("%d of 10 tables of devices are distributed: repeat obscura cluster distribute", n); said == nil ||
				!strings.HasPrefix(said.Error(), want) {
				t.Errorf("a relay on %d distributed tables: %v", n, said)
			}
		} else if said != nil {
			t.Errorf("a relay on %d distributed tables: %v", n, said)
		}
		if err == nil {
			break
		}
		if !strings.Contains(err.Error(), "a worker has gone; what was done before stays, and the command can be repeated") {
			t.Fatal(err)
		}
		breaks++
	}
	if breaks < 5 || halves < 2 || done < 1+storage.TablesOfDevices+1 {
		t.Errorf("%d steps, with %d breaks, %d of them between two tables", done, breaks, halves)
	}
	if left := value[int](t, db, "SELECT count(*) FROM ONLY messages"); left != 0 {
		t.Errorf("%d rows are left at the coordinator", left)
	}
	c, err := d.ReadCluster(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	has := map[int]int{}
	for _, p := range c.Places {
		has[p.Group]++
	}
	if len(has) != 4 || has[1] != 4 || has[2] != 4 || has[3] != 4 {
		t.Errorf("the workers have %v", has)
	}
	if did, err := d.Distribute(t.Context(), buckets, true); err != nil || len(did) != 0 {
		t.Errorf("once more: %v, %v", did, err)
	}
	if _, err := d.Distribute(t.Context(), 2*buckets, true); err == nil || !strings.Contains(err.Error(), "say --buckets=16; nothing was changed") {
		t.Errorf("into others: %v", err)
	}
}

// A relay that learned the number of buckets before they were made stores into those that it knows.
func TestADistributionPutsRowsWhereTheyBelong(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 1)
	testdb.Exec(t, url, fill)
	testdb.StandInCitus(t, url, 2)
	testdb.Exec(t, url, "INSERT INTO breaks VALUES (1)")
	d, db := open(t, url), pool(t, url)
	if did, err := d.Distribute(t.Context(), 4, true); len(did) != 1 || err == nil {
		t.Fatal(did, err)
	}
	testdb.Exec(t, url, "UPDATE messages SET bucket = 0; UPDATE receipts SET bucket = 0")
	if did, err := d.Distribute(t.Context(), 4, true); err != nil || !strings.HasPrefix(did[0].Does, "divide ") {
		t.Error(did, err)
	}
	checkRows(t, db, 4)
}

// Two moves that follow each other may be of as many buckets, between the same workers.
func TestADistributionMakesMovesOfOneText(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 1)
	testdb.StandInCitus(t, url, 2)
	did, err := open(t, url).Distribute(t.Context(), 12, true)
	if err != nil {
		t.Fatal(err)
	}
	for n := range did[1:] {
		if did[n].Does == did[n+1].Does {
			return
		}
	}
	t.Error("no two moves follow each other that say the same: the test needs other numbers")
}

// What a distribution knows of the tables is what the migrations have made.
func TestADistributionKnowsTheTablesOfDevices(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 1)
	db := pool(t, url)
	keys := `SELECT string_agg(conrelid::regclass || pg_get_constraintdef(oid), '; ' ORDER BY conrelid::regclass::text) FROM pg_constraint
		WHERE contype = 'p' AND conrelid IN (SELECT attrelid FROM pg_attribute WHERE attname = 'bucket')`
	before := strings.ReplaceAll(value[string](t, db, keys), ")", ", bucket)")
	before = strings.ReplaceAll(before, "(bucket, bucket)", "(bucket)")
	testdb.StandInCitus(t, url, 2)
	testdb.Exec(t, url, "INSERT INTO breaks VALUES (1)")
	d := open(t, url)
	if did, err := d.Distribute(t.Context(), 4, true); len(did) != 1 || err == nil {
		t.Fatal(did, err)
	}
	if after := value[string](t, db, keys); after != before {
		t.Errorf("the keys are\n%s, want\n%s", after, before)
	}
	if unique := value[int](t, db, `SELECT count(*) FROM pg_index WHERE indisunique AND NOT indisprimary AND
		indrelid IN (SELECT attrelid FROM pg_attribute WHERE attname = 'bucket')`); unique != 0 {
		t.Errorf("%d unique indexes lack the bucket", unique)
	}
}

// notBegun distributes, which must be refused for this reason before anything is changed.
func notBegun(t *testing.T, url, why string) {
	t.Helper()
	if did, err := open(t, url).Distribute(t.Context(), 4, true); err == nil || len(did) != 0 ||
		!strings.Contains(err.Error(), why) || !strings.HasSuffix(err.Error(), "; nothing was changed") {
		t.Errorf("want %q: %v, %v", why, did, err)
	}
	if n := value[int](t, pool(t, url), "SELECT count(*) FROM buckets"); n != 1 {
		t.Errorf("%d buckets", n)
	}
}

func TestADistributionDoesNotBeginBesideRelays(t *testing.T) {
	t.Parallel()
	for _, application := range []string{"obscura", "obscura-notices"} {
		t.Run(application, func(t *testing.T) {
			t.Parallel()
			url := testdb.NewDivided(t, 1)
			testdb.StandInCitus(t, url, 2)
			relay, err := pgx.Connect(t.Context(), url+"&application_name="+application)
			if err != nil {
				t.Fatal(err)
			}
			notBegun(t, url, "relays, or other commands, are connected")
			if err := relay.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			if did, err := open(t, url).Distribute(t.Context(), 4, true); err != nil || len(did) == 0 {
				t.Errorf("at once when it has ended: %d steps, %v", len(did), err)
			}
		})
	}
}

func TestADistributionHasTheLockOfMigrations(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 1)
	testdb.StandInCitus(t, url, 2)
	starting, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = starting.Close(context.Background()) }()
	if _, err := starting.Exec(t.Context(), "SELECT pg_advisory_lock($1)", lock.DefaultLockID); err != nil {
		t.Fatal(err)
	}
	notBegun(t, url, "a relay starts")
	if _, err := starting.Exec(t.Context(), "SELECT pg_advisory_unlock($1)", lock.DefaultLockID); err != nil {
		t.Fatal(err)
	}
	d := open(t, url)
	for range 20 { // it is given back before an answer comes
		if _, err := d.Distribute(t.Context(), 4, true); err != nil {
			t.Fatal(err)
		}
		var free bool
		if err := starting.QueryRow(t.Context(), "SELECT pg_try_advisory_lock($1) AND pg_advisory_unlock($1)", lock.DefaultLockID).
			Scan(&free); err != nil || !free {
			t.Fatal("the lock is taken", err)
		}
	}
}

// Nobody else is there while a distribution is at work, not even for the time of a step: no second
// one, no relay that starts, and none that ran before, was cut off from the database, and comes
// back. The last one does not go on afterwards either, since it knows other buckets.
func TestADistributionIsAlone(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 1)
	testdb.StandInCitus(t, url, 2)
	testdb.Exec(t, url, "INSERT INTO holds VALUES (now())")
	cutOff, db := open(t, url), pool(t, url)
	if err := cutOff.CheckSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	cutOff.Pool().Reset()
	done := make(chan error, 1)
	first := open(t, url)
	go func() { _, err := first.Distribute(t.Context(), 4, true); done <- err }()
	wait.Eventually(t, "a step is under way", func() bool {
		return value[bool](t, db, `SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database()
			AND application_name = 'obscura-cluster' AND state = 'active' AND query LIKE 'SELECT create_distributed_table%'`)
	})
	const atWork = "obscura cluster distribute is at work on this database: wait until it has ended"
	if did, err := open(t, url).Distribute(t.Context(), 4, true); err == nil || len(did) != 0 || err.Error() != atWork+"; nothing was changed" {
		t.Errorf("a second one: %v, %v", did, err)
	}
	starting := open(t, url)
	if err := starting.AwaitReady(t.Context(), time.Second); err == nil || !strings.HasSuffix(err.Error(), ": "+atWork) {
		t.Errorf("a relay that starts: %v", err)
	}
	if err := cutOff.Ready(t.Context()); core.KindOf(err) != core.Unavailable ||
		!strings.HasSuffix(err.Error(), atWork) {
		t.Errorf("a relay that comes back: %v", err)
	}
	listening, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer listening.Close(t.Context())
	if err := storage.Admit(t.Context(), listening); core.KindOf(err) != core.Unavailable ||
		!strings.HasSuffix(err.Error(), atWork) {
		t.Errorf("its connection for notices: %v", err)
	}
	testdb.Exec(t, url, "DELETE FROM holds")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := cutOff.Ready(t.Context()); core.KindOf(err) != core.Unavailable ||
		!strings.HasSuffix(err.Error(), "knows another number of buckets, 1, than the database has since obscura cluster distribute: start it again") {
		t.Errorf("a relay that comes back afterwards: %v", err)
	}
	err = starting.AwaitReady(t.Context(), time.Minute)
	if err == nil {
		err = starting.CheckSchema(t.Context())
	}
	if err != nil {
		t.Errorf("a relay that starts afterwards: %v", err)
	}
}

func TestADistributionKeepsClaims(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 1)
	testdb.StandInCitus(t, url, 2)
	testdb.Exec(t, url, `INSERT INTO receipts (sender_device_id, key, slot, digest, invalid, claim)
		VALUES (gen_random_uuid(), gen_random_uuid(), 1, '', '{}', true)`)
	notBegun(t, url, "say --buckets=1")
	testdb.Exec(t, url, "DELETE FROM receipts")
	if did, err := open(t, url).Distribute(t.Context(), 4, true); err != nil || len(did) == 0 {
		t.Errorf("without claims: %d steps, %v", len(did), err)
	}
}

// A server that is gone refuses, one that is silent takes the connection. What lies on all servers
// is not asked for then, and nothing is begun.
func TestAClusterIsLookedAtWhileAWorkerIsUnavailable(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 1)
	testdb.Exec(t, url, fill)
	workers := testdb.StandInCitus(t, url, 3)
	d := open(t, url)
	if _, err := d.Distribute(t.Context(), 6, true); err != nil {
		t.Fatal(err)
	}
	c, err := d.ReadCluster(t.Context(), 0)
	if err != nil || c.Unavailable() != nil || c.Asked[1].Bytes == 0 {
		t.Fatalf("%v %v %v", err, c.Unavailable(), c.Asked)
	}
	places := fmt.Sprint(c.Places)
	testdb.Exec(t, url, `CREATE FUNCTION gone() RETURNS boolean LANGUAGE plpgsql AS $$
			BEGIN RAISE EXCEPTION 'a worker has gone' USING ERRCODE = '08006'; END $$;
		CREATE POLICY gone ON buckets USING (gone());
		CREATE POLICY gone ON receipts USING (gone());
		ALTER TABLE buckets ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
		ALTER TABLE receipts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY`)
	checkAway(t, d, places, workers[1].Die, "no answer within 5s")
	workers[1].Revive()
	checkAway(t, d, places, workers[1].Close, "connection refused")
}

func checkAway(t *testing.T, d *storage.DB, places string, goAway func(), why string) {
	t.Helper()
	goAway()
	begun := time.Now()
	c, err := d.ReadCluster(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 25*time.Second {
		t.Errorf("%s: it takes %s", why, took)
	}
	if said := fmt.Sprint(c.Unavailable()); c.Buckets != 6 || fmt.Sprint(c.Places) != places || c.Asked[3].Bytes == 0 ||
		!strings.HasPrefix(said, fmt.Sprintf("the worker %s is unavailable: ", c.Workers[1])) ||
		!strings.HasSuffix(said, why) || strings.Contains(said, "\n") {
		t.Errorf("%d buckets, %v, %v: %s", c.Buckets, c.Places, c.Asked, said)
	}
	if err := c.MayBegin(6, true); err == nil || !strings.HasSuffix(err.Error(), why) {
		t.Errorf("it may begin: %v", err)
	}
}

func TestADistributionSeesPoolersAndCopies(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 1)
	testdb.StandInCitus(t, url, 2)
	pooled := testdb.NewPgBouncer(t, url, "session")
	notBegun(t, pooled, "a pooler stands before the coordinator: name PostgreSQL itself by --database-url")
	at, err := pgx.ParseConfig(pooled)
	if err != nil {
		t.Fatal(err)
	}
	before := value[int](t, pool(t, url), "SELECT nodeport FROM pg_dist_node WHERE groupid = 2")
	testdb.Exec(t, url, fmt.Sprintf("UPDATE pg_dist_node SET nodeport = %d WHERE groupid = 2", at.Port))
	notBegun(t, url, fmt.Sprintf("a pooler stands before the worker 127.0.0.1:%d", at.Port))
	testdb.Exec(t, url, fmt.Sprintf("UPDATE pg_dist_node SET nodeport = %d WHERE groupid = 2", before))
	notBegun(t, url+"&options=-c%20citus.shard_replication_factor%3D2", "citus.shard_replication_factor is 2: set it to 1")
}
