package admin

import (
	"context"
	"errors"

	gen "github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Restored tells a database that it comes from a backup, before a relay runs on it: what clients
// were given since must not be given to them again as something else.
type Restored struct{}

// skipped is how many numbers of envelopes and versions of lists may have been used since the
// backup.
const skipped = 1_000_000

var errRelayRuns = errors.New("a relay runs on this database: stop it, or name the restored one by --database-url; " +
	"nothing was changed")

// Do implements Command. All of it is one transaction, which takes the time that it needs.
func (Restored) Do(ctx context.Context, db *storage.DB) (any, error) {
	var done struct {
		Mailboxes int64 `json:"mailboxes"`
		Users     int64 `json:"users"`
	}
	err := db.InTx(ctx, func(tx *storage.Tx) error {
		q := storage.Queries
		if err := q.NoTimeout(ctx, tx); err != nil {
			return err
		}
		running, err := q.RelaysOnThisDatabase(ctx, tx)
		if err == nil && running > 0 {
			err = errRelayRuns
		}
		if err != nil {
			return err
		}
		if done.Users, err = q.SkipDevicesVersions(ctx, tx, skipped); err != nil {
			return err
		}
		for bucket := range tx.AllBuckets() {
			if err := q.RecordSkippedNumbers(ctx, tx, gen.RecordSkippedNumbersParams{Bucket: bucket, Numbers: skipped,
				Reason: int16(core.GapExpired)}); err != nil {
				return err
			}
			n, err := q.SkipNumbers(ctx, tx, gen.SkipNumbersParams{Bucket: bucket, Numbers: skipped})
			if err != nil {
				return err
			}
			done.Mailboxes += n
			for _, drop := range []func(context.Context, gen.DBTX, int16) error{q.DropAllECPreKeys,
				q.DropAllKyberPreKeys, q.EmptyAllStocks} {
				if err := drop(ctx, tx, bucket); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return done, err
}
