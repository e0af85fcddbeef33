// Package keys is the key service: devices publish their public keys, and others fetch them as
// pre-key bundles to start sessions (X3DH, PQXDH).
//
// Invariants: a key is stored only after its form and signature have been checked as libsignal
// checks them; one bad key refuses the whole upload; a one-time key is handed out exactly once,
// lowest id first, also if its upload comes again (see maxRemembered); a last-resort key is never
// used up. On failure nothing is stored and nothing is handed out.
package keys

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/batch"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// PreKey is an EC one-time pre-key: an id of 0 to 2^31-1 and 33 bytes.
type PreKey struct {
	ID     int32
	Public []byte
}

// SignedPreKey is a key with the identity key's XEdDSA signature over its serialised form: an EC
// signed pre-key (33 bytes) or a Kyber-1024 key (1569 bytes).
type SignedPreKey struct {
	ID        int32
	Public    []byte
	Signature []byte
}

// Publication is what a device publishes. Everything but the first upload's identity and signed
// pre-key is optional.
type Publication struct {
	// Identity is nil when the upload does not name it. One that differs from the stored one is a
	// takeover.
	Identity []byte
	// RegistrationID is 1 to 16383 and accompanies Identity.
	RegistrationID int32
	Signed         *SignedPreKey
	LastResort     *SignedPreKey
	EC             []PreKey
	Kyber          []SignedPreKey
}

// Bundle is what somebody needs to start a session with a device.
type Bundle struct {
	// DevicesVersion grows with each change of the user's devices.
	DevicesVersion int64
	Device         core.DeviceID
	DeviceNumber   uint8
	RegistrationID int32
	Identity       []byte
	Signed         SignedPreKey
	// OneTime is nil when the one-time keys have run out.
	OneTime *PreKey
	// Kyber is a one-time key, else the last-resort key, else nil.
	Kyber *SignedPreKey
}

// ErrUserUnknown says that there is no such user, or that the user has no device.
var ErrUserUnknown = core.NewError(core.NotFound, "user_not_found", "There is no such user, or the user has no device.")

// Config is what a Service needs.
type Config struct {
	DB   *storage.DB
	Node core.Announcer
	// Dropped counts the pending envelopes that a takeover drops.
	Dropped func(core.GapReason, int)
}

// Service is the use cases of keys. Make it with New; its Run hands bundles out.
type Service struct {
	cfg     Config
	buckets []*batch.Batcher[fetch, handed] // in order: each hands out what one bucket has
	// lists asks for the devices of users, where there are several buckets.
	lists  *batch.Batcher[core.UserID, []db.PublicDevicesRow]
	txTime time.Duration // bounds one hand-out
}

var fetchLimits = batch.Limits{BatchItems: 128, BatchWeight: 128, QueueItems: 2048, QueueWeight: 2048}

// New makes a Service.
func New(cfg Config) *Service {
	s := &Service{cfg: cfg, txTime: batch.TxTime}
	s.lists = batch.New(fetchLimits, s.list)
	n, share := int(cfg.DB.Buckets()), fetchLimits
	share.QueueItems, share.QueueWeight = max(1, share.QueueItems/n), max(1, share.QueueWeight/n)
	for bucket := range cfg.DB.Buckets().AllBuckets() {
		s.buckets = append(s.buckets, batch.New(share, func(ctx context.Context, fetches []fetch) ([]handed, error) {
			return s.handOut(ctx, bucket, fetches)
		}))
	}
	return s
}

// Run hands out bundles until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, b := range s.buckets {
		running.Go(func() { _ = b.Run(ctx) })
	}
	if len(s.buckets) > 1 {
		running.Go(func() { _ = s.lists.Run(ctx) })
	}
	running.Wait()
	return nil
}

// Count is how many one-time keys of a device are left.
type Count struct{ EC, Kyber int32 }

// Counts returns how many one-time keys are left; nothing of a device that is gone. All buckets are
// asked at once. When one does not answer it returns an error, and the counts of the others.
func (s *Service) Counts(ctx context.Context, devices ...core.DeviceID) (map[core.DeviceID]Count, error) {
	counts := make(map[core.DeviceID]Count, len(devices))
	var mu sync.Mutex
	var asking errgroup.Group
	for bucket, some := range s.cfg.DB.Buckets().Divide(devices) {
		asking.Go(func() error {
			rows, err := storage.Ask(ctx, s.cfg.DB.In(bucket), storage.Queries.PreKeyCounts,
				db.PreKeyCountsParams{Bucket: bucket, DeviceIds: some})
			mu.Lock()
			defer mu.Unlock()
			for _, row := range rows {
				counts[row.DeviceID] = Count{EC: row.EcCount, Kyber: row.KyberCount}
			}
			return err
		})
	}
	return counts, asking.Wait()
}
