// Package certificate makes sender certificates: what a device shows inside a sealed message, so
// that libsignal on the other side knows who wrote it. The trust root, which clients pin, signs a
// server key, and the server key signs the certificate.
//
// Invariants: a certificate says what the database said of the device when it was asked for, to a
// session that was live then; it never leaves without a signature that the trust root stands
// behind. The keys are made once, under a lock that all nodes share, and kept as the keys that
// sign access tokens are. Private keys leave this package for the database only. On failure nothing
// has changed.
package certificate

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// lifetime is how long a certificate is valid at least. It ends at the next full hour, so that its
// end does not tell when a device asked.
const lifetime = 24 * time.Hour

// Config is what a Service needs.
type Config struct {
	DB *storage.DB
	// Keys are the operator's own; nil for keys in the database.
	Keys *Keys
}

// Service is the use cases of certificates. Make it with New, then call Load.
type Service struct {
	db *storage.DB
	// supplied are the operator's keys; then the database is not asked for any.
	supplied *Keys
	keys     atomic.Pointer[Keys]
}

// New makes a Service.
func New(cfg Config) *Service { return &Service{db: cfg.DB, supplied: cfg.Keys} }

// Load reads the keys, or makes them. Call it again from time to time: an operator may have
// replaced the server key.
func (s *Service) Load(ctx context.Context) error {
	if s.supplied != nil {
		s.keys.Store(s.supplied)
		return nil
	}
	keys, err := load(ctx, s.db)
	if err != nil {
		return fmt.Errorf("cannot load the keys of sender certificates: %w", err)
	}
	s.keys.Store(keys)
	return nil
}

// TrustRoot returns the public key of the trust root, 33 bytes.
func (s *Service) TrustRoot() []byte { return s.keys.Load().Root }

// Certificate is a sender certificate.
type Certificate struct {
	// Bytes is libsignal's SenderCertificate.
	Bytes   []byte
	Expires time.Time
}

// Sender certifies the principal's device as it is now. Returns core.ErrUnauthorized when the
// device was removed or the session has ended, as it has after a takeover by another.
func (s *Service) Sender(ctx context.Context, p core.Principal) (Certificate, error) {
	var device db.CertifiedDeviceRow
	err := s.db.Do(ctx, func(conn *storage.Tx) (err error) {
		device, err = storage.Queries.CertifiedDevice(ctx, conn,
			db.CertifiedDeviceParams{SessionID: p.Session, DeviceID: p.Device})
		return err
	})
	if err != nil {
		return Certificate{}, storage.NoRowsAs(err, core.ErrUnauthorized)
	}
	keys := s.keys.Load()
	expires := expiry(device.AskedAt)
	return Certificate{Expires: expires, Bytes: signSender(keys.server, keys.Certificate, sender{
		E164: device.UserID.String(), UUID: device.ID.String(), Device: uint32(device.Number), //nolint:gosec // 1 to 127
		Identity: device.IdentityKey, Expires: expires})}, nil
}

// expiry is when a certificate ends that is asked for now.
func expiry(now time.Time) time.Time {
	end := now.Add(lifetime)
	if hour := end.Truncate(time.Hour); !hour.Equal(end) {
		end = hour.Add(time.Hour)
	}
	return end.UTC()
}
