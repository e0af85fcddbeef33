package blob

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// errNoAttachment says that there is no such attachment, or that its time is over.
var errNoAttachment = core.NewError(core.NotFound, "attachment_not_found", "There is no such attachment.")

// Attachment is one that is stored.
type Attachment struct {
	ID        uuid.UUID
	ExpiresAt time.Time
}

// StoreAttachment stores an attachment of size bytes, which body gives or fails. An error of the
// body comes back as it is, and the bytes that had come count for the day, unless it is
// core.Unavailable. Other errors are those of the quotas, core.ErrUnauthorized when the session has
// ended meanwhile, and core.Unavailable.
func (s *Service) StoreAttachment(ctx context.Context, p core.Principal, size int64,
	body io.Reader) (Attachment, error) {
	a := Attachment{ID: uuid.New()}
	key := attachments + a.ID.String()
	ctx, cancel := context.WithTimeout(ctx, TransferTime(size)+finishTime)
	defer cancel()
	if err := s.act(ctx, p, func(ctx context.Context, tx *storage.Tx) error {
		return s.begin(ctx, tx, p.User, a.ID, size)
	}); err != nil {
		return a, err
	}
	arriving := &counted{body: body}
	err := s.cfg.Store.put(ctx, key, arriving, size)
	if err == nil {
		err = s.act(ctx, p, func(ctx context.Context, tx *storage.Tx) (err error) {
			a.ExpiresAt, err = storage.Queries.StoreAttachment(ctx, tx,
				db.StoreAttachmentParams{ID: a.ID, Lifetime: storage.Interval(core.AttachmentLifetime)})
			return storage.NoRowsAs(err, core.ErrUnauthorized)
		})
	}
	if err != nil {
		give := db.TrashAttachmentParams{ID: a.ID, Key: key, Least: leastCounted, Received: arriving.bytes.Load()}
		if core.KindOf(err) == core.Unavailable { // the client is not to blame
			give.Received = 0
		}
		// When this fails too, the row's own deadline remains.
		if late := s.inTx(ctx, func(ctx context.Context, tx *storage.Tx) error {
			return storage.Queries.TrashAttachment(ctx, tx, give)
		}); late == nil {
			s.tell()
		}
		return a, err
	}
	s.cfg.Counters.BlobBytes(true, size)
	return a, nil
}

// counted counts the bytes of a body. The store may read it in a goroutine of its own.
type counted struct {
	body  io.Reader
	bytes atomic.Int64
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

// begin checks the quotas and makes the row of an upload.
func (s *Service) begin(ctx context.Context, tx *storage.Tx, user core.UserID, id uuid.UUID, size int64) error {
	q, counted := storage.Queries, max(size, leastCounted)
	used, err := q.LockUsage(ctx, tx, user)
	if err != nil {
		return err
	}
	if used.StoredBytes+counted > s.cfg.Quota {
		wait, err := q.NextExpiry(ctx, tx, user)
		if err != nil && !storage.IsNoRows(err) {
			return err
		}
		return aboveQuota(wait, "The account's attachments take all the room that it has.")
	}
	if used.DayBytes+counted > s.cfg.DailyQuota {
		return aboveQuota(used.SecondsOfDayLeft, "The account has uploaded as much as it may in a day.")
	}
	if err := q.ChargeUsage(ctx, tx, db.ChargeUsageParams{UserID: user, Size: counted}); err != nil {
		return err
	}
	return q.InsertAttachment(ctx, tx, db.InsertAttachmentParams{ID: id, UserID: user, Size: size,
		UploadTime: storage.Interval(TransferTime(size) + 2*finishTime)})
}

func aboveQuota(seconds int64, sentence string) error {
	wait := min(max(time.Duration(seconds)*time.Second, time.Second), 24*time.Hour)
	return &core.Error{Kind: core.Limited, Code: "quota_exceeded", RetryAfter: wait, Sentence: sentence}
}

// Size is how large an attachment is. Returns errNoAttachment.
func (s *Service) Size(ctx context.Context, id uuid.UUID) (int64, error) {
	if size, ok := s.known.get(id); ok {
		return size, nil
	}
	return s.lookUp(ctx, id)
}

func (s *Service) lookUp(ctx context.Context, id uuid.UUID) (int64, error) {
	asked := time.Now()
	row, err := storage.Ask(ctx, s.cfg.DB, storage.Queries.LiveAttachment, id)
	if err != nil {
		return 0, storage.NoRowsAs(err, errNoAttachment)
	}
	s.known.put(id, row.Size, asked.Add(min(knownFor, time.Duration(row.MicrosecondsLeft)*time.Microsecond)))
	return row.Size, nil
}

// Download opens length bytes of an attachment from an offset on, both within its size. Returns
// errNoAttachment when it is deleted at this moment.
func (s *Service) Download(ctx context.Context, id uuid.UUID, offset, length int64) (*Reader, error) {
	r, err := s.cfg.Store.open(ctx, attachments+id.String(), offset, length)
	if errors.Is(err, errMissing) {
		if _, missing := s.lookUp(ctx, id); missing != nil {
			return nil, missing
		}
	}
	if err == nil {
		s.cfg.Counters.BlobBytes(false, length)
	}
	return r, err
}
