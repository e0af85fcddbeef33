package device_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/device"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
)

// setUp makes a user with two devices, each with a session, and a service.
func setUp(t *testing.T) (*device.Service, storage.Buckets, *pgxpool.Pool, [2]core.Principal) {
	t.Helper()
	url := testdb.NewURL(t)
	open, err := storage.Open(context.Background(), url, storage.Options{MaxConns: 4})
	if err == nil {
		err = open.CheckSchema(t.Context())
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
	user := uuid.New()
	exec := func(statement string, args ...any) {
		if _, err := sql.Exec(t.Context(), statement, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO users (id, username, username_key, password_hash) VALUES ($1, 'bob', 'bob', '')`, user)
	var devices [2]core.Principal
	for i := range devices {
		p := core.Principal{User: user, Device: uuid.New(), Session: uuid.New(), DeviceNumber: uint8(i + 1)}
		exec(`INSERT INTO devices (id, user_id, number, registration_id, identity_key, signed_pre_key_id, signed_pre_key, signed_pre_key_sig)
			VALUES ($1, $2, $3, 1, '', 1, '', '')`, p.Device, user, i+1)
		exec(`INSERT INTO pre_key_stocks (device_id, bucket) VALUES ($1, $2)`, p.Device, open.Buckets().Bucket(p.Device))
		exec(`INSERT INTO mailboxes (device_id, bucket) VALUES ($1, $2)`, p.Device, open.Buckets().Bucket(p.Device))
		exec(`INSERT INTO sessions (id, user_id, device_id, refresh_key, expires_at) VALUES ($1, $2, $3, '', now() + '1 hour')`, p.Session, user, p.Device)
		devices[i] = p
	}
	return device.New(device.Config{DB: open, Node: silent{}}), open.Buckets(), sql, devices
}

// begin opens a transaction that holds the stock of a device.
func begin(t *testing.T, n storage.Buckets, sql *pgxpool.Pool, p core.Principal) pgx.Tx {
	t.Helper()
	tx, err := sql.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := storage.Queries.LockPreKeyStock(t.Context(), tx,
		db.LockPreKeyStockParams(n.Place(p.Device))); err != nil {
		t.Fatal(err)
	}
	return tx
}

// An upload holds its session and then the stock.
func TestADeletionAndAnUploadDoNotBlockEachOther(t *testing.T) {
	t.Parallel()
	service, n, sql, devices := setUp(t)
	tx, err := sql.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held := db.HoldSessionParams{ID: devices[0].Session, UserID: devices[0].User}
	if found, err := storage.Queries.HoldSession(t.Context(), tx, held); err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	deleted := make(chan error, 1)
	go func() { deleted <- service.Delete(context.Background(), devices[1], devices[0].Device) }()
	testdb.AwaitWaiting(t, sql, 1)
	if _, err := storage.Queries.LockPreKeyStock(t.Context(), tx,
		db.LockPreKeyStockParams(n.Place(devices[0].Device))); err != nil {
		t.Errorf("the upload: %v", err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Errorf("the upload: %v", err)
	}
	if err := <-deleted; err != nil {
		t.Errorf("the deletion: %v", err)
	}
}

// A hand-out locks the stocks of a user's devices in the order of their ids, which may be any.
func TestAnExportAndAHandOutDoNotBlockEachOther(t *testing.T) {
	t.Parallel()
	service, n, sql, devices := setUp(t)
	tx := begin(t, n, sql, devices[1])
	type answer struct {
		devices []device.Export
		err     error
	}
	exported := make(chan answer, 1)
	go func() {
		all, err := service.Export(context.Background(), devices[0].User)
		exported <- answer{all, err}
	}()
	testdb.AwaitWaiting(t, sql, 1)
	if _, err := storage.Queries.LockPreKeyStock(t.Context(), tx,
		db.LockPreKeyStockParams(n.Place(devices[0].Device))); err != nil {
		t.Errorf("the hand-out: %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	got := <-exported
	if got.err != nil || len(got.devices) != 2 || got.devices[0].Device.ID != devices[0].Device ||
		got.devices[1].Device.Number != 2 {
		t.Errorf("the export: %+v", got)
	}
}
