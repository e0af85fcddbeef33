package property_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// world is who the requests are about. Nothing but the requests of one test changes it.
type world struct {
	testing.TB // of the operation that is being tested
	made       time.Time
	relay      *relaytest.Relay
	http       *http.Client
	// self makes requests that hurt nobody, peer is somebody else, past is of a session that has
	// ended.
	self, peer *relaytest.Device
	past       string
	// token is a delivery token of peer.
	token []byte
	// refresh is the newest refresh token of self.
	refresh string
	// spare is for requests that end something; whoever uses it up sets it to nil. owner may have
	// more devices.
	spare   *relaytest.Device
	owner   *relaytest.User
	devices int // that the owner has had
	keyID   int // the highest that was used
	// attachment is one that self has uploaded, with a backup; nil before.
	attachment uuid.UUID

	database *pgxpool.Pool
	state    string // the statement of changed
}

func newWorld(t testing.TB, relay *relaytest.Relay, database *pgxpool.Pool) *world {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	w := &world{TB: t, made: time.Now(), relay: relay, http: &http.Client{Transport: transport, Timeout: patience},
		database: database,
		self:     relay.Register(t).NewDevice(t), peer: relay.Register(t).NewDevice(t)}
	w.refresh = w.self.Refresh
	gone := w.self.User.NewDevice(t)
	if got, err := w.self.DeleteDeviceWithResponse(t.Context(), gone.ID); err != nil ||
		got.StatusCode() != http.StatusOK {
		t.Fatalf("delete: %v", err)
	}
	w.past, w.token = gone.Token, w.peer.NewDeliveryToken(t)
	return w
}

// user returns one that may have another device.
func (w *world) user() *relaytest.User {
	if w.owner == nil || w.devices == core.MaxDevices {
		w.owner, w.devices = w.relay.Register(w), 0
	}
	return w.owner
}

// device returns the spare one.
func (w *world) device() *relaytest.Device {
	if w.spare == nil {
		w.spare = w.user().NewDevice(w)
		w.devices++
	}
	return w.spare
}

// blobs sees to it that self has an attachment, which it returns, and a backup.
func (w *world) blobs() uuid.UUID {
	if w.attachment == uuid.Nil {
		w.attachment = e2e.Attach(w, w.self, []byte("ciphertext")).ID
		e2e.BackUp(w, w.self, 0, bytes.Repeat([]byte("x"), core.MinBackup)) // unless there is one
	}
	return w.attachment
}

func (w *world) forgetWrongPasswords() {
	if _, err := w.database.Exec(w.Context(), "DELETE FROM wrong_passwords"); err != nil {
		w.Fatal(err)
	}
}

// snapshot says which version of which rows there are in the database: every write changes it, and
// nothing else does. (The trash is emptied by itself.)
func (w *world) snapshot() string {
	w.Helper()
	if w.state == "" {
		rows, _ := w.database.Query(w.Context(),
			"SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN ('blob_trash', 'push_wakeups', 'wrong_passwords') ORDER BY 1") // told again below; two move by themselves, one counts what is refused
		tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(tables) < 10 {
			w.Fatalf("tables %v, %v", tables, err)
		}
		var parts []string
		for _, table := range tables {
			parts = append(parts,
				fmt.Sprintf("SELECT '%[1]s ' || count(*) || ' ' || coalesce(sum(hashtextextended(ctid::text || xmin::text, 0)), 0) FROM ONLY %[1]s", table))
		}
		w.state = strings.Join(parts, " UNION ALL ")
	}
	rows, _ := w.database.Query(w.Context(), w.state) // told again below
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
