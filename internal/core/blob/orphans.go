package blob

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/storage"
)

// orphanAge is how old a blob is before it is looked for: its upload is over.
const orphanAge = 24 * time.Hour

// DeleteOrphans looks through the store for blobs that no row knows, such as those of a process
// that died between the store and the database, and moves them to the trash. It returns how many it
// found.
func (s *Service) DeleteOrphans(ctx context.Context) (found int, err error) {
	for folder, known := range map[string]func(context.Context, db.DBTX, []uuid.UUID) ([]uuid.UUID, error){
		attachments: storage.Queries.KnownAttachments,
		backups:     storage.Queries.KnownBackups,
		probes:      func(context.Context, db.DBTX, []uuid.UUID) ([]uuid.UUID, error) { return nil, nil },
	} {
		err := s.cfg.Store.old(ctx, folder, orphanAge, func(keys []string) error {
			n, err := s.trashUnknown(ctx, folder, keys, known)
			found += n
			return err
		})
		if err != nil {
			return found, err
		}
	}
	s.tell()
	return found, nil
}

// trashUnknown moves those of the blobs to the trash that no row knows.
func (s *Service) trashUnknown(ctx context.Context, folder string, keys []string,
	known func(context.Context, db.DBTX, []uuid.UUID) ([]uuid.UUID, error)) (int, error) {
	orphans := map[string]bool{}
	var ids []uuid.UUID
	for _, key := range keys {
		orphans[key] = true // also a file that is half written: its name is no UUID
		if id, err := uuid.Parse(strings.TrimPrefix(key, folder)); err == nil {
			ids = append(ids, id)
		}
	}
	err := s.inTx(ctx, func(ctx context.Context, tx *storage.Tx) error {
		kept, err := known(ctx, tx, ids)
		if err != nil {
			return err
		}
		for _, id := range kept {
			delete(orphans, folder+id.String())
		}
		if len(orphans) == 0 {
			return nil
		}
		lost := make([]string, 0, len(orphans))
		for key := range orphans {
			lost = append(lost, key)
		}
		return storage.Queries.Trash(ctx, tx, lost)
	})
	return len(orphans), err
}
