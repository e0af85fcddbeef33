package queries_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

func TestTheTablesOfDevicesAreThoseWithABucket(t *testing.T) {
	t.Parallel()
	rows, err := testdb.New(t).Query(t.Context(), `
		SELECT c.relname, array(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid
		                        AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype, 'interval'::regtype))
		FROM pg_class c JOIN pg_attribute b ON b.attrelid = c.oid AND b.attname = 'bucket' AND NOT b.attisdropped
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind NOT IN ('i', 'I')`)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	var table string
	var times []string
	_, err = pgx.ForEachRow(rows, []any{&table, &times}, func() error {
		found[table] = true
		for _, column := range times {
			if !strings.HasSuffix(column, "_at") {
				t.Errorf("%s.%s is a time, and its name does not end in _at: the rule %q would not see it", table, column,
					timeOfColumn)
			}
		}
		return nil
	})
	if err != nil || !maps.Equal(found, ofDevices) {
		t.Errorf("tables with a bucket: %v, listed: %v; %v", slices.Sorted(maps.Keys(found)),
			slices.Sorted(maps.Keys(ofDevices)), err)
	}
}

// split makes each table of devices one with a partition for each of three buckets.
const split = `
DO $$
DECLARE
	name text; keys text; bucket int;
BEGIN
	FOR name IN SELECT c.relname FROM pg_class c JOIN pg_attribute ON attrelid = c.oid AND attname = 'bucket'
		WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
	LOOP
		SELECT string_agg(attname, ', ' ORDER BY array_position(conkey, attnum)) FROM pg_constraint
			JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey) AND attname <> 'bucket'
			WHERE conrelid = name::regclass AND contype = 'p' INTO keys;
		EXECUTE format('ALTER TABLE %I RENAME TO before', name);
		EXECUTE format('ALTER TABLE before RENAME CONSTRAINT %I TO before_key', name || '_pkey');
		EXECUTE format('CREATE TABLE %I (LIKE before INCLUDING DEFAULTS) PARTITION BY LIST (bucket)', name);
		EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (%s)', name, concat_ws(', ', keys, 'bucket'));
		FOR bucket IN 0..2 LOOP
			EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES IN (%s)', 'bucket' || bucket || '_of_' || name, name, bucket);
		END LOOP;
		DROP TABLE before CASCADE;
	END LOOP;
END $$;
CREATE INDEX ON push_wakeups (kind, due_at)`

// divided is a database whose tables of devices have a partition for each bucket. The statements
// are planned each time, for the values that they get.
func divided(t *testing.T) *pgxpool.Conn {
	t.Helper()
	conn, err := testdb.New(t).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Release)
	for _, sql := range []string{split, "SET plan_cache_mode = force_custom_plan"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

// values are what a parameter of a type may be. The number is that of the bucket.
var values = map[string]string{"smallint": "1", "integer": "1", "bigint": "1", "uuid": "'11111111-1111-1111-1111-111111111111'",
	"text": "'1'", "bytea": `'\x31'`, "boolean": "true", "interval": "'1 s'", "timestamp with time zone": "now()"}

// read are the buckets that the plan of a statement reads from, for bucket 1.
func read(t *testing.T, conn *pgxpool.Conn, s statement) []string {
	t.Helper()
	if _, err := conn.Exec(t.Context(), "PREPARE s AS "+s.sql); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	var types []string
	if err := conn.QueryRow(t.Context(),
		"SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 's'").Scan(&types); err != nil {
		t.Fatal(err)
	}
	args := make([]string, len(types))
	for i, of := range types {
		element, array := strings.CutSuffix(strings.Trim(of, `"`), "[]")
		args[i] = values[element]
		if array {
			args[i] = "ARRAY[" + args[i] + "]::" + of
		}
		if args[i] == "" {
			t.Fatalf("%s: no value of type %s", s.name, of)
		}
	}
	call := "s"
	if len(args) > 0 {
		call = fmt.Sprintf("s(%s)", strings.Join(args, ", "))
	}
	var plan []byte
	if err := conn.QueryRow(t.Context(), "EXPLAIN (FORMAT JSON) EXECUTE "+call).Scan(&plan); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	var tree any
	if err := json.Unmarshal(plan, &tree); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "DEALLOCATE s"); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	var look func(tree any)
	look = func(tree any) {
		switch tree := tree.(type) {
		case []any:
			for _, one := range tree {
				look(one)
			}
		case map[string]any:
			if name, ok := tree["Relation Name"].(string); ok {
				if bucket, _, is := strings.Cut(name, "_of_"); is {
					found[bucket] = true
				}
			}
			for _, one := range tree {
				look(one)
			}
		}
	}
	look(tree)
	return slices.Sorted(maps.Keys(found))
}

func TestEachStatementReadsOnePartition(t *testing.T) {
	t.Parallel()
	conn := divided(t)
	looked := 0
	for _, s := range statements(t) {
		if !s.ofBucket { // TestEachStatementConcernsOneBucket says that it is not of devices
			continue
		}
		got := read(t, conn, s)
		if len(got) > 1 || len(got) == 1 && got[0] != "bucket1" {
			t.Errorf("%s reads %v", s.name, got)
		}
		looked += len(got)
	}
	if looked < 60 {
		t.Errorf("%d statements read a partition", looked)
	}
}

func TestAStatementThatReadsOtherPartitionsIsFound(t *testing.T) {
	t.Parallel()
	conn := divided(t)
	for sql, want := range map[string][]string{
		`SELECT 1 FROM gaps g WHERE g.bucket = @bucket AND g.reason = 1`: {"bucket1"},
		`SELECT 1 FROM gaps g WHERE g.device_id = @id AND @bucket = 1`:   {"bucket0", "bucket1", "bucket2"},
		`SELECT 1 FROM mailboxes m LEFT JOIN LATERAL (
			SELECT x.seq FROM messages x WHERE x.bucket = m.bucket AND x.device_id = m.device_id LIMIT 1
		) o ON true WHERE m.bucket = @bucket AND o.seq > 1`: {"bucket0", "bucket1", "bucket2"},
		`DELETE FROM messages x WHERE (x).ctid = ANY(ARRAY(
			SELECT (m).ctid FROM messages m WHERE m.bucket = @bucket))`: {"bucket0", "bucket1", "bucket2"},
	} {
		if got := read(t, conn, number("planted", sql)); !slices.Equal(got, want) {
			t.Errorf("%s reads %v, want %v", sql, got, want)
		}
	}
}
