package blob

import (
	"context"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Export is what is kept of an account's attachments.
type Export struct {
	Attachments []db.AttachmentsOfRow
	// UploadedToday counts towards the quota of the day (UTC), in bytes.
	UploadedToday int64
}

// Export lists an account's attachments.
func (s *Service) Export(ctx context.Context, user core.UserID) (out Export, err error) {
	if out.Attachments, err = storage.Ask(ctx, s.cfg.DB, storage.Queries.AttachmentsOf, user); err != nil {
		return out, err
	}
	out.UploadedToday, err = storage.Ask(ctx, s.cfg.DB, storage.Queries.UploadedToday, user)
	return out, storage.NoRowsAs(err, nil)
}
