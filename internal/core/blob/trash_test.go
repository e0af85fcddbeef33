package blob

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/storage"
)

func TestASweepTakesWhatIsOverAndGivesTheUsageBack(t *testing.T) {
	t.Parallel()
	h := newHarness(t, "")
	one, two := h.user(), h.user()
	large := strings.Repeat("x", leastCounted+7)
	for range 3 {
		h.upload(one, "12345")
		h.upload(two, large)
	}
	h.exec("UPDATE attachments SET expires_at = now() WHERE id IN (SELECT id FROM attachments WHERE user_id = $1 LIMIT 2)", one.User)
	h.exec("UPDATE attachments SET expires_at = now() WHERE user_id = $1", two.User)
	// One whose process died: it counts for nothing.
	h.exec("INSERT INTO attachments (id, user_id, size, expires_at) VALUES (gen_random_uuid(), $1, 100, now())",
		two.User)
	h.exec("UPDATE attachment_usage SET stored_bytes = stored_bytes + $2, day_bytes = day_bytes + $2 WHERE user_id = $1", two.User, leastCounted)
	if err := h.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.empty()
	if n := h.files(); n != 1 {
		t.Errorf("%d blobs are left", n)
	}
	for user, want := range map[uuid.UUID][2]int{one.User: {leastCounted, 3 * leastCounted},
		two.User: {0, 3 * len(large)}} {
		stored, day := h.count("SELECT stored_bytes FROM attachment_usage WHERE user_id = $1", user),
			h.count("SELECT day_bytes FROM attachment_usage WHERE user_id = $1", user)
		if stored != want[0] || day != want[1] {
			t.Errorf("%d bytes stored, %d in the day; want %v", stored, day, want)
		}
	}
	if n := h.count("SELECT count(*) FROM blob_trash"); n != 0 {
		t.Errorf("%d wait in the trash", n)
	}
}

func TestASweepOfManyIsDoneInSteps(t *testing.T) {
	t.Parallel()
	h := newHarness(t, "")
	h.exec(`INSERT INTO attachments (id, user_id, size, expires_at, stored)
		SELECT gen_random_uuid(), gen_random_uuid(), 1, now(), true FROM generate_series(1, $1)`, 2*sweepBatch+7)
	if err := h.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := h.count("SELECT count(*) FROM blob_trash"); n != 2*sweepBatch+7 {
		t.Errorf("%d went into the trash", n)
	}
	h.empty()
	if n := h.count("SELECT (SELECT count(*) FROM blob_trash) + (SELECT count(*) FROM attachments)"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

func TestAnUploadThatFailsCountsForTheDayWithWhatCame(t *testing.T) {
	t.Parallel()
	h := newHarness(t, "")
	p := h.user()
	h.upload(p, "12345")
	for _, size := range []int64{100, 1 << 20} {
		if _, err := h.StoreAttachment(t.Context(), p, size, broken("12345")); !errors.Is(err, errBroke) {
			t.Errorf("%v", err)
		}
	}
	if _, err := h.StoreBackup(t.Context(), p, 0, 100, broken("12345")); !errors.Is(err, errBroke) {
		t.Errorf("%v", err)
	}
	h.empty()
	if n := h.files(); n != 1 {
		t.Errorf("%d files", n)
	}
	if n := h.count("SELECT stored_bytes FROM attachment_usage"); n != leastCounted {
		t.Errorf("%d bytes are stored", n)
	}
	if n := h.count("SELECT day_bytes FROM attachment_usage"); n != leastCounted+2*len("12345") {
		t.Errorf("%d bytes count for the day", n)
	}
	if n := h.count("SELECT count(*) FROM backups WHERE upload IS NOT NULL"); n != 0 {
		t.Error("the slot is taken")
	}
}

// TestACommitThatNobodyHeardOfIsNotUndone: the connection to the database may break between the
// commit and its answer, and then the blob is the backup although its upload has failed.
func TestACommitThatNobodyHeardOfIsNotUndone(t *testing.T) {
	t.Parallel()
	h := newHarness(t, "")
	p := h.user()
	content := strings.Repeat("x", 32)
	if _, err := h.StoreBackup(t.Context(), p, 0, 32, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	b, err := h.Backup(t.Context(), p.Device)
	if err != nil {
		t.Fatal(err)
	}
	err = h.inTx(t.Context(), func(ctx context.Context, tx *storage.Tx) error {
		return giveUp(ctx, tx, p.Device, b.blob)
	})
	if err != nil {
		t.Fatal(err)
	}
	h.empty()
	_, r, err := h.OpenBackup(t.Context(), p.Device, b)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); string(got) != content || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_ = r.Close()
}

func TestWhatIsThrownAwayAgainIsDeletedAgain(t *testing.T) {
	t.Parallel()
	h := newHarness(t, "")
	// leased by another node
	h.exec("INSERT INTO blob_trash (key, due_at) VALUES ('attachments/x', now() + '1 minute')")
	due := h.count("SELECT extract(epoch FROM due_at)::bigint FROM blob_trash")
	if err := h.inTx(t.Context(), func(ctx context.Context, tx *storage.Tx) error {
		return storage.Queries.TrashAttachment(ctx, tx, db.TrashAttachmentParams{ID: uuid.New(), Key: "attachments/x"})
	}); err != nil {
		t.Fatal(err)
	}
	if err := h.inTx(t.Context(), func(ctx context.Context, tx *storage.Tx) error {
		return storage.Queries.ForgetTrash(ctx, tx,
			db.ForgetTrashParams{Keys: []string{"attachments/x"}, DueAt: time.Unix(int64(due), 0)})
	}); err != nil {
		t.Fatal(err)
	}
	if n := h.count("SELECT count(*) FROM blob_trash WHERE due_at <= now()"); n != 1 {
		t.Error("it was forgotten")
	}
	h.empty()
}

func TestAnAccountThatIsGoneUploadsNothing(t *testing.T) {
	t.Parallel()
	h := newHarness(t, "")
	p := h.user()
	h.exec("DELETE FROM users")
	if _, err := h.StoreAttachment(t.Context(), p, 5, strings.NewReader("12345")); !errors.Is(err,
		account.ErrUnauthorized) {
		t.Errorf("%v", err)
	}
	if _, err := h.StoreBackup(t.Context(), p, 0, 5, strings.NewReader("12345")); !errors.Is(err,
		account.ErrUnauthorized) {
		t.Errorf("%v", err)
	}
	if n := h.count("SELECT (SELECT count(*) FROM attachments) + (SELECT count(*) FROM attachment_usage) + (SELECT count(*) FROM backups)"); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func TestOrphansAreFoundAndOthersKept(t *testing.T) {
	t.Parallel()
	h := newHarness(t, "")
	p := h.user()
	a := h.upload(p, "12345")
	if _, err := h.StoreBackup(t.Context(), p, 0, 32, strings.NewReader(strings.Repeat("x", 32))); err != nil {
		t.Fatal(err)
	}
	b, err := h.Backup(t.Context(), p.Device)
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * orphanAge)
	write := func(name string, at time.Time) {
		path := filepath.Join(h.folder, name)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	orphans := []string{attachments + uuid.NewString(), backups + uuid.NewString(), probes + uuid.NewString(),
		attachments + uuid.NewString() + ".18a.tmp", backups + a.ID.String()}
	for _, name := range orphans {
		write(name, old)
	}
	kept := []string{attachments + uuid.NewString(), backups + uuid.NewString(), "not-ours"}
	write(kept[0], time.Now())
	write(kept[1], time.Now())
	write(kept[2], old)
	kept = append(kept, attachments+a.ID.String(), backups+b.blob.String())
	for _, name := range kept[3:] {
		if err := os.Chtimes(filepath.Join(h.folder, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := h.DeleteOrphans(t.Context()); n != len(orphans) || err != nil {
		t.Errorf("%d orphans, %v", n, err)
	}
	h.empty()
	for _, name := range orphans {
		if _, err := os.Stat(filepath.Join(h.folder, name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there", name)
		}
	}
	for _, name := range kept {
		if _, err := os.Stat(filepath.Join(h.folder, name)); err != nil {
			t.Errorf("%s is gone", name)
		}
	}
}

func TestABackupThatIsReplacedWhileItIsFetchedIsTheNewOne(t *testing.T) {
	t.Parallel()
	h := newHarness(t, "")
	p := h.user()
	if _, err := h.StoreBackup(t.Context(), p, 0, 32, strings.NewReader(strings.Repeat("1", 32))); err != nil {
		t.Fatal(err)
	}
	before, err := h.Backup(t.Context(), p.Device)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.StoreBackup(t.Context(), p, 1, 33, strings.NewReader(strings.Repeat("2", 33))); err != nil {
		t.Fatal(err)
	}
	h.empty()
	now, r, err := h.OpenBackup(t.Context(), p.Device, before)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if got, _ := io.ReadAll(r); now.Version != 2 || now.Size != 33 || string(got) != strings.Repeat("2", 33) {
		t.Errorf("version %d, %q", now.Version, got)
	}
}
