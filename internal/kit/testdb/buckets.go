package testdb

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// bucketsVariable names how many buckets the databases of tests have; 1 when it is not set.
const bucketsVariable = "OBSCURA_TEST_BUCKETS"

// bucketsSaid is how many the variable says.
func bucketsSaid() (int, error) {
	text := os.Getenv(bucketsVariable)
	if text == "" {
		return 1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s is not a number of buckets: %q", bucketsVariable, text)
	}
	return n, nil
}

// divide gives a template with one bucket more of them. What the relay stores in another bucket
// than its device's is refused then; what a test stores by itself goes into the right one.
func divide(ctx context.Context, db *sql.DB, n int) error {
	if n == 1 {
		return nil
	}
	_, err := db.ExecContext(ctx, fmt.Sprintf(`
		INSERT INTO buckets SELECT generate_series(1, %[1]d - 1);
		CREATE FUNCTION bucket_of() RETURNS trigger LANGUAGE plpgsql AS $$
		DECLARE
			id bytea;
			right_one smallint;
		BEGIN
			IF TG_ARGV[0] = 'receipts' THEN
				id := uuid_send(NEW.sender_device_id);
			ELSE
				id := uuid_send(NEW.device_id);
			END IF;
			right_one := (get_byte(id, 0) * 256 + get_byte(id, 1)) %% %[1]d;
			IF NEW.bucket <> right_one AND current_setting('application_name') = 'obscura' THEN
				RAISE EXCEPTION 'a row of %% has bucket %% and not %%', TG_ARGV[0], NEW.bucket, right_one;
			END IF;
			NEW.bucket := right_one;
			RETURN NEW;
		END $$;
		DO $$
		DECLARE name text;
		BEGIN
			FOR name IN SELECT attrelid::regclass FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
				WHERE attname = 'bucket' AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'buckets'
			LOOP
				EXECUTE format('CREATE TRIGGER bucket_of BEFORE INSERT ON %%s FOR EACH ROW EXECUTE FUNCTION bucket_of(%%L)',
					name, name);
			END LOOP;
		END $$`, n))
	return err
}

// Away makes a bucket unavailable until back is called, as it is when the server that has it cannot
// be reached: what reads or changes a row of it fails, and the rest goes on.
func Away(t testing.TB, url string, bucket int) (back func()) {
	t.Helper()
	disturb(t, url, bucket, "RAISE EXCEPTION 'away' USING ERRCODE = 'connection_failure'")
	return func() { disturb(t, url, bucket, "NULL") }
}

// hangLock is held while a bucket hangs.
const hangLock = 0x68616e67

// Hang makes a bucket hang until back is called, or the test ends: what reads or changes a row of
// it is not answered, and heeds no timeout of its session, as when the server that has it is
// silent.
func Hang(t testing.TB, url string, bucket int) (back func()) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err == nil {
		_, err = conn.Exec(context.Background(), "SELECT pg_advisory_lock($1)", hangLock)
	}
	if err != nil {
		t.Fatal(err)
	}
	back = sync.OnceFunc(func() { _ = conn.Close(context.Background()) })
	t.Cleanup(back)
	disturb(t, url, bucket, fmt.Sprintf(`LOOP
		BEGIN
			PERFORM pg_advisory_xact_lock_shared(%d);
			EXIT;
		EXCEPTION WHEN query_canceled OR lock_not_available THEN NULL;
		END;
	END LOOP`, hangLock))
	return back
}

// disturb has everything that meets a row of a bucket do something first.
func disturb(t testing.TB, url string, bucket int, what string) {
	t.Helper()
	Exec(t, url, fmt.Sprintf(`CREATE OR REPLACE FUNCTION reachable(bucket smallint) RETURNS boolean LANGUAGE plpgsql AS $$
			BEGIN
				IF bucket = %d THEN %s; END IF;
				RETURN true;
			END $$;`, bucket, what)+`
		DO $$
		DECLARE name text;
		BEGIN
			FOR name IN SELECT attrelid::regclass FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
				WHERE attname = 'bucket' AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'buckets'
				AND NOT relrowsecurity
			LOOP
				EXECUTE format('CREATE POLICY reachable ON %s USING (reachable(bucket))', name);
				EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
			END LOOP;
		END $$`)
}
