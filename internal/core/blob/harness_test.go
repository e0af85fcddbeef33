package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// harness is a Service on a database of its own and, unless a test chose another store, a folder.
type harness struct {
	*Service
	t      testing.TB
	sql    *pgxpool.Pool
	folder string
	log    bytes.Buffer
}

type nobody struct{}

func (nobody) BlobBytes(bool, int64) {}

func newHarness(t testing.TB, address string) *harness {
	t.Helper()
	h := &harness{t: t, folder: t.TempDir()}
	url := testdb.NewURL(t)
	d, err := storage.Open(context.Background(), url, storage.Options{MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	if h.sql, err = pgxpool.New(context.Background(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.sql.Close)
	if address == "" {
		if address, err = FolderURL(h.folder); err != nil {
			t.Fatal(err)
		}
	}
	store, err := Open(address)
	if err != nil {
		t.Fatal(err)
	}
	h.Service = New(Config{DB: d, Store: store, Quota: 1 << 30, DailyQuota: 1 << 30, Counters: nobody{},
		Logger: slog.New(slog.NewJSONHandler(&h.log, nil))})
	return h
}

// user makes one with a device.
func (h *harness) user() core.Principal {
	h.t.Helper()
	p := core.Principal{User: uuid.New(), Session: uuid.New(), Device: uuid.New(), DeviceNumber: 1}
	h.exec(`INSERT INTO users (id, username, username_key, password_hash) VALUES ($1, $2, $2, '')`, p.User,
		p.User.String())
	h.exec(`INSERT INTO devices (id, user_id, number, registration_id, identity_key, signed_pre_key_id, signed_pre_key, signed_pre_key_sig)
		VALUES ($1, $2, 1, 1, '', 1, '', '')`, p.Device, p.User)
	h.exec(`INSERT INTO sessions (id, user_id, device_id, refresh_key, expires_at) VALUES ($1, $2, $3, '', now() + '1 hour')`, p.Session, p.User, p.Device)
	return p
}

func (h *harness) exec(sql string, args ...any) {
	h.t.Helper()
	if _, err := h.sql.Exec(context.Background(), sql, args...); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) count(sql string, args ...any) (n int) {
	h.t.Helper()
	if err := h.sql.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// files counts what is in a folder store.
func (h *harness) files() (n int) {
	h.t.Helper()
	err := filepath.WalkDir(h.folder, func(_ string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

// empty empties the trash until nothing is due, and wants that to work.
func (h *harness) empty() {
	h.t.Helper()
	if ok, err := h.emptyTrash(h.t.Context(), time.Second); !ok || err != nil {
		h.t.Errorf("the trash: %v, %v", ok, err)
	}
}

func (h *harness) upload(p core.Principal, content string) Attachment {
	h.t.Helper()
	a, err := h.StoreAttachment(h.t.Context(), p, int64(len(content)), bytes.NewReader([]byte(content)))
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

var errBroke = errors.New("the client has gone")

// broken is a body that breaks off.
func broken(content string) io.Reader {
	return io.MultiReader(bytes.NewReader([]byte(content)), failing{})
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBroke }
