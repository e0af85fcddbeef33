package account

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/limit"
)

// Cost is what a hash by argon2id (RFC 9106) takes, in one lane.
type Cost struct {
	KiB    uint32 // of memory
	Passes uint32 // over it
}

// FullCost is that of a relay: 19 MiB, two passes.
var FullCost = Cost{KiB: 19 << 10, Passes: 2}

const (
	argonLanes = 1
	saltLen    = 16
	hashLen    = 32
)

// maxHashWaiters bounds how many requests wait for a slot; beyond it they are told to come back. At
// about 40 ms a hash and one slot a core this is a few seconds of work.
const maxHashWaiters = 128

// hasher bounds the hashing of passwords: as many at once as there are cores, since more would take
// memory and not be faster.
type hasher struct {
	pool *limit.Pool
	cost Cost
	// decoy is compared with when the user does not exist, so that the time does not tell.
	decoy string
}

func newHasher(cost Cost) *hasher {
	cost = cmp.Or(cost, FullCost)
	h := &hasher{pool: limit.NewPool(limit.Cores, maxHashWaiters), cost: cost}
	h.decoy = encode(cost, rand.Text()[:saltLen], make([]byte, hashLen))
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
	return encode(h.cost, salt, h.cost.derive(password, salt)), nil
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
	cost, salt, want, err := decode(phc)
	if err != nil {
		return false, err
	}
	same := subtle.ConstantTimeCompare(cost.derive(password, salt), want) == 1
	return same && known, nil
}

func (c Cost) derive(password, salt string) []byte {
	return argon2.IDKey([]byte(normal(password)), []byte(salt), c.Passes, c.KiB, argonLanes, hashLen)
}

// scheme says how passwords are kept, for the account export.
func (c Cost) scheme() string {
	return fmt.Sprintf("argon2id v=%d m=%d t=%d p=%d", argon2.Version, c.KiB, c.Passes, argonLanes)
}

// prefix is how a PHC string begins.
func (c Cost) prefix() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$", argon2.Version, c.KiB, c.Passes, argonLanes)
}

func encode(c Cost, salt string, hash []byte) string {
	b64 := base64.RawStdEncoding
	return c.prefix() + b64.EncodeToString([]byte(salt)) + "$" + b64.EncodeToString(hash)
}

var errHash = errors.New("a stored password hash is not of argon2id as the relay makes it")

func decode(phc string) (c Cost, salt string, hash []byte, err error) {
	b64 := base64.RawStdEncoding
	_, costs, _ := strings.Cut(phc, "$m=")
	_, err = fmt.Sscanf(costs, "%d,t=%d,", &c.KiB, &c.Passes)
	rest, ok := strings.CutPrefix(phc, c.prefix())
	salt64, hash64, both := strings.Cut(rest, "$")
	saltBytes, err1 := b64.DecodeString(salt64)
	hash, err2 := b64.DecodeString(hash64)
	if err != nil || !ok || !both || err1 != nil || err2 != nil || len(hash) != hashLen || c.Passes == 0 {
		return c, "", nil, errHash
	}
	return c, string(saltBytes), hash, nil
}
