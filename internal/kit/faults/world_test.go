package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// world is two nodes on one PostgreSQL, and for as long as its test lives.
type world struct {
	server *server
	nodes  [2]*node
	nats   *natsserver.Server // nil when hints go through the database
	// second has the other of two buckets, and between is the way to it; nil: there is one server.
	second  *server
	between *link
	held    string // URL of a socket that stays open whichever node runs; empty: there is none

	mu     sync.Mutex
	wrong  []string // guarded by mu: what nodes did that no test asked for
	fronts [2]*link // guarded by mu: set while clients go through proxies of their own
}

// audit is the test's own eyes inside the database. The witness notes every envelope that is
// committed, with the name that its sender gave it, so the ledger knows each sequence and not only
// their number. The clock stands before PostgreSQL's own in the search path, so what the relay
// calls now() can be moved: it decides about mail, sessions and tickets. (libfaketime does not
// reach the relay: a Go program asks the kernel for the time, not the C library. The node's own
// clock, which ends access tokens and looks for signing keys every hour, stays.) What has the time
// by default has that of the moved clock too.
const audit = `
CREATE SCHEMA audit;
CREATE TABLE audit.witness (device_id uuid, seq bigint, payload uuid);
CREATE INDEX ON audit.witness (device_id);
CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO audit.witness SELECT device_id, seq, encode(substring(body FROM 33 FOR 16), 'hex')::uuid FROM added
        WHERE octet_length(body) >= 48; -- the envelope by which a node tries the database is shorter
    RETURN NULL;
END $$;
CREATE TRIGGER witness AFTER INSERT ON messages REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION audit.note();
CREATE SCHEMA clock;
CREATE TABLE clock.ahead (by interval NOT NULL);
INSERT INTO clock.ahead VALUES ('0');
CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT pg_catalog.now() + (SELECT by FROM clock.ahead)';
CREATE FUNCTION clock.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT pg_catalog.statement_timestamp() + (SELECT by FROM clock.ahead)';
DO $$ DECLARE c record; BEGIN
    FOR c IN SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND column_default = 'now()' LOOP
        EXECUTE format('ALTER TABLE %I ALTER %I SET DEFAULT clock.now()', c.table_name, c.column_name);
    END LOOP;
END $$;`

// drainTime is how long nodes take their leave of clients.
const drainTime = time.Second

// clockPath is the search path of the nodes.
const clockPath = "&search_path=public,clock,pg_catalog"

func newWorld(t testing.TB, withNATS bool) *world {
	t.Helper()
	return newWorldAt(t, withNATS, "127.0.0.1:0", nil)
}

// newWorldAt is newWorld with an address of the API, and a socket that is held open for both nodes.
func newWorldAt(t testing.TB, withNATS bool, address string, socket *os.File) *world {
	t.Helper()
	return startWorld(t, &world{server: newServer(t)}, withNATS, address, socket)
}

func startWorld(t testing.TB, w *world, withNATS bool, address string, socket *os.File) *world {
	t.Helper()
	folder, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	if socket != nil {
		w.held = "http://" + address
	}
	t.Cleanup(func() {
		for _, complaint := range w.complaints() {
			t.Error(complaint)
		}
	})
	w.server.prepare(t, folder)
	if w.second != nil {
		w.second.prepare(t, folder)
		w.spread(t)
	}
	if withNATS {
		w.startNATS(t, -1)
		t.Cleanup(w.stopNATS)
	}
	for i, name := range []string{"A", "B"} {
		db := newLink(t, w.server.dial)
		w.nodes[i] = &node{name: name, db: db, folder: t.TempDir(), socket: socket, complain: w.complain, env: []string{
			"PATH=" + os.Getenv("PATH"), "OBSCURA_LISTEN=" + address, "OBSCURA_MANAGEMENT_LISTEN=127.0.0.1:0",
			"OBSCURA_DATABASE_URL=postgres://obscura@" + db.address + "/obscura?sslmode=disable" + clockPath,
			"OBSCURA_RATE_LIMITS=off", "OBSCURA_POLL_INTERVAL=1s", "OBSCURA_REQUEST_TIMEOUT=4s",
			"OBSCURA_DRAIN_TIME=" + drainTime.String(), "OBSCURA_SHUTDOWN_TIMEOUT=5s",
		}}
		if w.nats != nil {
			w.nodes[i].env = append(w.nodes[i].env, "OBSCURA_NATS_URL="+w.nats.ClientURL())
		}
		w.nodes[i].start(t)
		t.Cleanup(func() { w.nodes[i].end(t, syscall.SIGKILL) })
	}
	w.awaitReady(t)
	return w
}

// prepare makes the tables, and what the test adds to them.
func (s *server) prepare(t testing.TB, folder string) {
	t.Helper()
	migrate := exec.CommandContext(t.Context(), filepath.Join(folder, "obscura"), "migrate")
	migrate.Env = []string{"OBSCURA_DATABASE_URL=" + s.current().URL()}
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v\n%s", err, out)
	}
	s.exec(t, audit)
}

func (w *world) complain(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

func (w *world) complaints() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	wrong := w.wrong
	w.wrong = nil
	return wrong
}

func (w *world) awaitReady(t testing.TB) {
	t.Helper()
	for _, n := range w.nodes {
		n.awaitReady(t)
	}
}

// entrance is the URL of a node that runs, any of them, preferably the given one; empty when none
// does.
func (w *world) entrance(preferred int) string {
	if w.held != "" {
		return w.held
	}
	w.mu.Lock()
	fronts := w.fronts
	w.mu.Unlock()
	for i := range w.nodes {
		n := (preferred + i) % len(w.nodes)
		if fronts[n] != nil {
			return "http://" + fronts[n].address
		}
		if url := w.nodes[n].url(); url != "" {
			return url
		}
	}
	return ""
}

func (w *world) anyEntrance() string { return w.entrance(rand.N(len(w.nodes))) }

// openFronts makes clients connect through proxies of their own, from now on.
func (w *world) openFronts(t testing.TB) [2]*link {
	t.Helper()
	var fronts [2]*link
	for i, n := range w.nodes {
		address := strings.TrimPrefix(n.url(), "http://")
		fronts[i] = newLink(t, func() (net.Conn, error) { return net.Dial("tcp", address) })
	}
	w.mu.Lock()
	w.fronts = fronts
	w.mu.Unlock()
	return fronts
}

func (w *world) closeFronts() {
	w.mu.Lock()
	fronts := w.fronts
	w.fronts = [2]*link{}
	w.mu.Unlock()
	for _, f := range fronts {
		f.cut()
	}
}

// exec runs a statement on the database, past all faults.
func (w *world) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	w.server.exec(t, sql, args...)
}

func (s *server) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	conn, err := s.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// numbers runs a query for one column of numbers.
func (w *world) numbers(t testing.TB, sql string, args ...any) []int64 {
	t.Helper()
	conn, err := w.server.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out []int64
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// sockets counts the live sockets of both nodes, as they tell themselves.
func (w *world) sockets(t testing.TB) int {
	t.Helper()
	sum := 0
	for _, n := range w.nodes {
		n.mu.Lock()
		management := n.management
		n.mu.Unlock()
		status, body, err := ask(management + "/metrics")
		if err != nil || status != http.StatusOK {
			return -1
		}
		for line := range strings.Lines(string(body)) {
			if value, ok := strings.CutPrefix(line, "obscura_live_sockets "); ok {
				f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				if err != nil {
					t.Fatal(err)
				}
				sum += int(f)
			}
		}
	}
	return sum
}

func (w *world) startNATS(t testing.TB, port int) {
	t.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: port, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS did not start")
	}
	w.nats = s
}

// natsPort is where NATS listens, so that the next one can listen there too.
func (w *world) natsPort(t testing.TB) int {
	t.Helper()
	u, err := url.Parse(w.nats.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func (w *world) stopNATS() {
	w.nats.Shutdown()
	w.nats.WaitForShutdown()
}
