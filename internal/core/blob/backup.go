package blob

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Errors of backups.
var (
	ErrNoBackup      = core.NewError(core.NotFound, "backup_not_found", "This device has no backup.")
	errPrecondition  = core.NewError(core.Unmet, "precondition_failed", "The backup has another version.")
	errUploadRunning = core.NewError(core.Conflict, "upload_running",
		"Another upload of this device's backup is running.")
)

// Backup is a device's current backup.
type Backup struct {
	// Version counts 1, 2, 3 and so on.
	Version  int64
	Size     int64
	StoredAt time.Time

	blob uuid.UUID
}

// StoreBackup stores a device's backup of size bytes in place of a version, 0 for none, and returns
// the new version. Of several at once one wins. An error of the body comes back as it is; others
// are errPrecondition, errUploadRunning, core.ErrUnauthorized and core.Unavailable.
func (s *Service) StoreBackup(ctx context.Context, p core.Principal, replaces, size int64,
	body io.Reader) (version int64, err error) {
	upload := uuid.New()
	slot := TransferTime(size) + finishTime
	ctx, cancel := context.WithTimeout(ctx, slot)
	defer cancel()
	if err := s.act(ctx, p, func(ctx context.Context, tx *storage.Tx) error {
		return takeSlot(ctx, tx, p, replaces, upload, size, slot)
	}); err != nil {
		return 0, err
	}
	err = s.cfg.Store.put(ctx, backups+upload.String(), body, size)
	if err == nil {
		err = s.act(ctx, p, func(ctx context.Context, tx *storage.Tx) (err error) {
			version, err = storage.Queries.StoreBackup(ctx, tx,
				db.StoreBackupParams{DeviceID: p.Device, Upload: &upload})
			return storage.NoRowsAs(err, errUploadRunning)
		})
	}
	if err != nil {
		// When this fails too, the slot's own deadline remains.
		_ = s.inTx(ctx, func(ctx context.Context, tx *storage.Tx) error { return giveUp(ctx, tx, p.Device, upload) })
	} else {
		s.cfg.Counters.BlobBytes(true, size)
	}
	s.tell()
	return version, err
}

// takeSlot makes an upload the one that may replace the backup, until its deadline.
func takeSlot(ctx context.Context, tx *storage.Tx, p core.Principal, replaces int64, upload uuid.UUID, size int64,
	slot time.Duration) error {
	q := storage.Queries
	now, err := q.LockBackup(ctx, tx, p.Device)
	if err != nil {
		return err
	}
	if now.Version != replaces {
		return errPrecondition
	}
	if now.Running {
		return errUploadRunning
	}
	if now.Upload != nil { // of somebody who crashed
		if err := q.Trash(ctx, tx, []string{backups + now.Upload.String()}); err != nil {
			return err
		}
	}
	return q.BeginBackup(ctx, tx, db.BeginBackupParams{DeviceID: p.Device, Upload: &upload, Size: &size,
		UploadTime: storage.Interval(slot)})
}

// giveUp frees the slot of an upload and throws away what it wrote, unless it has become the
// backup.
func giveUp(ctx context.Context, tx *storage.Tx, device core.DeviceID, upload uuid.UUID) error {
	if _, err := storage.Queries.AwaitBackup(ctx, tx, device); err != nil {
		return err
	}
	return storage.Queries.GiveUpBackup(ctx, tx, db.GiveUpBackupParams{DeviceID: device, Upload: upload})
}

// Backup describes a device's backup. Returns ErrNoBackup.
func (s *Service) Backup(ctx context.Context, device core.DeviceID) (Backup, error) {
	row, err := storage.Ask(ctx, s.cfg.DB, storage.Queries.Backup, device)
	return Backup{Version: row.Version, Size: row.Size, StoredAt: row.StoredAt, blob: row.Blob},
		storage.NoRowsAs(err, ErrNoBackup)
}

// OpenBackup opens a backup that was described a moment ago, or the newer one that has replaced it.
func (s *Service) OpenBackup(ctx context.Context, device core.DeviceID, b Backup) (Backup, *Reader, error) {
	r, err := s.cfg.Store.open(ctx, backups+b.blob.String(), 0, b.Size)
	if errors.Is(err, errMissing) {
		newer, missing := s.Backup(ctx, device)
		if missing != nil {
			return b, nil, missing
		}
		if newer.blob != b.blob {
			b = newer
			r, err = s.cfg.Store.open(ctx, backups+b.blob.String(), 0, b.Size)
		}
	}
	if err == nil {
		s.cfg.Counters.BlobBytes(false, b.Size)
	}
	return b, r, err
}
