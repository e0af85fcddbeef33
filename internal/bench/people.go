package bench

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/prekey/prekeytest"
)

// devicesPerUser is as many as the contract allows: a password costs far more than a device.
const devicesPerUser = 10

// refreshAfter renews access tokens well before their 15 minutes are over.
const refreshAfter = 10 * time.Minute

// A user is one registered account.
type user struct {
	id       uuid.UUID
	name     string
	password string
	token    string
}

// A device is a registered device that can act.
type device struct {
	user     *user
	id       uuid.UUID
	identity *prekeytest.Identity

	mu      sync.Mutex
	access  string    // guarded by mu
	refresh string    // guarded by mu
	born    time.Time // guarded by mu: when access was issued
}

// token is the device's access token, renewed when it gets old.
func (d *device) token(ctx context.Context, a *api) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.born) > refreshAfter {
		var auth client.AuthResponse
		if a.insist(ctx, "POST", "/v1/sessions/refresh", "", client.RefreshToken{RefreshToken: d.refresh}, &auth) == nil {
			d.access, d.refresh, d.born = auth.Token, auth.RefreshToken, time.Now()
		}
	}
	return d.access
}

// people are the users and devices of a run.
type people struct {
	users   []*user
	devices []*device
}

// wanted says what to register.
type wanted struct {
	devices   int
	perUser   int // devices of one user
	ec, kyber int // one-time keys of each device
}

// register makes users and devices, and tells how far it is.
func register(ctx context.Context, a *api, w wanted, tell func(done, of int)) (*people, error) {
	if w.perUser == 0 {
		w.perUser = devicesPerUser
	}
	p := &people{devices: make([]*device, w.devices), users: make([]*user, (w.devices+w.perUser-1)/w.perUser)}
	var done atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range p.users {
		g.Go(func() error {
			u, err := newUser(ctx, a)
			if err != nil {
				return err
			}
			p.users[i] = u
			for j := i * w.perUser; j < min((i+1)*w.perUser, w.devices); j++ {
				if p.devices[j], err = u.newDevice(ctx, a, w.ec, w.kyber); err != nil {
					return err
				}
				tell(int(done.Add(1)), w.devices)
			}
			return nil
		})
	}
	return p, g.Wait()
}

// leave deletes the users from a relay that stays. It is a courtesy: its errors are not the run's.
func (p *people) leave(ctx context.Context, a *api) {
	var g errgroup.Group
	g.SetLimit(8)
	for _, u := range p.users {
		g.Go(func() error {
			return a.insist(ctx, "DELETE", "/v1/account", u.token, client.DeleteAccount{Password: u.password}, nil)
		})
	}
	_ = g.Wait()
}

func newUser(ctx context.Context, a *api) (*user, error) {
	u := &user{name: "bench_" + randomHex(12), password: randomHex(16)}
	var auth client.AuthResponse
	err := a.insist(ctx, "POST", "/v1/users", "", client.Credentials{Username: u.name, Password: u.password}, &auth)
	if err != nil {
		return nil, fmt.Errorf("cannot register a user: %w", err)
	}
	u.token = auth.Token
	u.id, err = subject(auth.Token)
	return u, err
}

func (u *user) newDevice(ctx context.Context, a *api, ec, kyber int) (*device, error) {
	identity := prekeytest.NewIdentity()
	upload := client.NewDevice{
		IdentityKey: identity.Public, RegistrationID: int32(prekeytest.NewRegistrationID()), //nolint:gosec // 1 to 16383
		SignedPreKey:   signedKey(identity.SignedPreKey(1)),
		OneTimePreKeys: oneTimeKeys(1, max(ec, 1)),
	}
	for _, k := range identity.KyberPreKeys(1, kyber) {
		upload.KyberPreKeys = append(upload.KyberPreKeys, client.KyberPreKey(signedKey(k)))
	}
	if kyber > 0 {
		last := client.KyberPreKey(signedKey(identity.KyberPreKey(kyber + 1)))
		upload.LastResortKyberPreKey = &last
	}
	var auth client.AuthResponse
	if err := a.insist(ctx, "POST", "/v1/devices", u.token, upload, &auth); err != nil {
		return nil, fmt.Errorf("cannot register a device: %w", err)
	}
	if auth.DeviceID == nil {
		return nil, errors.New("cannot register a device: the answer names none")
	}
	return &device{user: u, id: *auth.DeviceID, identity: identity, access: auth.Token, refresh: auth.RefreshToken, born: time.Now()}, nil
}

func signedKey(k prekeytest.SignedPreKey) client.SignedPreKey {
	return client.SignedPreKey{KeyID: int32(k.ID), PublicKey: k.PublicKey, Signature: k.Signature} //nolint:gosec // small ids
}

func oneTimeKeys(first, n int) []client.OneTimePreKey {
	keys := make([]client.OneTimePreKey, n)
	for i, k := range prekeytest.PreKeys(first, n) {
		keys[i] = client.OneTimePreKey{KeyID: int32(k.ID), PublicKey: k.PublicKey} //nolint:gosec // small ids
	}
	return keys
}

// subject reads the user id out of an access token, as clients do.
func subject(token string) (uuid.UUID, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return uuid.Nil, errors.New("the access token is not a JWT")
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return uuid.Nil, errors.New("the access token is not a JWT")
	}
	var c struct{ Sub uuid.UUID }
	if err := json.Unmarshal(claims, &c); err != nil {
		return uuid.Nil, errors.New("the access token names no user")
	}
	return c.Sub, nil
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
