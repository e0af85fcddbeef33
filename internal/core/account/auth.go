package account

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// maxVerified bounds the cache of verified tokens, about 250 bytes each.
const maxVerified = 1 << 17

// ErrUnauthorized is core.ErrUnauthorized.
var ErrUnauthorized = core.ErrUnauthorized

// verified remembers the access tokens that were checked against the database. Its entries are used
// only while the node is known to hear of revocations (fresh); otherwise every request asks again.
// So a revoked token stops working within the second that fresh looks back, whatever happens to the
// bus.
type verified struct {
	mu      sync.RWMutex
	entries map[[sha256.Size]byte]verifiedToken    // guarded by mu
	keys    map[core.SessionID][][sha256.Size]byte // guarded by mu: of entries, by session
	epoch   uint64                                 // guarded by mu: advanced by every revocation
}

func newVerified() *verified {
	return &verified{entries: map[[sha256.Size]byte]verifiedToken{}, keys: map[core.SessionID][][sha256.Size]byte{}}
}

type verifiedToken struct {
	principal core.Principal
	expires   time.Time
}

// Remembered returns the principal of an access token that was authenticated before and can be
// trusted as it is: without work that a stranger could ask for.
func (s *Service) Remembered(token string) (core.Principal, bool) {
	key := sha256.Sum256([]byte(token))
	s.verified.mu.RLock()
	entry, known := s.verified.entries[key]
	s.verified.mu.RUnlock()
	if known && time.Now().Before(entry.expires) && s.cfg.Fresh() {
		return entry.principal, true
	}
	return core.Principal{}, false
}

// Authenticate returns the principal of an access token, or ErrUnauthorized. It asks the database.
func (s *Service) Authenticate(ctx context.Context, token string) (core.Principal, error) {
	key := sha256.Sum256([]byte(token))
	s.verified.mu.RLock()
	epoch := s.verified.epoch
	s.verified.mu.RUnlock()
	session, device, expires, err := s.signer.verify(ctx, token)
	if err != nil {
		if core.KindOf(err) != 0 {
			return core.Principal{}, err
		}
		return core.Principal{}, ErrUnauthorized
	}
	principal, err := s.principal(ctx, session)
	if err != nil {
		return core.Principal{}, err
	}
	if principal.Device != device {
		return core.Principal{}, ErrUnauthorized
	}
	s.verified.store(key, verifiedToken{principal, expires}, epoch)
	return principal, nil
}

// principal looks a live session up.
func (s *Service) principal(ctx context.Context, session core.SessionID) (core.Principal, error) {
	var row db.SessionByIDRow
	err := s.cfg.DB.Do(ctx, func(conn *storage.Tx) (err error) {
		row, err = storage.Queries.SessionByID(ctx, conn, session)
		return err
	})
	if storage.IsNoRows(err) {
		return core.Principal{}, ErrUnauthorized
	}
	if err != nil {
		return core.Principal{}, err
	}
	return principalOf(row), nil
}

func principalOf(row db.SessionByIDRow) core.Principal {
	p := core.Principal{User: row.UserID, Session: row.ID}
	if row.DeviceID != nil && row.Number != nil {
		p.Device, p.DeviceNumber = *row.DeviceID, uint8(*row.Number) //nolint:gosec // 1 to 127 by a check in the schema
	}
	return p
}

// store keeps an entry unless something was revoked since epoch, when the entry may be out of date.
func (v *verified) store(key [sha256.Size]byte, entry verifiedToken, epoch uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.epoch != epoch {
		return
	}
	if len(v.entries) >= maxVerified {
		clear(v.entries)
		clear(v.keys)
	}
	if _, known := v.entries[key]; !known {
		session := entry.principal.Session
		v.keys[session] = append(v.keys[session], key)
	}
	v.entries[key] = entry
}

// Revoke forgets what is cached of ended sessions. The bus calls it on every node.
func (s *Service) Revoke(sessions []core.SessionID) {
	v := s.verified
	v.mu.Lock()
	defer v.mu.Unlock()
	v.epoch++
	for _, session := range sessions {
		for _, key := range v.keys[session] {
			delete(v.entries, key)
		}
		delete(v.keys, session)
	}
}

// RevokeAll empties the cache: for a node that may have missed a revocation.
func (s *Service) RevokeAll() {
	s.verified.mu.Lock()
	defer s.verified.mu.Unlock()
	s.verified.epoch++
	clear(s.verified.entries)
	clear(s.verified.keys)
}
