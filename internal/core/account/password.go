package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/limit"
)

// argon2id parameters (RFC 9106): 19 MiB, two passes, one lane.
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonLanes  = 1
	saltLen     = 16
	hashLen     = 32
)

// maxHashWaiters bounds how many requests wait for a slot; beyond it they are told to come back. At
// about 40 ms a hash and one slot a core this is a few seconds of work.
const maxHashWaiters = 128

// PasswordScheme says how passwords are kept, for the account export.
const PasswordScheme = "argon2id v=19 m=19456 t=2 p=1"

// hasher bounds the hashing of passwords: as many at once as there are cores, since more would take
// memory and not be faster.
type hasher struct {
	pool *limit.Pool
	// decoy is compared with when the user does not exist, so that the time does not tell.
	decoy string
}

func newHasher() *hasher {
	h := &hasher{pool: limit.NewPool(limit.Cores, maxHashWaiters)}
	h.decoy = encode(rand.Text()[:saltLen], make([]byte, hashLen))
	return h
}

// enter waits for a place; the caller leaves the pool.
func (h *hasher) enter(ctx context.Context) error {
	if err := h.pool.Enter(ctx); err != nil {
		return core.Busy(fmt.Errorf("password hashing: %w", err))
	}
	return nil
}

// hash returns the PHC string of a password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.pool.Leave()
	salt := rand.Text()[:saltLen]
	return encode(salt, derive(password, salt)), nil
}

// check compares a password with a PHC string; an empty string stands for a user who does not exist
// and costs the same.
func (h *hasher) check(ctx context.Context, password, phc string) (bool, error) {
	if err := h.enter(ctx); err != nil {
		return false, err
	}
	defer h.pool.Leave()
	known := phc != ""
	if !known {
		phc = h.decoy
	}
	salt, want, err := decode(phc)
	if err != nil {
		return false, err
	}
	same := subtle.ConstantTimeCompare(derive(password, salt), want) == 1
	return same && known, nil
}

func derive(password, salt string) []byte {
	return argon2.IDKey([]byte(normal(password)), []byte(salt), argonTime, argonMemory, argonLanes, hashLen)
}

func encode(salt string, hash []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
		b64.EncodeToString([]byte(salt)), b64.EncodeToString(hash))
}

var errHash = fmt.Errorf("a stored password hash is not %s", PasswordScheme)

func decode(phc string) (salt string, hash []byte, err error) {
	rest, ok := strings.CutPrefix(phc, fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$", argon2.Version, argonMemory,
		argonTime, argonLanes))
	salt64, hash64, both := strings.Cut(rest, "$")
	if !ok || !both {
		return "", nil, errHash
	}
	saltBytes, err1 := base64.RawStdEncoding.DecodeString(salt64)
	hash, err2 := base64.RawStdEncoding.DecodeString(hash64)
	if err1 != nil || err2 != nil || len(hash) != hashLen {
		return "", nil, errHash
	}
	return string(saltBytes), hash, nil
}
