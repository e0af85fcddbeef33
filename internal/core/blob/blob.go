// Package blob keeps attachments and backups: ciphertext in a blob store, and who it belongs to in
// the database.
//
// Invariants: a row says that a blob is stored only after the store has it for good; a row leaves
// together with a row for the trash, in one transaction, and whoever empties the trash deletes the
// blob. So a blob may outlive its row for a while, and never the other way round. Nothing is ever
// whole in memory, and no call to the store waits without a deadline. On failure an upload leaves
// nothing behind: at once, or after its deadline when the process died. A store that is unavailable
// is core.Unavailable.
package blob

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Names of the folders in the store. The trash has them too.
const (
	attachments = "attachments/"
	backups     = "backups/"
	probes      = "probes/"
)

// slowest is the rate, in bytes a second, below which a transfer is given up.
const slowest = 32 << 10

// TransferTime is how long a blob may take to arrive or to leave.
func TransferTime(size int64) time.Duration {
	return 20*time.Second + time.Duration(size)*time.Second/slowest
}

// leastCounted is what every attachment counts for at least towards the quotas, in bytes: a row and
// a file cost something too, and so an account has a bounded number of them.
const leastCounted = 64 << 10

// finishTime is what the store and the database get after the last byte has arrived.
const finishTime = 15 * time.Second

// txTime bounds one transaction.
const txTime = 10 * time.Second

// Counters is what a Service counts.
type Counters interface {
	// BlobBytes counts bytes that were stored (in) or begun to be sent.
	BlobBytes(in bool, n int64)
}

// Config is what a Service needs.
type Config struct {
	DB    *storage.DB
	Store *Store
	// Quota is how many bytes of attachments an account has at once, DailyQuota how many it uploads
	// in a day (UTC).
	Quota, DailyQuota int64
	Counters          Counters
	Logger            *slog.Logger
}

// Service is the use cases of attachments and backups. Make it with New; its Run empties the trash.
type Service struct {
	cfg     Config
	told    chan struct{} // holds one token when there is something in the trash
	waiting atomic.Int64
	known   known
}

// New makes a Service.
func New(cfg Config) *Service { return &Service{cfg: cfg, told: make(chan struct{}, 1)} }

// Probe proves that the store keeps what it is given.
func (s *Service) Probe(ctx context.Context) error { return s.cfg.Store.probe(ctx) }

// inTx runs a transaction that outlives the caller's impatience, but not for long: what it does for
// an upload is due even when the client has gone.
func (s *Service) inTx(ctx context.Context, fn func(ctx context.Context, tx *storage.Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), txTime)
	defer cancel()
	return s.cfg.DB.InTx(ctx, func(tx *storage.Tx) error { return fn(ctx, tx) })
}

// act is inTx on behalf of a session.
func (s *Service) act(ctx context.Context, p core.Principal, fn func(ctx context.Context, tx *storage.Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), txTime)
	defer cancel()
	return s.cfg.DB.Act(ctx, p, func(tx *storage.Tx) error { return fn(ctx, tx) })
}

// EraseUser moves an account's attachments to the trash; it runs in the transaction that deletes
// the user, whose row is locked.
func EraseUser(ctx context.Context, tx *storage.Tx, user core.UserID) error {
	if err := storage.Queries.TrashAttachmentsOf(ctx, tx, user); err != nil {
		return err
	}
	return storage.Queries.DeleteUsage(ctx, tx, user)
}

// EraseDevice moves a device's backup to the trash; it runs in the transaction that deletes the
// device.
func EraseDevice(ctx context.Context, tx *storage.Tx, device core.DeviceID) error {
	return storage.Queries.TrashBackup(ctx, tx, device)
}
