package faults_test

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// spread puts the mailboxes, envelopes, gaps and receipts of the second of two buckets on a server
// of their own, as foreign tables. It stands in for Citus and is none. A transaction there sees no
// change that was committed since it began, so contention is answered with 503. One that concerns
// both servers would be committed on each by itself; no fault here meets one. Generic plans of
// changes would ask the second server whatever the bucket, so there are none.
const spread = `
CREATE EXTENSION postgres_fdw;
CREATE SERVER second FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '%s', dbname 'obscura', connect_timeout '2');
CREATE USER MAPPING FOR CURRENT_USER SERVER second OPTIONS (user 'obscura');
INSERT INTO buckets VALUES (1);
DROP TRIGGER witness ON messages;
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['mailboxes', 'messages', 'gaps', 'receipts'] LOOP
        EXECUTE format('ALTER TABLE %%I RENAME TO %%I', name, name || '_first');
        EXECUTE format('CREATE TABLE %%I (LIKE %%I INCLUDING DEFAULTS) PARTITION BY LIST (bucket)', name, name || '_first');
        EXECUTE format('ALTER TABLE %%I ATTACH PARTITION %%I FOR VALUES IN (0)', name, name || '_first');
        EXECUTE format('CREATE FOREIGN TABLE %%I PARTITION OF %%I FOR VALUES IN (1) SERVER second OPTIONS (table_name %%L)',
            name || '_second', name, name);
    END LOOP;
END $$;
CREATE FOREIGN TABLE audit.witness_second () INHERITS (audit.witness) SERVER second
    OPTIONS (schema_name 'audit', table_name 'witness');
CREATE FUNCTION audit.note_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF octet_length(NEW.body) >= 48 THEN
        INSERT INTO audit.witness VALUES (NEW.device_id, NEW.seq, encode(substring(NEW.body FROM 33 FOR 16), 'hex')::uuid);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER witness AFTER INSERT ON messages_first FOR EACH ROW EXECUTE FUNCTION audit.note_one();
CREATE FUNCTION clock.set_config(name text, value text, is_local boolean) RETURNS text LANGUAGE sql AS
    $$SELECT pg_catalog.set_config(name, CASE name WHEN 'plan_cache_mode' THEN 'force_custom_plan' ELSE value END, is_local)$$;
ALTER DATABASE obscura SET search_path = clock, pg_catalog, public;`

func (w *world) spread(t testing.TB) {
	t.Helper()
	w.between = newLink(t, w.second.dial)
	_, port, err := net.SplitHostPort(w.between.address)
	if err != nil {
		t.Fatal(err)
	}
	w.exec(t, fmt.Sprintf(spread, port))
}

// TestFaultsOfOneOfTwoServers breaks the server that has one of two buckets, in an order chosen at
// random, and again and again for as long as -soak says. The devices of the other bucket do not
// notice.
func TestFaultsOfOneOfTwoServers(t *testing.T) {
	t.Parallel()
	choices := newChoices(t)
	programs := foreignTables(t)
	w := &world{server: newServerOf(t, programs), second: newServerOf(t, programs)}
	w = startWorld(t, w, false, "127.0.0.1:0", nil)
	pair := w.pair(t)
	faults := []struct {
		name string
		do   func(*testing.T, *run)
	}{
		{"it is killed", func(t *testing.T, r *run) {
			w.second.stop(t, syscall.SIGKILL)
			r.refusals(t, senders)
			w.goesOn(t, pair)
			w.second.start(t)
		}},
		{"it is silent", func(t *testing.T, r *run) {
			heal := w.between.poison(downstream, fault{silent: true})
			r.refusals(t, senders)
			w.goesOn(t, pair)
			heal()
		}},
		{"it is slow", func(t *testing.T, r *run) {
			heal := w.between.poison(downstream, fault{latency: 60 * time.Millisecond, jitter: 50 * time.Millisecond})
			r.progress(t, 2*senders)
			w.goesOn(t, pair)
			heal()
		}},
	}
	for begun := time.Now(); ; {
		for _, i := range choices.Perm(len(faults)) {
			if !t.Run(faults[i].name, func(t *testing.T) { w.play(t, load{}, faults[i].do) }) {
				return
			}
		}
		if time.Since(begun) >= *soakFor {
			break
		}
	}
	for table, rows := range map[string]int64{
		"audit.witness": w.numbers(t, "SELECT count(*) FROM ONLY audit.witness")[0],
		"of the second": w.numbers(t, "SELECT count(*) FROM audit.witness_second")[0],
	} {
		if rows == 0 {
			t.Errorf("no envelope was stored on one of the servers: %s", table)
		}
	}
}

// foreignTables is a folder of PostgreSQL's programs that has postgres_fdw beside it, as Debian's.
// Empty: the one that is found otherwise.
func foreignTables(t testing.TB) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/lib/postgres_fdw.so")
	if len(found) == 0 {
		t.Log("this test needs postgres_fdw, which the PostgreSQL of npm lacks and which some systems have in a package of " +
			"their own: install Debian's postgresql, or that package")
		return ""
	}
	version := func(path string) int { n, _ := strconv.Atoi(strings.Split(path, "/")[4]); return n }
	newest := slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) })
	return filepath.Join(filepath.Dir(newest), "../bin")
}

// pair are two devices of the first bucket, whose mail no ledger counts.
func (w *world) pair(t *testing.T) (pair []*device) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}, Timeout: 8 * time.Second}
	t.Cleanup(client.CloseIdleConnections)
	for len(pair) < 2 {
		for _, d := range newDevices(t, w.nodes[0].url(), client, 2) {
			if d.id[1]%2 == 0 { // see storage.Buckets
				pair = append(pair, d)
			}
		}
	}
	return pair[:2]
}

// goesOn sends between two devices of the first bucket: nothing is refused, and nothing waits until
// a question to the second server is given up, which has 5 seconds.
func (w *world) goesOn(t *testing.T, pair []*device) {
	t.Helper()
	for n := range 20 {
		id := uuid.New()
		body, err := proto.Marshal(&obscurapb.SendMessageRequest{Messages: []*obscurapb.Submission{{SubmissionId: id[:],
			DeviceId: pair[1].id[:], Message: []byte("not of a ledger")}}})
		if err != nil {
			t.Fatal(err)
		}
		node, begun := w.nodes[n%len(w.nodes)], time.Now()
		if got := pair[0].call(t.Context(), http.MethodPost, node.url()+"/v1/messages", "application/x-protobuf", body,
			nil); got.status != http.StatusOK {
			t.Errorf("a send of the first bucket is answered with %d: %s", got.status, got.body)
			return
		}
		if took := time.Since(begun); took > 4*time.Second {
			t.Errorf("a send of the first bucket takes %v", took)
		}
	}
}
