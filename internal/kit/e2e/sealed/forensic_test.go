package sealed_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/postgres"
)

// What the relay writes while known users send sealed mail: rows, write-ahead log, its own log and
// metrics. The senders are in the database, since they have accounts; what is searched is what came
// while they wrote. Named mail, sent in the same way, is found: the search can fail.
func TestNothingThatIsWrittenNamesASealedSender(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "postgres")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	// Without images of whole pages, on which a sender's own row stands beside the recipient's.
	cluster, err := postgres.Start(t.Context(), postgres.Config{DataDir: folder, BinDir: testdb.BinDir(),
		Settings: map[string]string{"full_page_writes": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.Stop(t.Context()) })
	relay := relaytest.StartOn(t, cluster.URL())
	db := e2e.Database(t, relay)
	var senders []*relaytest.Device
	for range 3 {
		senders = append(senders, relay.Register(t).NewDevice(t))
	}
	bob := relay.Register(t).NewDevice(t)
	token, path := bob.NewDeliveryToken(t), "/v1/users/"+bob.User.ID.String()
	for i, d := range senders { // they have mail of their own and open sockets, as people have
		d.Send(t, nil, relaytest.To(senders[(i+1)%3].ID, "before"))
		d.Connect(t).Drain()
	}
	sealedDay := func() {
		for i := range 30 {
			unnamedFetch(t, relay, path, token).Want(t, 200, "")
			unnamedFetch(t, relay, path+"/devices", token).Want(t, 200, "")
			one := relaytest.Sealed(bob.ID, fmt.Sprint(i), token)
			if failed := relay.SendSealed(t, uuid.New(), one); len(failed) != 0 {
				t.Fatal(failed)
			}
			relay.SendSealed(t, uuid.New(), relaytest.Sealed(bob.ID, "x", relaytest.DeliveryToken()))
		}
		for _, d := range senders { // careless ones
			ask := e2e.Ask{Method: "POST", Path: "/v1/messages/sealed", Media: "application/x-protobuf", Token: d.Token,
				Header: map[string]string{"Idempotency-Key": uuid.NewString(), "X-Request-Id": d.ID.String()}}
			ask.To(t, relay).Want(t, 400, "identified_request")
			ask.Token = ""
			ask.To(t, relay).Want(t, 200, "")
			fetch := e2e.Ask{Method: "GET", Path: path, Header: map[string]string{"X-Request-Id": d.ID.String(),
				"Delivery-Token": base64.RawURLEncoding.EncodeToString(token)}}
			if got := fetch.To(t, relay).Want(t, 200, ""); got.Header.Get("X-Request-Id") != d.ID.String() {
				t.Errorf("the request id is %q", got.Header.Get("X-Request-Id"))
			}
		}
	}
	if found := writtenOf(t, relay, db, folder, senders, sealedDay); len(found) != 0 {
		t.Errorf("sealed mail left its sender in %v", found)
	}
	if n := e2e.Count(t, db, "SELECT count(*) FROM messages WHERE device_id = $1", bob.ID); n != 30 {
		t.Errorf("%d envelopes, want 30", n)
	}
	// No join leads from an envelope or a receipt to a user or a device.
	for _, query := range []string{
		`SELECT count(*) FROM messages m WHERE m.device_id = $1 AND (EXISTS (SELECT FROM users u WHERE u.id = m.sender_id)
			OR EXISTS (SELECT FROM devices d WHERE d.id IN (m.sender_device_id, m.sender_id)) OR m.sender_number <> 0)`,
		`SELECT count(*) FROM receipts r WHERE $1::uuid IS NOT NULL AND NOT EXISTS (SELECT FROM devices d
			WHERE d.id = r.sender_device_id) AND (EXISTS (SELECT FROM devices d WHERE d.id = r.key) OR EXISTS (
			SELECT FROM users u WHERE u.id IN (r.key, r.sender_device_id)) OR EXISTS (
			SELECT FROM sessions s WHERE s.id IN (r.key, r.sender_device_id)))`,
	} {
		if n := e2e.Count(t, db, query, bob.ID); n != 0 {
			t.Errorf("%d rows lead to a sender: %s", n, query)
		}
	}
	found := writtenOf(t, relay, db, folder, senders, func() {
		for _, d := range senders {
			d.Send(t, nil, relaytest.To(bob.ID, "named"))
		}
	})
	for _, place := range []string{"messages", "receipts", "write-ahead log"} {
		if !slices.Contains(found, place) {
			t.Errorf("named mail is not found in %s: the search finds nothing", place)
		}
	}
}

// writtenOf says where ids of devices, their users and sessions stand in what is written while do
// runs.
func writtenOf(t *testing.T, relay *relaytest.Relay, db *pgxpool.Pool, folder string, of []*relaytest.Device,
	do func()) (found []string) {
	t.Helper()
	var ids []uuid.UUID
	for _, d := range of {
		ids = append(ids, d.ID, d.User.ID)
	}
	rows, _ := db.Query(t.Context(), "SELECT id FROM sessions WHERE user_id = ANY($1)", ids)
	sessions, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil || len(sessions) < len(of) {
		t.Fatalf("%d sessions, %v", len(sessions), err)
	}
	ids = append(ids, sessions...)
	before := rowsOf(t, db, ids)
	logged := len(relay.Log.String())
	e2e.Execute(t, db, "CHECKPOINT")
	var from string
	if err := db.QueryRow(t.Context(), "SELECT pg_walfile_name(pg_switch_wal())").
		Scan(&from); err != nil {
		t.Fatal(err)
	}
	do()
	for table, n := range rowsOf(t, db, ids) {
		if n > before[table] {
			found = append(found, table)
		}
	}
	e2e.Execute(t, db, "SELECT pg_switch_wal()")
	_, metrics := e2e.Manage(t, relay, "/metrics")
	for place, text := range map[string]string{"write-ahead log": walAfter(t, folder, from),
		"log": relay.Log.String()[logged:], "metrics": metrics} {
		if slices.ContainsFunc(ids, func(id uuid.UUID) bool {
			return strings.Contains(text, string(id[:])) || strings.Contains(text, id.String()) ||
				strings.Contains(text, hex.EncodeToString(id[:]))
		}) {
			found = append(found, place)
		}
	}
	return found
}

// rowsOf counts the rows of each table that hold one of these ids.
func rowsOf(t *testing.T, db *pgxpool.Pool, ids []uuid.UUID) map[string]int {
	t.Helper()
	rows, _ := db.Query(t.Context(), "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename !~ '^receipts_'")
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 20 {
		t.Fatalf("tables %v, %v", tables, err)
	}
	var patterns []string
	for _, id := range ids {
		patterns = append(patterns, "%"+id.String()+"%", "%"+hex.EncodeToString(id[:])+"%")
	}
	counts := map[string]int{}
	for _, table := range tables {
		counts[table] = e2e.Count(t, db, "SELECT count(*) FROM "+table+" row WHERE row::text LIKE ANY($1)", patterns)
	}
	return counts
}

// walAfter reads the segments of the write-ahead log behind one.
func walAfter(t *testing.T, folder, segment string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*", "pg_wal", strings.Repeat("[0-9A-F]", 24)))
	if err != nil || len(files) == 0 {
		t.Fatalf("no write-ahead log in %s: %v", folder, err)
	}
	var out bytes.Buffer
	for _, file := range files {
		if filepath.Base(file) <= segment {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		out.Write(content)
	}
	return out.String()
}
