package account

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

const (
	// accessLifetime is how long an access token is valid.
	accessLifetime = 15 * time.Minute
	// keyRotation is how long a signing key signs before the next one takes over.
	keyRotation = 30 * 24 * time.Hour
	// keyRetirement is how long a key verifies after it was made: until its last token has expired.
	keyRetirement = keyRotation + 24*time.Hour
)

// claims are the payload of an access token (RFC 7519). Clients read them.
type claims struct {
	jwt.RegisteredClaims
	Device  string `json:"device_id,omitempty"`
	Session string `json:"sid"`
}

// signer makes and verifies access tokens: JWT, HS256, with a key id. Its keys live in the database
// and rotate, unless the operator supplied one.
type signer struct {
	db *storage.DB
	// supplied is the operator's key; then the database is not asked.
	supplied []byte
	loading  singleflight.Group

	reading  sync.Mutex // held by load: what was read later is set later
	mu       sync.Mutex
	keys     map[string][]byte // guarded by mu
	current  string            // guarded by mu: the key that signs
	reloaded time.Time         // guarded by mu
}

// load reads the keys, creating or rotating them under a lock that all nodes share.
func (s *signer) load(ctx context.Context) error {
	if s.supplied != nil {
		s.set(map[string][]byte{"operator": s.supplied}, "operator")
		return nil
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	var keys []db.SigningKeysRow
	err := s.db.InTx(ctx, func(tx *storage.Tx) error {
		q := storage.Queries
		if err := q.LockSigningKeys(ctx, tx, storage.LockSigningKeys); err != nil {
			return err
		}
		var err error
		if keys, err = q.SigningKeys(ctx, tx, storage.Interval(keyRotation)); err != nil {
			return err
		}
		if len(keys) == 0 || keys[0].Due {
			if err := insertSigningKey(ctx, tx); err != nil {
				return err
			}
		}
		if _, err := q.DeleteSigningKeysBefore(ctx, tx, storage.Interval(keyRetirement)); err != nil {
			return err
		}
		keys, err = q.SigningKeys(ctx, tx, storage.Interval(keyRotation))
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot load the signing keys: %w", err)
	}
	byID := map[string][]byte{}
	for _, k := range keys {
		byID[k.ID] = k.Secret
	}
	s.set(byID, keys[0].ID)
	return nil
}

func insertSigningKey(ctx context.Context, tx *storage.Tx) error {
	return storage.Queries.InsertSigningKey(ctx, tx,
		db.InsertSigningKeyParams{ID: rand.Text()[:8], Secret: randomBytes(secretLen)})
}

// errNoSigningKeys says that there is nothing to replace.
var errNoSigningKeys = errors.New("the database has no keys that sign access tokens: " +
	"a relay makes them when it starts, unless it has one of yours (--token-key), which you replace yourself")

// ReplaceSigningKeys puts a new key in place of all that sign and verify access tokens, and tells
// the relays: within a second they refuse the tokens that there are. Sessions and sockets stay, and
// clients refresh. Returns errNoSigningKeys.
func ReplaceSigningKeys(ctx context.Context, d *storage.DB) error {
	return d.InTx(ctx, func(tx *storage.Tx) error {
		q := storage.Queries
		if err := q.LockSigningKeys(ctx, tx, storage.LockSigningKeys); err != nil {
			return err
		}
		deleted, err := q.DeleteSigningKeysBefore(ctx, tx, storage.Interval(-time.Hour))
		if err != nil || deleted == 0 {
			return cmp.Or(err, errNoSigningKeys)
		}
		if err := insertSigningKey(ctx, tx); err != nil {
			return err
		}
		return storage.Notices{{Kind: core.NoticeSigningKeys, IDs: []uuid.UUID{uuid.Nil}}}.Notify(ctx, tx)
	})
}

func (s *signer) set(keys map[string][]byte, current string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.current, s.reloaded = keys, current, time.Now()
}

// sign makes an access token for a principal and says when it expires.
func (s *signer) sign(p core.Principal) (string, time.Time, error) {
	now := time.Now()
	expires := now.Add(accessLifetime)
	c := claims{Session: p.Session.String(), RegisteredClaims: jwt.RegisteredClaims{
		Subject: p.User.String(), IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(expires)}}
	if p.DeviceScoped() {
		c.Device = p.Device.String()
	}
	s.mu.Lock()
	id, key := s.current, s.keys[s.current]
	s.mu.Unlock()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, c)
	token.Header["kid"] = id
	text, err := token.SignedString(key)
	return text, expires, err
}

var errToken = errors.New("not a valid access token")

// verify checks signature and time and returns the session that the token belongs to.
func (s *signer) verify(ctx context.Context, token string) (session core.SessionID, device uuid.UUID, expires time.Time,
	err error) {
	var c claims
	_, err = jwt.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		id, _ := t.Header["kid"].(string)
		return s.key(ctx, id)
	}, jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired(), jwt.WithStrictDecoding())
	if err != nil {
		if core.KindOf(err) != 0 {
			return session, device, expires, err
		}
		return session, device, expires, errToken
	}
	if session, err = uuid.Parse(c.Session); err != nil {
		return session, device, expires, errToken
	}
	if c.Device != "" {
		if device, err = uuid.Parse(c.Device); err != nil {
			return session, device, expires, errToken
		}
	}
	return session, device, c.ExpiresAt.Time, nil
}

// key finds a verification key; one that another node has just made is fetched, at most once a
// second.
func (s *signer) key(ctx context.Context, id string) ([]byte, error) {
	s.mu.Lock()
	key, stale := s.keys[id], time.Since(s.reloaded) > time.Second
	s.mu.Unlock()
	if key == nil && stale && s.supplied == nil {
		// Anybody can make up ids: those who come at once share one look at the database.
		_, err, _ := s.loading.Do("", func() (any, error) { return nil, s.load(ctx) })
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		key = s.keys[id]
		s.mu.Unlock()
	}
	if key == nil {
		return nil, errToken
	}
	return key, nil
}

const secretLen = 32

// newSecret makes an unguessable text of 256 bits.
func newSecret() string { return base64.RawURLEncoding.EncodeToString(randomBytes(secretLen)) }

// isSecret reports whether a text has the form of newSecret's.
func isSecret(text string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(raw) == secretLen
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
